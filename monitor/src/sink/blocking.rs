//! Sinks that write with blocking calls. The worker of such a sink has a thread of its own, so that a pipe nobody reads or a
//! slow disk holds up nobody else.

use super::{Line, SinkError};

/// How much is written at once, and a line beside. A large write of a file is cheaper than several small ones, but four times as
/// much took longer for each line on a machine that had been up for hours.
const WRITE_BYTES: usize = 128 << 10;
/// Memory beyond this is given back.
const CAPACITY_MAX: usize = 2 << 20;

/// Writes whole lines.
pub(super) trait WriteLines: Send + 'static {
    /// Writes whole lines from `done` on, and moves `done` past what is written. After an error it is called again with the
    /// same lines and goes on from there, so that no half line runs into the next and nothing is there twice.
    fn write(&mut self, lines: &[u8], done: &mut usize) -> Result<(), SinkError>;
}

/// A sink made of a writer.
pub(super) struct Blocking {
    writer: Box<dyn WriteLines>,
    /// The lines that are being written, each with a newline behind it.
    lines: Vec<u8>,
    /// How many bytes of them are written.
    bytes_done: usize,
    /// How many lines of the last batch are written, or stand in `lines`.
    taken: usize,
    /// Where the last batch was not wholly written: its first sequence number.
    unfinished: Option<u64>,
}

impl Blocking {
    pub(super) fn new(writer: impl WriteLines) -> Self {
        Self { writer: Box::new(writer), lines: Vec::new(), bytes_done: 0, taken: 0, unfinished: None }
    }

    /// Writes a batch, and goes on where it stopped if this is the batch that could not be written before.
    pub(super) fn deliver(&mut self, batch: &[Line]) -> Result<(), SinkError> {
        let Some(first) = batch.first() else { return Ok(()) };
        if self.unfinished != Some(first.sequence) {
            self.taken = 0;
            self.forget();
        }
        let result = self.write(batch);
        self.unfinished = result.is_err().then_some(first.sequence);
        result
    }

    fn write(&mut self, batch: &[Line]) -> Result<(), SinkError> {
        loop {
            if !self.lines.is_empty() {
                self.writer.write(&self.lines, &mut self.bytes_done)?;
                self.forget();
            }
            let rest = batch.get(self.taken..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            for line in rest {
                line.write(&mut self.lines);
                self.lines.push(b'\n');
                self.taken += 1;
                if self.lines.len() >= WRITE_BYTES {
                    break;
                }
            }
        }
    }

    fn forget(&mut self) {
        self.lines.clear();
        // A line may be as long as its arguments make it.
        if self.lines.capacity() > CAPACITY_MAX {
            self.lines.shrink_to(WRITE_BYTES);
        }
        self.bytes_done = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{
        event::{Kind, Timestamp},
        sink::encode::Tail,
    };

    /// What was written, and by how many calls.
    type Written = Arc<Mutex<(Vec<u8>, usize)>>;

    /// Takes a part of what it is given, and then fails.
    struct Reluctant {
        written: Written,
        most: usize,
    }

    impl WriteLines for Reluctant {
        fn write(&mut self, lines: &[u8], done: &mut usize) -> Result<(), SinkError> {
            let mut written = self.written.lock().expect("no panic holds it");
            let end = lines.len().min(*done + self.most);
            written.0.extend_from_slice(&lines[*done..end]);
            written.1 += 1;
            *done = end;
            if end == lines.len() {
                return Ok(());
            }
            Err(SinkError::TimedOut { place: "a test".into(), what: "room" })
        }
    }

    fn sink(most: usize) -> (Blocking, Written) {
        let written = Written::default();
        (Blocking::new(Reluctant { written: Arc::clone(&written), most }), written)
    }

    #[test]
    fn a_line_is_its_own_part_and_what_it_shares() {
        let (block, shared): (_, Tail) = (Arc::new(b"one,two,three".to_vec()), b",end"[..].into());
        let line = |range, tail: Option<&Tail>| Line {
            sequence: 0,
            kind: Kind::Event,
            time: Timestamp::UNIX_EPOCH,
            block: Arc::clone(&block),
            range,
            tail: tail.cloned(),
        };
        let lines = [line(0..3, Some(&shared)), line(4..7, Some(&shared)), line(8..13, None)];
        assert_eq!(lines.each_ref().map(Line::len), [7, 7, 5]);
        let (mut sink, written) = sink(usize::MAX);
        sink.deliver(&lines).expect("written");
        let (text, calls) = &*written.lock().expect("no panic holds it");
        assert_eq!((&text[..], *calls), (&b"one,end\ntwo,end\nthree\n"[..], 1), "they are written together");
    }

    #[test]
    fn a_batch_goes_on_where_it_stopped_however_often_it_does() {
        let text = |number: u64| format!("{number}{}", "x".repeat(WRITE_BYTES / 7));
        let batch: Vec<_> = (0..30).map(|number| Line::for_test(number, Kind::Event, &text(number))).collect();
        let (mut sink, written) = sink(WRITE_BYTES / 3);
        let failures = (0..1_000).take_while(|_| sink.deliver(&batch).is_err()).count();
        assert!((10..1_000).contains(&failures), "{failures}");
        let whole: String = (0..30).map(|number| text(number) + "\n").collect();
        assert!(written.lock().expect("no panic holds it").0 == whole.as_bytes(), "each line once, in order");
        sink.deliver(&[Line::for_test(30, Kind::Event, "next")]).expect("written");
        assert!(written.lock().expect("no panic holds it").0.ends_with(b"x\nnext\n"));
        assert!(sink.lines.capacity() <= CAPACITY_MAX);
    }
}
