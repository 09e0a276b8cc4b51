//! What the agent says of itself: a watcher that loses something or stops must say so on its own stream.

use std::sync::Arc;

use super::{Categorization, Kind};

/// What the agent says of itself.
#[derive(Clone, Debug)]
pub enum AgentEvent {
    /// It watches from now on.
    Started {
        /// The sensors that are armed, with the rung that each took (`exec: raw_tracepoint`).
        sensors: Vec<Arc<str>>,
        /// What is missing from the output, and why.
        missing: Vec<Arc<str>>,
    },
    /// It stops watching.
    Stopped {
        /// Why.
        reason: Arc<str>,
        /// The whole run's figures.
        counters: Vec<Counters>,
    },
    /// Figures, now and then.
    Counted(Vec<Counters>),
    /// Something existed and was not delivered.
    Lost(Loss),
    /// Something that concerns the reader changed: a sensor fell back, the API server went away.
    Changed {
        /// What.
        message: Arc<str>,
    },
}

/// One hook's figures since the agent started: `seen = submitted + filtered + rate_limited + lost`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The hook.
    pub hook: Arc<str>,
    /// Times that it ran.
    pub seen: u64,
    /// Records that it handed over.
    pub submitted: u64,
    /// Not of interest, and known so in the kernel.
    pub filtered: u64,
    /// Held back by a rate limit.
    pub rate_limited: u64,
    /// Lost for want of room.
    pub lost: u64,
    /// Records that user space received.
    pub received: u64,
}

/// Events that existed and were not delivered.
#[derive(Clone, Debug)]
pub struct Loss {
    /// How many.
    pub count: u64,
    /// Why.
    pub cause: LossCause,
}

/// Where events were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// The kernel's ring had no room.
    Ring,
    /// A record could not be decoded.
    Malformed,
    /// The kernel's queue of file events had no room. Nobody knows how many: it counts how often.
    Files,
    /// A sink's queue had no room.
    Sink {
        /// The sink's name.
        name: Arc<str>,
        /// Why it had no room.
        reason: Arc<str>,
    },
}

impl AgentEvent {
    /// The ECS `event.kind`.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Counted(_) => Kind::Metric,
            Self::Started { .. } | Self::Stopped { .. } | Self::Changed { .. } => Kind::State,
            Self::Lost(_) => Kind::Event,
        }
    }

    /// The ECS categorization fields.
    pub const fn categorization(&self) -> Categorization {
        let (action, types): (_, &[&str]) = match self {
            Self::Started { .. } => ("agent-started", &["start"]),
            Self::Stopped { .. } => ("agent-stopped", &["end"]),
            Self::Counted(_) => ("agent-counted", &["info"]),
            Self::Lost(_) => ("events-lost", &["info"]),
            Self::Changed { .. } => ("agent-changed", &["change"]),
        };
        Categorization { action, also: None, category: &["host"], types, outcome: None }
    }
}
