//! The parts of the API's Pod and Node objects that are of use here, and nothing else: managed fields, volumes, environments and conditions are skipped while
//! the answer is read, and never held. The field names are those of the Kubernetes API reference, core/v1 Pod and Node.
//!
//! Every field may be absent or null, as the API's own serializer leaves out what is empty.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// `ListMeta`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMetadataView {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) resource_version: String,
    #[serde(default, rename = "continue", deserialize_with = "or_default")]
    pub(super) continue_token: String,
}

/// A `Pod`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PodView {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) metadata: MetadataView,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) spec: SpecView,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) status: StatusView,
}

/// `ObjectMeta`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetadataView {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) uid: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) namespace: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) resource_version: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) annotations: AnnotationsView,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) owner_references: Vec<OwnerView>,
}

/// A `Node`, of which only the metadata matters.
#[derive(Debug, Default, Deserialize)]
pub(super) struct NodeView {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) metadata: NodeMetadataView,
}

/// `ObjectMeta` of a node. Which annotations matter the configuration says; the API bounds all of an object's together.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeMetadataView {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) uid: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) resource_version: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// The two annotations that tie a mirror pod to the static pod that it stands for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct AnnotationsView {
    #[serde(default, rename = "kubernetes.io/config.hash")]
    pub(super) config_hash: Option<String>,
    #[serde(default, rename = "kubernetes.io/config.mirror")]
    pub(super) config_mirror: Option<String>,
}

/// `OwnerReference`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct OwnerView {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) controller: bool,
}

/// `PodSpec`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpecView {
    #[serde(default)]
    pub(super) service_account_name: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) host_network: bool,
    #[serde(default, rename = "hostPID", deserialize_with = "or_default")]
    pub(super) host_pid: bool,
    #[serde(default, rename = "hostIPC", deserialize_with = "or_default")]
    pub(super) host_ipc: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) init_containers: Vec<ContainerView>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) containers: Vec<ContainerView>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) ephemeral_containers: Vec<ContainerView>,
}

/// `Container` and `EphemeralContainer`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerView {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) image: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) security_context: SecurityContextView,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) liveness_probe: ActionView,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) readiness_probe: ActionView,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) startup_probe: ActionView,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) lifecycle: LifecycleView,
}

/// `SecurityContext`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SecurityContextView {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) privileged: bool,
}

/// `Lifecycle`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LifecycleView {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) post_start: ActionView,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) pre_stop: ActionView,
}

/// What `Probe` and `LifecycleHandler` have in common: they may run a command.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ActionView {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) exec: ExecView,
}

/// `ExecAction`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ExecView {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) command: Vec<String>,
}

/// `PodStatus`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StatusView {
    #[serde(default, rename = "initContainerStatuses", deserialize_with = "or_default")]
    pub(super) init: Vec<ContainerStatusView>,
    #[serde(default, rename = "containerStatuses", deserialize_with = "or_default")]
    pub(super) regular: Vec<ContainerStatusView>,
    #[serde(default, rename = "ephemeralContainerStatuses", deserialize_with = "or_default")]
    pub(super) ephemeral: Vec<ContainerStatusView>,
}

/// `ContainerStatus`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerStatusView {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) image: String,
    #[serde(default, rename = "imageID", deserialize_with = "or_default")]
    pub(super) image_id: String,
    #[serde(default, rename = "containerID", deserialize_with = "or_default")]
    pub(super) container_id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) last_state: StateView,
}

/// `ContainerState`, of which only an earlier run's end matters.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StateView {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) terminated: TerminatedView,
}

/// `ContainerStateTerminated`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TerminatedView {
    #[serde(default, rename = "containerID", deserialize_with = "or_default")]
    pub(super) container_id: String,
}

/// Null is the same as absent.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
