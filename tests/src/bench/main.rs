//! What Postern costs. Not a test: it judges nothing but the truth of what the agent wrote, and leaves the figures to the
//! reader. `cargo xtask bench` builds what it needs and runs it.

mod churn;
mod compare;
mod crowd;
mod floor;
mod growth;
mod hooks;
mod latency;
mod load;
mod peers;
mod plot;
mod report;
mod spawn;
mod tiny;
mod watched;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum as _};
use peak_alloc::PeakAlloc;
use tempfile::TempDir;

use crate::{
    compare::Comparison,
    growth::Growth,
    load::{Ground, Load, Start},
    peers::Peer,
    report::Report,
};

/// Knows what the parts of the agent hold that run in this process.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure.
    Run(Wanted),
    /// Be the barest monitor.
    #[command(hide = true)]
    Floor,
    /// What a load's worker does.
    #[command(hide = true)]
    Worker {
        program: PathBuf,
        #[arg(long)]
        start: Start,
        #[arg(long)]
        pace: u32,
    },
}

#[derive(clap::Args)]
struct Wanted {
    /// The agent to measure.
    #[arg(long)]
    agent: PathBuf,
    /// How often each load of execs runs without and with it, 25 times unless told; other loads run half as often.
    #[arg(long)]
    rounds: Option<u32>,
    /// Other monitors for the same load in some of the same rounds.
    #[arg(long, value_delimiter = ',')]
    against: Vec<Peer>,
    /// Small loads and, unless told, one round: for truth alone.
    #[arg(long)]
    short: bool,
    /// Only this: so many minutes of short processes, for the agent's memory.
    #[arg(long, conflicts_with_all = ["loads", "against", "rounds"])]
    churn: Option<u32>,
    /// Only this: what a record costs as the node grows.
    #[arg(long, conflicts_with_all = ["loads", "against", "churn"])]
    growth: bool,
    /// Where to write the page, the figures and the plot.
    #[arg(long, conflicts_with_all = ["loads", "short"])]
    write: Option<PathBuf>,
    /// Which loads; all of them, and all other measurements, where none is named.
    loads: Vec<Load>,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Run(wanted) => run(&wanted),
        Task::Floor => floor::run(),
        Task::Worker { program, start, pace } => {
            say(&load::work(&program, start, pace)?.to_string());
            Ok(())
        }
    }
}

fn run(wanted: &Wanted) -> Result<()> {
    let folder = TempDir::with_prefix("postern-bench-")?;
    let ground = Ground::prepare(folder.path(), wanted.short)?;
    if let Some(minutes) = wanted.churn {
        let churn = churn::measure(&wanted.agent, folder.path(), &ground, minutes)?;
        say(&format!("{churn:?}"));
        return wanted.add_to_last_report(|report| report.churn = Some(churn));
    }
    if wanted.growth {
        let growth = growth(wanted)?;
        say(&format!("{growth:?}"));
        return wanted.add_to_last_report(|report| report.growth = growth);
    }
    let mut report = Report::of_this_machine(&wanted.agent)?;
    let loads = if wanted.loads.is_empty() { Load::value_variants() } else { &wanted.loads };
    for &load in loads {
        if let Some(reason) = Ground::unavailable(load) {
            say(&format!("skipped {load:?}: {reason}"));
            continue;
        }
        // Other monitors only tell of execs.
        let (peers, rounds) = if load.is_of_execs() {
            ([Peer::Floor].into_iter().chain(available(&wanted.against)).collect(), wanted.rounds())
        } else {
            (Vec::new(), wanted.rounds().div_ceil(2))
        };
        let (agent, folder) = (&wanted.agent, folder.path());
        let comparison = Comparison { agent, folder, ground: &ground, peers, rounds };
        for row in comparison.run(load)? {
            say(&report::line(&row));
            report.compared.push(row);
        }
    }
    if wanted.loads.is_empty() {
        others(wanted, folder.path(), &ground, &mut report)?;
    }
    match &wanted.write {
        Some(folder) => {
            // It takes an hour: it stays until it is measured again.
            report.churn = Report::read(folder).ok().and_then(|before| before.churn);
            report.write(folder).context("the report cannot be written")
        }
        None => Ok(()),
    }
}

impl Wanted {
    /// A machine of others' is by a twentieth faster or slower at times, and that is as much as what is measured: it takes so many.
    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.short { 1 } else { 25 })
    }

    /// Of a part that was measured alone.
    fn add_to_last_report(&self, part: impl FnOnce(&mut Report)) -> Result<()> {
        let Some(folder) = &self.write else { return Ok(()) };
        let mut report = Report::read(folder)?;
        part(&mut report);
        report.write(folder).context("the report cannot be written")
    }
}

fn growth(wanted: &Wanted) -> Result<Growth> {
    growth::measure(wanted.rounds().div_ceil(compare::ROUGHLY), wanted.short)
}

/// All that is no comparison of loads.
fn others(wanted: &Wanted, folder: &Path, ground: &Ground, report: &mut Report) -> Result<()> {
    let (agent, short) = (&wanted.agent, wanted.short);
    report.hooks = hooks::measure(agent, folder, ground)?;
    report.latency = latency::measure(agent, folder, ground, short)?;
    report.idle = Some(compare::idle(agent, folder, Duration::from_secs(if short { 1 } else { 30 }))?);
    report.growth = growth(wanted)?;
    report.crowds = crowd::measure(agent, folder, ground, short)?;
    say(&report.rest());
    Ok(())
}

fn available(peers: &[Peer]) -> Vec<Peer> {
    let is_there = |peer: &&Peer| match peer.unavailable() {
        Some(reason) => {
            say(&format!("skipped {}: {reason}", peer.name()));
            false
        }
        None => true,
    };
    peers.iter().filter(is_there).copied().collect()
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn say(line: &str) {
    println!("{line}");
}
