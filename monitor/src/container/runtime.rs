//! Asks the node's container runtime what a container is: containerd by its own API, which knows containers that Kubernetes
//! did not make too, and any other runtime by CRI.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::{
    cgroup::CgroupContainer,
    messages::{ContainerStatusRequest, ContainerStatusResponse, GetContainerRequest, GetContainerResponse},
};
use crate::{
    event::{Container, Pod},
    pod::parse_image,
};

/// Where runtimes listen, below the node's root: containerd, CRI-O, and containerd as k3s and as microk8s bring it.
const SOCKETS: [&str; 4] = [
    "run/containerd/containerd.sock",
    "run/crio/crio.sock",
    "run/k3s/containerd/containerd.sock",
    "var/snap/microk8s/common/run/containerd.sock",
];
/// containerd namespaces to look in where the cgroup does not say which.
const NAMESPACES: [&str; 3] = ["k8s.io", "default", "moby"];
/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer that is read, in bytes. A container's record holds its whole specification.
const ANSWER_MAX: usize = 4 << 20;
/// How long a label's value may be that is taken over.
const LABEL_MAX: usize = 253;

/// Why a container could not be asked for.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// There is no runtime.
    #[error("no container runtime listens below {}: looked for {}", root.display(), SOCKETS.join(", "))]
    Absent {
        /// The node's root.
        root: PathBuf,
    },
    /// It did not answer, or not in a useful way.
    #[error("{}: {status}", socket.display())]
    Call {
        /// Its socket.
        socket: PathBuf,
        /// What it said.
        status: Box<Status>,
    },
}

/// The node's container runtime.
pub struct Runtime {
    root: PathBuf,
    endpoint: Option<PathBuf>,
    connected: Option<Connected>,
}

struct Connected {
    socket: PathBuf,
    grpc: Grpc<Channel>,
    /// Whether it has containerd's own API.
    is_containerd: bool,
}

impl Runtime {
    /// Connects to nothing yet. `endpoint` is a socket's path on the node; the usual places are looked at without one.
    pub fn new(root: PathBuf, endpoint: Option<PathBuf>) -> Self {
        Self { root, endpoint, connected: None }
    }

    /// What the runtime knows of a container; `None` if it knows none with this id. To be called within a runtime (tokio's).
    pub async fn lookup(&mut self, wanted: &CgroupContainer) -> Result<Option<Container>, RuntimeError> {
        let mut connected = match self.connected.take() {
            Some(connected) => connected,
            None => connect(&self.root, self.endpoint.as_deref())?,
        };
        match connected.lookup(wanted).await {
            Ok(found) => {
                self.connected = Some(connected);
                Ok(found)
            }
            // Not kept: the runtime may come back in another place.
            Err(status) => Err(RuntimeError::Call { socket: connected.socket, status: Box::new(status) }),
        }
    }
}

fn connect(root: &Path, endpoint: Option<&Path>) -> Result<Connected, RuntimeError> {
    let below_root = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let socket = match endpoint {
        Some(endpoint) => Some(below_root(endpoint)),
        None => SOCKETS.iter().map(|socket| root.join(socket)).find(|socket| socket.exists()),
    };
    let socket = socket.ok_or_else(|| RuntimeError::Absent { root: root.to_owned() })?;
    let path = socket.clone();
    // The name is never looked up: the connector knows where to go.
    let channel = Endpoint::from_static("http://runtime")
        .timeout(TIMEOUT)
        .connect_timeout(TIMEOUT)
        .connect_with_connector_lazy(tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }));
    let grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_MAX);
    Ok(Connected { socket, grpc, is_containerd: true })
}

impl Connected {
    async fn lookup(&mut self, wanted: &CgroupContainer) -> Result<Option<Container>, Status> {
        let own = wanted.namespace.map(|namespace| [namespace]);
        for namespace in own.as_ref().map_or(&NAMESPACES[..], |own| &own[..]) {
            if !self.is_containerd {
                break;
            }
            match self.containerd(&wanted.id, namespace).await {
                Ok(found) => return Ok(Some(found)),
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) if status.code() == Code::Unimplemented => self.is_containerd = false,
                Err(status) => return Err(status),
            }
        }
        if self.is_containerd {
            return Ok(None);
        }
        match self.cri(&wanted.id).await {
            Ok(found) => Ok(Some(found)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    async fn containerd(&mut self, id: &str, namespace: &'static str) -> Result<Container, Status> {
        let mut request = Request::new(GetContainerRequest { id: id.to_owned() });
        request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(namespace));
        let path = "/containerd.services.containers.v1.Containers/Get";
        let answer: GetContainerResponse = self.call(path, request).await?;
        let found = answer.container.ok_or_else(|| Status::not_found("an answer without a container"))?;
        Ok(describe(id, "containerd", &found.image, &found.labels))
    }

    async fn cri(&mut self, id: &str) -> Result<Container, Status> {
        let request = Request::new(ContainerStatusRequest { container_id: id.to_owned() });
        let answer: ContainerStatusResponse = self.call("/runtime.v1.RuntimeService/ContainerStatus", request).await?;
        let found = answer.status.ok_or_else(|| Status::not_found("an answer without a status"))?;
        let image = found.image.map(|image| image.image).filter(|image| !image.is_empty()).unwrap_or(found.image_ref);
        let mut container = describe(id, "cri-o", &image, &found.labels);
        container.name = container.name.or_else(|| found.metadata.map(|metadata| metadata.name.into()));
        Ok(container)
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Request<Q>) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let ready = tokio::time::timeout(TIMEOUT, self.grpc.ready()).await;
        ready
            .map_err(|_| Status::deadline_exceeded("no connection in time"))?
            .map_err(|error| Status::from_error(error.into()))?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = self.grpc.unary(request, PathAndQuery::from_static(path), codec).await?;
        Ok(answer.into_inner())
    }
}

/// A container of what its runtime says: kubelet leaves the pod's name in labels.
fn describe(id: &str, runtime: &'static str, image: &str, labels: &HashMap<String, String>) -> Container {
    let label = |name: &str| {
        labels
            .get(name)
            .filter(|value| !value.is_empty() && value.len() <= LABEL_MAX)
            .map(|value| Arc::<str>::from(&**value))
    };
    let pod_uid = label("io.kubernetes.pod.uid");
    let pod = match (&pod_uid, label("io.kubernetes.pod.name"), label("io.kubernetes.pod.namespace")) {
        (Some(uid), Some(name), Some(namespace)) => {
            Some(Arc::new(Pod { uid: Arc::clone(uid), name, namespace, ..Pod::default() }))
        }
        _ => None,
    };
    Container {
        id: id.into(),
        runtime: Some(runtime.into()),
        name: label("io.kubernetes.container.name").or_else(|| label("nerdctl/name")),
        image: (!image.is_empty()).then(|| parse_image(image)),
        pod_uid,
        pod,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_labels_name_the_pod() {
        let labels = [
            ("io.kubernetes.pod.uid", "u-1"),
            ("io.kubernetes.pod.name", "web"),
            ("io.kubernetes.pod.namespace", "shop"),
            ("io.kubernetes.container.name", "nginx"),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let container = describe("c-1", "containerd", "docker.io/library/nginx:1.27", &labels);
        let pod = container.pod.expect("a pod");
        assert_eq!((&*pod.name, &*pod.namespace, container.name.as_deref()), ("web", "shop", Some("nginx")));
        assert_eq!(container.image.expect("an image").tag.as_deref(), Some("1.27"));
    }

    #[tokio::test]
    async fn an_absent_runtime_is_said() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let wanted = CgroupContainer { id: "x".into(), runtime: None, pod_uid: None, namespace: None };
        let mut runtime = Runtime::new(folder.path().to_owned(), None);
        assert!(matches!(runtime.lookup(&wanted).await, Err(RuntimeError::Absent { .. })));
        let mut runtime = Runtime::new(folder.path().to_owned(), Some("/nowhere.sock".into()));
        assert!(matches!(runtime.lookup(&wanted).await, Err(RuntimeError::Call { .. })));
    }
}
