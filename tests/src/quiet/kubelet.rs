//! What kubelet does all day: exec probes and lifecycle commands, which the API server knows of; pods of jobs that come and go;
//! and a look at the SSH server's port, as load balancers have it.

use std::{
    net::TcpStream,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Done, told::Told};
use crate::harness::{
    api_server::ApiServer,
    containerd::{Containerd, IMAGE, SLEEP},
    cri::{Kubelet, PodOptions, RunningPod},
};

/// From the beginning of a probe to that of the next, and from one look at a port to the next. Where a probe takes longer than
/// that, the next one follows at once.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a job runs, and how long after its end the next begins.
const JOB_PERIOD: Duration = Duration::from_secs(5);
const READINESS: [&str; 3] = ["/bin/sh", "-c", "/bin/echo ready"];
const LIVENESS: [&str; 2] = ["/bin/cat", "/etc/passwd"];
const POST_START: [&str; 2] = ["/bin/echo", "started"];
const PRE_STOP: [&str; 3] = ["/bin/sh", "-c", "/bin/echo stopping"];
/// What a job's container runs until it is told to stop. It is known again by its comment: the container's name may come late.
const JOB: [&str; 3] = ["/bin/sh", "-c", "/bin/ls / >/dev/null; /bin/id >/dev/null; exec /bin/sleep 2000 # quiet-job"];

/// kubelet's doings, before they begin and while they go on.
pub(super) struct Kubelets {
    socket: PathBuf,
    server: Arc<ApiServer>,
    pods: Vec<RunningPod>,
    running: Vec<(Sender<()>, JoinHandle<Lived>)>,
}

/// How often each thing was done.
#[derive(Clone, Copy, Default)]
pub(super) struct Lived {
    probes: u64,
    lifecycle: u64,
    jobs: u64,
    looks: u64,
}

impl Kubelets {
    /// Runs the pods that are there before the agent is: an ordinary one, and one of the cluster's own that may do anything.
    pub(super) fn prepare(containerd: &Containerd) -> Self {
        let socket = containerd.socket();
        let pods = [("web-1", "shop", false), ("network-1", "kube-system", true)];
        let server = ApiServer::start(pods.iter().map(|(name, namespace, _)| object(name, namespace, "main")));
        let mut kubelet = Kubelet::connect(&socket);
        let run = |(name, namespace, privileged): &(&'static str, &'static str, bool)| {
            kubelet.run_pod(&options(name, namespace, "main", *privileged, &uid(name), SLEEP))
        };
        let pods = pods.iter().map(run).collect();
        Self { socket, server: server.into(), pods, running: Vec::new() }
    }

    /// The agent's.
    pub(super) fn configuration(&self) -> String {
        format!(
            "node: {{name: node-1}}\nkubernetes: {{kubeconfig: '{}'}}\ncontainers: {{endpoint: '{}'}}\n",
            self.server.kubeconfig_path().display(),
            self.socket.display()
        )
    }

    pub(super) fn wait_until_watched(&self) {
        self.server.wait_for_open_watch(Duration::from_secs(20));
    }

    /// Begins with all of it.
    pub(super) fn start(&mut self) {
        let containers: Vec<String> = self.pods.iter().map(|pod| pod.container.clone()).collect();
        let (probes, jobs) = (Kubelet::connect(&self.socket), Kubelet::connect(&self.socket));
        let server = Arc::clone(&self.server);
        self.spawn(move |stop| probe(probes, &containers, stop));
        self.spawn(move |stop| run_jobs(jobs, &server, stop));
        self.spawn(look);
    }

    fn spawn(&mut self, work: impl FnOnce(&Receiver<()>) -> Lived + Send + 'static) {
        let (stop, stopped) = channel();
        self.running.push((stop, thread::spawn(move || work(&stopped))));
    }

    /// Ends what goes on, and removes the pods.
    pub(super) fn stop(&mut self) -> Lived {
        let running: Vec<_> = self.running.drain(..).map(|(stop, thread)| (drop(stop), thread)).collect();
        let all = running.into_iter().map(|((), thread)| thread.join().expect("kubelet does not panic"));
        let all = all.fold(Lived::default(), |all, one| Lived {
            probes: all.probes + one.probes,
            lifecycle: all.lifecycle + one.lifecycle,
            jobs: all.jobs + one.jobs,
            looks: all.looks + one.looks,
        });
        let mut kubelet = Kubelet::connect(&self.socket);
        self.pods.iter().for_each(|pod| kubelet.remove(pod));
        all
    }
}

impl Lived {
    pub(super) fn done(self, told: &Told) -> Vec<Done> {
        let executed = self.probes + self.lifecycle;
        vec![
            Done::witnessed("exec probes", self.probes),
            Done::witnessed("lifecycle commands", self.lifecycle),
            Done::told("commands of kubelet in containers", executed, told.count("probe")),
            Done::told("pods of jobs", self.jobs, told.count("started quiet-job")),
            Done::witnessed("looks at the SSH server's port", self.looks),
        ]
    }
}

/// Whether the time has come without a word to stop.
fn goes_on(stop: &Receiver<()>, at: Instant) -> bool {
    stop.recv_timeout(at.saturating_duration_since(Instant::now())) == Err(RecvTimeoutError::Timeout)
}

fn probe(mut kubelet: Kubelet, containers: &[String], stop: &Receiver<()>) -> Lived {
    let mut lived = Lived::default();
    let probes: Vec<(&String, &[&str])> =
        containers.iter().flat_map(|container| [(container, &READINESS[..]), (container, &LIVENESS[..])]).collect();
    for (container, command) in probes.iter().cycle() {
        let next = Instant::now() + PERIOD;
        kubelet.exec(container, command);
        lived.probes += 1;
        if !goes_on(stop, next) {
            break;
        }
    }
    lived
}

fn run_jobs(mut kubelet: Kubelet, server: &ApiServer, stop: &Receiver<()>) -> Lived {
    let mut lived = Lived::default();
    loop {
        let name = format!("job-{}", lived.jobs);
        let uid = uid(&name);
        // The API server knows a pod before kubelet does.
        server.apply(object(&name, "batch", "job"));
        let pod = kubelet.run_pod(&options(&name, "batch", "job", false, &uid, &JOB));
        kubelet.exec(&pod.container, &POST_START);
        // It is stopped in good order even at the end.
        let _ = goes_on(stop, Instant::now() + JOB_PERIOD);
        kubelet.exec(&pod.container, &PRE_STOP);
        kubelet.remove(&pod);
        server.delete(&uid);
        lived.lifecycle += 2;
        lived.jobs += 1;
        if !goes_on(stop, Instant::now() + JOB_PERIOD) {
            return lived;
        }
    }
}

fn look(stop: &Receiver<()>) -> Lived {
    let mut lived = Lived::default();
    while goes_on(stop, Instant::now() + PERIOD) {
        lived.looks += u64::from(TcpStream::connect(("127.0.0.1", 22)).is_ok());
    }
    lived
}

/// A UID for a name.
fn uid(name: &str) -> String {
    let number = name.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(131).wrapping_add(byte.into()));
    format!("5c1d0a7e-0000-4000-8000-{:012x}", number & 0xffff_ffff_ffff)
}

fn options<'a>(
    name: &'a str,
    namespace: &'a str,
    container: &'a str,
    privileged: bool,
    uid: &'a str,
    command: &'a [&'a str],
) -> PodOptions<'a> {
    PodOptions { name, namespace, uid, container, privileged, host_pid: privileged, host_root: None, command }
}

fn object(name: &str, namespace: &str, container: &str) -> Value {
    let exec = |command: &[&str]| json!({ "exec": { "command": command } });
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "uid": uid(name) },
        "spec": {
            "nodeName": "node-1",
            "containers": [{
                "name": container,
                "image": IMAGE,
                "readinessProbe": exec(&READINESS),
                "livenessProbe": exec(&LIVENESS),
                "lifecycle": { "postStart": exec(&POST_START), "preStop": exec(&PRE_STOP) },
            }],
        },
        "status": { "phase": "Running" },
    })
}
