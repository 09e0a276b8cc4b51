//! A process ends: that is told, with its execution if it lived for a moment only, and whatever it was the login of is over.

use postern_ebpf::abi::{ExitBody, ProcessKey};

use super::Pipeline;
use crate::{
    event::{Body, End, Event, Lineage},
    process::{Known, to_tick},
};

impl Pipeline {
    pub(super) fn ended(&mut self, exit: &ExitBody, now_ns: u64) {
        self.exit(exit.process, Some(exit_code(exit.status)), exit.forked != 0, now_ns);
    }

    /// Without an exit code where nobody saw it end.
    pub(super) fn exit(&mut self, key: ProcessKey, exit_code: Option<i32>, has_forked: bool, now_ns: u64) {
        if let Some(known) = self.processes.get(key) {
            let container = known.container.as_ref().and_then(|id| self.containers.reference(id));
            if let Some(container) = &container {
                self.containers.leave(&container.id, known.process.key);
            }
            let lived_ns = now_ns.saturating_sub(known.process.start_ns);
            let end = End { exit_code, time: self.decoder.time(now_ns), lived_ns };
            if !merge(&mut self.out, known, end) {
                let lineage = known.alone();
                self.tell(Body::End(end), Some(lineage), container.as_ref(), now_ns);
            }
            self.processes.end(key, has_forked, now_ns);
            self.links.clients.end(key, now_ns);
            self.multiplexers.end(to_tick(key), now_ns);
        }
        self.origins.end(key);
        if let Some(outcome) = self.logins.end(key) {
            self.login(outcome, now_ns);
        } else {
            self.close(key, now_ns);
        }
    }
}

/// As a shell shows what `wait(2)` gives: 128 and the signal's number where a signal ended it.
fn exit_code(status: u32) -> i32 {
    let signal = status & 0x7f;
    let code = if signal == 0 { (status >> 8) & 0xff } else { 128 + signal };
    code as i32
}

/// Adds its end to the event of a process's execution, if that has not gone out yet: one line less for each of the many processes
/// that live for a moment. Returns whether it did. The end of a leader of an entry has an event of its own, since more may follow
/// from it.
fn merge(out: &mut [Event], known: &Known, end: End) -> bool {
    let key = known.process.key;
    if known.entry.as_ref().is_none_or(|entry| entry.leader == key) {
        return false;
    }
    let first = out.first().map_or(u64::MAX, |event| event.sequence);
    let at = known.told.checked_sub(first).and_then(|at| usize::try_from(at).ok());
    let Some(event) = at.and_then(|at| out.get_mut(at)) else { return false };
    let is_its = |lineage: &Lineage| lineage.process.key == key;
    match &mut event.body {
        Body::Exec { end: open @ None } if event.lineage.as_ref().is_some_and(is_its) => *open = Some(end),
        _ => return false,
    }
    true
}
