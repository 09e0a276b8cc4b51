//! Containers: which one a cgroup belongs to, and what its runtime knows of it.

pub mod cgroup;
mod messages;
mod runtime;

pub use runtime::{Runtime, RuntimeError};
