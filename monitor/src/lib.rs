//! Postern watches every way into a Kubernetes node that is not the API server. ARCHITECTURE.md is the map.

pub mod config;
pub mod detect;
pub mod event;
pub mod probe;
pub mod process;
pub mod record;
pub mod sink;
