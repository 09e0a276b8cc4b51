//! The public model: what users see, before any encoding. Pure data; every encoder, detector and sink reads it.

mod agent;
mod alert;
mod arguments;
mod attached;
mod container;
mod entry;
mod file;
mod login;
mod maintenance;
mod node;
mod process;

use std::sync::Arc;

pub use agent::{AgentEvent, Counters, Loss, LossCause};
pub use alert::{Alert, Rule, Severity, Technique};
pub use arguments::Arguments;
pub use attached::{Attached, Attachment};
pub use container::{Container, HostNamespace, Image, Owner, Pod, SeccompMode, SecurityContext};
pub use entry::{Confidence, Door, Entry, EntryType, Origin, Session, Settled, called};
pub use file::{FileAction, FileChange};
pub use jiff::Timestamp;
pub use login::{AuditChange, Login, LoginMethod, Refused, Source, Summary, Termination, UserChange};
pub use maintenance::{Maintenance, MaintenanceStep};
pub use node::Node;
pub use process::{
    Capabilities, Credentials, EntityId, Executable, InMemory, Lineage, Process, ProcessKey, Program, ProgramPath,
    Relatives, Terminal, User,
};

/// One thing that happened on the node.
#[derive(Clone, Debug)]
pub struct Event {
    /// Position in this run's stream, without a gap.
    pub sequence: u64,
    /// When it happened, by the node's clock.
    pub time: Timestamp,
    /// What happened.
    pub body: Body,
    /// The process it is about, with its tree.
    pub lineage: Option<Lineage>,
    /// The container that the process is in.
    pub container: Option<Arc<Container>>,
    /// Whether everything that could be known about it is there.
    pub enrichment: Enrichment,
    /// Set when `event.kind` is `alert`: the rule that fired.
    pub alert: Option<Arc<Alert>>,
    /// The maintenance that was on, where it is about one or belongs to an access session.
    pub maintenance: Option<Arc<Maintenance>>,
    /// Who beside the session's owner may have done it: those who are attached to the same terminal multiplexer.
    pub attached: Box<[Arc<Attached>]>,
}

const _: () = assert!(size_of::<Event>() <= 128, "it is moved several times, and more takes a call of memcpy each");

/// What happened.
#[derive(Clone, Debug)]
pub enum Body {
    /// A process executed a program.
    Exec {
        /// How it ended, where that was known before the event went out.
        end: Option<End>,
    },
    /// A process ended whose execution went out before.
    End(End),
    /// Somebody came in.
    SessionOpened(Arc<Login>),
    /// Somebody went.
    SessionClosed(Arc<Login>),
    /// Somebody was refused.
    LoginFailed(Arc<Login>),
    /// Somebody who came in goes on as another user.
    UserChanged(Arc<UserChange>),
    /// The kernel's audit session says another login than this process's session.
    SessionDisputed(AuditChange),
    /// Somebody in a session attaches to a terminal multiplexer of another.
    SessionAttached(Arc<Attachment>),
    /// A process of a session that no rule allows was killed.
    Terminated(Arc<Termination>),
    /// A container's first process executed.
    ContainerStarted(Arc<SecurityContext>),
    /// A process was started in a running container from outside it.
    ContainerEntered(Arc<SecurityContext>),
    /// A container's process executes in the node's own mount namespace.
    ContainerEscaped,
    /// Somebody changed a file of the node.
    File(Arc<FileChange>),
    /// A maintenance of the node began, changed or ended.
    Maintenance(MaintenanceStep),
    /// The agent speaks of itself.
    Agent(Arc<AgentEvent>),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Exit code, as a shell shows it: 128 and the signal's number where a signal ended it. None where the end was lost, and found
    /// out later.
    pub exit_code: Option<i32>,
    /// When, or when it was found out.
    pub time: Timestamp,
    /// How long the process lived, in nanoseconds.
    pub lived_ns: u64,
}

impl Body {
    /// A process executed a program, and has not ended yet.
    pub const EXEC: Self = Self::Exec { end: None };

    /// The ECS categorization fields of an event with this body.
    pub fn categorization(&self) -> Categorization {
        let of = |action, category, types, outcome| Categorization { action, also: None, category, types, outcome };
        match self {
            Self::Exec { end: None } => of("exec", &["process"], &["start"], None),
            Self::Exec { end: Some(_) } => {
                Categorization { also: Some("end"), ..of("exec", &["process"], &["start", "end"], None) }
            }
            Self::End(_) => of("end", &["process"], &["end"], None),
            Self::SessionOpened(_) => of("session-opened", &["authentication", "session"], &["start"], Some("success")),
            Self::SessionClosed(_) => of("session-closed", &["session"], &["end"], Some("success")),
            Self::LoginFailed(_) => of("login-failed", &["authentication"], &["start"], Some("failure")),
            Self::UserChanged(_) => of("user-changed", &["process", "session"], &["change"], None),
            Self::SessionDisputed(_) => of("session-disputed", &["process", "session"], &["change"], None),
            Self::SessionAttached(_) => of("session-attached", &["process", "session"], &["change"], None),
            Self::Terminated(termination) => {
                let outcome = if termination.failure.is_none() { "success" } else { "failure" };
                of("session-terminated", &["process", "session"], &["end"], Some(outcome))
            }
            Self::ContainerStarted(_) => of("container-started", &["process"], &["start"], None),
            Self::ContainerEntered(_) => of("container-entered", &["process"], &["start"], None),
            Self::ContainerEscaped => of("container-escaped", &["process"], &["start"], None),
            Self::File(file) => of(file.action.as_str(), &["file"], file.action.types(), None),
            Self::Maintenance(MaintenanceStep::Begun) => of("maintenance-begun", &["host"], &["start"], None),
            Self::Maintenance(MaintenanceStep::Changed) => of("maintenance-changed", &["host"], &["change"], None),
            Self::Maintenance(MaintenanceStep::Ended) => of("maintenance-ended", &["host"], &["end"], None),
            Self::Agent(agent) => agent.categorization(),
        }
    }
}

/// The ECS `event.kind` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Something happened.
    Event,
    /// Something happened that a rule names.
    Alert,
    /// Figures.
    Metric,
    /// What the agent's state is.
    State,
}

impl Kind {
    /// As ECS spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Alert => "alert",
            Self::Metric => "metric",
            Self::State => "state",
        }
    }
}

/// Whether an event carries everything that could be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrichment {
    /// Nothing is missing.
    Complete,
    /// A pod, an image or a login's details did not come in time.
    Partial,
    /// The process is in a container that nothing is known of but its id.
    None,
}

impl Enrichment {
    /// As `postern.enrichment` spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::None => "none",
        }
    }
}

/// The ECS categorization fields of one kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Categorization {
    /// `event.action`.
    pub action: &'static str,
    /// A second one, where one event tells of two things.
    pub also: Option<&'static str>,
    /// `event.category`.
    pub category: &'static [&'static str],
    /// `event.type`.
    pub types: &'static [&'static str],
    /// `event.outcome`.
    pub outcome: Option<&'static str>,
}

impl Event {
    /// The login that it is about.
    pub fn login(&self) -> Option<&Login> {
        match &self.body {
            Body::SessionOpened(login) | Body::SessionClosed(login) | Body::LoginFailed(login) => Some(login),
            _ => None,
        }
    }

    /// The access session that it belongs to: the one that it opens or closes, else that of its process's entry.
    pub fn session(&self) -> Option<&Session> {
        let of_entry = || self.lineage.as_ref()?.entry.as_ref()?.session().map(Arc::as_ref);
        match (self.login(), &self.body) {
            (Some(login), _) => login.session.as_deref(),
            (None, Body::Terminated(termination)) => Some(&termination.session),
            (None, _) => of_entry(),
        }
    }

    /// How the process ended, where it tells of that.
    pub fn end(&self) -> Option<End> {
        match self.body {
            Body::Exec { end } => end,
            Body::End(end) => Some(end),
            _ => None,
        }
    }

    /// The ECS `event.kind`.
    pub fn kind(&self) -> Kind {
        match &self.body {
            _ if self.alert.is_some() => Kind::Alert,
            Body::Agent(agent) => agent.kind(),
            _ => Kind::Event,
        }
    }

    /// The ECS categorization fields.
    pub fn categorization(&self) -> Categorization {
        self.body.categorization()
    }
}
