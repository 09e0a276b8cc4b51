//! Asks containerd for pods as kubelet does, by CRI (kubernetes/cri-api, pkg/apis/runtime/v1/api.proto): with the cgroup
//! parent and the labels that kubelet gives them.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{net::UnixStream, runtime::Runtime};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::{containerd::IMAGE, program::patient};

/// kubelet's side of CRI.
pub struct Kubelet {
    runtime: Runtime,
    /// The version of CRI that it speaks.
    api: &'static str,
    grpc: Grpc<Channel>,
}

/// A pod that runs one container.
pub struct RunningPod {
    /// The sandbox's id.
    pub sandbox: String,
    /// The container's id.
    pub container: String,
    cgroup: String,
}

/// What a pod is to be.
pub struct PodOptions<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// Its container's name.
    pub container: &'a str,
    /// Whether the container is privileged.
    pub privileged: bool,
    /// Whether it shares the node's processes.
    pub host_pid: bool,
    /// Where the container finds the node's root, if it does.
    pub host_root: Option<&'a str>,
    /// What the container runs.
    pub command: &'a [&'a str],
}

/// `NamespaceMode.NODE`: the node's network, so that no CNI plugin is needed.
const NODE: i32 = 2;
/// `NamespaceMode.POD`.
const POD: i32 = 0;

impl Kubelet {
    /// Connects to a containerd.
    pub fn connect(socket: &Path) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let socket = socket.to_owned();
        let channel = runtime.block_on(async move {
            let connector = tower::service_fn(move |_| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            });
            let deadline = patient(Duration::from_secs(30));
            Endpoint::from_static("http://cri").timeout(deadline).connect_with_connector_lazy(connector)
        });
        Self { grpc: Grpc::new(channel), runtime, api: "runtime.v1" }
    }

    /// Runs a pod with one container.
    pub fn run_pod(&mut self, options: &PodOptions<'_>) -> RunningPod {
        let labels = HashMap::from([
            ("io.kubernetes.pod.name".to_owned(), options.name.to_owned()),
            ("io.kubernetes.pod.namespace".to_owned(), options.namespace.to_owned()),
            ("io.kubernetes.pod.uid".to_owned(), options.uid.to_owned()),
        ]);
        let namespaces = NamespaceOption { network: NODE, pid: if options.host_pid { NODE } else { POD } };
        let cgroup = format!("/kubepods/besteffort/pod{}", options.uid);
        let sandbox_config = PodSandboxConfig {
            metadata: Some(PodMetadata {
                name: options.name.to_owned(),
                uid: options.uid.to_owned(),
                namespace: options.namespace.to_owned(),
            }),
            labels: labels.clone(),
            linux: Some(LinuxSandbox {
                cgroup_parent: cgroup.clone(),
                security: Some(SandboxSecurity {
                    namespaces: Some(namespaces.clone()),
                    privileged: options.privileged,
                }),
            }),
        };
        let sandbox: SandboxAnswer = self.call("RunPodSandbox", RunPodSandbox { config: Some(sandbox_config.clone()) });
        let mut container_labels = labels;
        container_labels.insert("io.kubernetes.container.name".to_owned(), options.container.to_owned());
        let container: ContainerAnswer = self.call(
            "CreateContainer",
            CreateContainer {
                sandbox: sandbox.id.clone(),
                config: Some(ContainerConfig {
                    metadata: Some(ContainerMetadata { name: options.container.to_owned() }),
                    image: Some(ImageSpec { image: IMAGE.to_owned() }),
                    command: options.command.iter().map(|&part| part.to_owned()).collect(),
                    mounts: options.host_root.iter().map(|path| Mount::of_root(path)).collect(),
                    labels: container_labels,
                    linux: Some(LinuxContainer {
                        security: Some(ContainerSecurity {
                            privileged: options.privileged,
                            namespaces: Some(namespaces),
                        }),
                    }),
                }),
                sandbox_config: Some(sandbox_config),
            },
        );
        let _: Empty = self.call("StartContainer", ContainerRequest { id: container.id.clone() });
        RunningPod { sandbox: sandbox.id, container: container.id, cgroup: cgroup.trim_start_matches('/').to_owned() }
    }

    /// Runs a command in a container to its end, as an exec probe does; returns what it wrote.
    pub fn exec(&mut self, container: &str, command: &[&str]) -> String {
        let request = ExecSync {
            container: container.to_owned(),
            command: command.iter().map(|&part| part.to_owned()).collect(),
            timeout: i64::try_from(patient(Duration::from_secs(10)).as_secs()).expect("deadlines of tests are short"),
        };
        let answer: ExecAnswer = self.call("ExecSync", request);
        String::from_utf8_lossy(&answer.stdout).into_owned()
    }

    /// Stops a pod and removes it.
    pub fn remove(&mut self, pod: &RunningPod) {
        let _: Empty = self.call("StopPodSandbox", ContainerRequest { id: pod.sandbox.clone() });
        let _: Empty = self.call("RemovePodSandbox", ContainerRequest { id: pod.sandbox.clone() });
        // The pod's own cgroup is kubelet's to remove: of the one hierarchy, or in each of the old ones.
        let root = PathBuf::from("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(&root).into_iter().flatten().filter_map(Result::ok).map(|it| it.path());
        for hierarchy in hierarchies.chain([root]) {
            let _ = fs::remove_dir(hierarchy.join(&pod.cgroup));
        }
    }

    fn call<Q: Message + Clone + 'static, A: Message + Default + 'static>(&mut self, method: &str, request: Q) -> A {
        match self.ask(method, request.clone()) {
            Err(status) if status.code() == Code::Unimplemented => {
                // What there was before containerd 1.6, with the same messages.
                self.api = "runtime.v1alpha2";
                self.ask(method, request)
            }
            answer => answer,
        }
        .unwrap_or_else(|status| panic!("{method}: {status}"))
    }

    fn ask<Q: Message + 'static, A: Message + Default + 'static>(
        &mut self,
        method: &str,
        request: Q,
    ) -> Result<A, Status> {
        let path: PathAndQuery = format!("/{}.RuntimeService/{method}", self.api).parse().expect("a path");
        let Self { runtime, grpc, .. } = self;
        let answer = runtime.block_on(async {
            grpc.ready().await.expect("containerd answers");
            grpc.unary(Request::new(request), path, ProstCodec::<Q, A>::default()).await
        });
        answer.map(tonic::Response::into_inner)
    }
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct RunPodSandbox {
    #[prost(message, optional, tag = "1")]
    config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct PodSandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodMetadata>,
    #[prost(map = "string, string", tag = "6")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxSandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct PodMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxSandbox {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security: Option<SandboxSecurity>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxSecurity {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<NamespaceOption>,
    #[prost(bool, tag = "6")]
    privileged: bool,
}

#[derive(Clone, PartialEq, Message)]
struct NamespaceOption {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxAnswer {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    sandbox: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    mounts: Vec<Mount>,
    #[prost(map = "string, string", tag = "9")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "15")]
    linux: Option<LinuxContainer>,
}

#[derive(Clone, PartialEq, Message)]
struct Mount {
    #[prost(string, tag = "1")]
    container_path: String,
    #[prost(string, tag = "2")]
    host_path: String,
}

impl Mount {
    fn of_root(path: &str) -> Self {
        Self { container_path: path.to_owned(), host_path: "/".to_owned() }
    }
}

#[derive(Clone, PartialEq, Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxContainer {
    #[prost(message, optional, tag = "2")]
    security: Option<ContainerSecurity>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerSecurity {
    #[prost(bool, tag = "2")]
    privileged: bool,
    #[prost(message, optional, tag = "3")]
    namespaces: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerAnswer {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerRequest {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct ExecSync {
    #[prost(string, tag = "1")]
    container: String,
    #[prost(string, repeated, tag = "2")]
    command: Vec<String>,
    #[prost(int64, tag = "3")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExecAnswer {
    #[prost(bytes = "vec", tag = "1")]
    stdout: Vec<u8>,
}
