//! Postern watches every way into a Kubernetes node that is not the API server. ARCHITECTURE.md is the map.

pub mod admin;
pub mod agent;
pub mod cli;
pub mod config;
pub mod container;
pub mod control;
pub mod detect;
pub mod event;
pub mod exit;
pub mod files;
pub mod metrics;
pub mod pipeline;
pub mod pod;
pub mod privileges;
pub mod probe;
pub mod process;
pub mod record;
#[cfg(any(test, feature = "replay"))]
pub mod replay;
pub mod sink;
pub mod story;
pub mod telemetry;
