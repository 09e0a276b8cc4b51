//! What people change on the node: with the real sshd, by every way in which a shell and its programs write.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{Behaviour, no_kernel, no_sshd};
use crate::harness::{
    agent::{Agent, DEADLINE, Stopped, action, text},
    program::until,
    sshd::Sshd,
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour {
        name: "a session says which files of the node it changed, however it changed them",
        unavailable: no_sudo,
        run: changes,
    },
    Behaviour { name: "a file that comes by sftp is its session's", unavailable: no_sshd, run: sftp },
    Behaviour {
        name: "file systems are marked only while somebody is on the node",
        unavailable: no_kernel_or_sshd,
        run: marks,
    },
    Behaviour { name: "files that no session changed are told of nobody", unavailable: no_sshd, run: others },
    Behaviour {
        name: "file events that are lost are told, and so is the end of watching",
        unavailable: no_sshd,
        run: lost,
    },
];

fn no_kernel_or_sshd() -> Option<String> {
    no_kernel().or_else(no_sshd)
}

fn no_sudo() -> Option<String> {
    no_sshd().or_else(|| (!fs::exists("/usr/bin/sudo").unwrap_or(false)).then(|| "there is no sudo".to_owned()))
}

/// A folder on the node's own file system in which everybody may write.
fn folder() -> TempDir {
    let folder = TempDir::with_prefix_in("postern-files-", "/var/tmp").expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
    folder
}

/// What may be run as root without a password, until it is dropped.
struct Sudoers(PathBuf);

impl Sudoers {
    fn for_user(name: &str) -> Self {
        let file = PathBuf::from(format!("/etc/sudoers.d/{name}"));
        fs::write(&file, format!("{name} ALL=(ALL) NOPASSWD: ALL\n")).expect("sudo is installed");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).expect("it is ours");
        Self(file)
    }
}

impl Drop for Sudoers {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Action and name of each file event below a folder.
fn told(stopped: &Stopped, folder: &Path) -> Vec<(String, String)> {
    let events = stopped.events.iter().filter(|event| action(event).starts_with("file-"));
    let own = events.filter(|event| Path::new(text(event, "/file/path")).starts_with(folder));
    own.map(|event| (action(event).to_owned(), text(event, "/file/name").to_owned())).collect()
}

fn paths(closed: &Value) -> BTreeSet<&str> {
    closed["postern"]["session"]["file_paths"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn closed(agent: &mut Agent) -> Value {
    agent.wait_for("the logout", |event| action(event) == "session-closed")
}

fn changes() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for name in ["appended", "removed", "old", "private", "edited"] {
        fs::write(at(name), "before\n").expect("a file");
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o666)).expect("it is ours");
    }
    let server = Sshd::start();
    let user = server.user().clone();
    let _sudoers = Sudoers::for_user(&user.name);
    for name in ["private", "edited"] {
        std::os::unix::fs::chown(at(name), Some(user_id(&user.name)), None).expect("it is ours");
    }
    let mut agent = Agent::start();
    let script = "echo made > made; echo more >> appended; (echo below > by-subshell); rm removed; mv old new; \
                  chmod 600 private; echo root | sudo -n tee by-root > /dev/null; mkdir made-folder; \
                  echo after > .edited.tmp; mv .edited.tmp edited";
    server.by_key(&format!("cd {} && {script}", folder.path().display())).succeeded();
    let closed = closed(&mut agent);
    let changed = [
        "made",
        "appended",
        "by-subshell",
        "removed",
        "new",
        "private",
        "by-root",
        "made-folder",
        ".edited.tmp",
        "edited",
    ];
    let expected: Vec<String> = changed.iter().map(|name| at(name)).collect();
    assert_eq!(paths(&closed), expected.iter().map(String::as_str).collect(), "and no others: {closed}");
    assert_eq!(closed["postern"]["session"]["files"], changed.len());
    let stopped = agent.stop();
    let mut found = told(&stopped, folder.path());
    found.sort();
    let mut expected: Vec<(String, String)> = [
        ("file-created", "made"),
        ("file-changed", "appended"),
        ("file-created", "by-subshell"),
        ("file-deleted", "removed"),
        ("file-renamed", "new"),
        ("file-attributes-changed", "private"),
        ("file-created", "by-root"),
        ("file-created", "made-folder"),
        ("file-created", ".edited.tmp"),
        ("file-renamed", "edited"),
    ]
    .map(|(action, name)| (action.to_owned(), name.to_owned()))
    .into();
    expected.sort();
    assert_eq!(found, expected);
    let of = |name: &str| {
        let is_it = |event: &&Value| action(event).starts_with("file-") && text(event, "/file/path") == at(name);
        stopped.events.iter().find(is_it).expect("it was told")
    };
    assert_eq!(text(of("new"), "/postern/file/from"), at("old"));
    assert_eq!((text(of("by-root"), "/process/name"), text(of("by-root"), "/user/name")), ("tee", "root"));
    assert_eq!(text(of("by-root"), "/postern/session/user"), user.name);
    assert_eq!(text(of("made-folder"), "/file/type"), "dir");
    assert_eq!(text(of("by-subshell"), "/postern/session/id"), text(&closed, "/postern/session/id"));
}

fn user_id(name: &str) -> u32 {
    let passwd = fs::read_to_string("/etc/passwd").expect("a node has users");
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name)).expect("the user was made");
    line.split(':').nth(2).and_then(|id| id.parse().ok()).expect("a number")
}

fn sftp() {
    let folder = folder();
    let server = Sshd::start();
    let mut agent = Agent::start();
    let local = server.user().key.with_extension("pub");
    let remote = folder.path().join("brought");
    server.sftp(&format!("put {} {}\n", local.display(), remote.display())).succeeded();
    let closed = closed(&mut agent);
    assert!(paths(&closed).contains(&*remote.display().to_string()), "{closed}");
    agent.stop();
}

fn marks() {
    let server = Sshd::start();
    let mut agent = Agent::start();
    assert_eq!(agent.marked(), 0, "nobody is here");
    let mut session = server.open();
    session.run("/bin/echo here");
    let count = until("the marks are set", DEADLINE, || Some(agent.marked()).filter(|count| *count > 0));
    let second = server.open();
    second.log_out();
    assert_eq!(agent.marked(), count, "somebody is here still");
    session.log_out();
    closed(&mut agent);
    until("the marks are gone", DEADLINE, || (agent.marked() == 0).then_some(()));
    agent.stop();
}

fn others() {
    let folder = folder();
    let server = Sshd::start();
    let mut agent = Agent::start();
    let mut session = server.open();
    session.run("/bin/echo here");
    until("the marks are set", DEADLINE, || (agent.marked() > 0).then_some(()));
    fs::write(folder.path().join("nobodys"), "not under a session").expect("a file");
    let own = folder.path().join("own");
    session.run(&format!("echo mine > {}", own.display()));
    session.log_out();
    let closed = closed(&mut agent);
    assert!(paths(&closed).contains(&*own.display().to_string()), "{closed}");
    let stopped = agent.stop();
    assert_eq!(told(&stopped, folder.path()), [("file-created".to_owned(), "own".to_owned())]);
    assert!(stopped.events.iter().all(|event| action(event) != "events-lost"));
}

/// Pids of the processes that the agent started.
fn children(agent: &Agent) -> Vec<i32> {
    let file = format!("/proc/{0}/task/{0}/children", agent.pid());
    let pids = fs::read_to_string(file).expect("the agent runs");
    pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn lost() {
    let folder = folder();
    let server = Sshd::start();
    let mut agent = Agent::start();
    let mut session = server.open();
    session.run("/bin/echo here");
    until("the marks are set", DEADLINE, || (agent.marked() > 0).then_some(()));
    agent.signal(Signal::STOP);
    // More than the kernel's queue has room for.
    (0..20_000).for_each(|number| fs::write(folder.path().join(number.to_string()), "").expect("a file"));
    agent.signal(Signal::CONT);
    let lost = agent.wait_for("the loss", |event| action(event) == "events-lost");
    assert_eq!(text(&lost, "/postern/loss/cause"), "files");
    // What comes after is told again.
    let own = folder.path().join("own");
    session.run(&format!("echo mine > {}", own.display()));
    agent.wait_for("a file", |event| text(event, "/file/path") == own.display().to_string());

    let [marker] = children(&agent)[..] else { panic!("the agent starts one process") };
    let status = fs::read_to_string(format!("/proc/{marker}/status")).expect("it runs");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("a line");
    let only = (1u64 << 21) | (1 << 2);
    assert_eq!(u64::from_str_radix(effective, 16), Ok(only), "CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH");
    kill_process(Pid::from_raw(marker).expect("a pid"), Signal::KILL).expect("it runs");
    agent.wait_for("the end of watching", |event| {
        action(event) == "agent-changed" && text(event, "/message").starts_with("files are not watched any more")
    });
    session.log_out();
    closed(&mut agent);
    agent.stop();
}
