//! Maintenance of the node: a time in which somebody was told to work on it, as the node's own object in the API server says.

use std::sync::Arc;

use super::Timestamp;

/// A maintenance, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// The ticket that it is for.
    pub ticket: Arc<str>,
    /// Since when the agent knows of it.
    pub since: Timestamp,
    /// When it is over.
    pub until: Timestamp,
}

impl Maintenance {
    /// Whether something that happened at that time happened in it.
    pub fn covers(&self, time: Timestamp) -> bool {
        (self.since..self.until).contains(&time)
    }
}

/// What became of a maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaintenanceStep {
    /// It is on from now on.
    Begun,
    /// It has another ticket, or another end.
    Changed,
    /// It is over.
    Ended,
}
