//! What was received, against what the kernel side says it handed over. Two witnesses: its counters, and the holes that
//! lost records leave in each CPU's sequence.

use std::sync::Arc;

use postern_ebpf::abi::{Header, HookCounters, HookId, RecordKind};
use rustc_hash::FxHashMap;

use crate::event::{AgentEvent, Counters, Loss, LossCause};

/// Keeps both accounts.
#[derive(Default)]
pub(super) struct Accounting {
    received: [u64; HookId::ALL.len()],
    malformed: u64,
    kernel: Vec<(HookId, HookCounters)>,
    /// By CPU: how many records came, and the highest sequence number among them.
    sequences: FxHashMap<u16, (u64, u64)>,
    /// How much of `lost` and `malformed` has been reported.
    reported: u64,
    reported_malformed: u64,
}

impl Accounting {
    /// A record came.
    pub(super) fn received(&mut self, header: &Header) {
        if let Some(hook) = hook_of(header.kind) {
            self.received[hook as usize] += 1;
        }
        let (count, highest) = self.sequences.entry(header.cpu).or_default();
        *count += 1;
        *highest = (*highest).max(header.sequence);
    }

    /// A record came that makes no sense.
    pub(super) fn malformed(&mut self) {
        self.malformed += 1;
    }

    /// How many records made no sense.
    pub(super) fn malformed_count(&self) -> u64 {
        self.malformed
    }

    /// The kernel side's figures were read. Returns what was lost since the last time.
    pub(super) fn counted(&mut self, kernel: Vec<(HookId, HookCounters)>) -> Vec<AgentEvent> {
        self.kernel = kernel;
        let lost = self.kernel.iter().map(|(_, counters)| counters.lost).sum();
        let mut events = Vec::new();
        for (total, reported, cause) in [
            (lost, &mut self.reported, LossCause::Ring),
            (self.malformed, &mut self.reported_malformed, LossCause::Malformed),
        ] {
            if total > *reported {
                events.push(AgentEvent::Lost(Loss { count: total - *reported, cause }));
                *reported = total;
            }
        }
        events
    }

    /// Records that never came although a later one of the same CPU did.
    pub(super) fn holes(&self) -> u64 {
        self.sequences.values().map(|(count, highest)| (highest + 1).saturating_sub(*count)).sum()
    }

    /// Each hook's figures.
    pub(super) fn counters(&self) -> Vec<Counters> {
        self.kernel
            .iter()
            .map(|(hook, kernel)| Counters {
                hook: Arc::from(hook.name()),
                seen: kernel.seen,
                submitted: kernel.submitted,
                filtered: kernel.filtered,
                rate_limited: kernel.rate_limited,
                lost: kernel.lost,
                received: self.received[*hook as usize],
            })
            .collect()
    }
}

fn hook_of(kind: u16) -> Option<HookId> {
    [
        (RecordKind::Exec, HookId::Exec),
        (RecordKind::Exit, HookId::Exit),
        (RecordKind::Login, HookId::Pam),
        (RecordKind::Log, HookId::Syslog),
    ]
    .into_iter()
    .find_map(|(known, hook)| (known as u16 == kind).then_some(hook))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(cpu: u16, sequence: u64) -> Header {
        Header { time_ns: 0, sequence, length: 0, cpu, kind: RecordKind::Exec as u16 }
    }

    #[test]
    fn a_lost_record_leaves_a_hole() {
        let mut accounting = Accounting::default();
        for (cpu, sequence) in [(0, 0), (0, 1), (1, 0), (0, 4), (1, 2)] {
            accounting.received(&header(cpu, sequence));
        }
        assert_eq!(accounting.holes(), 3);
    }

    #[test]
    fn records_that_overtake_each_other_leave_none() {
        let mut accounting = Accounting::default();
        for sequence in [1, 0, 3, 2] {
            accounting.received(&header(0, sequence));
        }
        assert_eq!(accounting.holes(), 0);
    }

    #[test]
    fn each_loss_is_said_once() {
        let mut accounting = Accounting::default();
        let kernel = |lost| vec![(HookId::Exec, HookCounters { lost, ..HookCounters::default() })];
        let said = |events: Vec<AgentEvent>| -> Vec<u64> {
            events.iter().map(|it| if let AgentEvent::Lost(loss) = it { loss.count } else { 0 }).collect()
        };
        assert_eq!(said(accounting.counted(kernel(5))), [5]);
        assert_eq!(said(accounting.counted(kernel(5))), [0; 0]);
        accounting.malformed();
        assert_eq!(said(accounting.counted(kernel(7))), [2, 1]);
    }
}
