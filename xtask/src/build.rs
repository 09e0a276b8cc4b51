//! Builds the agent. The kernel side is built by its build script.

use std::path::PathBuf;

use anyhow::Result;

use crate::command::{cargo, root, say};

/// Builds the agent for this machine; returns its path.
pub(crate) fn agent() -> Result<PathBuf> {
    say("build: postern (release)");
    cargo(["build", "--release", "--package", "postern"]).run()?;
    Ok(root().join("target/release/postern"))
}

/// Builds the static agent that the image holds; returns its path.
pub(crate) fn static_agent() -> Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    say("build: postern (release, static)");
    cargo(["build", "--release", "--package", "postern", "--target", TARGET]).run()?;
    Ok(root().join("target").join(TARGET).join("release/postern"))
}
