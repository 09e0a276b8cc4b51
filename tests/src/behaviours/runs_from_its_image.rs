//! The image, run in containerd with what the `DaemonSet` gives it and no more: it sees the whole node.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{Behaviour, watches_containers::no_containerd};
use crate::harness::{
    agent::{Agent, action, is_exec_of, text},
    containerd::Containerd,
    sshd::Sshd,
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[Behaviour {
    name: "the image with the manifest's capabilities sees the node, other containers and logins",
    unavailable: no_image,
    run: image,
}];

/// What `ctr run` gives a container unless told otherwise (containerd, oci.defaultUnixCaps).
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

fn archive() -> Option<PathBuf> {
    std::env::var_os("POSTERN_IMAGE").map(PathBuf::from)
}

fn no_image() -> Option<String> {
    let missing = || "POSTERN_IMAGE does not name an image archive: `cargo xtask test` makes one".to_owned();
    no_containerd().or_else(|| Sshd::unavailable().map(Into::into)).or_else(|| archive().is_none().then(missing))
}

/// The `DaemonSet`'s one container and its pod.
fn manifest() -> (Value, Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize/base/daemonset.yaml");
    let text = fs::read_to_string(&file).expect("the manifest");
    let daemon_set: Value = serde_saphyr::from_str(&text).expect("YAML");
    let pod = daemon_set["spec"]["template"]["spec"].clone();
    (pod["containers"][0].clone(), pod)
}

/// The options of `ctr run` that come down to what kubelet would ask for.
fn options(container: &Value, pod: &Value, configuration: &Path) -> Vec<String> {
    let security = &container["securityContext"];
    assert_eq!(security["privileged"], false);
    assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
    assert_eq!(security["allowPrivilegeEscalation"], false);
    let mut options: Vec<String> =
        DEFAULT_CAPABILITIES.iter().flat_map(|name| ["--cap-drop".to_owned(), format!("CAP_{name}")]).collect();
    for name in security["capabilities"]["add"].as_array().expect("capabilities") {
        options.extend(["--cap-add".to_owned(), format!("CAP_{}", name.as_str().expect("a name"))]);
    }
    if security["readOnlyRootFilesystem"] == true {
        options.push("--read-only".to_owned());
    }
    if security["seccompProfile"]["type"] == "RuntimeDefault" {
        options.push("--seccomp".to_owned());
    }
    assert_eq!(pod["hostPID"], true);
    options.extend(["--with-ns".to_owned(), "pid:/proc/self/ns/pid".replace("self", &std::process::id().to_string())]);
    for mount in container["volumeMounts"].as_array().expect("mounts") {
        let target = text(mount, "/mountPath");
        options.push("--mount".to_owned());
        options.push(match text(mount, "/name") {
            "config" => format!("type=bind,src={},dst={target},options=rbind:ro", configuration.display()),
            "run" => format!("type=tmpfs,src=tmpfs,dst={target},options=rw:nosuid:nodev"),
            other => panic!("nobody knows what {other} is mounted for"),
        });
    }
    options
}

fn image() {
    let containerd = Containerd::start();
    containerd.import("default", &archive().expect("checked"));
    let images = containerd.ctr(&["image", "list", "--quiet"]).succeeded().stdout;
    let image = images.lines().find(|line| line.contains("postern")).expect("the imported image").to_owned();
    let server = Sshd::start();
    let directory = TempDir::with_prefix("postern-test-").expect("a temporary folder");
    // kubelet's pods have a loopback that is up; ctr's have not.
    let configuration = format!(
        "admin: {{address: off}}\ncontainers: {{endpoint: '{}'}}\nsinks: [{{type: stdout, format: json}}]\n",
        containerd.socket().display()
    );
    fs::write(directory.path().join("postern.yaml"), configuration).expect("a configuration");
    let (container, pod) = manifest();
    let options = options(&container, &pod, directory.path());
    let runc_root = containerd.runc_root();
    let mut arguments = vec!["run", "--rm", "--runc-root", &runc_root];
    arguments.extend(options.iter().map(String::as_str));
    arguments.extend([image.as_str(), "postern-agent"]);
    let mut agent = Agent::of_command(containerd.ctr_command(&arguments), directory);
    let started = agent.wait_for("the agent to start", |event| action(event) == "agent-started");
    assert_eq!(started["postern"]["sensors"].as_array().map(Vec::len), Some(4), "{started}");

    Command::new("/bin/true").arg("seen-from-the-image").status().expect("true");
    let event = agent.wait_for("an exec on the node", |event| is_exec_of(event, "seen-from-the-image"));
    assert_eq!(event["process"]["pid"].as_u64().map(|pid| pid > 1), Some(true));
    assert_eq!(text(&event, "/process/user/name"), "root", "the node's own users");

    containerd.run("neighbour", &[]);
    let event = agent.wait_for("a neighbour's start", |event| {
        action(event) == "container-started" && text(event, "/container/id") == "neighbour"
    });
    assert_eq!(text(&event, "/container/image/name"), "localhost/busybox");

    server.by_key("/bin/true by-ssh").succeeded();
    let event = agent
        .wait_for("a command by ssh", |event| is_exec_of(event, "by-ssh") && text(event, "/process/name") == "true");
    assert_eq!(text(&event, "/postern/session/user"), server.user().name);
    let session = text(&event, "/postern/session/id");
    let listed = containerd.exec("postern-agent", &["/postern", "sessions", "--user", &server.user().name]);
    assert!(listed.succeeded().stdout.contains(session), "asked in the agent's own container");
    let story = containerd.exec("postern-agent", &["/postern", "sessions", "show", session]).succeeded().stdout;
    assert!(story.contains("by-ssh") && story.contains("127.0.0.1"), "{story}");
    agent.stop();
}
