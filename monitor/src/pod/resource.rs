//! What differs between the objects that are watched: where they are, what is read of them, and how many there can be.

use std::sync::Arc;

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    NodeFacts, PodFacts,
    facts::read,
    node::{self, AnnotationKeys},
    view::{NodeView, PodView},
};

/// A kind of object that the API server has.
pub(super) trait Resource: Send + Sync {
    /// The object, as far as it is read.
    type View: DeserializeOwned + Send;
    /// What is kept of it.
    type Facts: Send + Sync;
    /// Where it is.
    const PATH: &'static str;
    /// What a person calls them.
    const NAME: &'static str;
    /// Most of them in a list.
    const MOST: usize;

    /// What is kept of an object; the error says why it is none.
    fn facts(&self, view: Self::View) -> Result<Self::Facts, String>;
    /// Takes the resource version out of an object.
    fn version(view: &mut Self::View) -> String;
    /// The object's UID.
    fn uid(facts: &Self::Facts) -> Arc<str>;
}

/// The pods of a node.
pub(super) struct Pods;

impl Resource for Pods {
    type View = PodView;
    type Facts = PodFacts;
    const PATH: &'static str = "/api/v1/pods";
    const NAME: &'static str = "pods";
    // Kubelet's own default limit is 110.
    const MOST: usize = 4096;

    fn facts(&self, view: PodView) -> Result<PodFacts, String> {
        read(view).map_err(|error| error.to_string())
    }

    fn version(view: &mut PodView) -> String {
        std::mem::take(&mut view.metadata.resource_version)
    }

    fn uid(facts: &PodFacts) -> Arc<str> {
        Arc::clone(&facts.pod.uid)
    }
}

/// The node's own object.
pub(super) struct OwnNode {
    pub(super) keys: AnnotationKeys,
}

impl Resource for OwnNode {
    type View = NodeView;
    type Facts = NodeFacts;
    const PATH: &'static str = "/api/v1/nodes";
    const NAME: &'static str = "nodes";
    // There is one of that name. Two would mean that the server knows no field selectors.
    const MOST: usize = 1;

    fn facts(&self, view: NodeView) -> Result<NodeFacts, String> {
        node::read(view, &self.keys)
    }

    fn version(view: &mut NodeView) -> String {
        std::mem::take(&mut view.metadata.resource_version)
    }

    fn uid(facts: &NodeFacts) -> Arc<str> {
        Arc::clone(&facts.uid)
    }
}

/// A list of objects.
#[derive(Deserialize)]
#[serde(bound = "V: DeserializeOwned")]
pub(super) struct ListView<V> {
    #[serde(default, deserialize_with = "super::view::or_default")]
    pub(super) metadata: super::view::ListMetadataView,
    #[serde(default = "Vec::new", deserialize_with = "super::view::or_default")]
    pub(super) items: Vec<V>,
}
