//! The built-in rules: on by default, each from facts that the kernel gives. A rule sees one event and says whether it is
//! worth a person's attention.

use std::sync::Arc;

use crate::event::{Alert, Body, EntryType, Event, InMemory, Login, Rule, Severity, Technique, called};

const VALID_ACCOUNTS: Technique =
    Technique { tactic_id: "TA0001", tactic: "Initial Access", id: "T1078", name: "Valid Accounts" };
const SSH: Technique =
    Technique { tactic_id: "TA0008", tactic: "Lateral Movement", id: "T1021", name: "Remote Services" };
const ESCAPE: Technique =
    Technique { tactic_id: "TA0004", tactic: "Privilege Escalation", id: "T1611", name: "Escape to Host" };
const DEPLOY: Technique = Technique { tactic_id: "TA0002", tactic: "Execution", id: "T1610", name: "Deploy Container" };
const CONTAINER_COMMAND: Technique =
    Technique { tactic_id: "TA0002", tactic: "Execution", id: "T1609", name: "Container Administration Command" };
const AUDIT: Technique = Technique {
    tactic_id: "TA0005",
    tactic: "Defense Evasion",
    id: "T1562.012",
    name: "Disable or Modify Linux Audit System",
};
const REFLECTIVE: Technique =
    Technique { tactic_id: "TA0005", tactic: "Defense Evasion", id: "T1620", name: "Reflective Code Loading" };

static ACCESS_NOT_ALLOWED: Rule = Rule {
    id: "postern-access-not-allowed",
    name: "Access to the node that no rule allows",
    description: "Somebody logged in to the node, and no entry of access.allow covers the door, user, key and source. \
                  Nodes are meant to be reached through the API server.",
    severity: Severity::High,
    techniques: &[VALID_ACCOUNTS, SSH],
};
static EXEC_NOT_ALLOWED: Rule = Rule {
    id: "postern-exec-not-allowed",
    name: "Command in a pod that no rule allows",
    description: "Somebody started a program in a pod from outside, and no entry of access.allow covers the door and the pod. \
                  Workloads are meant to change by being deployed; who it was stands in the API server's audit log.",
    severity: Severity::Medium,
    techniques: &[CONTAINER_COMMAND],
};
static PRIVILEGED_STARTED: Rule = Rule {
    id: "postern-privileged-container-started",
    name: "Privileged container started",
    description: "A container started with every capability that the node has and no seccomp filter: whoever controls it \
                  controls the node.",
    severity: Severity::Medium,
    techniques: &[DEPLOY, ESCAPE],
};
static PRIVILEGED_ENTERED: Rule = Rule {
    id: "postern-privileged-container-entered",
    name: "Command in a privileged container",
    description: "A process was started from outside in a container that may do everything on its node.",
    severity: Severity::High,
    techniques: &[CONTAINER_COMMAND, ESCAPE],
};
static ESCAPED: Rule = Rule {
    id: "postern-container-escaped",
    name: "A container's process on the node",
    description: "A process that ran in a container executes in the node's own mount namespace: it has left the container.",
    severity: Severity::High,
    techniques: &[ESCAPE],
};
static DISPUTED: Rule = Rule {
    id: "postern-audit-session-changed",
    name: "Audit session changed under an access session",
    description: "A process of an access session is in another audit session than the program before it. The kernel gives that \
                  number at a login; to change it later takes CAP_AUDIT_CONTROL, and breaks every trail that goes by it.",
    severity: Severity::High,
    techniques: &[AUDIT],
};
static MEMORY_EXEC: Rule = Rule {
    id: "postern-memory-exec",
    name: "Program executed from memory",
    description: "The program, or the script that it interprets, came from memfd_create(2): it is on no disk, and leaves \
                  nothing to examine.",
    severity: Severity::High,
    techniques: &[REFLECTIVE],
};

/// All of them.
pub fn rules() -> [&'static Rule; 7] {
    [
        &ACCESS_NOT_ALLOWED,
        &EXEC_NOT_ALLOWED,
        &PRIVILEGED_STARTED,
        &PRIVILEGED_ENTERED,
        &ESCAPED,
        &DISPUTED,
        &MEMORY_EXEC,
    ]
}

/// The alert that an event gives rise to.
pub fn alert(event: &Event) -> Option<Alert> {
    let (rule, message) = match &event.body {
        Body::SessionOpened(login) if login.session.as_ref().is_some_and(|session| !session.allowed) => {
            match login.door {
                EntryType::KubectlExec | EntryType::KubectlDebug | EntryType::RuntimeExec => {
                    (&EXEC_NOT_ALLOWED, exec_message(login, event))
                }
                _ => (&ACCESS_NOT_ALLOWED, access_message(login)),
            }
        }
        Body::ContainerStarted(context) if context.privileged => {
            (&PRIVILEGED_STARTED, format!("privileged container {} started", container_name(event)))
        }
        Body::ContainerEscaped => {
            (&ESCAPED, format!("{} runs on the node, out of container {}", program(event), container_name(event)))
        }
        // What the pod itself asks for is no news.
        Body::ContainerEntered(context) if context.privileged && !is_probe(event) => (
            &PRIVILEGED_ENTERED,
            format!("{} was started in the privileged container {}", program(event), container_name(event)),
        ),
        Body::SessionDisputed(_) => {
            (&DISPUTED, format!("{} runs in another audit session than the program before it", program(event)))
        }
        Body::Exec { .. } if is_from_memory(event) => {
            (&MEMORY_EXEC, format!("{} was executed from memory", program(event)))
        }
        _ => return None,
    };
    Some(Alert { rule, message: Arc::from(message), trigger: event.sequence })
}

fn access_message(login: &Login) -> String {
    let from = login.source.address.as_deref().map(|address| format!(" from {address}")).unwrap_or_default();
    let with = match (&login.method, &login.key_fingerprint) {
        (_, Some(key)) => format!(" with key {key}"),
        (Some(method), None) => format!(" by {}", method.as_str()),
        (None, None) => String::new(),
    };
    let user = called(&login.user);
    format!("{user} came in by {}{from}{with}, which access.allow does not cover", login.door.as_str())
}

fn exec_message(login: &Login, event: &Event) -> String {
    format!(
        "{} was started in {} by {}, which access.allow does not cover",
        program(event),
        container_name(event),
        login.door.as_str()
    )
}

fn container_name(event: &Event) -> String {
    let Some(container) = &event.container else { return "(unknown)".to_owned() };
    let own = container.name.as_deref().unwrap_or(&container.id);
    match &container.pod {
        Some(pod) => format!("{}/{}/{own}", pod.namespace, pod.name),
        None => own.to_owned(),
    }
}

fn is_probe(event: &Event) -> bool {
    let entry = event.lineage.as_ref().and_then(|lineage| lineage.entry.as_ref());
    entry.is_some_and(|entry| entry.entry_type() == EntryType::Probe)
}

fn program(event: &Event) -> &str {
    event.lineage.as_ref().map_or("a program", |lineage| &lineage.process.executable.path)
}

/// runc before 1.2 executes a sealed copy of itself from memory, to protect the file on disk (CVE-2019-5736): that is told
/// by the program being the runtime's own child under the name that runc gives the copy.
fn is_from_memory(event: &Event) -> bool {
    let Some(lineage) = &event.lineage else { return false };
    let process = &lineage.process;
    let runtime = |name: &str| matches!(name, "runc" | "crun");
    let is_runtime_copy = process.executable.in_memory == Some(InMemory::Program)
        && process.executable.path.starts_with("/memfd:runc_cloned:")
        && event.container.is_none()
        && lineage.parent.as_ref().is_some_and(|parent| {
            runtime(parent.executable_name())
                || parent.executable.path.starts_with("/memfd:runc_cloned:")
                || parent.executable_name().starts_with("containerd-shim")
        });
    process.executable.in_memory.is_some() && !is_runtime_copy
}
