//! The cluster's objects of one kind, and the history of their changes by resource version.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fault::{gone, status};

/// A kind of object, and the field by which a node's agent may select it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pod,
    Node,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Node => "Node",
        }
    }

    /// The only selector that an agent may use; without it, it would get the whole cluster's.
    fn selected(self, query: &BTreeMap<String, String>) -> Result<&str, Value> {
        let prefix = match self {
            Self::Pod => "spec.nodeName=",
            Self::Node => "metadata.name=",
        };
        let selector = query.get("fieldSelector").and_then(|selector| selector.strip_prefix(prefix));
        selector.ok_or_else(|| status(403, "Forbidden", "only what is of one node may be listed or watched", None))
    }

    fn is_of(self, object: &Value, node: &str) -> bool {
        match self {
            Self::Pod => object["spec"]["nodeName"] == node,
            Self::Node => object["metadata"]["name"] == node,
        }
    }
}

/// What the API server stores of one kind.
pub(super) struct Cluster {
    kind: Kind,
    version: u64,
    /// Watches and list continuations from before this version are refused.
    compacted: u64,
    pods: BTreeMap<String, Value>,
    changes: Vec<Change>,
    /// Paged lists: what was there when each began, by its version.
    snapshots: BTreeMap<u64, Vec<Value>>,
    pub(super) page: Option<usize>,
}

struct Change {
    version: u64,
    kind: &'static str,
    object: Value,
}

impl Cluster {
    pub(super) fn new(kind: Kind, pods: impl IntoIterator<Item = Value>) -> Self {
        let mut cluster = Self {
            kind,
            version: 1000,
            compacted: 0,
            pods: BTreeMap::new(),
            changes: Vec::new(),
            snapshots: BTreeMap::new(),
            page: None,
        };
        pods.into_iter().for_each(|pod| cluster.apply(pod));
        cluster
    }

    pub(super) fn apply(&mut self, mut pod: Value) {
        let uid = pod["metadata"]["uid"].as_str().expect("a pod in a test has a UID").to_owned();
        self.version += 1;
        pod["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let before = self.pods.insert(uid, pod.clone());
        self.record(if before.is_some() { "MODIFIED" } else { "ADDED" }, pod);
    }

    pub(super) fn delete(&mut self, uid: &str) {
        let mut pod = self.pods.remove(uid).expect("a pod that is deleted was there");
        self.version += 1;
        pod["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.record("DELETED", pod);
    }

    pub(super) fn bookmark(&mut self) -> String {
        self.version += 1;
        let version = self.version.to_string();
        let metadata = json!({"resourceVersion": version, "creationTimestamp": null});
        // A bookmark carries an object of the kind that is watched, empty but for its version.
        let object = json!({"kind": self.kind.name(), "apiVersion": "v1", "metadata": metadata, "spec": {"containers": null}, "status": {}});
        self.record("BOOKMARK", object);
        version
    }

    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
    }

    fn record(&mut self, kind: &'static str, object: Value) {
        self.changes.push(Change { version: self.version, kind, object });
    }

    /// A `PodList`, or the `Status` that says why not.
    pub(super) fn list(&mut self, query: &BTreeMap<String, String>) -> Result<Value, Value> {
        let (version, from, pods) = match query.get("continue") {
            Some(token) => self.continued(token)?,
            None => (self.version, 0, self.selected(query)?),
        };
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).into_iter().chain(self.page).min();
        let to = limit.map_or(pods.len(), |limit| (from + limit).min(pods.len()));
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if to < pods.len() {
            metadata["continue"] = json!(format!("{version}.{to}"));
            self.snapshots.insert(version, pods.clone());
        }
        Ok(
            json!({"kind": format!("{}List", self.kind.name()), "apiVersion": "v1", "metadata": metadata, "items": pods[from..to]}),
        )
    }

    fn continued(&self, token: &str) -> Result<(u64, usize, Vec<Value>), Value> {
        let bad = || status(400, "BadRequest", "continue key is not valid", None);
        let (version, from) = token.split_once('.').ok_or_else(bad)?;
        let (version, from) = (version.parse().map_err(|_| bad())?, from.parse().map_err(|_| bad())?);
        if version < self.compacted {
            return Err(gone());
        }
        let pods: &Vec<_> = self.snapshots.get(&version).ok_or_else(bad)?;
        Ok((version, from, pods.clone()))
    }

    fn selected(&self, query: &BTreeMap<String, String>) -> Result<Vec<Value>, Value> {
        let node = self.kind.selected(query)?;
        Ok(self.pods.values().filter(|pod| self.kind.is_of(pod, node)).cloned().collect())
    }

    pub(super) fn is_compacted(&self, version: u64) -> bool {
        version < self.compacted
    }

    /// What a watch has to say after `version`, each line with the version that it leads to.
    pub(super) fn lines_after(&self, version: u64, query: &BTreeMap<String, String>) -> Vec<(u64, String)> {
        let node = self.kind.selected(query).unwrap_or_default();
        let bookmarks = query.get("allowWatchBookmarks").is_some_and(|value| value == "true");
        let wanted = |change: &&Change| match change.kind {
            "BOOKMARK" => bookmarks,
            _ => self.kind.is_of(&change.object, node),
        };
        let newer = self.changes.iter().filter(|change| change.version > version);
        newer.filter(wanted).map(|change| (change.version, line(change.kind, &change.object))).collect()
    }
}

/// From which version on a watch is asked for, or the `Status` that says why not.
pub(super) fn watch_version(kind: Kind, query: &BTreeMap<String, String>) -> Result<u64, Value> {
    kind.selected(query)?;
    let version = query.get("resourceVersion").and_then(|version| version.parse().ok());
    version.ok_or_else(|| status(400, "BadRequest", "resourceVersion is not valid", None))
}

/// One line of a watch.
pub(super) fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}
