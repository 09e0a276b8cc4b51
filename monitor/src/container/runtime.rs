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

/// The node's container runtimes: most nodes have one, some have Docker's containerd beside their own.
pub struct Runtime {
    root: PathBuf,
    endpoint: Option<PathBuf>,
    connected: Vec<Connected>,
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
        Self { root, endpoint, connected: Vec::new() }
    }

    /// What the first runtime that knows a container says of it; `None` if none knows one with this id. An error where none
    /// does and not all could be asked. To be called within a runtime (tokio's).
    pub async fn lookup(&mut self, wanted: &CgroupContainer) -> Result<Option<Container>, RuntimeError> {
        self.connect();
        if self.connected.is_empty() {
            return Err(RuntimeError::Absent { root: self.root.clone() });
        }
        let mut failed = None;
        // Only a connection that works is kept: a runtime may come back in another place.
        for mut connected in std::mem::take(&mut self.connected) {
            match connected.lookup(wanted).await {
                Ok(Some(found)) => {
                    self.connected.push(connected);
                    return Ok(Some(found));
                }
                Ok(None) => self.connected.push(connected),
                Err(status) => failed = Some(RuntimeError::Call { socket: connected.socket, status: Box::new(status) }),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Makes a connection for each socket that is there and has none.
    fn connect(&mut self) {
        let below_root = |path: &Path| self.root.join(path.strip_prefix("/").unwrap_or(path));
        let sockets: Vec<PathBuf> = match &self.endpoint {
            Some(endpoint) => vec![below_root(endpoint)],
            None => SOCKETS.iter().map(|socket| self.root.join(socket)).filter(|socket| socket.exists()).collect(),
        };
        for socket in sockets {
            if !self.connected.iter().any(|known| known.socket == socket) {
                self.connected.push(Connected::new(socket));
            }
        }
    }
}

impl Connected {
    fn new(socket: PathBuf) -> Self {
        let path = socket.clone();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The name is never looked up: the connector knows where to go.
        let endpoint = Endpoint::from_static("http://runtime").timeout(TIMEOUT).connect_timeout(TIMEOUT);
        let grpc = Grpc::new(endpoint.connect_with_connector_lazy(connector)).max_decoding_message_size(ANSWER_MAX);
        Self { socket, grpc, is_containerd: true }
    }

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
