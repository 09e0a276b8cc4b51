//! Where events go. Sees events and nothing else.

pub mod delivery;
pub mod encode;
pub mod settings;
/// placeholder
#[derive(Debug, thiserror::Error)]
#[error("sink")]
pub struct SinkError;
