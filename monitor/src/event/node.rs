//! The node that a stream comes from: the same on every event of a run.

use std::sync::Arc;

use super::Capabilities;

/// What every event of a run says of its node and its agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Node name in Kubernetes, else the host name.
    pub name: Arc<str>,
    /// The node's machine id (`/etc/machine-id`), where it has one.
    pub id: Option<Arc<str>>,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Arc<str>,
    /// Kernel release (`uname -r`).
    pub kernel: Arc<str>,
    /// Machine (`uname -m`).
    pub architecture: Arc<str>,
    /// Distribution and version (`PRETTY_NAME` of os-release), where there is one.
    pub os: Option<Arc<str>>,
    /// Cluster name, where it is known.
    pub cluster: Option<Arc<str>>,
    /// All that a process of the node can be allowed: the bounding set of its init.
    pub capabilities: Capabilities,
    /// Version of the agent.
    pub version: &'static str,
    /// Id of this run of the agent: a ULID. With the sequence number it identifies an event for ever.
    pub run_id: Arc<str>,
}
