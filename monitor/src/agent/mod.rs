//! Builds the parts of the agent, starts them, watches them and shuts them down in order. The only place that spawns.
//!
//! In two steps. [`Agent::arm`] attaches the kernel side while there is one thread, so that the privileges which that takes
//! can be given up for the whole process; [`Agent::run`] starts everything else.

mod cron_tables;
mod event_loop;
mod files;
mod host_file;
mod inbox;
mod lookups;
mod machine;
mod origins;
mod reload;
mod state;
mod terminate;
mod users;

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::reload::Reload;
use self::{
    cron_tables::CronTables,
    event_loop::EventLoop,
    files::FileWatch,
    inbox::{Inbox, Mail, Message, inbox},
    machine::{boot_time_ns, exact_boot_time_ns, since_boot_ns},
    state::StateFile,
    users::Users,
};
use crate::{
    admin::{Admin, AdminError, Health},
    config::{Config, KubernetesMode},
    container::{Runtime, cgroup::CgroupContainer},
    control,
    event::{AgentEvent, Node},
    exit::Exit,
    files::Files,
    metrics::Figures,
    pipeline::{Input, Pipeline},
    pod::{self, ApiMode, ApiSettings, PodUpdate},
    privileges,
    probe::{Armed, CounterReader, HookId, LoginFiles, Missing, Probe, ProbeError, ProbeSettings, Ring, Sensor, Types},
    process::{
        Decoder,
        seed::{self, SeedProcess},
        users::Passwd,
    },
    sink::{
        SinkError,
        delivery::{self, Publisher},
        recent::Recent,
    },
};

/// How long the event loop may be silent before the agent counts as dead.
const SILENCE: Duration = Duration::from_secs(10);

/// How many containers can be waited for at once.
const LOOKUPS_WAITING: usize = 1_024;
/// How often the files are looked at in which logins are watched.
const LOGIN_FILES_EVERY: Duration = Duration::from_secs(5);
/// How long tasks that are told to end are waited for at least.
const TASKS_END: Duration = Duration::from_millis(100);
/// How long the bringer of a message waits while the event loop has too many.
const INBOX_PAUSE: Duration = Duration::from_millis(10);

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
    /// A sink cannot be built.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The API server is required and cannot be asked.
    #[error("pods cannot be watched: {0}")]
    Pods(#[from] pod::WatchError),
    /// The operating system refused something.
    #[error("cannot {0}: {1}")]
    System(&'static str, std::io::Error),
    /// A part of the agent died.
    #[error("{0} died")]
    Died(&'static str),
    /// A file in which logins are watched is another now; to attach to it takes privileges that were given up.
    #[error("{} was replaced: logins are seen again when the agent has started again", .0.display())]
    Replaced(PathBuf),
}

impl Failure {
    /// The exit code that says so.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Probe(_) | Self::Proc(_) => Exit::Unavailable,
            Self::Admin(_) | Self::Sink(_) | Self::Pods(_) => Exit::Usage,
            Self::System(..) | Self::Died(_) => Exit::Software,
            Self::Replaced(_) => Exit::Again,
        }
    }
}

/// The kernel's own first thread: nobody's pid but in the node's own pid namespace.
const KTHREADD: u32 = 2;

/// The ladder: the kernel side tells what runs, or it is read from /proc, which takes ten times as long.
fn running(probe: &mut Probe, types: &Types, notices: &mut Vec<String>) -> std::io::Result<seed::Seed> {
    let proc_root = "/proc".as_ref();
    let (seed, refusal) = match probe.watch_tasks(types).and_then(|()| probe.running()) {
        Ok(records) => (seed::told(&records, proc_root)?, None),
        Err(refusal) => (seed::scan(proc_root)?, Some(refusal)),
    };
    // It tells of this process's own pid namespace: whoever is not in there has not ended.
    let is_whole = seed.processes.iter().any(|process| process.key.tgid == KTHREADD);
    let partial = (!is_whole).then(|| "the node's processes are not seen: is hostPID set?".to_owned());
    if let Some(reason) = refusal.or(partial) {
        probe.ignore_tasks();
        notices.push(format!("what outlives its parent, or executes in a loss, may be taken for new: {reason}"));
    }
    Ok(seed)
}

/// What is not certain of what ran before.
fn doubts(failures: &seed::SeedFailures) -> Option<String> {
    let seed::SeedFailures { malformed, unreadable, argv_cut, path_cut, .. } = failures;
    (malformed + unreadable + argv_cut + path_cut > 0).then(|| {
        format!(
            "of what ran before, {malformed} files or records made no sense, {unreadable} files could not be read, {argv_cut} \
             argument lists and {path_cut} paths were cut"
        )
    })
}

/// An agent whose sensors are armed: from here on the kernel side fills the ring.
pub struct Agent {
    config: Config,
    /// Where the node's own files are seen from here.
    host_root: PathBuf,
    node: Arc<Node>,
    probe: Probe,
    ring: Ring,
    counters: CounterReader,
    pipeline: Pipeline,
    state: Option<StateFile>,
    armed: Vec<Armed>,
    files: Option<Files>,
    users: Users,
    login_files: LoginFiles,
    notices: Vec<String>,
}

impl Agent {
    /// Attaches every sensor, and takes in what already runs. Starts no thread.
    pub fn arm(config: Config) -> Result<Self, Failure> {
        let (host_root, notice) = machine::host_root(config.host_root.as_deref());
        let mut notices: Vec<String> = notice.into_iter().collect();
        // Before anything else is attached: its second process is none that is to be told of.
        let (files, files_rung) = match Files::arm(&host_root) {
            Ok(armed) => {
                notices.extend(armed.notices);
                (Some(armed.files), Ok(armed.rung))
            }
            Err(reason) => (None, Err(reason)),
        };
        let settings = ProbeSettings {
            ring_bytes: config.ring_bytes,
            typed_tracepoints: config.typed_tracepoints,
            host_root: host_root.clone(),
        };
        let mut login_files = LoginFiles::look(&host_root);
        let types = Types::read()?;
        let mut probe = Probe::load(&settings, &types)?;
        let mut armed = probe.arm(&settings, &types)?;
        let (ring, counters) = (probe.ring()?, probe.counters()?);
        armed.push(Armed { sensor: Sensor::Files, rung: files_rung });
        if armed.iter().any(|armed| armed.rung.is_err())
            && let Ok(Some(lacking)) = privileges::lacking_for_logins()
        {
            notices.push(format!("this process lacks {} ({})", lacking.name, lacking.purpose));
        }

        let host = machine::host();
        let node = Arc::new(machine::node(&config, &host_root, &host));
        let (users, named) = Users::read(host_root.clone());
        let named = named.unwrap_or_else(|error| {
            notices.push(format!("users have no names: cannot read {}/etc/passwd: {error}", host_root.display()));
            Passwd::default()
        });
        let boot_time_ns = exact_boot_time_ns().unwrap_or_else(boot_time_ns);
        let decoder = Decoder::new(&node.boot_id, boot_time_ns, named, host.namespaces);
        let mut pipeline = Pipeline::new(host, decoder, config.access.clone());
        // Attached first, so that no process is missed between the two; what both see is the same process.
        let seen = running(&mut probe, &types, &mut notices).map_err(Failure::Proc)?;
        notices.extend(doubts(&seen.failures));
        // A login program inside a container is not one onto the node.
        let running = seen.processes.iter().filter(|it| it.namespaces.mnt == host.namespaces.mnt);
        let sshd: BTreeSet<PathBuf> = running.filter_map(|process| sshd_path(process, &host_root)).collect();
        login_files.add(&sshd);
        notices.extend(probe.watch_login_programs(sshd.iter().map(PathBuf::as_path)));
        let state = config.state.clone().map(StateFile::new);
        if let Some(state) = &state {
            notices.extend(take_over(state, &mut pipeline, &seen.processes));
        }
        let marks = pipeline.seed(&seen.processes, since_boot_ns());
        let refused = probe.seed(marks.into_iter())?;
        if refused > 0 {
            notices.push(format!("{refused} processes that already run do not fit the kernel side's table"));
        }
        Ok(Self {
            config,
            host_root,
            node,
            probe,
            ring,
            counters,
            pipeline,
            state,
            armed,
            files,
            users,
            login_files,
            notices,
        })
    }

    /// What every event says of this node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Each sensor, and the rung that it took.
    pub fn sensors(&self) -> &[Armed] {
        &self.armed
    }

    /// What this kernel does not tell.
    pub fn missing(&self) -> &[Missing] {
        self.probe.missing()
    }

    /// What is not as one would expect, in words for a person.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Runs until told to stop.
    pub async fn run(mut self, reload: Reload) -> Result<(), Failure> {
        let health = Arc::new(Health::new(SILENCE));
        let names = self.config.sinks.iter().map(|sink| &*sink.name);
        let figures = Arc::new(Figures::new(HookId::ALL.map(HookId::name), names));
        figures.ring_bytes.set(self.config.ring_bytes.into());
        let start = |address| Admin::start(address, Arc::clone(&health), Arc::clone(&figures));
        let mut admin = self.config.admin.map(start).transpose()?;
        let tasks = Tasks::default();
        let (inbox, mail) = inbox().map_err(|error| Failure::System("make an event descriptor", error))?;
        let recent = Arc::new(Recent::default());
        self.start_control(&recent, &tasks);
        self.announce(&health);
        let (publisher, mut workers) = delivery::start(&self.config.sinks, &self.node, &figures, recent)?;
        let reloading = reload::serve(reload, self.config.clone(), inbox.clone());
        tasks.spawn(async {
            if let Err(error) = reloading.await {
                tracing::error!(%error, "the configuration will not be reloaded");
            }
        });
        let lookups = self.start_lookups(&inbox, &tasks);
        let mut pods = self.start_pods(&inbox, &tasks);
        self.start_node(&inbox, &tasks);
        let deadline = self.config.shutdown_deadline;
        let replaced = replaced(std::mem::take(&mut self.login_files));
        let mut events = self.start_events(Started { mail, publisher, lookups, health, figures })?;

        let ended = tokio::select! {
            name = told_to_stop() => name.map_err(|error| Failure::System("wait for signals", error)),
            _ = &mut events => Err(Failure::Died("the event loop")),
            sink = workers.died() => {
                tracing::error!(sink, "a sink has died");
                Err(Failure::Died("a sink"))
            }
            () = admin_ended(admin.as_mut()) => Err(Failure::Died("the thread for health and metrics")),
            Ok(error) = &mut pods => Err(error.into()),
            path = replaced => Err(Failure::Replaced(path)),
        };
        let reason = match &ended {
            Ok(signal) => format!("told to stop by {signal}"),
            Err(failure) => failure.to_string(),
        };
        tracing::info!(reason, "stopping");
        // One deadline for all of it, so that it holds whatever takes long.
        let end = Instant::now() + deadline;
        let left = || end.saturating_duration_since(Instant::now());
        stop_events(&inbox, events, reason.into(), left()).await;
        for (sink, count) in workers.drain(left()).await {
            tracing::error!(sink, count, "events were not delivered before the deadline");
        }
        tasks.stop(left().max(TASKS_END)).await;
        drop(admin);
        ended.map(|_| ())
    }

    /// Says on the stream and in the log what is watched and what is missing.
    fn announce(&mut self, health: &Health) {
        let mut missing: Vec<Arc<str>> = self
            .probe
            .missing()
            .iter()
            .map(|field| format!("{} is not known on this kernel", field.without).into())
            .collect();
        for armed in &self.armed {
            if let Err(reason) = &armed.rung {
                let message = format!("{}: {}: {reason}", armed.sensor.name(), armed.sensor.without());
                tracing::warn!("{message}");
                missing.push(message.into());
            }
        }
        for notice in &self.notices {
            tracing::warn!("{notice}");
        }
        missing.extend(self.notices.iter().map(|notice| Arc::from(&**notice)));
        let sensors: Vec<Arc<str>> = self
            .armed
            .iter()
            .filter_map(|armed| Some(format!("{}: {}", armed.sensor.name(), armed.rung.as_ref().ok()?).into()))
            .collect();
        tracing::info!(node = &*self.node.name, sensors = sensors.join(", "), "watching");
        match self.armed.iter().find(|armed| armed.rung.is_err() && armed.sensor.is_required()) {
            None => health.set_ready(),
            Some(armed) => health.set_not_ready(format!("the sensor {} is not armed", armed.sensor.name())),
        }
        self.pipeline.input(Input::Agent(AgentEvent::Started { sensors, missing }), since_boot_ns());
        self.pipeline.tell_ended(since_boot_ns());
    }

    /// Answers those who ask on this node. Where it cannot, the agent goes on without: that is no part of what it watches.
    fn start_control(&mut self, recent: &Arc<Recent>, tasks: &Tasks) {
        let Some(path) = self.config.control.clone() else { return };
        match control::listen(&path) {
            Ok(listener) => tasks.spawn(control::serve(listener, Arc::clone(recent))),
            Err(error) => self.notices.push(format!("`postern sessions` and `watch` have no answer: {error}")),
        }
    }

    fn start_lookups(&self, inbox: &Inbox, tasks: &Tasks) -> mpsc::Sender<Arc<CgroupContainer>> {
        let (sender, requests) = mpsc::channel(LOOKUPS_WAITING);
        let runtime = Runtime::new(self.host_root.clone(), self.config.runtime_endpoint.clone());
        tasks.spawn(lookups::serve(runtime, requests, inbox.clone()));
        sender
    }

    /// Watches the node's pods. What comes back is why they cannot be.
    fn start_pods(&self, inbox: &Inbox, tasks: &Tasks) -> oneshot::Receiver<pod::WatchError> {
        let (fail, failed) = oneshot::channel();
        let (updates, mut received) = mpsc::channel(256);
        let settings = self.api_settings();
        let (node, cancel) = (Arc::clone(&self.node), tasks.cancel.clone());
        tasks.spawn(async move {
            if let Err(error) = pod::watch(&settings, &node.name, updates, cancel).await {
                let _ = fail.send(error);
            } else {
                // A watch that has nothing more to say is no failure: the sender stays, so that the receiver waits.
                std::future::pending::<()>().await;
            }
        });
        let inbox = inbox.clone();
        tasks.spawn(async move {
            while let Some(update) = received.recv().await {
                log(&update);
                tell(&inbox, Message::Input(Input::Pods(update))).await;
            }
        });
        failed
    }

    /// Watches the node's own object, for the maintenance that its annotations announce. Where it cannot, there is none: what is
    /// wrong with the way to the API server is said of pods.
    fn start_node(&self, inbox: &Inbox, tasks: &Tasks) {
        if !self.config.kubernetes.watches_node() {
            return;
        }
        let (updates, mut received) = mpsc::channel(16);
        let (settings, keys) = (self.api_settings(), self.config.kubernetes.maintenance.keys.clone());
        let (node, cancel) = (Arc::clone(&self.node), tasks.cancel.clone());
        tasks.spawn(async move {
            if let Err(error) = pod::watch_node(&settings, &node.name, keys, updates, cancel).await {
                tracing::warn!(%error, "the Node object is not watched");
            }
        });
        let inbox = inbox.clone();
        tasks.spawn(async move {
            while let Some(update) = received.recv().await {
                tell(&inbox, Message::Input(Input::Node(update))).await;
            }
        });
    }

    fn api_settings(&self) -> ApiSettings {
        ApiSettings {
            mode: match self.config.kubernetes.mode {
                KubernetesMode::Auto => ApiMode::Auto,
                KubernetesMode::Off => ApiMode::Off,
                KubernetesMode::Required => ApiMode::Required,
            },
            kubeconfig: self.config.kubernetes.kubeconfig.clone(),
            ..ApiSettings::default()
        }
    }

    /// Starts the thread of the event loop. What comes back ends when the thread does.
    fn start_events(self, started: Started) -> Result<oneshot::Receiver<()>, Failure> {
        let (end, ended) = oneshot::channel();
        let event_loop = EventLoop {
            probe: Some(self.probe),
            ring: self.ring,
            counters: self.counters,
            users: self.users,
            files: FileWatch::new(self.files, CronTables::new(self.host_root), Arc::clone(&started.figures)),
            pipeline: self.pipeline,
            state: self.state,
            inherited: None,
            mail: started.mail,
            publisher: started.publisher,
            lookups: started.lookups,
            health: started.health,
            figures: started.figures,
        };
        let run = move || {
            // Dropped when this thread ends, in a panic too.
            let _end: oneshot::Sender<()> = end;
            event_loop.run();
        };
        thread::Builder::new()
            .name("events".into())
            .spawn(run)
            .map_err(|error| Failure::System("start a thread", error))?;
        Ok(ended)
    }
}

/// What the event loop is given beside the kernel side.
struct Started {
    mail: Mail,
    publisher: Publisher,
    lookups: mpsc::Sender<Arc<CgroupContainer>>,
    health: Arc<Health>,
    figures: Arc<Figures>,
}

/// The tasks that bring answers from elsewhere.
#[derive(Default)]
struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Tasks {
    /// Runs until it ends or everything is told to.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tracker.spawn(async move { cancel.run_until_cancelled_owned(task).await });
    }

    async fn stop(self, deadline: Duration) {
        self.cancel.cancel();
        self.tracker.close();
        if timeout(deadline, self.tracker.wait()).await.is_err() {
            tracing::error!("tasks did not end before the deadline");
        }
    }
}

/// Takes in what another run knew of the sessions that are open. What comes back is why it cannot be.
fn take_over(state: &StateFile, pipeline: &mut Pipeline, processes: &[SeedProcess]) -> Option<String> {
    let saved = match state.read() {
        Ok(saved) => saved?,
        Err(error) => return Some(format!("what the last run knew of open sessions is of no use: {error}")),
    };
    let restored = pipeline.restore(&saved, processes, since_boot_ns());
    restored.err().map(|error| format!("what the last run knew of open sessions is of no use: {error}"))
}

/// The file of a running sshd, below the node's root.
fn sshd_path(process: &SeedProcess, host_root: &Path) -> Option<PathBuf> {
    let path = Path::new(OsStr::from_bytes(&process.executable));
    let is_sshd = path.file_name()?.as_bytes().starts_with(b"sshd");
    is_sshd.then(|| Some(host_root.join(path.strip_prefix("/").ok()?))).flatten()
}

/// Tells the event loop, and waits while it has too much to read.
async fn tell(inbox: &Inbox, mut message: Message) {
    while let Err(back) = inbox.send(message) {
        message = back;
        tokio::time::sleep(INBOX_PAUSE).await;
    }
}

async fn told_to_stop() -> std::io::Result<&'static str> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Ends when logins go by way of another file than what is watched; yields which.
async fn replaced(mut files: LoginFiles) -> PathBuf {
    loop {
        tokio::time::sleep(LOGIN_FILES_EVERY).await;
        if let Some(path) = files.replaced() {
            return path.to_owned();
        }
    }
}

async fn admin_ended(admin: Option<&mut Admin>) {
    match admin {
        Some(admin) => admin.ended().await,
        None => std::future::pending().await,
    }
}

async fn stop_events(inbox: &Inbox, events: oneshot::Receiver<()>, reason: Arc<str>, deadline: Duration) {
    if events.is_terminated() {
        return;
    }
    let stop = async {
        tell(inbox, Message::Stop { reason }).await;
        // The sender is dropped, never used.
        let _ = events.await;
    };
    if timeout(deadline, stop).await.is_err() {
        tracing::error!("the event loop did not end before the deadline");
    }
}

fn log(update: &PodUpdate) {
    match update {
        PodUpdate::Listed(pods) => tracing::info!(pods = pods.len(), "the node's pods are known"),
        PodUpdate::Standalone { reason } => tracing::info!(%reason, "there is no Kubernetes API server to ask"),
        PodUpdate::Unreachable { reason } => tracing::warn!(%reason, "the Kubernetes API server cannot be used"),
        PodUpdate::Reachable => tracing::info!("the Kubernetes API server can be used again"),
        PodUpdate::Applied(_) | PodUpdate::Deleted(_) => {}
    }
}
