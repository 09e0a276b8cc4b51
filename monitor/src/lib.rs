//! Postern watches every way into a Kubernetes node that is not the API server. ARCHITECTURE.md is the map.

pub mod detect;
pub mod event;
pub mod pod;
pub mod sink;
