//! `cargo xtask test`: every check and test that this machine can run, and one line at the end that sums them up.

use std::{
    io::{BufRead as _, BufReader},
    process::{ExitCode, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::{
    bench, build,
    command::{cargo, program, root, say},
    fuzz, image, licences, nodes, setup, structure,
};

/// How long each fuzz target runs. `cargo xtask fuzz` runs them longer.
const FUZZ_SECONDS: u32 = 15;

/// Which tests.
#[derive(Args)]
pub(crate) struct Selection {
    /// Only this part.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Only behaviours whose name contains one of these.
    names: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Formatting, clippy, licences, structure.
    Lint,
    /// Unit tests.
    Unit,
    /// The agent against the running kernel.
    Behaviour,
    /// The benchmark's loads in small, for the truth of what the agent writes.
    Bench,
    /// A short run of each fuzz target.
    Fuzz,
}

impl Selection {
    fn has(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skips: Vec<String>,
}

/// Runs them; fails if any of them does.
pub(crate) fn run(selection: &Selection) -> ExitCode {
    let mut tally = Tally::default();
    tally.check("setup", || setup::install(true));
    if tally.failed == 0 {
        thread::scope(|scope| {
            if [Part::Behaviour, Part::Bench].into_iter().any(|part| selection.has(part)) {
                // To link it keeps one processor busy for minutes, so that it is built beside what does not need it. Who
                // does waits for it, and says it if it cannot be built.
                scope.spawn(build::static_agent);
            }
            parts(&mut tally, selection);
        });
    } else {
        say("nothing is tested: what the tests need is not there");
    }
    for skip in &tally.skips {
        say(&format!("skipped {skip}"));
    }
    say(&format!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skips.len()));
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parts(tally: &mut Tally, selection: &Selection) {
    if selection.has(Part::Lint) {
        lint(tally);
    }
    if selection.has(Part::Unit) {
        // All of them, also behind one that fails: what is not run would be missing from the sum.
        let unit = cargo(["test", "--workspace", "--no-fail-fast"]);
        part(tally, "unit tests", |tally| tests(tally, unit.into_command()));
    }
    if selection.has(Part::Behaviour) {
        part(tally, "behaviour tests", |tally| behaviours(tally, &selection.names));
    }
    if selection.has(Part::Bench) {
        const NAME: &str = "what the agent writes under load";
        if setup::is_root() {
            tally.check(NAME, bench);
        } else {
            tally.skips.push(format!("{NAME}: only root may watch the kernel"));
        }
    }
    if selection.has(Part::Fuzz) {
        for target in fuzz::targets() {
            tally.check(&format!("fuzzing {target} for {FUZZ_SECONDS} s"), || fuzz::run(target, FUZZ_SECONDS));
        }
    }
}

fn lint(tally: &mut Tally) {
    tally.check("formatting", || cargo(["fmt", "--all", "--check"]).quietly().map(drop));
    tally.check("clippy", || {
        cargo(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]).quietly().map(drop)
    });
    tally.check("clippy, kernel side", || {
        let arguments = ["--package", "postern-ebpf", "--bins", "--features", "programs"];
        cargo(
            ["clippy", "--quiet", "--release", "--target", "bpfel-unknown-none", "-Zbuild-std=core"]
                .iter()
                .chain(&arguments)
                .chain(&["--target-dir", "target/bpf", "--", "--deny", "warnings"]),
        )
        .env("RUSTC_BOOTSTRAP", "1")
        .quietly()
        .map(drop)
    });
    tally.check("licences, bans and sources", licences::check);
    tally.skips.push(
        "advisories: cargo-deny fetches their database over the network; run `cargo deny check advisories`".into(),
    );
    tally.check("structure", || structure::check(&root()));
}

/// The behaviour tests run the debug build of the agent, and the image.
fn behaviours(tally: &mut Tally, names: &[String]) -> Result<()> {
    if names.is_empty() || names.iter().any(|part| part.contains("node")) {
        nodes::make_tested();
    }
    cargo(["build", "--package", "postern", "--package", "postern-tests"]).run()?;
    let image = image::write()?;
    let runner = root().join("target/debug/postern-tests");
    let mut runner = program(&runner.display().to_string(), names)
        .env("POSTERN_IMAGE", &image.archive.display().to_string())
        .env("POSTERN_STATIC", &image.agent.display().to_string())
        .env("POSTERN_NODES", &nodes::folder().display().to_string());
    let downloaded = [
        ("POSTERN_KERNEL", setup::kernel()),
        ("POSTERN_CLOUD_AGENT", setup::cloud_agent()),
        ("POSTERN_AZURE_AGENT", setup::azure_agent()),
    ];
    for (name, found) in downloaded {
        match found {
            Ok(path) => runner = runner.env(name, &path.display().to_string()),
            Err(error) => say(&format!("no {name}: {error:#}")),
        }
    }
    tests(tally, runner.into_command())
}

fn bench() -> Result<()> {
    cargo(["build", "--package", "postern-tests"]).run()?;
    bench::short(&root().join("target/debug/postern-bench"), &build::static_agent()?)
}

fn part(tally: &mut Tally, name: &str, run: impl FnOnce(&mut Tally) -> Result<()>) {
    say(&format!("== {name}"));
    let started = Instant::now();
    let failed_before = tally.failed;
    if let Err(error) = run(tally)
        && tally.failed == failed_before
    {
        tally.failed += 1;
        say(&format!("FAILED {name}: {error:#}"));
    }
    say(&format!("== {name}: {} s", started.elapsed().as_secs()));
}

/// Runs a test program, shows what it says, and counts what it counts.
fn tests(tally: &mut Tally, mut command: std::process::Command) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {command:?}"))?;
    let stdout = child.stdout.take().context("no output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if let Some(skip) = line.strip_prefix("skipped ") {
            tally.skips.push(skip.to_owned());
        } else if let Some(skip) = ignored(&line) {
            tally.skips.push(skip);
        } else if let Some(counts) = counts(&line) {
            tally.passed += counts.0;
            tally.failed += counts.1;
            // Indented, so that only the last line of all is the sum of all.
            say(&format!("  {line}"));
        } else if !line.is_empty() && !line.ends_with(" ... ok") {
            say(&line);
        }
    }
    let status = child.wait()?;
    anyhow::ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

/// How many passed and failed, from libtest's closing line or the behaviour runner's.
fn counts(line: &str) -> Option<(u64, u64)> {
    let rest =
        line.strip_prefix("test result: ").map_or(line, |rest| rest.split_once(". ").map_or(rest, |(_, rest)| rest));
    let mut parts = rest.split([',', ';']).map(str::trim);
    let passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = parts.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some((passed, failed))
}

/// A test that libtest passed over, with its reason.
fn ignored(line: &str) -> Option<String> {
    let (name, reason) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    let reason = reason.strip_prefix(", ").unwrap_or("marked `#[ignore]` without a reason");
    Some(format!("{name}: {reason}"))
}

impl Tally {
    fn check(&mut self, name: &str, run: impl FnOnce() -> Result<()>) {
        let started = Instant::now();
        match run() {
            Ok(()) => {
                self.passed += 1;
                say(&format!("ok {name} ({} s)", started.elapsed().as_secs()));
            }
            Err(error) => {
                self.failed += 1;
                say(&format!("FAILED {name}: {error:#}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{counts, ignored};

    #[test]
    fn closing_lines_are_counted_and_others_are_not() {
        let libtest = "test result: ok. 53 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 2.38s";
        assert_eq!(counts(libtest), Some((53, 1)));
        assert_eq!(counts("20 passed, 3 failed, 0 skipped"), Some((20, 3)));
        assert_eq!(counts("running 3 tests"), None);
        assert_eq!(counts("3 passed the door"), None);
    }

    #[test]
    fn an_ignored_test_is_a_skip_with_its_reason() {
        let reason = ignored("test a::b ... ignored, needs a second machine");
        assert_eq!(reason.as_deref(), Some("a::b: needs a second machine"));
        assert!(ignored("test a::b ... ignored").is_some_and(|skip| skip.starts_with("a::b: ")));
        assert_eq!(ignored("test a::b ... ok"), None);
        assert_eq!(ignored("the test ... ignored"), None);
    }
}
