//! How a process tree came to be on the node.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use super::ProcessKey;

/// ECS `process.entry_leader.entry_meta.type`, with the types that Kubernetes nodes add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EntryType {
    /// Started by the node's init: a service.
    Init,
    /// Came in by SSH.
    Sshd,
    /// Logged in at the console or a serial line.
    Console,
    /// An interactive terminal whose login was not seen.
    Terminal,
    /// A container that kubelet started.
    Kubelet,
    /// `kubectl exec`.
    KubectlExec,
    /// `kubectl debug` into a pod.
    KubectlDebug,
    /// `kubectl debug node/...`.
    DebugNode,
    /// A probe or lifecycle command of the pod itself.
    Probe,
    /// A container, or a command in one, started with the runtime's own tools.
    RuntimeExec,
    /// A shell or a command by way of AWS Systems Manager.
    Ssm,
    /// A command that another cloud's own agent was asked for.
    CloudAgent,
    /// A cron job.
    Cron,
    /// An `at` job.
    At,
    /// A container's process in the host's namespaces.
    ContainerEscape,
    /// None of these.
    #[default]
    Unknown,
}

impl EntryType {
    /// As users see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Sshd => "sshd",
            Self::Console => "console",
            Self::Terminal => "terminal",
            Self::Kubelet => "kubelet",
            Self::KubectlExec => "kubectl-exec",
            Self::KubectlDebug => "kubectl-debug",
            Self::DebugNode => "debug-node",
            Self::Probe => "probe",
            Self::RuntimeExec => "runtime-exec",
            Self::Ssm => "ssm",
            Self::CloudAgent => "cloud-agent",
            Self::Cron => "cron",
            Self::At => "at",
            Self::ContainerEscape => "container-escape",
            Self::Unknown => "unknown",
        }
    }

    /// Every type, in the order of their declaration.
    pub const ALL: [Self; 16] = [
        Self::Init,
        Self::Sshd,
        Self::Console,
        Self::Terminal,
        Self::Kubelet,
        Self::KubectlExec,
        Self::KubectlDebug,
        Self::DebugNode,
        Self::Probe,
        Self::RuntimeExec,
        Self::Ssm,
        Self::CloudAgent,
        Self::Cron,
        Self::At,
        Self::ContainerEscape,
        Self::Unknown,
    ];

    /// Whether such an entry begins with a process in a container, and not with a login.
    pub const fn is_of_container(self) -> bool {
        !matches!(self, Self::Sshd | Self::Console | Self::Cron | Self::At | Self::Ssm | Self::CloudAgent)
    }

    /// The type that [`Self::as_str`] spells so.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entry_type| entry_type.as_str() == text)
    }
}

/// The way an access session came in: the entry type of an entry that a person made.
pub type Door = EntryType;

/// How an entry was made. Shared by every process under it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What the kernel alone says of it.
    pub observed: EntryType,
    /// What it is by what the runtime and the API server say of its container, once they have: no event of the entry is told
    /// before.
    pub settled: OnceLock<Settled>,
    /// The entry's first process.
    pub leader: ProcessKey,
    /// The process that logged in, where it began with a login.
    pub login: Option<ProcessKey>,
    /// The remote address, where it came from the network.
    pub source_ip: Option<IpAddr>,
    /// The access session that it is part of from the start.
    pub own_session: Option<Arc<Session>>,
    /// The server of the terminal multiplexer that it goes on under.
    pub multiplexer: Option<ProcessKey>,
}

/// What an entry into a container turned out to be.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The kind of entry.
    pub entry_type: EntryType,
    /// The access session that it makes, where a person made it and was in no session before.
    pub session: Option<Arc<Session>>,
}

impl Entry {
    /// One of which nothing more is known.
    pub const fn new(observed: EntryType, leader: ProcessKey) -> Self {
        Self {
            observed,
            settled: OnceLock::new(),
            leader,
            login: None,
            source_ip: None,
            own_session: None,
            multiplexer: None,
        }
    }

    /// The kind of entry.
    pub fn entry_type(&self) -> EntryType {
        self.settled.get().map_or(self.observed, |settled| settled.entry_type)
    }

    /// The access session, where a person made it.
    pub fn session(&self) -> Option<&Arc<Session>> {
        self.own_session.as_ref().or_else(|| self.settled.get()?.session.as_ref())
    }
}

/// One entry by a person.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its one id, on every event under it.
    pub id: Arc<str>,
    /// By which door.
    pub door: Door,
    /// Who came in (not who they became); empty where nobody on the node can know.
    pub user: Arc<str>,
    /// Whether the access policy covers it.
    pub allowed: bool,
    /// How sure the attribution is.
    pub confidence: Confidence,
    /// Where lineage was broken and joined again: by what.
    pub link: Option<Arc<str>>,
    /// The session from which it was come to, where that was one on this node: known before the first event of this one goes out.
    /// What is linked to this session shares it.
    pub from: Arc<OnceLock<Origin>>,
}

/// The session in which somebody came to another one. By value: a chain of them would keep each that is long over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its id.
    pub id: Arc<str>,
    /// By which door it was opened.
    pub door: Door,
    /// Who came in by it.
    pub user: Arc<str>,
    /// How sure it is that it was this one.
    pub confidence: Confidence,
    /// Why it is thought so.
    pub reason: Arc<str>,
}

/// What a user is called in text for people: nobody on the node knows who asked the API server.
pub fn called(user: &str) -> &str {
    if user.is_empty() { "somebody" } else { user }
}

/// How sure an attribution is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confidence {
    /// Seen in the kernel, at the login itself.
    Certain,
    /// Joined from two observations.
    Linked,
    /// Concluded from the shape of the process tree.
    Likely,
}

impl Confidence {
    /// As `postern.session.confidence` spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Linked => "linked",
            Self::Likely => "likely",
        }
    }

    /// What [`Self::as_str`] spells so.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Certain, Self::Linked, Self::Likely].into_iter().find(|confidence| confidence.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_type_reads_back_from_its_own_spelling() {
        for entry_type in EntryType::ALL {
            assert_eq!(EntryType::parse(entry_type.as_str()), Some(entry_type));
        }
        assert_eq!(EntryType::parse("SSHD"), None);
    }
}
