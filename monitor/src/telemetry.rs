//! What the agent says of its own work, on standard error: standard output belongs to the events.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::config::printable;

/// The environment variable that holds a filter (`postern=debug,kube=info`).
pub const FILTER_VARIABLE: &str = "POSTERN_LOG";

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// And what is doubtful.
    Warn,
    /// And what changed.
    Info,
    /// And what was decided.
    Debug,
    /// And each step.
    Trace,
}

impl LogLevel {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Starts telemetry: readable lines on a terminal, JSON lines elsewhere. `level` goes before [`FILTER_VARIABLE`].
/// Fails where the variable holds no filter, or where telemetry has been started before.
///
/// No part of the agent may log a secret: [`crate::sink::settings::Secret`] prints nothing of itself, and the
/// libraries that see credentials speak only from `warn` up unless the variable asks for more.
pub fn start(level: Option<LogLevel>) -> Result<(), String> {
    let variable = std::env::var(FILTER_VARIABLE).ok();
    let filter = filter(level, variable.as_deref())?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = if io::stderr().is_terminal() {
        subscriber.with_target(false).try_init()
    } else {
        subscriber.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
    started.map_err(|error| error.to_string())
}

/// The Kubernetes client calls every failed request an error, though each is tried again: the pod watch says once per outage
/// what is worth saying.
const QUIET: &str = "kube_client::client::builder=off";

fn filter(level: Option<LogLevel>, variable: Option<&str>) -> Result<EnvFilter, String> {
    let directives = match (level, variable) {
        (Some(LogLevel::Off), _) => "off".to_owned(),
        (Some(LogLevel::Error), _) => format!("error,{QUIET}"),
        (Some(level), _) => format!("warn,{QUIET},postern={}", level.as_str()),
        (None, Some(variable)) if !variable.is_empty() => variable.to_owned(),
        (None, _) => format!("warn,{QUIET},postern=info"),
    };
    EnvFilter::try_new(&directives).map_err(|error| format!("{FILTER_VARIABLE}: {}", printable(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_goes_before_the_variable_and_a_wrong_variable_is_an_error() {
        let shown = |level, variable| filter(level, variable).map(|filter| filter.to_string());
        assert_eq!(shown(None, None).expect("a filter"), "kube_client::client::builder=off,postern=info,warn");
        assert_eq!(
            shown(Some(LogLevel::Debug), Some("trace")).expect("a filter"),
            "kube_client::client::builder=off,postern=debug,warn"
        );
        assert_eq!(shown(None, Some("kube=info")).expect("a filter"), "kube=info");
        assert!(shown(None, Some("postern=loud")).expect_err("no level").starts_with("POSTERN_LOG: "));
    }
}
