//! Lines that wait for one sink: bounded in bytes, alerts in a lane of their own. When there is no room the oldest
//! ordinary line goes, and an alert only when no other line is left; what goes is counted.
//!
//! In memory for now. The durable spool takes this place behind the same three calls: put, take a batch, acknowledge.

use std::collections::VecDeque;

use super::Line;
use crate::event::Kind;

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    limit: usize,
    bytes: usize,
    ordinary: Lane,
    alerts: Lane,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Lane {
    lines: VecDeque<Line>,
    /// How many at the front are being delivered: they stay until they are acknowledged.
    taken: usize,
}

/// What a line weighs beside its text.
const OVERHEAD: usize = 64;

impl Queue {
    /// An empty queue for `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, ordinary: Lane::default(), alerts: Lane::default(), dropped: 0 }
    }

    /// How many lines wait, those being delivered included.
    pub(super) fn len(&self) -> usize {
        self.ordinary.lines.len() + self.alerts.lines.len()
    }

    /// How many bytes they are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many lines were dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds a line, and drops as many as that takes: the line itself if nothing else may go.
    pub(super) fn put(&mut self, line: Line) {
        let size = weight(&line);
        let is_alert = line.kind == Kind::Alert;
        while self.bytes + size > self.limit {
            let oldest =
                self.ordinary.drop_oldest().or_else(|| if is_alert { self.alerts.drop_oldest() } else { None });
            self.dropped += 1;
            match oldest {
                Some(oldest) => self.bytes -= weight(&oldest),
                None => return,
            }
        }
        self.bytes += size;
        if is_alert {
            self.alerts.lines.push_back(line);
        } else {
            self.ordinary.lines.push_back(line);
        }
    }

    /// The next lines in the order of the stream, up to so many and so much; empty if none wait. To be acknowledged before
    /// more are taken.
    pub(super) fn take(&mut self, most_lines: usize, most_bytes: usize) -> Vec<Line> {
        let (mut ordinary, mut alerts, mut bytes) = (0, 0, 0);
        let mut batch = Vec::new();
        while batch.len() < most_lines {
            let (next_ordinary, next_alert) = (self.ordinary.lines.get(ordinary), self.alerts.lines.get(alerts));
            let from_ordinary = match (next_ordinary, next_alert) {
                (Some(line), Some(alert)) => line.sequence < alert.sequence,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            let (line, count) = if from_ordinary { (next_ordinary, &mut ordinary) } else { (next_alert, &mut alerts) };
            let Some(line) = line else { break };
            bytes += weight(line);
            if bytes > most_bytes && !batch.is_empty() {
                break;
            }
            *count += 1;
            batch.push(line.clone());
        }
        (self.ordinary.taken, self.alerts.taken) = (ordinary, alerts);
        batch
    }

    /// The lines that were taken are safe.
    pub(super) fn acknowledge(&mut self) {
        for lane in [&mut self.ordinary, &mut self.alerts] {
            for line in lane.lines.drain(..lane.taken) {
                self.bytes -= weight(&line);
            }
            lane.taken = 0;
        }
    }
}

impl Lane {
    /// Drops the oldest line that is not being delivered.
    fn drop_oldest(&mut self) -> Option<Line> {
        self.lines.remove(self.taken)
    }
}

fn weight(line: &Line) -> usize {
    line.text.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Timestamp;

    fn line(sequence: u64, kind: Kind, length: usize) -> Line {
        Line { sequence, kind, time: Timestamp::UNIX_EPOCH, text: "x".repeat(length).into() }
    }

    fn sequences(lines: &[Line]) -> Vec<u64> {
        lines.iter().map(|line| line.sequence).collect()
    }

    #[test]
    fn alerts_are_the_last_to_go() {
        let mut queue = Queue::new(3 * (10 + OVERHEAD));
        for (sequence, kind) in
            [(0, Kind::Alert), (1, Kind::Event), (2, Kind::Event), (3, Kind::Event), (4, Kind::Alert)]
        {
            queue.put(line(sequence, kind, 10));
        }
        assert_eq!(sequences(&queue.take(10, 10_000)), [0, 3, 4]);
        assert_eq!(queue.dropped(), 2);
    }

    #[test]
    fn an_ordinary_line_never_displaces_an_alert() {
        let mut queue = Queue::new(10 + OVERHEAD);
        queue.put(line(0, Kind::Alert, 10));
        queue.put(line(1, Kind::Event, 10));
        assert_eq!((sequences(&queue.take(10, 10_000)), queue.dropped()), (vec![0], 1));
    }

    #[test]
    fn what_is_being_delivered_stays() {
        let mut queue = Queue::new(2 * (10 + OVERHEAD));
        queue.put(line(0, Kind::Event, 10));
        queue.put(line(1, Kind::Event, 10));
        assert_eq!(sequences(&queue.take(1, 10_000)), [0]);
        queue.put(line(2, Kind::Event, 10));
        queue.acknowledge();
        assert_eq!((sequences(&queue.take(10, 10_000)), queue.dropped()), (vec![2], 1));
    }

    #[test]
    fn a_line_larger_than_the_queue_is_dropped() {
        let mut queue = Queue::new(100);
        queue.put(line(0, Kind::Alert, 1_000));
        assert_eq!((queue.len(), queue.bytes(), queue.dropped()), (0, 0, 1));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_delivered_once_in_order_or_counted(
            steps in proptest::collection::vec((any::<bool>(), 0usize..200, 0u8..4), 1..300),
            limit in 0usize..2_000,
        ) {
            let mut queue = Queue::new(limit);
            let (mut put, mut delivered) = (0u64, Vec::new());
            for (alert, length, what) in steps {
                if what == 0 {
                    let batch = queue.take(5, 500);
                    delivered.extend(sequences(&batch));
                    queue.acknowledge();
                } else {
                    queue.put(line(put, if alert { Kind::Alert } else { Kind::Event }, length));
                    put += 1;
                }
                prop_assert!(queue.bytes() <= limit);
            }
            loop {
                let batch = queue.take(7, 300);
                if batch.is_empty() {
                    break;
                }
                delivered.extend(sequences(&batch));
                queue.acknowledge();
            }
            prop_assert_eq!(queue.bytes(), 0);
            prop_assert!(delivered.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(delivered.len() as u64 + queue.dropped(), put);
        }
    }
}
