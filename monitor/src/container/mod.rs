//! Containers.
pub mod cgroup;
