//! What a sink can be told: validated values, built by `config`.

use std::{path::PathBuf, time::Duration};

use crate::event::Kind;

/// One entry of the configuration's `sinks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkSettings {
    /// Its name in metrics and messages: given, or made of the type and the position (`fluentd-2`).
    pub name: String,
    /// The kinds of event it takes; empty for all.
    pub events: Vec<Kind>,
    /// How many bytes of encoded events wait for it before the oldest go (alerts last).
    pub queue_bytes: usize,
    /// Where to.
    pub target: Target,
}

/// Where a sink sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout {
        /// In which form.
        format: Format,
    },
    /// A file, rotated by size.
    File {
        /// Its path; rotated ones get `.1`, `.2` and so on behind it, the newest first.
        path: PathBuf,
        /// Rotated before it would grow beyond this.
        max_bytes: u64,
        /// How many rotated files are kept.
        keep: u32,
    },
    /// A Fluentd or Fluent Bit `forward` input.
    Fluentd(Box<FluentdSettings>),
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// ECS, one JSON object a line.
    Json,
}

/// How to reach a Fluentd `forward` input (Forward Protocol Specification v1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FluentdSettings {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS, where the address is `tls://`.
    pub tls: Option<TlsSettings>,
    /// Tag of every message.
    pub tag: String,
    /// The handshake's shared key, where the server wants one.
    pub shared_key: Option<Secret>,
    /// User name and password, where the server wants them.
    pub user: Option<(String, Secret)>,
    /// How long to wait for a chunk's acknowledgement before it is sent again.
    pub ack_timeout: Duration,
}

/// How to check a server, and how to show ourselves to it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// PEM file of the authorities to trust; the system's where absent.
    pub ca_file: Option<PathBuf>,
    /// PEM files of our own certificate and key, where the server wants one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name to expect in the certificate, where it is not the host.
    pub server_name: Option<String>,
}

/// A value that no message and no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(...)")
    }
}
