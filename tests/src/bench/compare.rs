//! Each load without and with the agent, in turn, so that a machine that grows slower does so for both.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{
    load::{Done, Ground, Load},
    peers::Peer,
    watched::Watched,
};

/// The middle of some figures, and how far they reach.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// One load under one monitor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Compared {
    pub(crate) load: String,
    pub(crate) monitor: String,
    /// Seconds without it, and with it.
    pub(crate) without: Spread,
    pub(crate) with: Spread,
    /// Of the pairs.
    pub(crate) ratio: Spread,
    /// The same of the time from the load's beginning to its end.
    pub(crate) elapsed: Spread,
    /// Seconds of processor time that the monitor itself took.
    pub(crate) cpu: Spread,
    pub(crate) execs: u64,
    /// Execs that it did not tell; for Postern always zero, since else the run fails.
    pub(crate) lost: u64,
    /// Bytes that it holds afterwards.
    pub(crate) resident: u64,
}

impl Spread {
    /// Of at least one figure.
    pub(crate) fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        let (count, middle) = (figures.len(), figures.len() / 2);
        let median = if count % 2 == 1 { at(middle) } else { f64::midpoint(at(middle.wrapping_sub(1)), at(middle)) };
        Self { median, least: at(0), most: at(count.wrapping_sub(1)) }
    }
}

/// What one monitor cost in one round.
#[derive(Clone)]
struct Round {
    done: Done,
    cpu: Duration,
    lost: u64,
    resident: u64,
}

/// Runs a load in rounds: nothing, then each monitor. The agent is a fresh one each time, so that its memory is that of this
/// load alone, and so that what it wrote can be checked whole.
pub(crate) fn compare(
    agent: &Path,
    folder: &Path,
    ground: &Ground,
    load: Load,
    peers: &[Peer],
    rounds: u32,
) -> Result<Vec<Compared>> {
    let (mut without, mut with) = (Vec::new(), vec![Vec::new(); peers.len() + 1]);
    let mut execs = 0;
    for round in 0..rounds {
        let marker = format!("bench-{}-{round}", std::process::id());
        ground.warm_up()?;
        let done = ground.run(load, &marker)?;
        execs = done.execs;
        without.push(done);
        with[0].push(under_postern(agent, folder, ground, load, &format!("{marker}-postern"))?);
        for (peer, rounds) in peers.iter().zip(&mut with[1..]) {
            let marker = format!("{marker}-{}", peer.name());
            let mut running = peer.start(folder)?;
            ground.warm_up()?;
            running.settle()?;
            let done = ground.run(load, &marker)?;
            let cost = running.stop(&marker, done.execs)?;
            rounds.push(Round { done, cpu: cost.cpu, lost: cost.lost, resident: cost.resident });
        }
    }
    let names = std::iter::once("postern").chain(peers.iter().map(|peer| peer.name()));
    let row = |(name, rounds): (&str, Vec<Round>)| Compared {
        load: format!("{load:?}").to_lowercase(),
        monitor: name.to_owned(),
        without: Spread::of(without.iter().map(|it| it.took.as_secs_f64()).collect()),
        with: Spread::of(rounds.iter().map(|it| it.done.took.as_secs_f64()).collect()),
        ratio: Spread::of(
            rounds.iter().zip(&without).map(|(it, none)| it.done.took.div_duration_f64(none.took)).collect(),
        ),
        elapsed: Spread::of(
            rounds.iter().zip(&without).map(|(it, none)| it.done.elapsed.div_duration_f64(none.elapsed)).collect(),
        ),
        cpu: Spread::of(rounds.iter().map(|it| it.cpu.as_secs_f64()).collect()),
        execs,
        lost: rounds.iter().map(|it| it.lost).max().unwrap_or(0),
        resident: rounds.iter().map(|it| it.resident).max().unwrap_or(0),
    };
    Ok(names.zip(with).map(row).collect())
}

fn under_postern(agent: &Path, folder: &Path, ground: &Ground, load: Load, marker: &str) -> Result<Round> {
    let watched = Watched::start(agent, folder, "")?;
    ground.warm_up()?;
    let before = watched.settled()?;
    let done = ground.run(load, marker)?;
    let cpu = watched.settled()?.saturating_sub(before);
    let resident = watched.memory()?.resident;
    watched.check(marker, done.execs).with_context(|| format!("{load:?}"))?;
    Ok(Round { done, cpu, lost: 0, resident })
}

/// What an agent costs with nothing to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Idle {
    /// Bytes.
    pub(crate) memory: crate::watched::Memory,
    /// Part of one processor.
    pub(crate) cpu: f64,
}

/// Watches an agent that has nothing to do.
pub(crate) fn idle(agent: &Path, folder: &Path, time: Duration) -> Result<Idle> {
    let watched = Watched::start(agent, folder, "")?;
    let (before, started) = (watched.settled()?, Instant::now());
    std::thread::sleep(time);
    let cpu = watched.cpu()?.saturating_sub(before).as_secs_f64() / started.elapsed().as_secs_f64();
    let memory = watched.memory()?;
    watched.check_stream()?;
    Ok(Idle { memory, cpu })
}
