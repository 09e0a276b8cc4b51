//! What the watch can be told: validated values, built by `config`.

use std::{path::PathBuf, time::Duration};

/// How to find the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiSettings {
    /// Whether to look for it.
    pub mode: ApiMode,
    /// A kubeconfig file to use instead of the pod's service account. Where it is set it must be usable, whatever the mode.
    pub kubeconfig: Option<PathBuf>,
    /// How long to wait, and for what.
    pub pace: Pace,
    /// How much to read at once.
    pub bounds: Bounds,
}

/// Whether to look for an API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiMode {
    /// Use it where there is one to find.
    #[default]
    Auto,
    /// Never ask it.
    Off,
    /// Not finding one is an error.
    Required,
}

/// How long to wait, and for what. The defaults are what `client-go` does, within what a node can afford.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The first wait after a failure; up to twice as long, at random, so that the nodes of a cluster do not come back at once.
    pub retry_min: Duration,
    /// The longest wait after failures; up to twice as long, at random.
    pub retry_max: Duration,
    /// How long without a failure until the next one is waited for as if it were the first.
    pub settled: Duration,
    /// How long a connection may take to be made.
    pub connect: Duration,
    /// How long a whole list, or the beginning of a watch, may take.
    pub answer: Duration,
    /// How long the server keeps one watch open, in whole seconds below 295. A connection that died without a word is noticed a little later.
    pub watch: Duration,
    /// How many pods a page holds where the list has pages.
    pub page: u32,
}

/// How much of one answer is read before it counts as garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Largest page of a list, in bytes.
    pub page_bytes: u64,
    /// Longest line of a watch, in bytes.
    pub line_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        // Several hundred pods, each as large as they get in practice; and one object, of which etcd takes no larger than 1.5 MiB.
        Self { page_bytes: 32 << 20, line_bytes: 8 << 20 }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            retry_min: Duration::from_millis(800),
            retry_max: Duration::from_secs(30),
            settled: Duration::from_mins(2),
            connect: Duration::from_secs(10),
            answer: Duration::from_mins(1),
            watch: Duration::from_secs(290),
            page: 100,
        }
    }
}
