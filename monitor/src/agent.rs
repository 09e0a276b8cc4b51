//! Builds the parts of the agent, starts them, watches them and shuts them down in order.

use crate::{config::Config, exit::Exit};

/// Why the agent ended other than as asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The kernel lacks what the agent needs.
    #[error("this kernel lacks what the agent needs: {0}")]
    Unavailable(String),
    /// A part of the agent died.
    #[error("a part of the agent died: {0}")]
    Died(String),
}

impl Failure {
    /// The exit code that says so.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Unavailable(_) => Exit::Unavailable,
            Self::Died(_) => Exit::Software,
        }
    }
}

/// Runs until told to stop.
#[expect(clippy::unused_async, reason = "the parts that it will wait for are not built in yet")]
pub async fn run(config: Config) -> Result<(), Failure> {
    drop(config);
    Err(Failure::Unavailable("no sensors are built in yet".into()))
}
