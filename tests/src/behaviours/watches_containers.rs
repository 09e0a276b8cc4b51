//! Containers with the real containerd and runc: what starts, what is executed in it from outside, and what it may do as the
//! kernel knows it; and the pods they belong to, from an API server.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};

use super::{Behaviour, no_kernel};
use crate::harness::{
    agent::{Agent, DEADLINE, action, is_exec_of, tells_of, text, texts},
    api_server::{ApiServer, Fault, On},
    containerd::{Containerd, IMAGE, SLEEP},
    cri::{Kubelet, PodOptions},
    program::until,
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour { name: "a container's start says its image and what it may do", unavailable: no_containerd, run: start },
    Behaviour {
        name: "an exec into a container is told from its own processes",
        unavailable: no_containerd,
        run: exec,
    },
    Behaviour {
        name: "a container's process that outlives the program it was forked from is still its own",
        unavailable: no_containerd,
        run: outlived,
    },
    Behaviour {
        name: "a privileged container's start and an exec into it are alerts",
        unavailable: no_containerd,
        run: privileged,
    },
    Behaviour { name: "a container that is gone at once loses nothing", unavailable: no_containerd, run: brief },
    Behaviour { name: "a container that ran before the agent is known", unavailable: no_containerd, run: before },
    Behaviour { name: "a pod's processes carry the pod", unavailable: no_containerd, run: pod },
    Behaviour {
        name: "a pod that the API server cannot tell of is said to be partial",
        unavailable: no_containerd,
        run: no_answer,
    },
    Behaviour {
        name: "an API server that answers garbage is said, and nothing else suffers",
        unavailable: no_kernel,
        run: garbage,
    },
];

pub(super) fn no_containerd() -> Option<String> {
    no_kernel().or_else(Containerd::unavailable)
}

fn agent_beside(containerd: &Containerd) -> Agent {
    Agent::start_with(&format!("containers: {{endpoint: '{}'}}", containerd.socket().display()))
}

fn is(event: &Value, wanted: &str, container: &str) -> bool {
    tells_of(event, wanted) && text(event, "/event/kind") == "event" && text(event, "/container/id") == container
}

fn start() {
    let containerd = Containerd::start();
    let mut agent = agent_beside(&containerd);
    containerd.run("plain", &["--seccomp"]);
    let event = agent.wait_for("the start", |event| is(event, "container-started", "plain"));
    assert_eq!(text(&event, "/container/runtime"), "containerd");
    assert_eq!(text(&event, "/container/image/name"), "localhost/busybox");
    assert_eq!(texts(&event, "/container/image/tag"), ["test"]);
    assert_eq!(event["container"]["security_context"]["privileged"], false);
    assert_eq!(text(&event, "/postern/container/seccomp"), "filter");
    let effective = texts(&event, "/postern/container/capabilities/effective");
    assert!(effective.contains(&"CAP_CHOWN") && !effective.contains(&"CAP_SYS_ADMIN"), "{effective:?}");
    assert_eq!(text(&event, "/process/entry_leader/entry_meta/type"), "runtime-exec");
    assert_eq!(event["process"]["vpid"], 1);
    assert_eq!(text(&event, "/postern/enrichment"), "complete");
    containerd.run("shared", &["--net-host"]);
    let event = agent.wait_for("the start", |event| is(event, "container-started", "shared"));
    assert!(texts(&event, "/postern/container/host_namespaces").contains(&"net"), "{event}");
    agent.stop();
}

fn exec() {
    let containerd = Containerd::start();
    let mut agent = agent_beside(&containerd);
    containerd.run_image(IMAGE, "busy", &[], &["/bin/sh", "-c", "/bin/echo own-process; exec /bin/sleep 1000"]);
    containerd.exec("busy", &["/bin/sh", "-c", "/bin/echo from-outside; :"]).succeeded();
    let entered = agent.wait_for("the exec", |event| is(event, "container-entered", "busy"));
    assert!(texts(&entered, "/process/args").iter().any(|arg| arg.contains("from-outside")));
    let child = agent.wait_for("its child", |event| {
        is_exec_of(event, "from-outside") && text(event, "/process/args/0") == "/bin/echo"
    });
    assert_eq!(text(&child, "/process/entry_leader/entity_id"), text(&entered, "/process/entity_id"));
    let own = agent
        .wait_for("its own", |event| is_exec_of(event, "own-process") && text(event, "/process/args/0") == "/bin/echo");
    assert_eq!(text(&own, "/container/id"), "busy");
    assert_ne!(text(&own, "/process/entry_leader/entity_id"), text(&entered, "/process/entity_id"));
    let stopped = agent.stop();
    let count = |wanted: &str| stopped.events.iter().filter(|event| is(event, wanted, "busy")).count();
    assert_eq!((count("container-started"), count("container-entered")), (1, 1));
}

/// More than the agent remembers of those that have ended and forked, unless somebody runs their program still.
const MANY: u64 = 5_000;

fn outlived() {
    let containerd = Containerd::start();
    let mut agent = agent_beside(&containerd);
    let helper = "(read line < /go; /bin/echo it-goes-on; :) & :";
    let script = format!("/bin/busybox mkfifo /go; /bin/sh -c '{helper}'; exec /bin/sleep 1000");
    containerd.run_image(IMAGE, "outlived", &[], &["/bin/sh", "-c", &script]);
    let started = agent.wait_for("the start", |event| is(event, "container-started", "outlived"));
    let is_helper = |event: &Value| texts(event, "/process/args") == ["/bin/sh", "-c", helper];
    let helper = agent.wait_for("the helper", is_helper);
    agent.wait_for("its end", |event| {
        is(event, "end", "outlived") && event["process"]["pid"] == helper["process"]["pid"]
    });
    let storm =
        format!("i=0; while [ $i -lt {MANY} ]; do /bin/sh -c '(:); :'; i=$((i+1)); done; /bin/true storm-is-over");
    assert!(Command::new("/bin/sh").args(["-c", &storm]).status().expect("a shell").success());
    agent.wait_for("the storm's end", |event| texts(event, "/process/args") == ["/bin/true", "storm-is-over"]);
    until("most of them are forgotten", DEADLINE, || {
        let figures = agent.ask("/metrics").1;
        let known = figures.lines().find_map(|line| line.strip_prefix("postern_processes ")).expect("a figure");
        (known.parse::<u64>().expect("a number") < MANY).then_some(())
    });
    std::fs::write(format!("/proc/{}/root/go", started["process"]["pid"]), "\n").expect("somebody reads");
    let late =
        agent.wait_for("what it goes on with", |event| texts(event, "/process/args") == ["/bin/echo", "it-goes-on"]);
    assert_eq!(text(&late, "/process/entry_leader/entity_id"), text(&started, "/process/entity_id"));
    assert_eq!(texts(&late, "/process/parent/args"), texts(&helper, "/process/args"));
    let stopped = agent.stop();
    assert!(!stopped.events.iter().any(|event| action(event) == "container-entered"));
}

fn privileged() {
    let containerd = Containerd::start();
    let mut agent = agent_beside(&containerd);
    containerd.run("mighty", &["--privileged"]);
    containerd.run("modest", &[]);
    containerd.exec("mighty", &["/bin/true"]).succeeded();
    containerd.exec("modest", &["/bin/true"]).succeeded();
    for (wanted, rule) in [
        ("container-started", "postern-privileged-container-started"),
        ("container-entered", "postern-privileged-container-entered"),
    ] {
        let alert = agent.wait_for("the alert", |event| text(event, "/rule/id") == rule);
        assert_eq!(action(&alert), wanted);
        assert_eq!(text(&alert, "/container/id"), "mighty");
        assert_eq!(alert["container"]["security_context"]["privileged"], true);
        assert!(alert["event"]["severity"].as_u64().expect("a severity") > 0);
    }
    agent.wait_for("the other", |event| is(event, "container-entered", "modest"));
    let stopped = agent.stop();
    let alerts = stopped.events.iter().filter(|event| text(event, "/event/kind") == "alert");
    assert_eq!(alerts.map(|alert| text(alert, "/container/id")).collect::<Vec<_>>(), ["mighty", "mighty"]);
}

const COUNT: usize = 5;

fn brief() {
    let containerd = Containerd::start();
    let mut agent = agent_beside(&containerd);
    for number in 0..COUNT {
        let name = format!("brief-{number}");
        containerd.ctr(&["run", "--rm", "--runc-root", &containerd.runc_root(), IMAGE, &name, "/bin/true"]).succeeded();
    }
    agent.wait_for("the last", |event| is(event, "end", &format!("brief-{}", COUNT - 1)));
    let stopped = agent.stop();
    for number in 0..COUNT {
        let name = format!("brief-{number}");
        for wanted in ["exec", "container-started", "end"] {
            assert_eq!(stopped.events.iter().filter(|event| is(event, wanted, &name)).count(), 1, "{wanted} of {name}");
        }
    }
}

fn before() {
    let containerd = Containerd::start();
    containerd.run("older", &["--privileged"]);
    let mut agent = agent_beside(&containerd);
    containerd.exec("older", &["/bin/echo", "into-the-older"]).succeeded();
    let alert = agent.wait_for("the alert", |event| text(event, "/event/kind") == "alert");
    assert_eq!(text(&alert, "/rule/id"), "postern-privileged-container-entered");
    let stopped = agent.stop();
    assert!(!stopped.events.iter().any(|event| action(event) == "container-started"));
}

const UID: &str = "0d6a4a1e-7f0c-4f4e-9f53-0a4a1f3c5b7d";

fn pod_object() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-1", "namespace": "shop", "uid": UID, "labels": { "app": "web" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u", "controller": true }],
        },
        "spec": {
            "nodeName": "node-1", "serviceAccountName": "web",
            "containers": [{ "name": "main", "image": IMAGE }],
        },
        "status": { "phase": "Pending" },
    })
}

fn agent_in_cluster(containerd: &Containerd, server: &ApiServer) -> Agent {
    Agent::start_with(&format!(
        "node: {{name: node-1}}\nkubernetes: {{kubeconfig: '{}'}}\ncontainers: {{endpoint: '{}'}}",
        server.kubeconfig_path().display(),
        containerd.socket().display()
    ))
}

fn options() -> PodOptions<'static> {
    PodOptions {
        name: "web-1",
        namespace: "shop",
        uid: UID,
        container: "main",
        privileged: false,
        host_pid: false,
        host_root: None,
        command: SLEEP,
    }
}

fn pod() {
    let containerd = Containerd::start();
    let server = ApiServer::start([pod_object()]);
    let mut agent = agent_in_cluster(&containerd, &server);
    server.wait_for_open_watch(Duration::from_secs(20));
    let mut kubelet = Kubelet::connect(&containerd.socket());
    let pod = kubelet.run_pod(&options());
    assert_eq!(kubelet.exec(&pod.container, &["/bin/echo", "in-the-pod"]), "in-the-pod\n");
    let event = agent.wait_for("the exec", |event| is(event, "container-entered", &pod.container));
    kubelet.remove(&pod);
    assert_eq!(text(&event, "/orchestrator/type"), "kubernetes");
    assert_eq!(text(&event, "/orchestrator/namespace"), "shop");
    assert_eq!(text(&event, "/orchestrator/resource/name"), "web-1");
    assert_eq!(text(&event, "/kubernetes/pod/uid"), UID);
    assert_eq!(text(&event, "/kubernetes/labels/app"), "web");
    assert_eq!(text(&event, "/kubernetes/owner/name"), "web");
    assert_eq!(text(&event, "/container/name"), "main");
    assert_eq!(text(&event, "/container/image/name"), "localhost/busybox");
    assert_eq!(text(&event, "/postern/enrichment"), "complete");
    let started = agent.wait_for("the start", |event| is(event, "container-started", &pod.container));
    assert_eq!(text(&started, "/process/entry_leader/entry_meta/type"), "kubelet");
    agent.stop();
}

/// kubelet's labels still name the pod; what only the API server knows is missing, and the event says so.
fn no_answer() {
    let containerd = Containerd::start();
    let server = ApiServer::start([]);
    let mut agent = agent_in_cluster(&containerd, &server);
    server.wait_for_open_watch(Duration::from_secs(20));
    let mut kubelet = Kubelet::connect(&containerd.socket());
    let pod = kubelet.run_pod(&options());
    let event = agent.wait_for("the start", |event| is(event, "container-started", &pod.container));
    kubelet.remove(&pod);
    assert_eq!(text(&event, "/kubernetes/pod/name"), "web-1");
    assert_eq!(text(&event, "/postern/enrichment"), "partial");
    agent.stop();
}

fn garbage() {
    let server = ApiServer::start([pod_object()]);
    server.script_until_healed(On::Any, Fault::Garbage(b"\x00\xff{\"kind\": oops\n".to_vec()));
    let mut agent = Agent::start_with(&format!(
        "node: {{name: node-1}}\nkubernetes: {{kubeconfig: '{}'}}",
        server.kubeconfig_path().display()
    ));
    let said = agent.wait_for("the complaint", |event| {
        action(event) == "agent-changed" && text(event, "/message").contains("cannot be used")
    });
    assert_eq!(text(&said, "/event/kind"), "state");
    Command::new("/bin/true").arg("despite-garbage").status().expect("true");
    agent.wait_for("the exec", |event| is_exec_of(event, "despite-garbage"));
    server.heal();
    agent.wait_for("the recovery", |event| {
        action(event) == "agent-changed" && text(event, "/message").contains("can be used again")
    });
    agent.stop();
}
