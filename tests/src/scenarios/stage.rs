//! Where scenarios are played: one agent, one sshd with a user who may use sudo, one containerd with pods, one API server.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};

use crate::harness::{
    agent::{Agent, is_exec_of, text},
    api_server::ApiServer,
    containerd::{Containerd, IMAGE, SLEEP},
    cri::{Kubelet, PodOptions, RunningPod},
    docker::Docker,
    nerdctl::Nerdctl,
    sshd::{Another, Sshd},
    sudoers::Sudoers,
};

pub(super) struct Stage {
    pub(super) agent: Agent,
    /// Another user of the same server.
    pub(super) another: Another,
    pub(super) sshd: Sshd,
    /// Upon containerd, from the first scenario on that asks for it.
    docker: Option<Docker>,
    /// The same.
    nerdctl: Option<Nerdctl>,
    pub(super) containerd: Containerd,
    pub(super) kubelet: Kubelet,
    /// By name.
    pods: Vec<(&'static str, RunningPod)>,
    _server: ApiServer,
    _sudoers: Sudoers,
}

/// A pod of the stage: its name, its namespace, its UID.
struct Cast {
    name: &'static str,
    namespace: &'static str,
    uid: &'static str,
    privileged: bool,
    host_pid: bool,
}

const PODS: [Cast; 5] = [
    Cast {
        name: "web-1",
        namespace: "shop",
        uid: "1d6a4a1e-7f0c-4f4e-9f53-0a4a1f3c5b01",
        privileged: false,
        host_pid: false,
    },
    Cast {
        name: "web-2",
        namespace: "staging",
        uid: "1d6a4a1e-7f0c-4f4e-9f53-0a4a1f3c5b02",
        privileged: false,
        host_pid: false,
    },
    Cast {
        name: "agent-1",
        namespace: "system",
        uid: "1d6a4a1e-7f0c-4f4e-9f53-0a4a1f3c5b03",
        privileged: true,
        host_pid: true,
    },
    Cast {
        name: "debugged-1",
        namespace: "shop",
        uid: "1d6a4a1e-7f0c-4f4e-9f53-0a4a1f3c5b04",
        privileged: false,
        host_pid: false,
    },
    Cast {
        name: "node-debugger-node-1-x7k2p",
        namespace: "default",
        uid: "1d6a4a1e-7f0c-4f4e-9f53-0a4a1f3c5b05",
        privileged: false,
        host_pid: true,
    },
];

/// The name of a pod's container. That of `debugged-1` is an ephemeral one.
const CONTAINER: &str = "main";

impl Stage {
    pub(super) fn unavailable() -> Option<String> {
        Sshd::unavailable().map(Into::into).or_else(Containerd::unavailable).or_else(Sudoers::unavailable)
    }

    pub(super) fn set() -> Self {
        let sshd = Sshd::start_with("KbdInteractiveAuthentication yes");
        let another = sshd.another();
        let user = sshd.user().clone();
        let sudoers = Sudoers::allow(&user.name);
        let containerd = Containerd::start();
        let mut kubelet = Kubelet::connect(&containerd.socket());
        let server = ApiServer::start(PODS.iter().map(object));
        // They run before the agent does.
        let pods = PODS
            .iter()
            .filter(|cast| !STARTED_LATE.contains(&cast.name))
            .map(|cast| (cast.name, kubelet.run_pod(&options(cast, SLEEP))))
            .collect();
        let agent = Agent::start_with(&format!(
            "node: {{name: node-1}}\nkubernetes: {{kubeconfig: '{}'}}\ncontainers: {{endpoint: '{}'}}\n\
             access:\n  allow:\n  - {{door: sshd, users: ['{}'], keys: ['{}'], from: [127.0.0.0/8]}}\n  \
             - {{door: sshd, users: ['{}'], certificates: [ops@scenario]}}\n  \
             - {{door: sshd, users: [root], from: [127.0.0.0/8]}}\n  \
             - {{door: kubectl-exec, namespaces: [staging]}}\n",
            server.kubeconfig_path().display(),
            containerd.socket().display(),
            user.name,
            user.fingerprint,
            user.name,
        ));
        server.wait_for_open_watch(Duration::from_secs(20));
        Self {
            agent,
            another,
            sshd,
            docker: None,
            nerdctl: None,
            containerd,
            kubelet,
            pods,
            _server: server,
            _sudoers: sudoers,
        }
    }

    /// Docker, which is started once somebody wants it: few nodes have it.
    pub(super) fn docker(&mut self) -> &Docker {
        self.docker.get_or_insert_with(|| Docker::start(&self.containerd))
    }

    /// `nerdctl` with a container of its own, from then on.
    pub(super) fn nerdctl(&mut self) -> &Nerdctl {
        self.nerdctl.get_or_insert_with(|| Nerdctl::start(&self.containerd))
    }

    /// What stands for whom in what is expected.
    pub(super) fn names(&self) -> [(&'static str, String); 2] {
        [("USER", self.sshd.user().name.clone()), ("ANOTHER", self.another.user.name.clone())]
    }

    /// The id of a pod's container.
    pub(super) fn container(&self, pod: &str) -> String {
        let found = self.pods.iter().find(|(name, _)| *name == pod);
        found.map(|(_, pod)| pod.container.clone()).expect("it is one of those that run")
    }

    /// Runs one of the pods that do not run from the beginning, whose command echoes the marker and then sleeps.
    pub(super) fn run_pod(&mut self, pod: &str, command: &str, marker: &str) {
        self.run_pod_while(pod, command, marker, |_| {});
    }

    /// The same, and does something before it waits for the echo.
    pub(super) fn run_pod_while(&mut self, pod: &str, command: &str, marker: &str, act: impl FnOnce(&mut Agent)) {
        let cast = PODS.iter().find(|cast| cast.name == pod).expect("it is one of the cast");
        let script = format!("{command} {marker}; exec /bin/sleep 2000");
        let running = self.kubelet.run_pod(&options(cast, &["/bin/sh", "-c", &script]));
        act(&mut self.agent);
        let is_echo = |event: &Value| is_exec_of(event, marker) && text(event, "/process/args/0") == "/bin/echo";
        self.agent.wait_for("the pod's command", is_echo);
        self.kubelet.remove(&running);
    }

    /// Waits until everything that happened so far was told, but for what waits for a container.
    pub(super) fn barrier(&mut self) {
        self.sshd.wait_until_idle();
        let barrier = format!("behind-{}", self.agent.seen().len());
        Command::new("/bin/true").arg(&barrier).status().expect("true runs");
        self.agent.wait_for("the barrier", |event| is_exec_of(event, &barrier));
    }

    /// Ends the agent, which is checked, and everything else.
    pub(super) fn strike(mut self) {
        for (_, pod) in std::mem::take(&mut self.pods) {
            self.kubelet.remove(&pod);
        }
        self.agent.stop();
    }
}

/// Pods that a scenario starts.
const STARTED_LATE: [&str; 2] = ["debugged-1", "node-debugger-node-1-x7k2p"];

fn options<'a>(cast: &Cast, command: &'a [&'a str]) -> PodOptions<'a> {
    PodOptions {
        host_root: cast.name.starts_with("node-debugger-").then_some("/host"),
        command,
        name: cast.name,
        namespace: cast.namespace,
        uid: cast.uid,
        container: CONTAINER,
        privileged: cast.privileged,
        host_pid: cast.host_pid,
    }
}

fn object(cast: &Cast) -> Value {
    let probe =
        |command: &str| json!({ "exec": { "command": ["/bin/sh", "-c", format!("/bin/echo {command} $(POD_IP)")] } });
    let mut container = json!({ "name": CONTAINER, "image": IMAGE });
    let mut spec = json!({ "nodeName": "node-1", "hostPID": cast.host_pid });
    if cast.name == "debugged-1" {
        spec["containers"] = json!([{ "name": "app", "image": IMAGE }]);
        spec["ephemeralContainers"] = json!([container]);
    } else {
        container["readinessProbe"] = probe("ready");
        container["lifecycle"] = json!({ "postStart": probe("started") });
        spec["containers"] = json!([container]);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": cast.name, "namespace": cast.namespace, "uid": cast.uid },
        "spec": spec,
        "status": { "phase": "Running" },
    })
}
