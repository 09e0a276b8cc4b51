//! After a loss: all that runs is held against what is known. What executed unseen is told when it is found, and what ended unseen
//! ends then. Otherwise all that comes of a lost execution would seem to come from nowhere, and a session whose end was lost would
//! never close.
//!
//! It is asked twice what runs. What the records said that were under way the first time is known the second time.

use postern_ebpf::abi::{ExecBody, ExecFlags, ProcessKey};
use rustc_hash::{FxHashMap, FxHashSet};

use super::Pipeline;
use crate::{
    process::to_tick,
    record::{self, Exec},
};

/// How long after it was asked what runs the records from before that have been read, in nanoseconds.
const READ_BY_NS: u64 = 500_000_000;
/// How often at most stock is taken while records are lost, in nanoseconds: it takes some 20 ms for 10,000 processes.
const EVERY_NS: u64 = 10_000_000_000;

/// See the module.
#[derive(Default)]
pub(super) struct Stock {
    /// Whether anything was lost since stock was taken.
    pub(super) is_due: bool,
    /// When it may be taken again.
    next_ns: u64,
    first: Option<First>,
}

/// The first answer.
struct First {
    asked_ns: u64,
    ran: FxHashSet<ProcessKey>,
    /// Those that nobody had seen execute what they ran.
    unseen: FxHashSet<ProcessKey>,
}

impl Pipeline {
    /// Whether it is time to ask what runs: the answer is to come as [`super::Input::Running`].
    pub fn asks_what_runs(&self, now_ns: u64) -> bool {
        match &self.stock.first {
            Some(first) => now_ns >= first.asked_ns + READ_BY_NS,
            None => self.stock.is_due && now_ns >= self.stock.next_ns,
        }
    }

    /// Whose arguments are to come with the answer, by pid: `records` are exec records one behind the other.
    pub fn unseen(&self, records: &[u8]) -> Vec<u32> {
        let mut unseen = Vec::new();
        if let Some(first) = &self.stock.first {
            // What makes no sense is counted when they come.
            record::decode_execs(records, |exec| {
                if first.unseen.contains(&to_tick(exec.body.process)) && self.is_unseen(exec.body) {
                    unseen.push(exec.body.process.tgid);
                }
            });
        }
        unseen
    }

    fn is_unseen(&self, body: &ExecBody) -> bool {
        // The kernel itself runs no file, and whoever was forked what another executed.
        let is_own = body.previous == body.process || body.previous.is_none();
        let file = (body.file.inode, body.file.device_numbers());
        let is_known = || {
            let known = self.processes.get(body.process).map(|known| &known.process.executable);
            known.is_some_and(|known| (known.inode, known.device) == file)
        };
        body.file.inode != 0 && is_own && !is_known()
    }

    pub(super) fn take_stock(&mut self, records: &[u8], args: &FxHashMap<u32, Vec<u8>>, asked_ns: u64) {
        self.stock.next_ns = asked_ns + EVERY_NS;
        let malformed = if let Some(first) = self.stock.first.take() {
            let malformed = record::decode_execs(records, |exec| {
                if let Some(argv) = args.get(&exec.body.process.tgid) {
                    self.find(&Exec { argv, ..*exec }, asked_ns);
                }
            });
            self.end_missing(&first, asked_ns);
            malformed
        } else {
            self.look(records, asked_ns)
        };
        (0..malformed).for_each(|_| self.accounting.malformed());
    }

    /// The first answer. Returns how many records made no sense: then it is none, since whoever is not in it may run all the same.
    fn look(&mut self, records: &[u8], asked_ns: u64) -> u64 {
        let (mut ran, mut unseen) = (FxHashSet::default(), FxHashSet::default());
        let malformed = record::decode_execs(records, |exec| {
            let key = to_tick(exec.body.process);
            ran.insert(key);
            if self.is_unseen(exec.body) {
                unseen.insert(key);
            }
        });
        if malformed == 0 && !ran.is_empty() {
            self.stock.is_due = false;
            self.stock.first = Some(First { asked_ns, ran, unseen });
        }
        malformed
    }

    /// As if it executed now. What it ran before is not known any more, unless that was its own.
    fn find(&mut self, exec: &Exec<'_>, now_ns: u64) {
        let is_known = self.processes.get(exec.body.process).is_some();
        let previous = if is_known { exec.body.process } else { exec.body.parent };
        let is_cut = exec.argv.len() >= ExecBody::ARGV_MAX;
        let flags = exec.body.flags | ExecFlags::FOUND | if is_cut { ExecFlags::ARGV_CUT } else { 0 };
        let body = ExecBody { previous, parent_image: exec.body.parent, flags, ..*exec.body };
        self.exec(&Exec { body: &body, ..*exec }, now_ns);
    }

    /// Whoever did not run any more, and of whom no record has said so since, ended unseen.
    fn end_missing(&mut self, first: &First, now_ns: u64) {
        let is_missing = |key: &ProcessKey| key.start_ns < first.asked_ns && !first.ran.contains(key);
        let living = self.processes.living().map(|known| known.process.key);
        // What logs somebody in has not always executed anything.
        let logins = self.entries.open.keys().copied();
        let missing: FxHashSet<ProcessKey> = living.chain(logins).filter(is_missing).collect();
        let mut missing: Vec<ProcessKey> = missing.into_iter().collect();
        // Whoever started last goes first: what is under an entry, before the entry.
        missing.sort_unstable_by_key(|key| std::cmp::Reverse((key.start_ns, key.tgid)));
        for key in missing {
            self.exit(key, None, true, now_ns);
        }
    }
}
