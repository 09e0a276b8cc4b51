//! Refused logins. Whoever guesses passwords is one event that grows, and not a flood: the first refusal is told at once, and
//! then how many there were. Where there are too many users or sources for an event each, one event stands for all further ones.

use std::{hash::BuildHasher as _, net::IpAddr, sync::Arc};

use postern_ebpf::abi::ProcessKey;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::event::{Door, Login, Refused, Source};

/// How long after it was told the growth of a series waits, in nanoseconds.
const TELL_EVERY_NS: u64 = 30_000_000_000;
/// How long after its last attempt a series is over.
const OVER_NS: u64 = 600_000_000_000;
/// How many users of one source have a series of their own; the rest have one together, under no name.
const USERS_OF_SOURCE: usize = 16;
/// How many series there are at most. What no longer finds room is counted in the one of its door.
const SERIES_MAX: usize = 128;
/// How many more there may be for whom the node is concerned with: a flood of others does not take their room.
const CONCERNED_MAX: usize = 128;
/// Bits by which different users, or sources, are counted. Two may meet in one, so that the count is the least there were.
const BITS: usize = 1 << 17;
/// How many are named of those that one event stands for.
const EXAMPLES: usize = 8;

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
    series: FxHashMap<Key, Series>,
    /// How many users of a source have a series.
    users: FxHashMap<Option<IpAddr>, usize>,
}

/// Whom a series is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// One user from one source.
    One(Option<IpAddr>, Arc<str>),
    /// All further users from one source.
    Source(Option<IpAddr>),
    /// All others at one door.
    Door(Door),
}

struct Series {
    /// The last of them, with how many there were.
    refusal: Refusal,
    /// Who they were, where they are not one.
    many: Option<Many>,
    told: u64,
    told_ns: u64,
    last_ns: u64,
}

/// Those that a series stands for.
#[derive(Default)]
struct Many {
    of_one_source: bool,
    users: Different,
    sources: Different,
    /// Of those since it was told.
    examples: Vec<Arc<str>>,
}

/// How many different ones there were at least.
#[derive(Default)]
struct Different {
    /// None yet: empty.
    bits: Vec<u64>,
    count: u64,
}

impl Refusals {
    /// Somebody was refused. Yields what is to be told now: the first of a series, and each tenfold. `concerned` says whether it
    /// is somebody whose refusal must not be one among many.
    pub(super) fn add(
        &mut self,
        refusal: Refusal,
        concerned: impl FnOnce(&Login) -> bool,
        now_ns: u64,
    ) -> Option<Refusal> {
        let key = self.key(&refusal.login, concerned);
        if !self.series.contains_key(&key)
            && let Key::One(source, _) = &key
        {
            *self.users.entry(*source).or_default() += 1;
        }
        let series = self.series.entry(key).or_insert_with_key(|key| Series::new(key, refusal.process, now_ns));
        series.add(refusal, now_ns);
        let attempts = series.refusal.login.attempts;
        (attempts == 1 || attempts >= series.told.saturating_mul(10)).then(|| series.tell(now_ns))
    }

    /// The series that counts a refusal.
    fn key(&self, login: &Login, concerned: impl FnOnce(&Login) -> bool) -> Key {
        let source = login.source.ip;
        let one = Key::One(source, Arc::clone(&login.user));
        if self.series.contains_key(&one) {
            return one;
        }
        let further = Key::Source(source);
        if self.series.contains_key(&further) {
            return further;
        }
        let is_one = self.users.get(&source).is_none_or(|&users| users < USERS_OF_SOURCE);
        let has_room =
            self.series.len() < SERIES_MAX || self.series.len() < SERIES_MAX + CONCERNED_MAX && concerned(login);
        match (has_room, is_one) {
            (true, true) => one,
            (true, false) => further,
            (false, _) => Key::Door(login.door),
        }
    }

    /// What has grown and was not told for a while.
    pub(super) fn overdue(&mut self, now_ns: u64) -> Vec<Refusal> {
        let due = |series: &&mut Series| series.has_grown() && now_ns.saturating_sub(series.told_ns) >= TELL_EVERY_NS;
        let out = self.series.values_mut().filter(due).map(|series| series.tell(now_ns)).collect();
        let users = &mut self.users;
        self.series.retain(|key, series| {
            let stays = series.has_grown() || now_ns.saturating_sub(series.last_ns) < OVER_NS;
            if let Key::One(source, _) = key
                && !stays
            {
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
}

impl Series {
    fn new(key: &Key, process: ProcessKey, now_ns: u64) -> Self {
        let many = match key {
            Key::One(..) => None,
            Key::Source(_) => Some(Many { of_one_source: true, ..Many::default() }),
            Key::Door(_) => Some(Many::default()),
        };
        let refusal = Refusal { process, login: Login::default(), partial: false };
        Self { refusal, many, told: 0, told_ns: now_ns, last_ns: now_ns }
    }

    fn add(&mut self, refusal: Refusal, now_ns: u64) {
        let attempts = self.refusal.login.attempts + 1;
        self.last_ns = now_ns;
        let Some(many) = &mut self.many else {
            self.refusal = Refusal { login: Login { attempts, ..refusal.login }, ..refusal };
            return;
        };
        many.add(&refusal.login);
        // What one of them did says nothing of the others.
        let Login { door, service, source, .. } = refusal.login;
        let source = if many.of_one_source { Source { port: None, ..source } } else { Source::default() };
        let login = Login { door, source, service, attempts, ..Login::default() };
        self.refusal = Refusal { login, process: refusal.process, partial: false };
    }

    fn has_grown(&self) -> bool {
        self.refusal.login.attempts > self.told
    }

    fn tell(&mut self, now_ns: u64) -> Refusal {
        self.told = self.refusal.login.attempts;
        self.told_ns = now_ns;
        let refused = self.many.as_mut().map(|many| Arc::new(many.tell()));
        Refusal { login: Login { refused, ..self.refusal.login.clone() }, ..self.refusal }
    }
}

impl Many {
    fn add(&mut self, login: &Login) {
        self.users.add(FxBuildHasher.hash_one(&login.user));
        if !self.of_one_source {
            self.sources.add(FxBuildHasher.hash_one(login.source.ip));
        }
        if self.examples.len() < EXAMPLES {
            let example: Arc<str> = match login.source.ip {
                Some(ip) => format!("{} from {}", login.user, ip.to_canonical()).into(),
                None => Arc::clone(&login.user),
            };
            if !self.examples.contains(&example) {
                self.examples.push(example);
            }
        }
    }

    fn tell(&mut self) -> Refused {
        let sources = if self.of_one_source { 1 } else { self.sources.count };
        Refused { users: self.users.count, sources, examples: std::mem::take(&mut self.examples) }
    }
}

impl Different {
    fn add(&mut self, hash: u64) {
        if self.bits.is_empty() {
            self.bits = vec![0; BITS / 64];
        }
        let position = hash as usize % BITS;
        let (word, bit) = (&mut self.bits[position / 64], 1 << (position % 64));
        self.count += u64::from(*word & bit == 0);
        *word |= bit;
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
    use crate::{event::EntryType, replay::key};

    fn refusal(user: &str, ip: [u8; 4]) -> Refusal {
        let login = Login {
            door: EntryType::Sshd,
            user: user.into(),
            source: Source { address: None, ip: Some(ip.into()), port: Some(1), claimed: false },
            service: "sshd".into(),
            ..Login::default()
        };
        Refusal { process: key(1), login, partial: false }
    }

    fn nobody(_: &Login) -> bool {
        false
    }

    fn told(refusals: impl IntoIterator<Item = Refusal>) -> Vec<(String, u64)> {
        refusals.into_iter().map(|it| (it.login.user.to_string(), it.login.attempts)).collect()
    }

    /// How many events there were, and the last of each series.
    #[derive(Default)]
    struct Tally {
        events: usize,
        last: FxHashMap<(Option<IpAddr>, Arc<str>), Login>,
    }

    impl Tally {
        fn take(&mut self, refusals: impl IntoIterator<Item = Refusal>) {
            for Refusal { login, .. } in refusals {
                self.events += 1;
                self.last.insert((login.source.ip, Arc::clone(&login.user)), login);
            }
        }

        fn attempts(&self) -> u64 {
            self.last.values().map(|login| login.attempts).sum()
        }
    }

    #[test]
    fn a_guessing_attack_is_one_event_that_grows() {
        let mut refusals = Refusals::default();
        let mut events = Vec::new();
        for at in 0..1_234 {
            events.extend(told(refusals.add(refusal("root", [192, 0, 2, 1]), nobody, at)));
        }
        let name = || "root".to_owned();
        assert_eq!(events, [(name(), 1), (name(), 10), (name(), 100), (name(), 1_000)]);
        assert!(refusals.overdue(TELL_EVERY_NS).is_empty(), "told a moment ago");
        assert_eq!(told(refusals.overdue(2 * TELL_EVERY_NS)), [(name(), 1_234)]);
        assert!(refusals.finish().is_empty(), "nothing is left to tell");
        // Much later it is another attack.
        assert!(refusals.overdue(2 * OVER_NS).is_empty() && refusals.series.is_empty() && refusals.users.is_empty());
        assert_eq!(told(refusals.add(refusal("root", [192, 0, 2, 1]), nobody, 2 * OVER_NS)), [(name(), 1)]);
    }

    #[test]
    fn a_flood_of_users_of_one_source_is_one_event_that_says_how_many_there_were() {
        let (mut refusals, mut tally) = (Refusals::default(), Tally::default());
        for number in 0..100_000_u32 {
            tally.take(refusals.add(refusal(&format!("user-{number}"), [192, 0, 2, 1]), nobody, number.into()));
        }
        tally.take(refusals.finish());
        assert_eq!((tally.attempts(), tally.last.len()), (100_000, USERS_OF_SOURCE + 1));
        assert!(tally.events < 30, "{}", tally.events);
        let further = &tally.last[&(Some([192, 0, 2, 1].into()), "".into())];
        let refused = further.refused.as_ref().expect("whom it stands for");
        assert_eq!((further.attempts, refused.sources), (99_984, 1));
        assert!((50_000..=99_984).contains(&refused.users), "{}", refused.users);
    }

    #[test]
    fn a_flood_of_sources_is_one_event_and_those_of_concern_are_not_in_it() {
        let (mut refusals, mut tally) = (Refusals::default(), Tally::default());
        let concerned = |login: &Login| &*login.user == "ops";
        for number in 0..100_000_u32 {
            // A thousand a second.
            let now_ns = u64::from(number) * 1_000_000;
            tally.take(refusals.add(refusal(&format!("user-{number}"), number.to_be_bytes()), concerned, now_ns));
            if number % 1_000 == 0 {
                tally.take(refusals.overdue(now_ns));
            }
        }
        tally.take(refusals.add(refusal("ops", [192, 0, 2, 1]), concerned, 100_000_000_000));
        tally.take(refusals.finish());
        assert_eq!((tally.attempts(), tally.last.len()), (100_001, SERIES_MAX + 2));
        assert!(tally.events < SERIES_MAX + 12, "{}", tally.events);
        assert_eq!(tally.last[&(Some([192, 0, 2, 1].into()), "ops".into())].attempts, 1);
        let rest = &tally.last[&(None, "".into())];
        let refused = rest.refused.as_ref().expect("whom it stands for");
        assert_eq!((rest.attempts, refused.examples.len()), (100_000 - SERIES_MAX as u64, EXAMPLES));
        let most = 50_000..=rest.attempts;
        assert!(most.contains(&refused.users) && most.contains(&refused.sources), "{refused:?}");
        // A flood that only seems to be of concern has an end, too.
        for number in 0..10_000_u32 {
            tally.take(refusals.add(refusal("ops", number.to_le_bytes()), concerned, 100_000_000_000));
        }
        tally.take(refusals.finish());
        assert_eq!((tally.attempts(), refusals.series.len()), (110_001, SERIES_MAX + CONCERNED_MAX));
        assert!(refusals.overdue(2 * OVER_NS).is_empty() && refusals.series.is_empty() && refusals.users.is_empty());
    }

    #[test]
    fn how_many_different_ones_there_were_is_never_too_many() {
        let mut different = Different::default();
        for number in 0..1_000_u32 {
            different.add(FxBuildHasher.hash_one(number % 10));
        }
        assert_eq!(different.count, 10);
    }
}
