//! The few messages of the runtimes' APIs that are used, with the few fields of each that are read.
//!
//! containerd: api/services/containers/v1/containers.proto. CRI: kubernetes/cri-api, pkg/apis/runtime/v1/api.proto.

use std::collections::HashMap;

/// `containerd.services.containers.v1.GetContainerRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetContainerRequest {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

/// `containerd.services.containers.v1.GetContainerResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetContainerResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) container: Option<ContainerdContainer>,
}

/// `containerd.services.containers.v1.Container`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerdContainer {
    #[prost(map = "string, string", tag = "2")]
    pub(super) labels: HashMap<String, String>,
    #[prost(string, tag = "3")]
    pub(super) image: String,
}

/// `runtime.v1.ContainerStatusRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerStatusRequest {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
}

/// `runtime.v1.ContainerStatusResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerStatusResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<ContainerStatus>,
}

/// `runtime.v1.ContainerStatus`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerStatus {
    #[prost(message, optional, tag = "2")]
    pub(super) metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "8")]
    pub(super) image: Option<ImageSpec>,
    #[prost(string, tag = "9")]
    pub(super) image_ref: String,
    #[prost(map = "string, string", tag = "12")]
    pub(super) labels: HashMap<String, String>,
}

/// `runtime.v1.ContainerMetadata`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// `runtime.v1.ImageSpec`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ImageSpec {
    #[prost(string, tag = "1")]
    pub(super) image: String,
}
