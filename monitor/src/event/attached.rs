//! People who share a terminal multiplexer: what runs in one belongs to whoever started it, and may be typed by others.

use std::sync::Arc;

use super::{Confidence, Session};

/// Somebody in another session than the owner's, who may have typed what happened.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Their own session.
    pub session: Arc<Session>,
    /// How sure it is that they are attached.
    pub confidence: Confidence,
    /// Why it is thought so.
    pub reason: Arc<str>,
}

/// Somebody attaches to a multiplexer that was started in another session.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The session that it was started in; none where it was started in none.
    pub to: Option<Arc<Session>>,
    /// The multiplexer.
    pub program: Arc<str>,
    /// The pid of its server.
    pub server: u32,
    /// The pid of the client.
    pub pid: u32,
}
