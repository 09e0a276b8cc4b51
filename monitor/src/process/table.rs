//! Every process that runs a program of its own, and for a while those that have ended: a child's exec may be read after
//! its parent's exit.
//!
//! Bounded: the dead go after [`RETENTION_NS`] or when there are more than [`DEAD_MAX`], and beyond [`LIVE_MAX`] the
//! process that was added first goes. What is kept of long command lines is cut, so that arguments cannot fill memory.

use std::{collections::VecDeque, sync::Arc};

use postern_ebpf::abi::{ExecBody, ExecFlags, ProcessKey};
use rustc_hash::{FxHashMap, FxHashSet};

use super::key::to_tick;
use crate::event::{Entry, Lineage, Process};

/// How long an ended process is remembered, in nanoseconds.
const RETENTION_NS: u64 = 30_000_000_000;
/// How many ended processes are remembered.
const DEAD_MAX: usize = 4_096;
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
        Lineage {
            process: Arc::clone(&self.process),
            parent: None,
            group_leader: None,
            session_leader: None,
            entry_leader: self.entry_leader.clone(),
            entry: self.entry.clone(),
        }
    }
}

/// The process table.
#[derive(Default)]
pub struct ProcessTable {
    /// Whoever has a pid now, or had it last.
    by_pid: FxHashMap<u32, Known>,
    /// Those whose pid another has now.
    former: FxHashMap<ProcessKey, Known>,
    /// In the order in which they were added, for the bound.
    order: VecDeque<ProcessKey>,
    dead: VecDeque<(u64, ProcessKey)>,
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

    /// How many live processes were forgotten for want of room.
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
        let dead: FxHashSet<ProcessKey> = self.dead.iter().map(|(_, key)| *key).collect();
        self.iter().filter(move |known| !dead.contains(&known.process.key))
    }

    /// Those that have ended since then, the last one first.
    pub fn ended_since(&self, then_ns: u64) -> impl Iterator<Item = &Known> {
        let ended = self.dead.iter().rev().take_while(move |(ended, _)| *ended >= then_ns);
        ended.filter_map(|(_, key)| self.get(*key))
    }

    /// The program before an exec. In its first moments the kernel side does not know all that runs already: then what is known
    /// of the process itself stands for it, or of its parent.
    pub fn before(&self, exec: &ExecBody) -> Option<&Known> {
        let is_orphan = exec.flags & ExecFlags::ORPHAN != 0;
        let guess = || self.get(exec.process).or_else(|| self.get(exec.parent)).filter(|_| is_orphan);
        self.get(exec.previous).or_else(guess)
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
        while self.len() > LIVE_MAX + self.dead.len() {
            let Some(oldest) = self.order.pop_front() else { break };
            if self.forget(oldest) {
                self.evicted += 1;
            }
        }
    }

    /// The process has ended; it is remembered for a while.
    pub fn end(&mut self, key: ProcessKey, now_ns: u64) {
        let key = to_tick(key);
        if self.get(key).is_none() {
            return;
        }
        self.dead.push_back((now_ns, key));
        // At once, so that a storm of processes goes on in the same memory.
        if self.dead.len() > DEAD_MAX
            && let Some((_, oldest)) = self.dead.pop_front()
        {
            self.forget(oldest);
        }
    }

    /// Forgets those that ended long ago.
    pub fn expire(&mut self, now_ns: u64) {
        while let Some(&(ended, key)) = self.dead.front() {
            if now_ns.saturating_sub(ended) < RETENTION_NS {
                break;
            }
            self.dead.pop_front();
            self.forget(key);
        }
        // Keys of forgotten processes are dropped once they are the greater part.
        if self.order.len() > 1_024 + 2 * self.len() {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|key| self.get(*key).is_some());
            self.order = order;
        }
    }

    fn forget(&mut self, key: ProcessKey) -> bool {
        if self.by_pid(key.tgid).is_some_and(|known| known.process.key == key) {
            self.by_pid.remove(&key.tgid).is_some()
        } else {
            self.former.remove(&key).is_some()
        }
    }
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
        table.end(ProcessKey::new(7, 1_000_000_000), 2_000_000_000);
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
        table.end(ProcessKey::new(1, 0), 10);
        table.end(ProcessKey::new(3, 0), 20);
        let pids = |known: &Known| known.process.key.tgid;
        assert_eq!(table.living().map(pids).collect::<Vec<_>>(), [2]);
        assert_eq!(table.ended_since(10).map(pids).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(table.ended_since(11).map(pids).collect::<Vec<_>>(), [3]);
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
        for pid in 1..=20_000 {
            table.insert(known(pid, 0, &[]));
            table.end(ProcessKey::new(pid, 0), 1);
        }
        assert_eq!((table.len(), table.evicted()), (DEAD_MAX, 0));
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
