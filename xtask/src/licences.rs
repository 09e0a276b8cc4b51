//! Licences, bans and sources of the dependencies, by cargo-deny and `deny.toml`.

use anyhow::Result;

use crate::command::cargo;

/// Everything that can be checked without asking a network for advisories.
pub(crate) fn check() -> Result<()> {
    cargo(["deny", "--workspace", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]).quietly().map(drop)
}
