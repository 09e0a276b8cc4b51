//! Builds the parts of the agent, starts them, watches them and shuts them down in order. The only place that spawns.
//!
//! In two steps. [`Agent::arm`] attaches the kernel side while there is one thread, so that the privileges which that takes
//! can be given up for the whole process; [`Agent::run`] starts everything else.

mod event_loop;
mod inbox;
mod lookups;
mod machine;

use std::{sync::Arc, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    event_loop::{EventLoop, Publish},
    inbox::{Inbox, Message, inbox},
    machine::{boot_time_ns, since_boot_ns},
};
use crate::{
    admin::{Admin, AdminError, Health},
    config::Config,
    event::{AgentEvent, Event, Node},
    exit::Exit,
    metrics::Figures,
    pipeline::{Input, Pipeline},
    probe::{Armed, CounterReader, Probe, ProbeError, ProbeSettings, Ring},
    process::{Decoder, seed},
};

/// How long the event loop may be silent before the agent counts as dead.
const SILENCE: Duration = Duration::from_secs(10);

/// Why the agent ended other than as asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The kernel side cannot be set up.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// /proc cannot be read.
    #[error("cannot read /proc: {0}")]
    Proc(std::io::Error),
    /// Health and metrics cannot be served.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The operating system refused something.
    #[error("cannot {0}: {1}")]
    System(&'static str, std::io::Error),
    /// A part of the agent died.
    #[error("{0} died")]
    Died(&'static str),
}

impl Failure {
    /// The exit code that says so.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Probe(_) | Self::Proc(_) => Exit::Unavailable,
            Self::Admin(_) => Exit::Usage,
            Self::System(..) | Self::Died(_) => Exit::Software,
        }
    }
}

/// An agent whose sensors are armed: from here on the kernel side fills the ring.
pub struct Agent {
    config: Config,
    node: Arc<Node>,
    probe: Probe,
    ring: Ring,
    counters: CounterReader,
    pipeline: Pipeline,
    armed: Vec<Armed>,
    notices: Vec<String>,
}

impl Agent {
    /// Attaches every sensor, and takes in what already runs. Starts no thread.
    pub fn arm(config: Config) -> Result<Self, Failure> {
        let (host_root, notice) = machine::host_root(&config.host_root);
        let mut notices: Vec<String> = notice.into_iter().collect();
        let settings = ProbeSettings { ring_bytes: config.ring_bytes, host_root: host_root.clone() };
        let mut probe = Probe::load(&settings)?;
        let armed = probe.arm(&settings)?;
        let (ring, counters) = (probe.ring()?, probe.counters()?);

        let node = Arc::new(machine::node(&config, &host_root));
        let users = seed::passwd(&host_root).unwrap_or_else(|error| {
            notices.push(format!("users have no names: cannot read {}/etc/passwd: {error}", host_root.display()));
            Default::default()
        });
        let host = machine::host();
        let decoder = Decoder::new(Arc::clone(&node.boot_id), boot_time_ns(), users, host.namespaces.mnt);
        let mut pipeline = Pipeline::new(host, decoder, config.access.clone());
        // Attached first, so that no process is missed between the two; what both see is the same process.
        let seen = seed::scan("/proc".as_ref()).map_err(Failure::Proc)?;
        let marks = pipeline.seed(&seen.processes, since_boot_ns());
        let refused = probe.seed(marks.into_iter())?;
        if refused > 0 {
            notices.push(format!("{refused} processes that already run do not fit the kernel side's table"));
        }
        Ok(Self { config, node, probe, ring, counters, pipeline, armed, notices })
    }

    /// Runs until told to stop.
    pub async fn run(mut self) -> Result<(), Failure> {
        let health = Arc::new(Health::new(SILENCE));
        let figures = Arc::new(self.figures());
        let admin = match self.config.admin {
            Some(address) => Some(Admin::start(address, Arc::clone(&health), Arc::clone(&figures))?),
            None => None,
        };
        let cancel = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (inbox, mail) = inbox().map_err(|error| Failure::System("make an event descriptor", error))?;
        self.announce(&health);
        let (lookups, requests) = mpsc::channel(1_024);
        todo!()
    }
}
