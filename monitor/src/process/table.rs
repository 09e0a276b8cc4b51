//! Every process that runs a program of its own, and those that have ended: for a while, since a child's exec may be read after
//! its parent's exit, and for as long as anything that they forked still runs their program. What that executes one day is theirs.
//!
//! Bounded: the dead go after [`RETENTION_NS`] or when there are more than [`DEAD_MAX`], those that have forked not before the
//! kernel side says that nobody runs their program any more. Beyond [`FOREBEARS_MAX`] of those, and beyond [`LIVE_MAX`] in all,
//! the oldest goes. What is kept of long command lines is cut, so that arguments cannot fill memory.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry as MapEntry},
    hint::black_box,
    sync::Arc,
};

use postern_ebpf::abi::{ExecBody, ProcessKey};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{key::to_tick, numbers::ByNumber};
use crate::event::{Entry, Lineage, Process, Relatives};

/// How long an ended process is remembered, in nanoseconds.
const RETENTION_NS: u64 = 30_000_000_000;
/// How many ended processes are remembered.
const DEAD_MAX: usize = 4_096;
/// How many are forgotten together when there are more.
const DEAD_TOGETHER: usize = 64;
/// How many ended processes are remembered that have forked, until it is known whether anybody runs their program.
const FOREBEARS_MAX: usize = 32_768;
/// How often it is asked who runs whose program, in nanoseconds, unless there are very many of those.
const ASK_EVERY_NS: u64 = 10_000_000_000;
/// How many live processes are remembered: twice what the kernel side tracks.
const LIVE_MAX: usize = 131_072;
/// How many processes that never executed are remembered, and then none for a moment.
const FORKED_MAX: usize = 1_024;
/// How many bytes of arguments are remembered of one process.
const ARGS_KEPT: usize = 2_048;

/// What is known of one process.
#[derive(Clone, Debug)]
pub struct Known {
    /// As in its own event, but for arguments that are too long to keep.
    pub process: Arc<Process>,
    /// How its tree came to be here.
    pub entry: Option<Arc<Entry>>,
    /// Its leader, as it was at the time.
    pub entry_leader: Option<Arc<Process>>,
    /// Id of the container that it runs in.
    pub container: Option<Arc<str>>,
    /// The sequence number of the event that tells of its execution, unless that had to wait.
    pub told: u64,
}

impl Known {
    /// The process and its entry, without its parent and the other leaders.
    pub fn alone(&self) -> Lineage {
        let (entry_leader, entry) = (self.entry_leader.clone(), self.entry.clone());
        let relatives = Relatives { entry_leader, entry, ..Relatives::default() };
        Lineage { process: Arc::clone(&self.process), relatives: Arc::new(relatives) }
    }
}

/// The process table.
#[derive(Default)]
pub struct ProcessTable {
    /// Whoever has a pid now, or had it last.
    by_pid: HashMap<u32, Known, ByNumber>,
    /// Those whose pid another has now.
    former: FxHashMap<ProcessKey, Known>,
    /// In the order in which they were added, for the bound.
    order: VecDeque<ProcessKey>,
    /// Ended, and have never forked. In the order of their ends, as the next.
    dead: VecDeque<(u64, ProcessKey)>,
    /// Ended, and have forked: somebody may run their program still.
    forebears: VecDeque<(u64, ProcessKey)>,
    /// Ended a while ago, and somebody did run their program when that was asked last.
    outlived: FxHashSet<ProcessKey>,
    /// When it is to be asked again.
    ask_ns: u64,
    /// Processes that run what they were forked from, and whose children executed.
    forked: FxHashMap<ProcessKey, Arc<Process>>,
    evicted: u64,
}

impl ProcessTable {
    /// How many processes are known, ended ones included.
    pub fn len(&self) -> usize {
        self.by_pid.len() + self.former.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many processes were forgotten for want of room that ran, or whose program may be run still.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The process with that key.
    pub fn get(&self, key: ProcessKey) -> Option<&Known> {
        let key = to_tick(key);
        self.by_pid(key.tgid).filter(|known| known.process.key == key).or_else(|| self.former.get(&key))
    }

    /// All that are known, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Known> {
        self.by_pid.values().chain(self.former.values())
    }

    /// Those that have not ended, in no particular order.
    pub fn living(&self) -> impl Iterator<Item = &Known> {
        let ended = self.dead.iter().chain(&self.forebears).map(|(_, key)| key).chain(&self.outlived);
        let ended: FxHashSet<ProcessKey> = ended.copied().collect();
        self.iter().filter(move |known| !ended.contains(&known.process.key))
    }

    /// Those that have ended since then, in no particular order. Not for a time that is longer ago than they are remembered.
    pub fn ended_since(&self, then_ns: u64) -> impl Iterator<Item = &Known> {
        let ended = [&self.dead, &self.forebears];
        let ended =
            ended.into_iter().flat_map(move |it| it.iter().rev().take_while(move |(ended, _)| *ended >= then_ns));
        ended.filter_map(|(_, key)| self.get(*key))
    }

    /// The program before an exec. In its first moments the kernel side does not know all that runs already, and the record of that
    /// program may have been lost: then what is known of the process itself stands for it, or of its parent.
    pub fn before(&self, exec: &ExecBody) -> Option<&Known> {
        self.get(exec.previous).or_else(|| self.get(exec.process)).or_else(|| self.get(exec.parent))
    }

    /// The process that has that pid now, or had it last.
    pub fn by_pid(&self, pid: u32) -> Option<&Known> {
        self.by_pid.get(&pid)
    }

    /// The process with that key, which has not executed itself: as it was made the last time, or by `make`.
    pub fn forked(&mut self, key: ProcessKey, make: impl FnOnce(&Self) -> Process) -> Arc<Process> {
        let key = to_tick(key);
        if let Some(known) = self.forked.get(&key) {
            return Arc::clone(known);
        }
        let made = Arc::new(make(self));
        if self.forked.len() >= FORKED_MAX {
            self.forked.clear();
        }
        self.forked.insert(key, Arc::clone(&made));
        made
    }

    /// Adds a process, or replaces what was known of it before its exec.
    pub fn insert(&mut self, known: Known) {
        let key = known.process.key;
        let known = Known { process: shortened(known.process), ..known };
        let mut is_new = self.former.remove(&key).is_none();
        match self.by_pid.insert(key.tgid, known) {
            Some(before) if before.process.key == key => is_new = false,
            Some(other) => drop(self.former.insert(other.process.key, other)),
            None => {}
        }
        if is_new {
            self.order.push_back(key);
        }
        while self.len() > LIVE_MAX + self.dead.len() + self.forebears.len() + self.outlived.len() {
            let Some(oldest) = self.order.pop_front() else { break };
            if self.forget(oldest) {
                self.evicted += 1;
            }
        }
    }

    /// The process has ended; it is remembered for a while, and if it has forked for as long as its program is run.
    pub fn end(&mut self, key: ProcessKey, has_forked: bool, now_ns: u64) {
        let key = to_tick(key);
        if self.get(key).is_none() {
            return;
        }
        if has_forked {
            self.forebears.push_back((now_ns, key));
            if self.forebears.len() > FOREBEARS_MAX
                && let Some((_, oldest)) = self.forebears.pop_front()
                && self.forget(oldest)
            {
                self.evicted += 1;
            }
            return;
        }
        self.dead.push_back((now_ns, key));
        // Soon, so that a storm of processes goes on in the same memory.
        if self.dead.len() > DEAD_MAX {
            self.forget_oldest_dead();
        }
    }

    /// Forgets [`DEAD_TOGETHER`] of them. Nobody has touched them for a while, and so all are looked at first: what is far away the
    /// processor fetches at once where nothing waits for it, and one after the other where each is freed before the next is found.
    fn forget_oldest_dead(&mut self) {
        let oldest = self.dead.iter().take(DEAD_TOGETHER).filter_map(|(_, key)| self.get(*key));
        black_box(oldest.map(|known| Arc::strong_count(&known.process)).sum::<usize>());
        for _ in 0..DEAD_TOGETHER {
            if let Some((_, key)) = self.dead.pop_front() {
                self.forget(key);
            }
        }
    }

    /// Forgets those that ended long ago, and have not forked.
    pub fn expire(&mut self, now_ns: u64) {
        while let Some((_, key)) = self.dead.pop_front_if(|(ended, _)| is_long_ago(*ended, now_ns)) {
            self.forget(key);
        }
        // Keys of forgotten processes are dropped once they are the greater part.
        if self.order.len() > 1_024 + 2 * self.len() {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|key| self.get(*key).is_some());
            self.order = order;
        }
    }

    /// Whether it is time to ask which programs are still run by those who were forked from whoever executed them.
    pub fn asks(&self, now_ns: u64) -> bool {
        let is_due = || self.forebears.front().is_some_and(|(ended, _)| is_long_ago(*ended, now_ns));
        self.forebears.len() > DEAD_MAX || now_ns >= self.ask_ns && (!self.outlived.is_empty() || is_due())
    }

    /// Forgets those that ended long ago, and whose program nobody ran when that was asked. `images` are the processes that
    /// executed what others run.
    pub fn retain(&mut self, images: impl Iterator<Item = ProcessKey>, asked_ns: u64) {
        self.ask_ns = asked_ns + ASK_EVERY_NS;
        let images: FxHashSet<ProcessKey> = images.map(to_tick).collect();
        let gone: Vec<ProcessKey> = self.outlived.extract_if(|key| !images.contains(key)).collect();
        for key in gone {
            self.forget(key);
        }
        loop {
            let are_many = self.forebears.len() > DEAD_MAX;
            // Who ended since then may have forked since then.
            let may_go = |(ended, _): &mut (u64, _)| *ended < asked_ns && (are_many || is_long_ago(*ended, asked_ns));
            let Some((_, key)) = self.forebears.pop_front_if(may_go) else { break };
            if images.contains(&key) {
                self.outlived.insert(key);
            } else {
                self.forget(key);
            }
        }
    }

    fn forget(&mut self, key: ProcessKey) -> bool {
        match self.by_pid.entry(key.tgid) {
            MapEntry::Occupied(known) if known.get().process.key == key => {
                known.remove();
                true
            }
            _ => self.former.remove(&key).is_some(),
        }
    }
}

fn is_long_ago(ended_ns: u64, now_ns: u64) -> bool {
    now_ns.saturating_sub(ended_ns) >= RETENTION_NS
}

/// The process with no more of its arguments than is kept.
fn shortened(process: Arc<Process>) -> Arc<Process> {
    if process.args.size() <= ARGS_KEPT {
        return process;
    }
    Arc::new(Process { args: process.args.cut(ARGS_KEPT), args_cut: true, ..Process::clone(&process) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay;

    fn known(tgid: u32, start_ns: u64, args: &[&str]) -> Known {
        let process =
            Process { args: args.iter().collect(), ..replay::decoder().unknown(ProcessKey::new(tgid, start_ns), b"x") };
        Known { process: Arc::new(process), entry: None, entry_leader: None, container: None, told: 0 }
    }

    fn program(known: Option<&Known>) -> &str {
        known.and_then(|known| known.process.args.iter().next()).expect("remembered")
    }

    #[test]
    fn a_pid_that_is_used_again_is_another_process() {
        let mut table = ProcessTable::default();
        table.insert(known(7, 1_000_000_000, &["old"]));
        table.end(ProcessKey::new(7, 1_000_000_000), false, 2_000_000_000);
        table.insert(known(7, 3_000_000_000, &["new"]));
        assert_eq!(program(table.get(ProcessKey::new(7, 1_000_000_000))), "old");
        assert_eq!(program(table.by_pid(7)), "new");
        table.expire(2_000_000_000 + RETENTION_NS);
        assert!(table.get(ProcessKey::new(7, 1_000_000_000)).is_none());
        assert_eq!(program(table.by_pid(7)), "new");
    }

    #[test]
    fn those_that_live_and_those_that_ended_are_told_apart() {
        let mut table = ProcessTable::default();
        for pid in 1..=3 {
            table.insert(known(pid, 0, &[]));
        }
        table.end(ProcessKey::new(3, 0), true, 10);
        table.end(ProcessKey::new(1, 0), false, 20);
        let pids = |known: &Known| known.process.key.tgid;
        assert_eq!(table.living().map(pids).collect::<Vec<_>>(), [2]);
        assert_eq!(table.ended_since(10).map(pids).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(table.ended_since(11).map(pids).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn live_processes_are_bounded_and_the_oldest_goes() {
        let mut table = ProcessTable::default();
        for pid in 1..=LIVE_MAX as u32 + 10 {
            table.insert(known(pid, 0, &[]));
        }
        assert_eq!((table.len(), table.evicted()), (LIVE_MAX, 10));
        assert!(table.by_pid(10).is_none() && table.by_pid(11).is_some());
    }

    #[test]
    fn dead_processes_are_bounded() {
        let mut table = ProcessTable::default();
        let mut end = |pid: usize| {
            table.insert(known(pid as u32, 0, &[]));
            table.end(ProcessKey::new(pid as u32, 0), false, 1);
            assert!(table.len() <= DEAD_MAX, "{}", table.len());
            (table.len(), table.evicted())
        };
        let many = DEAD_MAX + 250 * DEAD_TOGETHER;
        assert_eq!((1..=many).map(&mut end).last(), Some((DEAD_MAX, 0)));
        assert_eq!(end(many + 1), (DEAD_MAX + 1 - DEAD_TOGETHER, 0));
    }

    #[test]
    fn who_has_forked_is_remembered_for_as_long_as_anybody_runs_its_program() {
        let mut table = ProcessTable::default();
        let key = |pid| ProcessKey::new(pid, 0);
        for pid in 1..=2 {
            table.insert(known(pid, 0, &[]));
            table.end(key(pid), true, 1);
        }
        assert!(!table.asks(RETENTION_NS));
        let later = 1 + RETENTION_NS;
        assert!(table.asks(later));
        table.expire(later);
        table.retain([key(1)].into_iter(), later);
        assert!(table.get(key(1)).is_some() && table.get(key(2)).is_none());
        assert!(!table.living().any(|known| known.process.key == key(1)));
        assert!(!table.asks(later + 1) && table.asks(later + ASK_EVERY_NS));
        table.retain([].into_iter(), later + ASK_EVERY_NS);
        assert!(table.is_empty() && !table.asks(u64::MAX));
    }

    #[test]
    fn a_storm_of_those_who_fork_is_asked_about_at_once_and_bounded() {
        let mut table = ProcessTable::default();
        let end = |table: &mut ProcessTable, pid: u32, now_ns| {
            table.insert(known(pid, 0, &[]));
            table.end(ProcessKey::new(pid, 0), true, now_ns);
        };
        let (many, most) = (DEAD_MAX as u32, FOREBEARS_MAX as u32);
        for pid in 1..=many {
            end(&mut table, pid, u64::from(pid));
        }
        assert!(!table.asks(1));
        end(&mut table, many + 1, u64::from(many + 1));
        assert!(table.asks(1));
        // All but one ended after it was asked.
        table.retain([ProcessKey::new(1, 0)].into_iter(), 2);
        assert_eq!((table.len(), table.evicted()), (DEAD_MAX + 1, 0));
        for pid in many + 2..=many + 1 + most {
            end(&mut table, pid, u64::from(pid));
        }
        assert_eq!((table.len(), table.evicted()), (FOREBEARS_MAX + 1, DEAD_MAX as u64));
        assert!(table.by_pid(1).is_some(), "whose program somebody runs");
    }

    #[test]
    fn long_arguments_are_cut_in_the_table_and_say_so() {
        let mut table = ProcessTable::default();
        let long = "ä".repeat(5_000);
        table.insert(known(7, 0, &["a", &long, "never"]));
        let kept = &table.by_pid(7).expect("known").process;
        assert!(kept.args_cut && kept.args.count() == 2 && kept.args.size() <= ARGS_KEPT);
    }
}
