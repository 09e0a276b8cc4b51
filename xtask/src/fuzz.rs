//! Short runs of the fuzz targets in `tests/fuzz`, on the stable toolchain: coverage instrumentation is an LLVM pass, which
//! needs no nightly.

use anyhow::Result;

use crate::command::{cargo, program, root};

/// Each target, and the longest input that it is given.
const TARGETS: [(&str, u32); 5] =
    [("record", 4_096), ("cgroup", 512), ("files", 1_024), ("saved", 4_096), ("crontab", 1_024)];
/// The build scripts and macros of a target's dependencies are built for the host, without instrumentation.
const HOST: &str = "x86_64-unknown-linux-gnu";
const INSTRUMENTATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table --cfg fuzzing";

/// Names of the targets.
pub(crate) fn targets() -> impl Iterator<Item = &'static str> {
    TARGETS.iter().map(|(name, _)| *name)
}

/// Builds a target and runs it for so many seconds; fails if it finds anything.
pub(crate) fn run(target: &str, seconds: u32) -> Result<()> {
    let folder = root().join("tests/fuzz");
    let manifest = folder.join("Cargo.toml").display().to_string();
    let built = root().join("target/fuzz").display().to_string();
    let build =
        ["build", "--quiet", "--release", "--target", HOST, "--manifest-path", &manifest, "--target-dir", &built];
    cargo(build).env("RUSTFLAGS", INSTRUMENTATION).quietly()?;
    let longest = TARGETS.iter().find(|(name, _)| *name == target).map_or(4_096, |(_, longest)| *longest);
    let corpus = folder.join("corpus").join(target);
    std::fs::create_dir_all(&corpus)?;
    let artifacts = format!("-artifact_prefix={}/", folder.join("corpus").display());
    let time = format!("-max_total_time={seconds}");
    let length = format!("-max_len={longest}");
    let binary = format!("{built}/{HOST}/release/{target}");
    program(&binary, [&corpus.display().to_string(), &artifacts, &time, &length]).quietly().map(drop)
}
