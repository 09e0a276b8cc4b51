//! Into containers and out of them: through the API server, and with the runtime's own tools.

use std::fs;

use tempfile::TempDir;

use super::{BY_KEY, Expected, NOBODY, Scenario, stage::Stage};
use crate::harness::{agent::DEADLINE, program::until};

/// What the API server was asked for: nobody on the node knows who asked.
const BY_API: Expected = Expected {
    door: Some("kubectl-exec"),
    entry: Some("kubectl-exec"),
    user: "",
    remote: false,
    method: "",
    confidence: "certain",
    ..NOBODY
};

const EXEC_NOT_ALLOWED: &[&str] = &["postern-exec-not-allowed"];

/// `ctr`, as somebody types it in a session.
fn ctr(stage: &Stage, arguments: &str) -> String {
    format!("sudo -n ctr --address {} {arguments}", stage.containerd.socket().display())
}

fn exec(stage: &mut Stage, pod: &str, command: &[&str]) {
    let container = stage.container(pod);
    stage.kubelet.exec(&container, command);
}

/// What somebody writes on the node.
const FILE: &str = "by-hand";

/// Writes a file of the node's from a pod that has the node's root, once files are watched: a person is not as quick as a script.
fn write_on_node(stage: &mut Stage, marker: &str) {
    until("those who were in before are gone", DEADLINE, || (stage.agent.marked() == 0).then_some(()));
    let folder = TempDir::with_prefix_in("postern-node-", "/var/tmp").expect("a folder");
    let path = folder.path().display();
    let wait = format!("until [ -e {path}/go ]; do /bin/busybox sleep 0.1; done");
    // The marker comes behind it all.
    let script = format!("{wait}; echo made >{path}/{FILE}; exec /bin/echo $0");
    let command = format!("/bin/busybox chroot /host /bin/sh -c '{script}'");
    stage.run_pod_while("node-debugger-node-1-x7k2p", &command, marker, |agent| {
        until("files are watched", DEADLINE, || (agent.marked() > 0).then_some(()));
        fs::write(folder.path().join("go"), "").expect("the folder is ours");
    });
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kubectl exec into a pod",
        act: |s, m| exec(s, "web-1", &["/bin/echo", m]),
        expected: Expected { alerts: EXEC_NOT_ALLOWED, ..BY_API },
    },
    Scenario {
        name: "kubectl exec, a shell that runs more",
        act: |s, m| exec(s, "web-1", &["/bin/sh", "-c", &format!("/bin/true; /bin/echo {m}")]),
        expected: Expected { alerts: EXEC_NOT_ALLOWED, ..BY_API },
    },
    Scenario {
        name: "kubectl exec into a namespace that a rule names",
        act: |s, m| exec(s, "web-2", &["/bin/echo", m]),
        expected: BY_API,
    },
    Scenario {
        name: "kubectl exec into a privileged pod",
        act: |s, m| exec(s, "agent-1", &["/bin/echo", m]),
        expected: Expected { alerts: &["postern-exec-not-allowed", "postern-privileged-container-entered"], ..BY_API },
    },
    Scenario {
        name: "a readiness probe",
        act: |s, m| {
            exec(s, "web-1", &["/bin/sh", "-c", "/bin/echo ready 10.0.0.7"]);
            exec(s, "web-2", &["/bin/echo", m]);
        },
        expected: BY_API,
    },
    Scenario {
        name: "a lifecycle command in a privileged pod",
        act: |s, _| exec(s, "agent-1", &["/bin/sh", "-c", "/bin/echo started 10.0.0.7"]),
        expected: NOBODY,
    },
    Scenario {
        name: "kubectl debug: an ephemeral container",
        act: |s, m| s.run_pod("debugged-1", "/bin/echo", m),
        expected: Expected {
            door: Some("kubectl-debug"),
            entry: Some("kubectl-debug"),
            alerts: EXEC_NOT_ALLOWED,
            ..BY_API
        },
    },
    Scenario {
        name: "kubectl debug node, and chroot into the node",
        act: |s, m| s.run_pod("node-debugger-node-1-x7k2p", "/bin/busybox chroot /host /bin/echo", m),
        expected: Expected {
            door: Some("debug-node"),
            entry: Some("debug-node"),
            alerts: &["postern-access-not-allowed"],
            ..BY_API
        },
    },
    Scenario {
        name: "kubectl debug node, and a file written on the node after a chroot",
        act: write_on_node,
        expected: Expected {
            door: Some("debug-node"),
            entry: Some("debug-node"),
            alerts: &["postern-access-not-allowed"],
            files: Some(&[FILE]),
            ..BY_API
        },
    },
    Scenario {
        name: "nsenter out of a privileged container",
        act: |s, m| {
            let pid = s.sshd.pid().to_string();
            exec(s, "agent-1", &["/bin/busybox", "nsenter", "-t", &pid, "-m", "/bin/echo", m]);
        },
        expected: Expected {
            entry: Some("container-escape"),
            alerts: &["postern-exec-not-allowed", "postern-privileged-container-entered", "postern-container-escaped"],
            ..BY_API
        },
    },
    Scenario {
        name: "ctr task exec, typed in a session",
        act: |s, m| {
            s.containerd.run("by-hand-1", &[]);
            let command = ctr(s, &format!("task exec --exec-id {m} by-hand-1 /bin/echo {m}"));
            s.sshd.by_key(&command).succeeded();
        },
        expected: Expected { entry: Some("runtime-exec"), chain: &["root"], confidence: "linked", ..BY_KEY },
    },
    Scenario {
        name: "ctr run, typed in a session",
        act: |s, m| {
            let options = s.containerd.runc_options();
            let image = crate::harness::containerd::IMAGE;
            let command = ctr(s, &format!("run --rm {options} {image} by-hand-2 /bin/echo {m}"));
            s.sshd.by_key(&command).succeeded();
        },
        expected: Expected { entry: Some("runtime-exec"), chain: &["root"], confidence: "linked", ..BY_KEY },
    },
    Scenario {
        name: "ctr task exec into a pod, typed in a session",
        act: |s, m| {
            let container = s.container("web-1");
            let command = ctr(s, &format!("--namespace k8s.io task exec --exec-id {m} {container} /bin/echo {m}"));
            s.sshd.by_key(&command).succeeded();
        },
        expected: Expected { entry: Some("runtime-exec"), chain: &["root"], confidence: "linked", ..BY_KEY },
    },
    Scenario {
        name: "runc exec, typed in a session",
        act: |s, m| {
            s.containerd.run("by-hand-3", &[]);
            let root = s.containerd.runc_root();
            s.sshd.by_key(&format!("sudo -n runc --root {root}/default exec by-hand-3 /bin/echo {m}")).succeeded();
        },
        expected: Expected { entry: Some("runtime-exec"), chain: &["root"], ..BY_KEY },
    },
    Scenario {
        name: "nsenter into a container, typed in a session",
        act: |s, m| {
            s.containerd.run("by-hand-4", &[]);
            let pids = s.containerd.ctr(&["task", "list"]).succeeded().stdout;
            let line = pids.lines().find(|line| line.starts_with("by-hand-4")).expect("it runs");
            let pid = line.split_whitespace().nth(1).expect("a pid").to_owned();
            s.sshd.by_key(&format!("sudo -n nsenter -t {pid} -m /bin/echo {m}")).succeeded();
        },
        expected: Expected { chain: &["root"], ..BY_KEY },
    },
    Scenario {
        name: "ctr task exec by a service",
        act: |s, m| drop(s.containerd.exec("by-hand-1", &["/bin/echo", m]).succeeded()),
        expected: Expected { entry: Some("runtime-exec"), ..NOBODY },
    },
];
