//! What an execution means beside the program: a step into a container or out of one, as another user, in another audit session.

use std::sync::Arc;

use super::{Host, containers::Containers, entries::Crossing};
use crate::{
    container::cgroup::CgroupContainer,
    event::{AuditChange, Capabilities, Entry, HostNamespace, Process, SeccompMode, SecurityContext, UserChange},
    pod::PodUpdate,
    process::{KernelFacts, Known},
};

/// A process is in a container, and the program it ran before was not; or the other way about.
pub(super) fn crossing(
    containers: &mut Containers,
    container: Option<&Arc<CgroupContainer>>,
    previous: Option<&Known>,
    process: &Process,
    facts: &KernelFacts,
    now_ns: u64,
) -> Option<Crossing> {
    let Some(container) = container else {
        let was_in_one = previous.is_some_and(|known| known.container.is_some());
        return was_in_one.then_some(Crossing::Escaped);
    };
    if previous.and_then(|known| known.container.as_ref()) == Some(&container.id) {
        return None;
    }
    let first = containers.enter(container, process.key, facts.inner_pid, now_ns);
    Some(if first { Crossing::Started } else { Crossing::Entered })
}

/// Programs that PAM's modules run as root for their own ends, in one of the folders for root's programs. Nobody becomes root
/// by them.
const OF_PAM: [&str; 4] = ["unix_chkpwd", "unix_update", "pwhistory_helper", "mkhomedir_helper"];

/// Within a person's session a process acts in the name of another user than the program before it. What a setuid program
/// does for its caller is no such change: the caller's own id stays.
pub(super) fn user_change(previous: &Known, process: &Process, entry: &Entry) -> Option<UserChange> {
    let (from, to) = (&previous.process.credentials.real_user, &process.credentials.real_user);
    if !stays(previous, entry) || from.id == to.id || is_of_pam(&process.executable.path) {
        return None;
    }
    let program = Arc::clone(previous.process.executable.path.text());
    Some(UserChange { from: from.clone(), to: to.clone(), program })
}

fn is_of_pam(path: &str) -> bool {
    let below_usr = path.strip_prefix("/usr").unwrap_or(path);
    below_usr.strip_prefix("/sbin/").is_some_and(|name| OF_PAM.contains(&name))
}

/// Within a person's session the kernel's own number of the login changes.
pub(super) fn audit_change(previous: &Known, process: &Process, entry: &Entry) -> Option<AuditChange> {
    let from = previous.process.credentials.audit_session?;
    let to = process.credentials.audit_session;
    (to != Some(from) && stays(previous, entry)).then_some(AuditChange { from, to })
}

/// Whether a program is under the same entry of a person as the one before it.
fn stays(previous: &Known, entry: &Entry) -> bool {
    entry.session().is_some() && previous.entry.as_ref().is_some_and(|before| before.leader == entry.leader)
}

/// What the kernel lets a container's process do.
pub(super) fn security_context(host: Host, facts: &KernelFacts) -> SecurityContext {
    let (own, nodes) = (facts.namespaces, host.namespaces);
    let bounding = Capabilities(facts.bounding);
    let seccomp = match facts.seccomp_mode {
        0 => SeccompMode::Disabled,
        1 => SeccompMode::Strict,
        2 => SeccompMode::Filter,
        _ => SeccompMode::Unknown,
    };
    let shared = [
        (HostNamespace::Pid, own.pid, nodes.pid),
        (HostNamespace::Network, own.net, nodes.net),
        (HostNamespace::Ipc, own.ipc, nodes.ipc),
        (HostNamespace::Uts, own.uts, nodes.uts),
        (HostNamespace::Mount, own.mnt, nodes.mnt),
        (HostNamespace::Cgroup, own.cgroup, nodes.cgroup),
    ];
    SecurityContext {
        privileged: bounding.is_all_of(host.capabilities) && seccomp == SeccompMode::Disabled,
        effective: Capabilities(facts.effective),
        bounding,
        host_namespaces: shared.into_iter().filter(|(_, own, host)| own == host && *own != 0).map(|it| it.0).collect(),
        seccomp,
        no_new_privileges: facts.no_new_privileges,
        user_id: facts.user_id,
    }
}

/// What users are told when the API server comes or goes.
pub(super) fn announcement(update: &PodUpdate) -> Option<Arc<str>> {
    match update {
        PodUpdate::Standalone { reason } => Some(format!("no Kubernetes API server: {reason}").into()),
        PodUpdate::Unreachable { reason } => Some(format!("the Kubernetes API server cannot be used: {reason}").into()),
        PodUpdate::Reachable => Some("the Kubernetes API server can be used again".into()),
        PodUpdate::Listed(_) | PodUpdate::Applied(_) | PodUpdate::Deleted(_) => None,
    }
}
