//! Each load without and with the agent, in turn, so that a machine that grows slower does so for both.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{
    load::{Done, Ground, Load},
    peers::Peer,
    watched::{QUIET, Watched},
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

/// Who watches in one round.
#[derive(Clone, Copy)]
enum Monitor {
    None,
    /// A fresh one each time, so that its memory is that of this load alone, and so that what it wrote can be checked whole.
    Postern,
    Peer(Peer),
}

/// What one monitor cost in one round.
#[derive(Clone)]
struct Round {
    done: Done,
    cpu: Duration,
    lost: u64,
    resident: u64,
}

/// What a comparison needs.
pub(crate) struct Comparison<'a> {
    pub(crate) agent: &'a Path,
    pub(crate) folder: &'a Path,
    pub(crate) ground: &'a Ground,
    pub(crate) peers: Vec<Peer>,
    pub(crate) rounds: u32,
}

impl Comparison<'_> {
    /// Runs a load in rounds: under nothing and under each monitor, and the next time the other way round, so that whoever comes
    /// first has no advantage of it.
    pub(crate) fn run(&self, load: Load) -> Result<Vec<Compared>> {
        let watching = [Monitor::Postern].into_iter().chain(self.peers.iter().copied().map(Monitor::Peer));
        let monitors: Vec<Monitor> = [Monitor::None].into_iter().chain(watching).collect();
        let mut rounds = vec![Vec::new(); monitors.len()];
        for round in 0..self.rounds {
            let turns = 0..monitors.len();
            let turns: Vec<usize> = if round % 2 == 0 { turns.collect() } else { turns.rev().collect() };
            for turn in turns {
                let marker = format!("bench-{}-{round}-{turn}", std::process::id());
                rounds[turn].push(self.round(monitors[turn], load, &marker)?);
            }
        }
        let (without, with) = rounds.split_first().context("nothing is one")?;
        Ok(monitors[1..].iter().zip(with).map(|(monitor, with)| compared(load, *monitor, without, with)).collect())
    }

    fn round(&self, monitor: Monitor, load: Load, marker: &str) -> Result<Round> {
        let ground = self.ground;
        match monitor {
            Monitor::None => {
                ground.warm_up()?;
                // As long as it takes to see that a monitor has nothing to do any more.
                thread::sleep(QUIET);
                Ok(Round { done: ground.run(load, marker)?, cpu: Duration::ZERO, lost: 0, resident: 0 })
            }
            Monitor::Postern => {
                let watched = Watched::start(self.agent, self.folder, "")?;
                ground.warm_up()?;
                let before = watched.settled()?;
                let done = ground.run(load, marker)?;
                let cpu = watched.settled()?.saturating_sub(before);
                let resident = watched.memory()?.resident;
                watched.check(marker, done.execs).with_context(|| format!("{load:?}"))?;
                Ok(Round { done, cpu, lost: 0, resident })
            }
            Monitor::Peer(peer) => {
                let mut running = peer.start(self.folder)?;
                ground.warm_up()?;
                running.settle()?;
                let done = ground.run(load, marker)?;
                let cost = running.stop(marker, done.execs)?;
                Ok(Round { done, cpu: cost.cpu, lost: cost.lost, resident: cost.resident })
            }
        }
    }
}

impl Monitor {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Postern => "postern",
            Self::Peer(peer) => peer.name(),
        }
    }
}

fn compared(load: Load, monitor: Monitor, without: &[Round], with: &[Round]) -> Compared {
    let seconds = |rounds: &[Round]| Spread::of(rounds.iter().map(|it| it.done.took.as_secs_f64()).collect());
    let ratio = |of: fn(&Done) -> Duration| {
        let pairs = with.iter().zip(without);
        Spread::of(pairs.map(|(it, none)| of(&it.done).div_duration_f64(of(&none.done))).collect())
    };
    Compared {
        load: format!("{load:?}").to_lowercase(),
        monitor: monitor.name().to_owned(),
        without: seconds(without),
        with: seconds(with),
        ratio: ratio(|done| done.took),
        elapsed: ratio(|done| done.elapsed),
        cpu: Spread::of(with.iter().map(|it| it.cpu.as_secs_f64()).collect()),
        execs: with.first().map_or(0, |it| it.done.execs),
        lost: with.iter().map(|it| it.lost).max().unwrap_or(0),
        resident: with.iter().map(|it| it.resident).max().unwrap_or(0),
    }
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
    thread::sleep(time);
    let cpu = watched.cpu()?.saturating_sub(before).as_secs_f64() / started.elapsed().as_secs_f64();
    let memory = watched.memory()?;
    watched.check_stream()?;
    Ok(Idle { memory, cpu })
}
