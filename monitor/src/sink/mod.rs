//! Where events go. Sees events and nothing else.
//!
//! A sink takes a batch of lines and answers once they are safe: written, or acknowledged by the other end. Everything else
//! (waiting, retrying, dropping, counting) is `delivery`'s, once for all sinks.

mod blocking;
pub mod delivery;
pub mod encode;
mod file;
mod fluentd;
mod memory;
mod queue;
pub mod recent;
pub mod settings;
mod stdout;

use std::{io, ops::Range, path::PathBuf, sync::Arc};

use self::{
    blocking::Blocking,
    encode::Tail,
    fluentd::Fluentd,
    memory::Block,
    settings::{SinkSettings, Target},
};
use crate::event::{Kind, Timestamp};

/// One event, encoded. All sinks of one format share it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// The event's position in the stream.
    sequence: u64,
    /// Its kind: alerts are the last to go.
    kind: Kind,
    /// When it happened.
    time: Timestamp,
    /// Where it stands.
    block: Block,
    /// Where in the block.
    range: Range<usize>,
    /// Its tail, where it shares that with others: it is not in the block then.
    tail: Option<Tail>,
}

impl Line {
    /// How many bytes it is.
    fn len(&self) -> usize {
        self.range.len() + self.tail.as_ref().map_or(0, |tail| tail.len())
    }

    /// Appends it to `out`, without a newline behind it.
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.block.get(self.range.clone()).unwrap_or_default());
        out.extend_from_slice(self.tail.as_deref().unwrap_or_default());
    }

    /// The same line in memory of its own.
    fn alone(self) -> Self {
        let mut text = Vec::with_capacity(self.len());
        self.write(&mut text);
        Self { range: 0..text.len(), block: Arc::new(text), tail: None, ..self }
    }

    #[cfg(test)]
    fn for_test(sequence: u64, kind: Kind, text: &str) -> Self {
        let block = Arc::new(text.as_bytes().to_vec());
        Self { sequence, kind, time: Timestamp::UNIX_EPOCH, block, range: 0..text.len(), tail: None }
    }
}

/// Why a batch was not delivered, or a sink not built.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The operating system refused something.
    #[error("{place}: {source}")]
    System {
        /// The path or address.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// The other end did not answer in time.
    #[error("{place}: no {what} in time")]
    TimedOut {
        /// The address.
        place: String,
        /// What was waited for.
        what: &'static str,
    },
    /// The other end does not speak the protocol, or refuses us.
    #[error("{place}: {message}")]
    Protocol {
        /// The address.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A file that the sink needs cannot be used.
    #[error("{}: {message}", path.display())]
    Setup {
        /// Which.
        path: PathBuf,
        /// Why not.
        message: String,
    },
}

/// One configured sink.
enum Sink {
    Blocking(Blocking),
    Fluentd(Box<Fluentd>),
}

impl Sink {
    /// Builds it; reaches for nothing yet.
    fn build(settings: &SinkSettings) -> Result<Self, SinkError> {
        Ok(match &settings.target {
            Target::Stdout { .. } => Self::Blocking(Blocking::new(stdout::Stdout)),
            Target::File { path, max_bytes, keep } => {
                Self::Blocking(Blocking::new(file::RotatedFile::new(path.clone(), *max_bytes, *keep)))
            }
            Target::Fluentd(settings) => Self::Fluentd(Box::new(Fluentd::new(settings)?)),
        })
    }

    /// Whether delivering holds up its thread.
    fn blocks(&self) -> bool {
        matches!(self, Self::Blocking(_))
    }

    /// Delivers a batch. After an error the same batch is to be delivered again.
    async fn deliver(&mut self, batch: &[Line]) -> Result<(), SinkError> {
        match self {
            Self::Blocking(sink) => sink.deliver(batch),
            Self::Fluentd(sink) => sink.deliver(batch).await,
        }
    }
}
