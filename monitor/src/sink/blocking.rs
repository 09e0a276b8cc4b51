//! Sinks that write with blocking calls: on a thread of the runtime's pool that is made for that, so that a pipe nobody
//! reads or a slow disk holds up nobody else.

use super::{Line, SinkError};

/// Writes whole lines.
pub(super) trait WriteLines: Send + 'static {
    /// Writes them all, or none that a reader would take for whole.
    fn write(&mut self, lines: &[u8]) -> Result<(), SinkError>;
}

/// A sink made of a writer.
pub(super) struct Blocking {
    /// Absent while a batch is written.
    idle: Option<(Box<dyn WriteLines>, Vec<u8>)>,
}

impl Blocking {
    pub(super) fn new(writer: impl WriteLines) -> Self {
        Self { idle: Some((Box::new(writer), Vec::new())) }
    }

    pub(super) async fn deliver(&mut self, batch: &[Line]) -> Result<(), SinkError> {
        let gone = || SinkError::Protocol { place: "writer".into(), message: "its thread has panicked".into() };
        let (mut writer, mut buffer) = self.idle.take().ok_or_else(gone)?;
        buffer.clear();
        for line in batch {
            buffer.extend_from_slice(line.text.as_bytes());
            buffer.push(b'\n');
        }
        let write = move || {
            let result = writer.write(&buffer);
            (writer, buffer, result)
        };
        let (writer, buffer, result) = tokio::task::spawn_blocking(write).await.map_err(|_| gone())?;
        self.idle = Some((writer, buffer));
        result
    }
}
