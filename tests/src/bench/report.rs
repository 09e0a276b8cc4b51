//! The figures as lines for whoever waits, as a page, as data, and as a picture.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{
    churn::Churn,
    compare::{Compared, Idle, Spread},
    crowd::Crowd,
    growth::{Growth, Point},
    hooks::Hook,
    latency::Latency,
    plot,
};

/// All that was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    machine: String,
    commit: String,
    /// Bytes of the agent's file.
    binary: u64,
    pub(crate) compared: Vec<Compared>,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) latency: Vec<Latency>,
    pub(crate) idle: Option<Idle>,
    pub(crate) crowds: Vec<Crowd>,
    pub(crate) growth: Growth,
    /// Of a run of its own, which takes an hour.
    pub(crate) churn: Option<Churn>,
}

const FIGURES: &str = "performance.json";

impl Report {
    pub(crate) fn of_this_machine(agent: &Path) -> Result<Self> {
        let binary = fs::metadata(agent).with_context(|| agent.display().to_string())?.len();
        Ok(Self { machine: machine()?, commit: commit(), binary, ..Self::default() })
    }

    /// What was written to that folder before.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FIGURES);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// All but the comparisons, as lines.
    pub(crate) fn rest(&self) -> String {
        let lines: Vec<String> = self.rows().iter().map(|(name, value)| format!("{name:<56} {value}")).collect();
        lines.join("\n")
    }

    /// All but the comparisons: what it is, and how much.
    fn rows(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        for Compared { monitor, elapsed: Spread { median, least, most, .. }, .. } in
            self.compared.iter().filter(|it| it.load == "paced")
        {
            let figures = format!("{median:.4} ({least:.4} to {most:.4}) of what they take without");
            row(&format!("{monitor}: a thousand execs a second, from the first to the last"), figures);
        }
        for Compared { monitor, execs, without, with, over_floor, .. } in
            self.compared.iter().filter(|it| it.load == "open")
        {
            let [without, with] = [without, with].map(|took| *execs as f64 / took.median);
            let mut figures = format!("{with:.0} a second, {without:.0} without");
            if let Some(Spread { median, likely: (low, high), .. }) = over_floor {
                // The longer it takes, the lower the rate.
                let [rate, low, high] = [median, high, low].map(|times| 1.0 / times);
                let _ = write!(figures, ", {rate:.3} of the floor's, likely {low:.3} to {high:.3}");
            }
            row(&format!("{monitor}: execs in an open loop"), figures);
        }
        for hook in &self.hooks {
            row(
                &format!("kernel program {}", hook.name),
                format!("{:.2} us each, {} times", hook.each / 1e3, hook.runs),
            );
        }
        for Latency { what, count, median, p99, most } in &self.latency {
            let figures = format!("{median:.1} ms, 99 of 100 within {p99:.1} ms, at most {most:.1} ms ({count})");
            row(&format!("until {what} is read"), figures);
        }
        if let Some(Idle { memory, cpu }) = &self.idle {
            let share = format!("{:.2} % of a processor, {:.1} MiB resident", cpu * 100.0, mib(memory.resident));
            row("idle", format!("{share} ({:.1} MiB its own)", mib(memory.anonymous)));
        }
        for Crowd { processes, pods, sessions, ready, memory } in &self.crowds {
            let [median, least, most] = [ready.median, ready.least, ready.most].map(|seconds| seconds * 1e3);
            let ready = format!("ready after {median:.0} ms ({least:.0} to {most:.0})");
            let figures = format!("{ready}, {:.1} MiB resident", mib(memory.resident));
            row(&format!("{processes} processes more, {pods} pods, {sessions} people"), figures);
        }
        for Point { of, count, each, bytes } in &self.growth.points {
            let mut figures =
                format!("{:.2} us ({:.2} to {:.2})", each.median / 1e3, each.least / 1e3, each.most / 1e3);
            if *count >= 1_000 {
                // Of fewer, the allocator's own steps are the greater part.
                let _ = write!(figures, "; {:.1} KiB each in memory", *bytes as f64 / f64::from(*count) / 1024.0);
            }
            row(&format!("a record's way to its line, {count} {}", of.name()), figures);
        }
        if let Some(Churn { commit, processes, minutes, resident }) = &self.churn {
            let figures: Vec<String> = resident.iter().map(|&bytes| format!("{:.1}", mib(bytes))).collect();
            let what = format!("{processes} short processes, {minutes} minutes, commit {commit}");
            row(&what, format!("MiB resident in turn: {}", figures.join(", ")));
        }
        row("the program's file", format!("{:.1} MiB", mib(self.binary)));
        rows
    }

    /// Writes `performance.md`, its figures and its pictures.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::write(folder.join(FIGURES), serde_json::to_string_pretty(self)? + "\n")?;
        fs::write(folder.join("performance.svg"), plot::bars(&self.compared))?;
        fs::write(folder.join("performance-growth.svg"), plot::curves(&self.growth.points))?;
        fs::write(folder.join("performance.md"), self.page())?;
        Ok(())
    }

    fn page(&self) -> String {
        let mut page = format!(
            "# Performance\n\n\
             <!-- Written by `cargo xtask bench --write`. -->\n\n\
             What Postern costs, measured by `cargo xtask bench --write` on {}, commit {}: each load without and with each \
             monitor in turn, the other way round in every second round. A ratio is of two times in one round: the median of the rounds, where the \
             median of ever more rounds would be nineteen times of twenty (\"likely\"), and \
             the least and the most in brackets. 5,000 execs that do not count come before each, and half a GiB of memory is touched. The agent is the static release build with every sensor \
             armed; it writes every event to a file. After each run that file is held against what happened: every exec of \
             the load is there once, and nothing is lost, or the run fails. The figures are in [performance.json](performance.json).\n\n\
             ![Time under each load with a monitor, against none](performance.svg)\n\n\
             | load | monitor | rounds | time without | time with | ratio | against the floor | its processor time | per 100,000 execs | not told | resident |\n\
             |---|---|---|---|---|---|---|---|---|---|---|\n",
            self.machine, self.commit
        );
        for row in &self.compared {
            let Compared {
                load, monitor, rounds, without, with, ratio, over_floor, cpu, execs, lost, resident, ..
            } = row;
            let over_floor = over_floor.as_ref().map_or_else(|| "-".into(), reach);
            let per = if *execs > 0 { format!("{:.2} s", cpu.median * 1e5 / *execs as f64) } else { "-".into() };
            let lost = if *execs > 0 { lost.to_string() } else { "-".into() };
            let _ = writeln!(
                page,
                "| {load} | {monitor} | {rounds} | {:.3} s | {:.3} s | {} | {over_floor} | {:.2} s | {per} | {lost} | {:.0} MiB |",
                without.median,
                with.median,
                reach(ratio),
                cpu.median,
                mib(*resident),
            );
        }
        page.push_str("\n| what | |\n|---|---|\n");
        for (name, value) in self.rows() {
            let _ = writeln!(page, "| {name} | {value} |");
        }
        let _ = writeln!(
            page,
            "\n![What a record costs as the node grows](performance-growth.svg)\n\n\
             The curves are of commit {}. Where all processes are busy each starts others in turn, so that what is known of all of them is read again \
             and again; where ten are, the others are there and do nothing, as most of a node's processes.",
            self.growth.commit
        );
        page.push_str(LOADS);
        page
    }
}

const LOADS: &str = "\n## Loads\n\n\
    * storm: 40,000 execs of a static program of 129 bytes by two workers that do nothing else, each with `posix_spawn(3)`, as Rust's \
      standard library starts programs; whoever is done with one takes the next.\n\
    * vfork: the same with `vfork(2)` and nothing beside it, so that what a monitor costs is the greatest part of it.\n\
    * open: the same again, and nobody waits for the end of what was started: the highest rate there is.\n\
    * paced: a thousand execs a second for five seconds, with `vfork(2)`; the time is what the worker was busy.\n\
    * forks: a shell's loop of 10,000 subshells; nothing is executed.\n\
    * compile: a C compiler over generated files.\n\
    * syscalls: 200,000 times getppid, openat, stat and read, and a connection that is refused every sixteenth time.\n\
    * files: tar, find and git over a tree of 2,000 files.\n\
    * network: 40,000 requests and answers over loopback.\n\n\
    The floor is the barest monitor, and part of the benchmark: a kernel program that puts the arguments into a ring and wakes nobody, and a \
    reader that every 25 milliseconds writes what came as lines of some 200 bytes with a time, a pid and the arguments. It knows no parent, no user and \
    no container.\n\n\
    Two workers take both processors of a machine that has two: there the time that the agent itself takes is in the ratio too. \
    Latencies in a storm and the kernel programs' times are those under vfork.\n";

/// A comparison on one line.
pub(crate) fn line(row: &Compared) -> String {
    let Compared { load, monitor, without, with, ratio, over_floor, cpu, execs, lost, resident, .. } = row;
    let over_floor = over_floor.as_ref().map_or_else(String::new, |it| format!("; {} of the floor", reach(it)));
    let per = if *execs > 0 {
        format!(", {:.2} s per 100,000 execs", cpu.median * 1e5 / *execs as f64)
    } else {
        String::new()
    };
    format!(
        "{load:<9} {monitor:<10} {:.3} s -> {:.3} s, {} of none{over_floor}; {:.2} s of a processor{per}; {lost} not told; {:.0} MiB",
        without.median,
        with.median,
        reach(ratio),
        cpu.median,
        mib(*resident),
    )
}

/// A ratio, and how sure it is.
fn reach(ratio: &Spread) -> String {
    let Spread { median, likely: (low, high), least, most } = ratio;
    format!("{median:.3}, likely {low:.3} to {high:.3} ({least:.3} to {most:.3})")
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn machine() -> Result<String> {
    let processor = fs::read_to_string("/proc/cpuinfo")?;
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).context("a figure")?;
    let gib = memory.trim().trim_end_matches(" kB").parse::<u64>()? >> 20;
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let processors = std::thread::available_parallelism()?;
    Ok(format!("{} x {}, {gib} GiB, Linux {kernel}", processors, model.trim_start_matches([' ', '\t', ':'])))
}

/// What the measured tree is.
pub(crate) fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if text.is_empty() { "unknown".into() } else { text }
}
