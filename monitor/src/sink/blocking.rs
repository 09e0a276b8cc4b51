//! Sinks that write with blocking calls: on a thread of the runtime's pool that is made for that, so that a pipe nobody
//! reads or a slow disk holds up nobody else.

use std::io;

use super::{Line, SinkError};

/// Writes whole lines.
pub(super) trait WriteLines: Send + 'static {
    /// Writes whole lines from `done` on, and moves `done` past what is written. After an error it is called again with the
    /// same lines and goes on from there, so that no half line runs into the next and nothing is there twice.
    fn write(&mut self, lines: &[u8], done: &mut usize) -> Result<(), SinkError>;
}

/// A sink made of a writer.
pub(super) struct Blocking {
    /// Absent while a batch is written.
    idle: Option<Idle>,
}

struct Idle {
    writer: Box<dyn WriteLines>,
    /// The lines of the last batch.
    lines: Vec<u8>,
    /// How many bytes of them are written.
    done: usize,
    /// Where the last batch was not wholly written: its first sequence number.
    unfinished: Option<u64>,
}

impl Blocking {
    pub(super) fn new(writer: impl WriteLines) -> Self {
        Self { idle: Some(Idle { writer: Box::new(writer), lines: Vec::new(), done: 0, unfinished: None }) }
    }

    pub(super) async fn deliver(&mut self, batch: &[Line]) -> Result<(), SinkError> {
        let Some(first) = batch.first() else { return Ok(()) };
        let gone = || SinkError::System { place: "writer".into(), source: io::ErrorKind::Interrupted.into() };
        let mut idle = self.idle.take().ok_or_else(gone)?;
        if idle.unfinished != Some(first.sequence) {
            idle.take_in(batch);
        }
        let write = move || {
            let result = idle.writer.write(&idle.lines, &mut idle.done);
            (idle, result)
        };
        let (mut idle, result) = match tokio::task::spawn_blocking(write).await {
            Ok(written) => written,
            // A sink that has panicked must not look like one that is down: its worker dies with it, and that is noticed.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => return Err(gone()),
            },
        };
        idle.unfinished = result.is_err().then_some(first.sequence);
        self.idle = Some(idle);
        result
    }
}

impl Idle {
    fn take_in(&mut self, batch: &[Line]) {
        self.lines.clear();
        self.done = 0;
        for line in batch {
            self.lines.extend_from_slice(&line.text);
            self.lines.push(b'\n');
        }
    }
}
