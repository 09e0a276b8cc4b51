//! Sessions that are open while the agent restarts: they go on under the same id, with all that was known of them.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{Behaviour, no_sshd};
use crate::harness::{
    agent::{Agent, DEADLINE, action, is_exec_of, text},
    api_server::ApiServer,
    containerd::Containerd,
    cri::{Kubelet, PodOptions},
    program::run,
    sshd::Sshd,
    sudoers::Sudoers,
    typed::Typed,
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour {
        name: "an ssh session goes on after a restart of the agent with all that was known of it, and closes once",
        unavailable: no_sudo,
        run: ssh,
    },
    Behaviour {
        name: "what a session left behind belongs to it after a restart, and a login at the console stays one",
        unavailable: no_sudo,
        run: left_behind_and_console,
    },
    Behaviour {
        name: "what a session left cron to run is linked to it after a restart",
        unavailable: no_cron,
        run: left_to_cron,
    },
    Behaviour {
        name: "a session that ended while no agent ran is said to have ended",
        unavailable: no_sshd,
        run: ended_meanwhile,
    },
    Behaviour {
        name: "an exec into a pod, and one by hand into a container, stay what they were after a restart",
        unavailable: no_containers,
        run: containers,
    },
    Behaviour {
        name: "a state file that makes no sense, or that others could have written, is said and not believed",
        unavailable: no_sshd,
        run: nonsense,
    },
];

fn no_sudo() -> Option<String> {
    no_sshd().or_else(Sudoers::unavailable)
}

/// What cron's daemon runs at the start, it runs once after a boot: it leaves this behind.
const REBOOTED: &str = "/run/crond.reboot";
/// Held by the daemon that runs.
const CRON_PID: &str = "/run/crond.pid";
const CRON: &str = "/usr/sbin/cron";

fn no_cron() -> Option<String> {
    let programs = [CRON, "/usr/bin/crontab"];
    let missing = || programs.iter().find(|path| !Path::new(path).exists()).map(|path| format!("there is no {path}"));
    // A second daemon refuses to run, and one that has run would run nothing at its start.
    let ran = || [REBOOTED, CRON_PID].iter().any(|path| Path::new(path).exists());
    no_sshd().or_else(missing).or_else(|| ran().then(|| "this machine's own cron runs, or has".to_owned()))
}

fn no_containers() -> Option<String> {
    no_sudo().or_else(Containerd::unavailable)
}

/// Where the runs of one test leave each other what they know.
struct Runs {
    folder: TempDir,
    configuration: String,
}

impl Runs {
    fn new(configuration: &str) -> Self {
        let folder = TempDir::with_prefix("postern-state-").expect("a folder");
        let configuration =
            format!("{configuration}\nstate: {{file: '{}'}}", folder.path().join("state.json").display());
        Self { folder, configuration }
    }

    fn start(&self) -> Agent {
        Agent::start_with(&self.configuration)
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("state.json")
    }
}

fn opened(agent: &mut Agent, user: &str) -> Value {
    agent.wait_for("the session", |event| {
        action(event) == "session-opened" && text(event, "/event/kind") == "event" && text(event, "/user/name") == user
    })
}

fn echo(agent: &mut Agent, marker: &str) -> Value {
    let is_it = |event: &Value| is_exec_of(event, marker) && text(event, "/process/args/0").ends_with("echo");
    agent.wait_for("the command", is_it)
}

/// What must be the same before a restart and behind it.
fn assert_same(before: &Value, behind: &Value) {
    for pointer in ["/postern/session", "/process/entry_leader/entity_id", "/process/entry_leader/entry_meta"] {
        assert_eq!(before.pointer(pointer), behind.pointer(pointer), "{pointer}: {before}\n{behind}");
    }
    assert_ne!(text(before, "/postern/session/id"), "");
}

fn count(events: &[Value], wanted: &str) -> usize {
    events.iter().filter(|event| action(event) == wanted && text(event, "/event/kind") == "event").count()
}

fn ssh() {
    /// What two agents' clocks may differ by, in nanoseconds: each takes smaller steps of the node's clock for none.
    const CLOCKS: i128 = 20_000_000;
    let server = Sshd::start();
    let user = server.user().clone();
    let _sudoers = Sudoers::allow(&user.name);
    let allow =
        format!("access: {{allow: [{{door: sshd, users: ['{}'], keys: ['{}']}}]}}", user.name, user.fingerprint);
    let runs = Runs::new(&allow);
    let mut agent = runs.start();
    let asked = jiff::Timestamp::now().as_nanosecond();
    let mut session = server.open();
    let first = opened(&mut agent, &user.name);
    session.run("/bin/echo before-the-restart");
    session.run("sudo -n /bin/echo root-before");
    let before = echo(&mut agent, "before-the-restart");
    let root_before = echo(&mut agent, "root-before");
    let stopped = agent.stop();
    assert_eq!(count(&stopped.events, "session-closed"), 0);

    let mut agent = runs.start();
    session.run("/bin/echo behind-the-restart");
    session.run("sudo -n /bin/echo root-behind");
    assert_same(&before, &echo(&mut agent, "behind-the-restart"));
    assert_same(&root_before, &echo(&mut agent, "root-behind"));
    let change = agent.wait_for("the change of user", |event| action(event) == "user-changed");
    assert_eq!(text(&change, "/user/effective/name"), "root");
    session.log_out();
    let closed = agent.wait_for("the logout", |event| action(event) == "session-closed");
    for pointer in ["/postern/session/id", "/postern/login/key/fingerprint", "/postern/login/method", "/source/port"] {
        assert_eq!(first.pointer(pointer), closed.pointer(pointer), "{pointer}");
    }
    assert_eq!(closed["postern"]["session"]["allowed"], true);
    assert!(closed["postern"]["session"]["commands"].as_u64().expect("a count") >= 6, "{closed}");
    let time = |event: &Value| text(event, "/@timestamp").parse::<jiff::Timestamp>().expect("a time").as_nanosecond();
    let lasted = i128::from(closed["event"]["duration"].as_u64().expect("a duration"));
    // It began when sshd asked PAM, which was after the client asked and before its first program told of it.
    let (least, most) = (time(&closed) - time(&first), time(&closed) - asked);
    assert!((least - CLOCKS..=most + CLOCKS).contains(&lasted), "{lasted} is not from {least} to {most}");
    server.wait_until_idle();
    let stopped = agent.stop();
    assert_eq!((count(&stopped.events, "session-closed"), count(&stopped.events, "session-opened")), (1, 0));
    assert!(stopped.events.iter().all(|event| text(event, "/event/kind") != "alert"));
}

fn left_behind_and_console() {
    let server = Sshd::start();
    let user = server.user().clone();
    let runs = Runs::new("");
    let mut agent = runs.start();
    let home = server.directory().join("home");
    // Its parent ends, and so does its session: init takes it over.
    let waits = |go: &Path, marker: &str| {
        format!(
            "setsid /bin/sh -c 'while [ ! -e {} ]; do /bin/sleep 0.05; done; /bin/echo {marker}' >/dev/null 2>&1 </dev/null &",
            go.display()
        )
    };
    let go = home.join("go");
    server.by_key(&format!("{} /bin/echo left-by", waits(&go, "left-behind"))).succeeded();
    let before = echo(&mut agent, "left-by");
    agent.wait_for("its end", |event| action(event) == "session-closed");
    let mut console = Typed::start(Command::new("/usr/bin/script").args([
        "-q",
        "-e",
        "-c",
        &format!("/bin/login -f {}", user.name),
        "/dev/null",
    ]));
    let at_console = agent.wait_for("the console", |event| {
        action(event) == "session-opened" && text(event, "/postern/session/door") == "console"
    });
    console.types("/bin/echo console-before\n");
    let console_before = echo(&mut agent, "console-before");
    assert_eq!(text(&at_console, "/postern/session/id"), text(&console_before, "/postern/session/id"));
    agent.stop();

    let mut agent = runs.start();
    fs::write(&go, "").expect("the directory is the server's");
    let behind = echo(&mut agent, "left-behind");
    assert_same(&before, &behind);
    console.types("/bin/echo console-behind\n");
    assert_same(&console_before, &echo(&mut agent, "console-behind"));
    console.types("exit\n");
    console.ends();
    agent.wait_for("the logout", |event| {
        action(event) == "session-closed"
            && text(event, "/postern/session/id") == text(&console_before, "/postern/session/id")
    });
    let stopped = agent.stop();
    assert_eq!((count(&stopped.events, "session-closed"), count(&stopped.events, "session-opened")), (1, 0));
}

/// cron's daemon, as it runs just after a boot.
struct Cron(Child);

impl Cron {
    fn start() -> Self {
        let mut daemon = Command::new(CRON);
        daemon.arg("-f").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(daemon.spawn().expect("it starts"))
    }
}

impl Drop for Cron {
    fn drop(&mut self) {
        // Either fails if it has ended already, and each file may not have been made.
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = [REBOOTED, CRON_PID].map(fs::remove_file);
    }
}

fn left_to_cron() {
    let server = Sshd::start();
    let user = server.user().clone();
    let runs = Runs::new("");
    let mut agent = runs.start();
    server.by_key("echo '@reboot /bin/echo left-to-cron' | crontab - && /bin/echo has-left-it").succeeded();
    let before = echo(&mut agent, "has-left-it");
    agent.wait_for("the logout", |event| action(event) == "session-closed");
    agent.stop();

    let mut agent = runs.start();
    let cron = Cron::start();
    let behind = echo(&mut agent, "left-to-cron");
    for pointer in ["/postern/session/id", "/postern/session/user", "/postern/session/door"] {
        assert_eq!(before.pointer(pointer), behind.pointer(pointer), "{pointer}: {before}\n{behind}");
    }
    assert_eq!(text(&behind, "/process/entry_leader/entry_meta/type"), "cron");
    assert_eq!(text(&behind, "/postern/session/confidence"), "likely");
    assert!(text(&behind, "/postern/session/link").contains("/var/spool/cron/crontabs/"), "{behind}");
    drop(cron);
    run(Command::new("/usr/bin/crontab").args(["-u", &user.name, "-r"]), b"", DEADLINE).succeeded();
    let stopped = agent.stop();
    assert_eq!(count(&stopped.events, "session-opened"), 0);
}

fn ended_meanwhile() {
    let server = Sshd::start();
    let runs = Runs::new("");
    let mut agent = runs.start();
    let session = server.open();
    let first = opened(&mut agent, &server.user().name);
    agent.stop();
    session.log_out();
    server.wait_until_idle();
    let mut agent = runs.start();
    let closed = agent.wait_for("what is said of it", |event| action(event) == "session-closed");
    assert_eq!(text(&closed, "/postern/session/id"), text(&first, "/postern/session/id"));
    assert!(text(&closed, "/event/reason").contains("while the agent was not running"), "{closed}");
    assert_eq!(text(&closed, "/postern/enrichment"), "partial");
    agent.stop();
    // Once is enough.
    let stopped = runs.start().stop();
    assert_eq!(count(&stopped.events, "session-closed"), 0);
}

const UID: &str = "0d6a4a1e-7f0c-4f4e-9f53-0a4a1f3c5b7e";

fn containers() {
    let (containerd, sshd) = (Containerd::start(), Sshd::start());
    let user = sshd.user().clone();
    let _sudoers = Sudoers::allow(&user.name);
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web-1", "namespace": "shop", "uid": UID },
        "spec": { "nodeName": "node-1", "containers": [{ "name": "main", "image": crate::harness::containerd::IMAGE }] },
        "status": { "phase": "Running" },
    });
    let server = ApiServer::start([pod]);
    let runs = Runs::new(&format!(
        "node: {{name: node-1}}\nkubernetes: {{kubeconfig: '{}'}}\ncontainers: {{endpoint: '{}'}}\n\
         access: {{allow: [{{door: sshd}}]}}",
        server.kubeconfig_path().display(),
        containerd.socket().display(),
    ));
    let mut agent = runs.start();
    server.wait_for_open_watch(DEADLINE);
    let mut kubelet = Kubelet::connect(&containerd.socket());
    let running = kubelet.run_pod(&PodOptions {
        name: "web-1",
        namespace: "shop",
        uid: UID,
        container: "main",
        privileged: false,
        host_pid: false,
        host_root: None,
        command: crate::harness::containerd::SLEEP,
    });
    containerd.run("by-hand", &[]);
    // Each waits in its container for a file there.
    let waits = |marker: &str| {
        format!(
            "/bin/echo {marker}-before; while [ ! -e /tmp/{marker} ]; do /bin/sleep 0.1; done; /bin/echo {marker}-behind; :"
        )
    };
    let task = |container: &str, namespace: &str, command: &str| {
        format!(
            "sudo -n ctr --address {} {namespace} task exec --exec-id x{container} {container} /bin/sh -c '{command}'",
            containerd.socket().display()
        )
    };
    let mut by_hand = sshd.terminal(&task("by-hand", "", &waits("hand")));
    let own_kubelet = containerd.socket();
    let in_pod = std::thread::spawn({
        let (container, command) = (running.container.clone(), waits("api"));
        move || Kubelet::connect(&own_kubelet).exec(&container, &["/bin/sh", "-c", &command])
    });
    let hand_before = echo(&mut agent, "hand-before");
    let api_before = echo(&mut agent, "api-before");
    assert_eq!(text(&hand_before, "/postern/session/user"), user.name);
    assert_eq!(text(&api_before, "/postern/session/door"), "kubectl-exec");
    agent.stop();

    let mut agent = runs.start();
    server.wait_for_open_watch(DEADLINE);
    // Not through the runtime: that would be an exec of its own.
    let touch = |marker: &str, pid: &str| {
        let file = format!("/proc/{pid}/root/tmp");
        fs::create_dir_all(&file).and_then(|()| fs::write(format!("{file}/{marker}"), "")).expect("its root is there");
    };
    touch("hand", &pid_of(&hand_before));
    touch("api", &pid_of(&api_before));
    assert_same(&hand_before, &echo(&mut agent, "hand-behind"));
    assert_same(&api_before, &echo(&mut agent, "api-behind"));
    in_pod.join().expect("the exec ends");
    let id = text(&api_before, "/postern/session/id").to_owned();
    agent.wait_for("the end of the exec", |event| {
        action(event) == "session-closed" && text(event, "/postern/session/id") == id
    });
    by_hand.wait_for("hand-behind");
    by_hand.ends();
    sshd.wait_until_idle();
    kubelet.remove(&running);
    run(Command::new("/bin/true").arg("behind-all"), b"", Duration::from_secs(5)).succeeded();
    agent.wait_for("the barrier", |event| is_exec_of(event, "behind-all"));
    let stopped = agent.stop();
    let opened: Vec<_> = stopped.events.iter().filter(|event| action(event) == "session-opened").collect();
    assert!(opened.is_empty(), "{opened:#?}");
    let alerts: Vec<_> = stopped.events.iter().filter(|event| text(event, "/event/kind") == "alert").collect();
    assert!(alerts.is_empty(), "{alerts:#?}");
}

/// The pid of a shell that runs on, which executed that.
fn pid_of(event: &Value) -> String {
    event["process"]["parent"]["pid"].as_u64().expect("a pid").to_string()
}

fn nonsense() {
    use std::os::unix::fs::PermissionsExt as _;

    let runs = Runs::new("");
    for (text_of_file, mode) in
        [("{\"version\":1}", 0o600), ("\0\u{1b}[2J", 0o600), ("{\"version\":99}", 0o600), ("", 0o666)]
    {
        fs::write(runs.file(), text_of_file).expect("the folder is ours");
        fs::set_permissions(runs.file(), fs::Permissions::from_mode(mode)).expect("ours");
        let agent = runs.start();
        let started = agent.seen().iter().find(|event| action(event) == "agent-started").expect("it watches");
        let missing = crate::harness::agent::texts(started, "/postern/missing").join("; ");
        assert!(missing.contains("what the last run knew of open sessions is of no use"), "{missing}");
        agent.stop();
        assert!(fs::read_to_string(runs.file()).expect("it was replaced").contains("\"boot_id\""));
    }
}
