//! Containers and pods.

use std::{collections::BTreeMap, sync::Arc};

use super::Capabilities;

/// A container, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its full id.
    pub id: Arc<str>,
    /// `containerd`, `cri-o`, `docker` and so on.
    pub runtime: Option<Arc<str>>,
    /// Its name in the pod, or what the runtime calls it.
    pub name: Option<Arc<str>>,
    /// Its image.
    pub image: Option<Image>,
    /// The UID of its pod, as the cgroup names it.
    pub pod_uid: Option<Arc<str>>,
    /// Its pod.
    pub pod: Option<Arc<Pod>>,
}

/// A container image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Repository, registry included, without tag and digest.
    pub name: Arc<str>,
    /// Tag.
    pub tag: Option<Arc<str>>,
    /// Digest (`sha256:...`).
    pub digest: Option<Arc<str>>,
}

/// A pod of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `spec.serviceAccountName`.
    pub service_account: Option<Arc<str>>,
    /// `metadata.labels`.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// The controller among `metadata.ownerReferences`.
    pub owner: Option<Owner>,
}

/// What made a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `ReplicaSet`, `DaemonSet` and so on.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// What a container's process may do, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityContext {
    /// Whether it may do everything that a container on this node can be allowed: its bounding set comes to that of the
    /// node's init, and there is no seccomp filter.
    pub privileged: bool,
    /// Capabilities it has now.
    pub effective: Capabilities,
    /// Capabilities it can ever have.
    pub bounding: Capabilities,
    /// The node's own namespaces that it shares.
    pub host_namespaces: Vec<HostNamespace>,
    /// Its seccomp mode.
    pub seccomp: SeccompMode,
    /// Whether no exec can give it privileges that it lacks (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privileges: bool,
    /// Effective user id, in the initial user namespace.
    pub user_id: u32,
}

/// A namespace that a container can share with its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostNamespace {
    /// Processes.
    Pid,
    /// Network.
    Network,
    /// System V IPC and message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Mounts: no container at all, in truth.
    Mount,
    /// Users.
    User,
    /// Cgroups.
    Cgroup,
}

impl HostNamespace {
    /// As `lsns(8)` names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Network => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Mount => "mnt",
            Self::User => "user",
            Self::Cgroup => "cgroup",
        }
    }
}

/// How far `seccomp(2)` confines a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeccompMode {
    /// Not at all.
    Disabled,
    /// To read, write, `_exit` and `sigreturn`.
    Strict,
    /// By a filter.
    Filter,
    /// This kernel does not say.
    Unknown,
}

impl SeccompMode {
    /// As users see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Strict => "strict",
            Self::Filter => "filter",
            Self::Unknown => "unknown",
        }
    }
}
