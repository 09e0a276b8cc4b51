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
    /// What all lines weigh.
    bytes: usize,
    ordinary: VecDeque<Line>,
    alerts: VecDeque<Line>,
    /// What the waiting alerts weigh.
    alert_bytes: usize,
    /// How many lines are being delivered: whoever does so has them, and they may not be dropped any more.
    taken: usize,
    /// What they weigh.
    taken_bytes: usize,
    dropped: u64,
}

/// What a line weighs beside its text.
const OVERHEAD: usize = 64;

impl Queue {
    /// An empty queue for `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: 0,
            ordinary: VecDeque::new(),
            alerts: VecDeque::new(),
            alert_bytes: 0,
            taken: 0,
            taken_bytes: 0,
            dropped: 0,
        }
    }

    /// How many lines wait, those being delivered included.
    pub(super) fn len(&self) -> usize {
        self.taken + self.ordinary.len() + self.alerts.len()
    }

    /// How many bytes they are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many lines were dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds a line, and drops as many as that takes: only the line itself if it has no room when all that may go is gone.
    pub(super) fn put(&mut self, line: Line) {
        let size = weight(&line);
        let is_alert = line.kind == Kind::Alert;
        let kept = self.taken_bytes + if is_alert { 0 } else { self.alert_bytes };
        if kept + size > self.limit {
            self.dropped += 1;
            return;
        }
        while self.bytes + size > self.limit && self.drop_oldest() {}
        self.bytes += size;
        if is_alert {
            self.alert_bytes += size;
            self.alerts.push_back(line);
        } else {
            self.ordinary.push_back(line);
        }
    }

    /// Drops the oldest ordinary line that waits, else the oldest alert. Returns whether there was one.
    fn drop_oldest(&mut self) -> bool {
        if let Some(line) = self.ordinary.pop_front() {
            self.bytes -= weight(&line);
        } else if let Some(alert) = self.alerts.pop_front() {
            self.bytes -= weight(&alert);
            self.alert_bytes -= weight(&alert);
        } else {
            return false;
        }
        self.dropped += 1;
        true
    }

    /// Moves the next lines to an empty batch in the order of the stream, up to so many and so much; none if none wait. They count
    /// until they are acknowledged, and there are no others before that.
    pub(super) fn take(&mut self, batch: &mut Vec<Line>, most_lines: usize, most_bytes: usize) {
        debug_assert!(batch.is_empty() && self.taken == 0, "one batch at a time");
        while batch.len() < most_lines {
            let lane = match (self.ordinary.front(), self.alerts.front()) {
                (Some(line), Some(alert)) if line.sequence < alert.sequence => &mut self.ordinary,
                (Some(_), None) => &mut self.ordinary,
                _ => &mut self.alerts,
            };
            let fits = |line: &mut Line| batch.is_empty() || self.taken_bytes + weight(line) <= most_bytes;
            let Some(line) = lane.pop_front_if(fits) else { break };
            self.taken_bytes += weight(&line);
            if line.kind == Kind::Alert {
                self.alert_bytes -= weight(&line);
            }
            batch.push(line);
        }
        self.taken = batch.len();
    }

    /// The lines that were taken are safe.
    pub(super) fn acknowledge(&mut self) {
        self.taken = 0;
        self.bytes -= std::mem::take(&mut self.taken_bytes);
    }
}

fn weight(line: &Line) -> usize {
    line.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(sequence: u64, kind: Kind, length: usize) -> Line {
        Line::for_test(sequence, kind, &"x".repeat(length))
    }

    fn sequences(lines: &[Line]) -> Vec<u64> {
        lines.iter().map(|line| line.sequence).collect()
    }

    fn take(queue: &mut Queue, most_lines: usize) -> Vec<u64> {
        let mut batch = Vec::new();
        queue.take(&mut batch, most_lines, 10_000);
        sequences(&batch)
    }

    #[test]
    fn alerts_are_the_last_to_go() {
        let mut queue = Queue::new(3 * (10 + OVERHEAD));
        for (sequence, kind) in
            [(0, Kind::Alert), (1, Kind::Event), (2, Kind::Event), (3, Kind::Event), (4, Kind::Alert)]
        {
            queue.put(line(sequence, kind, 10));
        }
        assert_eq!(take(&mut queue, 10), [0, 3, 4]);
        assert_eq!(queue.dropped(), 2);
    }

    #[test]
    fn an_ordinary_line_never_displaces_an_alert() {
        let mut queue = Queue::new(10 + OVERHEAD);
        queue.put(line(0, Kind::Alert, 10));
        queue.put(line(1, Kind::Event, 10));
        assert_eq!((take(&mut queue, 10), queue.dropped()), (vec![0], 1));
    }

    #[test]
    fn what_is_being_delivered_stays() {
        let mut queue = Queue::new(2 * (10 + OVERHEAD));
        queue.put(line(0, Kind::Event, 10));
        queue.put(line(1, Kind::Event, 10));
        assert_eq!(take(&mut queue, 1), [0]);
        queue.put(line(2, Kind::Event, 10));
        queue.acknowledge();
        assert_eq!((take(&mut queue, 10), queue.dropped()), (vec![2], 1));
    }

    #[test]
    fn a_line_larger_than_the_queue_is_dropped() {
        let mut queue = Queue::new(100);
        queue.put(line(0, Kind::Alert, 1_000));
        assert_eq!((queue.len(), queue.bytes(), queue.dropped()), (0, 0, 1));
    }

    #[test]
    fn a_line_that_cannot_fit_drives_out_no_other() {
        let mut queue = Queue::new(3 * (10 + OVERHEAD));
        queue.put(line(0, Kind::Alert, 10));
        queue.put(line(1, Kind::Event, 10));
        // Larger than the queue; then larger than what alerts leave of it.
        queue.put(line(2, Kind::Alert, 1_000));
        queue.put(line(3, Kind::Event, 2 * (10 + OVERHEAD)));
        assert_eq!((take(&mut queue, 10), queue.dropped()), (vec![0, 1], 2));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_delivered_once_in_order_or_counted(
            steps in proptest::collection::vec((any::<bool>(), 0usize..200, 0u8..6), 1..300),
            limit in 0usize..2_000,
        ) {
            let mut queue = Queue::new(limit);
            let (mut put, mut delivered) = (0u64, Vec::new());
            let mut in_flight = Vec::new();
            for (alert, length, what) in steps {
                match what {
                    // More is put while a batch is being delivered.
                    0 if in_flight.is_empty() => queue.take(&mut in_flight, 5, 500),
                    0 | 1 => {
                        delivered.extend(sequences(&std::mem::take(&mut in_flight)));
                        queue.acknowledge();
                    }
                    _ => {
                        queue.put(line(put, if alert { Kind::Alert } else { Kind::Event }, length));
                        put += 1;
                    }
                }
                prop_assert!(queue.bytes() <= limit);
                prop_assert_eq!((delivered.len() + queue.len()) as u64 + queue.dropped(), put);
            }
            loop {
                delivered.extend(sequences(&std::mem::take(&mut in_flight)));
                queue.acknowledge();
                queue.take(&mut in_flight, 7, 300);
                if in_flight.is_empty() {
                    break;
                }
            }
            prop_assert_eq!((queue.bytes(), queue.len()), (0, 0));
            prop_assert!(delivered.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(delivered.len() as u64 + queue.dropped(), put);
        }
    }
}
