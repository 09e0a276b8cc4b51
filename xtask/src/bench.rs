//! `cargo xtask bench`: what the agent costs. The short form, which is part of `cargo xtask test`, checks the truth of what
//! the agent wrote under small loads, and no time.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::{
    build,
    command::{Program, cargo, program, root},
    setup,
};

/// What to measure.
#[derive(Args)]
pub(crate) struct Wanted {
    /// Only these loads: storm, vfork, open, paced, forks, compile, syscalls, files, network.
    loads: Vec<String>,
    /// How often each load of execs runs without and with the agent, 25 times unless told; other loads run half as often.
    #[arg(long)]
    rounds: Option<u32>,
    /// Other monitors under loads of execs, in some of the rounds: execsnoop, bpftrace, auditd. Installed where they are missing.
    #[arg(long, value_delimiter = ',')]
    against: Vec<String>,
    /// Small loads and, unless told, one round: for truth, not for time.
    #[arg(long)]
    short: bool,
    /// Only this: so many minutes of short processes (five million in an hour), for the agent's memory.
    #[arg(long)]
    churn: Option<u32>,
    /// Only this: what a record costs as the node grows.
    #[arg(long)]
    growth: bool,
    /// Write docs/performance.md, .json and .svg.
    #[arg(long)]
    write: bool,
}

/// Builds what is needed, and measures.
pub(crate) fn run(wanted: &Wanted) -> Result<()> {
    setup::install(true)?;
    if !wanted.against.is_empty() {
        setup::install_peers()?;
    }
    let agent = build::static_agent()?;
    cargo(["build", "--release", "--package", "postern-tests", "--bin", "postern-bench"]).run()?;
    let mut bench = start(&root().join("target/release/postern-bench"), &agent);
    if let Some(rounds) = wanted.rounds {
        bench = bench.argument("--rounds").argument(&rounds.to_string());
    }
    if !wanted.against.is_empty() {
        bench = bench.argument("--against").argument(&wanted.against.join(","));
    }
    if wanted.short {
        bench = bench.argument("--short");
    }
    if let Some(minutes) = wanted.churn {
        bench = bench.argument("--churn").argument(&minutes.to_string());
    }
    if wanted.growth {
        bench = bench.argument("--growth");
    }
    if wanted.write {
        bench = bench.argument("--write").argument(&root().join("docs").display().to_string());
    }
    wanted.loads.iter().fold(bench, |bench, load| bench.argument(load)).run()
}

/// The short form with a generator that is built already.
pub(crate) fn short(bench: &Path, agent: &Path) -> Result<()> {
    start(bench, agent).argument("--short").run()
}

fn start(bench: &Path, agent: &Path) -> Program {
    program(&bench.display().to_string(), ["run".as_ref(), "--agent".as_ref(), agent.as_os_str()])
}
