//! Refused logins. Whoever guesses passwords is one event that grows, and not a flood: the first refusal is told at once, and
//! then how many there were.

use std::{net::IpAddr, sync::Arc};

use postern_ebpf::abi::ProcessKey;
use rustc_hash::FxHashMap;

use crate::event::Login;

/// How long after it was told the growth of a series waits, in nanoseconds.
const TELL_EVERY_NS: u64 = 30_000_000_000;
/// How long after its last attempt a series is over.
const OVER_NS: u64 = 600_000_000_000;
/// How many users of one source have a series of their own; the rest have one together, under no name.
const USERS_OF_SOURCE: usize = 16;
/// How many series there are at most. Past that the one goes that was quiet the longest.
const SERIES_MAX: usize = 4_096;

/// A refused login, ready to be told.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) process: ProcessKey,
    pub(super) login: Login,
    pub(super) partial: bool,
}

/// All that go on.
#[derive(Default)]
pub(super) struct Refusals {
    series: FxHashMap<(Option<IpAddr>, Arc<str>), Series>,
    /// How many users of a source have a series.
    users: FxHashMap<Option<IpAddr>, usize>,
}

struct Series {
    /// The last of them.
    refusal: Refusal,
    told: u64,
    told_ns: u64,
    last_ns: u64,
}

impl Refusals {
    /// Somebody was refused. Yields what is to be told now: the first of a series, and each tenfold.
    pub(super) fn add(&mut self, refusal: Refusal, now_ns: u64) -> Vec<Refusal> {
        let mut out = Vec::new();
        let source = refusal.login.source.ip;
        let mut key = (source, Arc::clone(&refusal.login.user));
        if !self.series.contains_key(&key) {
            if self.users.get(&source).is_some_and(|&users| users >= USERS_OF_SOURCE) {
                key.1 = "".into();
            } else {
                *self.users.entry(source).or_default() += 1;
            }
        }
        if !self.series.contains_key(&key) && self.series.len() >= SERIES_MAX {
            out.extend(self.forget_quietest());
        }
        let series = self.series.entry(key.clone()).or_insert_with(|| Series {
            refusal: Refusal { login: Login { attempts: 0, ..refusal.login.clone() }, ..refusal },
            told: 0,
            told_ns: now_ns,
            last_ns: now_ns,
        });
        let attempts = series.refusal.login.attempts + 1;
        series.refusal = Refusal { login: Login { attempts, user: key.1, ..refusal.login }, ..refusal };
        series.last_ns = now_ns;
        if attempts == 1 || attempts >= series.told.saturating_mul(10) {
            out.push(series.tell(now_ns));
        }
        out
    }

    /// What has grown and was not told for a while.
    pub(super) fn overdue(&mut self, now_ns: u64) -> Vec<Refusal> {
        let due = |series: &&mut Series| series.has_grown() && now_ns.saturating_sub(series.told_ns) >= TELL_EVERY_NS;
        let out = self.series.values_mut().filter(due).map(|series| series.tell(now_ns)).collect();
        let users = &mut self.users;
        self.series.retain(|(source, _), series| {
            let stays = series.has_grown() || now_ns.saturating_sub(series.last_ns) < OVER_NS;
            if !stays {
                release(users, *source);
            }
            stays
        });
        out
    }

    /// What has grown and was not told: the agent stops.
    pub(super) fn finish(&mut self) -> Vec<Refusal> {
        self.series.values_mut().filter(|series| series.has_grown()).map(|series| series.tell(u64::MAX)).collect()
    }

    fn forget_quietest(&mut self) -> Option<Refusal> {
        let key = self.series.iter().min_by_key(|(_, series)| series.last_ns).map(|(key, _)| key.clone())?;
        let mut series = self.series.remove(&key)?;
        release(&mut self.users, key.0);
        series.has_grown().then(|| series.tell(u64::MAX))
    }
}

impl Series {
    fn has_grown(&self) -> bool {
        self.refusal.login.attempts > self.told
    }

    fn tell(&mut self, now_ns: u64) -> Refusal {
        self.told = self.refusal.login.attempts;
        self.told_ns = now_ns;
        Refusal { login: self.refusal.login.clone(), ..self.refusal }
    }
}

fn release(users: &mut FxHashMap<Option<IpAddr>, usize>, source: Option<IpAddr>) {
    if let Some(count) = users.get_mut(&source) {
        *count -= 1;
        if *count == 0 {
            users.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{EntryType, Source},
        replay::key,
    };

    fn refusal(user: &str, ip: [u8; 4]) -> Refusal {
        let login = Login {
            door: EntryType::Sshd,
            user: user.into(),
            source: Source { address: None, ip: Some(ip.into()), port: Some(1) },
            service: "sshd".into(),
            ..Login::default()
        };
        Refusal { process: key(1), login, partial: false }
    }

    fn told(refusals: Vec<Refusal>) -> Vec<(String, u64)> {
        refusals.into_iter().map(|it| (it.login.user.to_string(), it.login.attempts)).collect()
    }

    #[test]
    fn a_guessing_attack_is_one_event_that_grows() {
        let mut refusals = Refusals::default();
        let mut events = Vec::new();
        for at in 0..1_234 {
            events.extend(told(refusals.add(refusal("root", [192, 0, 2, 1]), at)));
        }
        let name = || "root".to_owned();
        assert_eq!(events, [(name(), 1), (name(), 10), (name(), 100), (name(), 1_000)]);
        assert!(refusals.overdue(TELL_EVERY_NS).is_empty(), "told a moment ago");
        assert_eq!(told(refusals.overdue(2 * TELL_EVERY_NS)), [(name(), 1_234)]);
        assert!(refusals.finish().is_empty(), "nothing is left to tell");
        // Much later it is another attack.
        assert!(refusals.overdue(2 * OVER_NS).is_empty() && refusals.series.is_empty() && refusals.users.is_empty());
        assert_eq!(told(refusals.add(refusal("root", [192, 0, 2, 1]), 2 * OVER_NS)), [(name(), 1)]);
    }

    #[test]
    fn a_flood_of_users_or_of_sources_is_bounded_and_all_of_it_is_told() {
        let mut refusals = Refusals::default();
        let (mut events, mut sums) = (0, FxHashMap::default());
        let mut take = |refusals: Vec<Refusal>| {
            for Refusal { login, .. } in refusals {
                events += 1;
                sums.insert((login.source.ip, login.user.clone()), login.attempts);
            }
        };
        for number in 0..100_000_u32 {
            take(refusals.add(refusal(&format!("user-{number}"), [192, 0, 2, 1]), u64::from(number)));
        }
        take(refusals.finish());
        let all: u64 = sums.values().sum();
        assert_eq!((all, sums.len()), (100_000, USERS_OF_SOURCE + 1));
        assert!(events < 30, "{events}");
        for number in 0..2 * SERIES_MAX as u32 {
            refusals.add(refusal("root", number.to_be_bytes()), u64::from(number));
        }
        assert!(refusals.series.len() <= SERIES_MAX && refusals.users.len() <= SERIES_MAX);
    }
}
