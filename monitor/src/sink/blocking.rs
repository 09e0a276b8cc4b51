//! Sinks that write with blocking calls. The worker of such a sink has a thread of its own, so that a pipe nobody reads or a
//! slow disk holds up nobody else.

use std::sync::Arc;

use super::{Line, SinkError};

/// Writes whole lines.
pub(super) trait WriteLines: Send + 'static {
    /// Writes whole lines from `done` on, and moves `done` past what is written. After an error it is called again with the
    /// same lines and goes on from there, so that no half line runs into the next and nothing is there twice.
    fn write(&mut self, lines: &[u8], done: &mut usize) -> Result<(), SinkError>;
}

/// A sink made of a writer.
pub(super) struct Blocking {
    writer: Box<dyn WriteLines>,
    /// How many lines of the last batch are written.
    lines_done: usize,
    /// How many bytes of those that stand together behind them.
    bytes_done: usize,
    /// Where the last batch was not wholly written: its first sequence number.
    unfinished: Option<u64>,
}

impl Blocking {
    pub(super) fn new(writer: impl WriteLines) -> Self {
        Self { writer: Box::new(writer), lines_done: 0, bytes_done: 0, unfinished: None }
    }

    /// Writes a batch, and goes on where it stopped if this is the batch that could not be written before.
    pub(super) fn deliver(&mut self, batch: &[Line]) -> Result<(), SinkError> {
        let Some(first) = batch.first() else { return Ok(()) };
        if self.unfinished != Some(first.sequence) {
            (self.lines_done, self.bytes_done) = (0, 0);
        }
        let result = self.write(batch);
        self.unfinished = result.is_err().then_some(first.sequence);
        result
    }

    fn write(&mut self, batch: &[Line]) -> Result<(), SinkError> {
        loop {
            let (lines, count) = together(batch.get(self.lines_done..).unwrap_or_default());
            if count == 0 {
                return Ok(());
            }
            self.writer.write(lines, &mut self.bytes_done)?;
            self.lines_done += count;
            self.bytes_done = 0;
        }
    }
}

/// The first lines that stand one behind the other in memory, with all their newlines, and how many they are.
fn together(lines: &[Line]) -> (&[u8], usize) {
    let Some(first) = lines.first() else { return (&[], 0) };
    let mut end = first.range.start;
    let follows = |line: &&Line| {
        let follows = Arc::ptr_eq(&line.block, &first.block) && line.range.start == end;
        end = line.range.end + 1;
        follows
    };
    let count = lines.iter().take_while(follows).count();
    let end = lines.get(count - 1).map_or(first.range.end, |last| last.range.end) + 1;
    (first.block.get(first.range.start..end).unwrap_or_default(), count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Kind, Timestamp};

    #[test]
    fn lines_that_stand_together_are_written_together() {
        let block = Arc::new(b"one\ntwo\nleft out\nthree\n".to_vec());
        let line = |range| Line {
            sequence: 0,
            kind: Kind::Event,
            time: Timestamp::UNIX_EPOCH,
            block: Arc::clone(&block),
            range,
        };
        let lines = [line(0..3), line(4..7), line(17..22), Line::for_test(0, Kind::Alert, "other")];
        assert_eq!(together(&lines), (&b"one\ntwo\n"[..], 2));
        assert_eq!(together(&lines[2..]), (&b"three\n"[..], 1));
        assert_eq!(together(&lines[3..]), (&b"other\n"[..], 1));
        assert_eq!(together(&[]), (&b""[..], 0));
    }
}
