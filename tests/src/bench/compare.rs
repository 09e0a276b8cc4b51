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
pub(crate) const ROUGHLY: u32 = 5;

/// The middle of some figures, and how far they reach.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    /// Where the median of ever more figures would be, nineteen times of twenty; of fewer than six figures, all that they reach.
    pub(crate) likely: (f64, f64),
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// One load under one monitor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Compared {
    pub(crate) load: String,
    pub(crate) monitor: String,
    /// In how many rounds it took part.
    pub(crate) rounds: u64,
    /// Seconds without it, and with it.
    pub(crate) without: Spread,
    pub(crate) with: Spread,
    /// Of the pairs.
    pub(crate) ratio: Spread,
    /// The same against the floor in the same round, where both took part.
    pub(crate) over_floor: Option<Spread>,
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
        let (last, beyond) = (count.wrapping_sub(1), beyond(count));
        Self { median, likely: (at(beyond), at(last.wrapping_sub(beyond))), least: at(0), most: at(last) }
    }
}

/// How many figures at either end lie beyond where the median likely is: each figure is above the true median as often as below it, so
/// that how many are below is binomial (the interval of the sign test), and more than one in forty at one end would be too often.
fn beyond(count: usize) -> usize {
    // Of none below, of one, and so on.
    let mut chance = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut at_most = 0.0;
    for below in 0..count {
        at_most += chance;
        if at_most > 0.025 {
            return below.saturating_sub(1);
        }
        chance *= (count - below) as f64 / (below + 1) as f64;
    }
    0
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
        let mut rounds = Vec::new();
        for round in 0..self.rounds {
            let turns = (0..monitors.len()).filter(|turn| takes_part(turn, round));
            let turns: Vec<usize> = if round % 2 == 0 { turns.collect() } else { turns.rev().collect() };
            let mut costs = BTreeMap::new();
            for turn in turns {
                let marker = format!("bench-{}-{round}-{turn}", std::process::id());
                costs.insert(turn, self.round(monitors[turn], load, &marker)?);
            }
            rounds.push(costs);
        }
        let floor = monitors.iter().position(|monitor| matches!(monitor, Monitor::Peer(Peer::Floor)));
        let compared = |turn: usize| {
            let over_floor =
                floor.filter(|&floor| floor != turn).map(|floor| ratio(&pairs(&rounds, floor, turn), took));
            compared(load, monitors[turn], over_floor, &pairs(&rounds, 0, turn))
        };
        Ok((1..monitors.len()).map(compared).collect())
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

/// What two of the monitors cost in each round that both took part in.
fn pairs(rounds: &[BTreeMap<usize, Round>], one: usize, other: usize) -> Vec<(&Round, &Round)> {
    rounds.iter().filter_map(|costs| costs.get(&one).zip(costs.get(&other))).collect()
}

/// How much longer it took with the second of each pair.
fn ratio(pairs: &[(&Round, &Round)], time: fn(&Round) -> Duration) -> Spread {
    Spread::of(pairs.iter().map(|(one, other)| time(other).div_duration_f64(time(one))).collect())
}

const fn took(round: &Round) -> Duration {
    round.done.took
}

/// Of pairs of rounds without and with the monitor.
fn compared(load: Load, monitor: Monitor, over_floor: Option<Spread>, pairs: &[(&Round, &Round)]) -> Compared {
    let spread = |of: &dyn Fn(&(&Round, &Round)) -> f64| Spread::of(pairs.iter().map(of).collect());
    let with = || pairs.iter().map(|(_, with)| with);
    Compared {
        load: format!("{load:?}").to_lowercase(),
        monitor: monitor.name().to_owned(),
        rounds: pairs.len() as u64,
        without: spread(&|(without, _)| took(without).as_secs_f64()),
        with: spread(&|(_, with)| took(with).as_secs_f64()),
        ratio: ratio(pairs, took),
        over_floor,
        elapsed: ratio(pairs, |round| round.done.elapsed),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_median_is_that_of_the_sign_test() {
        // Of 25 figures the 8th and the 18th, of six the first and the last, of fewer no narrower (tables of the binomial distribution).
        let of = |count: u32| Spread::of((1..=count).map(f64::from).collect()).likely;
        assert_eq!(
            [of(25), of(12), of(6), of(5), of(1)],
            [(8.0, 18.0), (3.0, 10.0), (1.0, 6.0), (1.0, 5.0), (1.0, 1.0)]
        );
    }
}
