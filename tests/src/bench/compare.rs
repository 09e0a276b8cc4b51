//! Each load without and with the agent, in turn, so that a machine that grows slower does so for both.

use std::{
    collections::BTreeMap,
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

/// What is not close to something else is measured in one of so many rounds.
pub(crate) const ROUGHLY: u32 = 3;

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
    /// first has no advantage of it. Whoever is far from none takes part in some rounds only.
    pub(crate) fn run(&self, load: Load) -> Result<Vec<Compared>> {
        let watching = [Monitor::Postern].into_iter().chain(self.peers.iter().copied().map(Monitor::Peer));
        let monitors: Vec<Monitor> = [Monitor::None].into_iter().chain(watching).collect();
        let takes_part = |turn: &usize, round: u32| match monitors[*turn] {
            Monitor::Peer(peer) => peer.is_close() || round.is_multiple_of(ROUGHLY),
            _ => true,
        };
        let mut pairs = vec![Vec::new(); monitors.len()];
        for round in 0..self.rounds {
            let turns = (0..monitors.len()).filter(|turn| takes_part(turn, round));
            let turns: Vec<usize> = if round % 2 == 0 { turns.collect() } else { turns.rev().collect() };
            let mut rounds = BTreeMap::new();
            for turn in turns {
                let marker = format!("bench-{}-{round}-{turn}", std::process::id());
                rounds.insert(turn, self.round(monitors[turn], load, &marker)?);
            }
            let without = rounds.remove(&0).context("nothing is one")?;
            for (turn, with) in rounds {
                pairs[turn].push((without.clone(), with));
            }
        }
        Ok(monitors.iter().zip(&pairs).skip(1).map(|(monitor, pairs)| compared(load, *monitor, pairs)).collect())
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

/// Of pairs of rounds without and with the monitor.
fn compared(load: Load, monitor: Monitor, pairs: &[(Round, Round)]) -> Compared {
    let spread = |of: &dyn Fn(&(Round, Round)) -> f64| Spread::of(pairs.iter().map(of).collect());
    let ratio =
        |of: fn(&Done) -> Duration| spread(&|(without, with)| of(&with.done).div_duration_f64(of(&without.done)));
    let with = || pairs.iter().map(|(_, with)| with);
    Compared {
        load: format!("{load:?}").to_lowercase(),
        monitor: monitor.name().to_owned(),
        without: spread(&|(without, _)| without.done.took.as_secs_f64()),
        with: spread(&|(_, with)| with.done.took.as_secs_f64()),
        ratio: ratio(|done| done.took),
        elapsed: ratio(|done| done.elapsed),
        cpu: spread(&|(_, with)| with.cpu.as_secs_f64()),
        execs: with().next().map_or(0, |it| it.done.execs),
        lost: with().map(|it| it.lost).max().unwrap_or(0),
        resident: with().map(|it| it.resident).max().unwrap_or(0),
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
