//! The pods of this node, as the Kubernetes API tells of them: what turns a cgroup's pod UID and container id into names that people know. And the
//! node's own object, whose annotations announce a maintenance.
//!
//! `watch` keeps the two watches of a node open, and is the only part that does I/O. What it sends is plain data, which `PodTable` holds for whoever
//! asks; the table, the facts and the view of the API's objects know neither the network nor a clock.

mod connect;
mod facts;
mod failure;
mod fetch;
mod image;
mod node;
mod resource;
mod settings;
mod table;
mod view;
mod watch;

use std::sync::Arc;

pub use connect::ConnectError;
pub use facts::{CommandPurpose, ContainerFacts, ContainerKind, PodCommand, PodFacts};
pub use image::parse_image;
pub use node::{AnnotationKeys, Announced, NodeFacts};
pub use settings::{ApiMode, ApiSettings, Bounds, Pace};
pub use table::{Found, PodTable, TableCounts};
pub use watch::{WatchError, watch, watch_node};

/// What the watch on pods has to say.
pub type PodUpdate = Update<PodFacts>;

/// What the watch on the node's own object has to say.
pub type NodeUpdate = Update<NodeFacts>;

/// What a watch has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update<F> {
    /// The objects are these and no others.
    Listed(Vec<Arc<F>>),
    /// One came, or changed.
    Applied(Arc<F>),
    /// The one with this UID is gone.
    Deleted(Arc<str>),
    /// There is no API server to ask, and none is required: nothing more will come.
    Standalone {
        /// Where one was looked for.
        reason: Arc<str>,
    },
    /// The API server cannot be used. It is tried again for ever; said once per outage and kind of failure.
    Unreachable {
        /// Why, in words for a person.
        reason: Arc<str>,
    },
    /// It can be used again.
    Reachable,
}
