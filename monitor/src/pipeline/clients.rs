//! Programs that ask others to run something. What `crictl exec` asks for is started by the runtime, not by `crictl`, and what
//! `systemd-run` and `at` ask for by init and atd: no lineage leads to the person who typed it. What was
//! asked for, and when, does. So with what `systemctl` and `machinectl` ask init for.

use std::{collections::VecDeque, sync::Arc};

use postern_ebpf::abi::ProcessKey;

use super::left::{Left, LeftBehind};
use crate::{
    container::cgroup::CgroupContainer,
    event::{Arguments, Confidence, Entry, Process, Session},
    process::to_tick,
};

/// Programs that ask a runtime for containers and for processes in them.
const TOOLS: [&str; 8] = ["crictl", "ctr", "nerdctl", "docker", "podman", "runc", "crun", "docker-compose"];
/// Commands of theirs that start something. What `create` makes runs once somebody has it started.
const COMMANDS: [&str; 6] = [EXEC, "run", "start", "up", "attach", "restart"];
/// The one by which a process is started in a container that runs.
const EXEC: &str = "exec";
/// Those of them that start a container, whose name or image may be all that they say of it.
const STARTS_CONTAINER: [&str; 4] = ["run", "start", "up", "restart"];
/// Tools whose containers are known by their cgroups for those of that runtime.
const OF_RUNTIME: [(&str, &str); 4] =
    [("docker", "docker"), ("docker-compose", "docker"), ("podman", "podman"), ("nerdctl", "containerd")];
/// Who runs some of those tools for whoever asked: beginnings of the names of their programs.
const RUNTIMES: [&str; 5] = ["containerd", "conmon", "crio", "dockerd", "kubelet"];
/// How long after its end a tool may still be what a process comes from, in nanoseconds.
const LATE_NS: u64 = 2_000_000_000;
/// The same for those that ask init, which puts what it is asked for behind what it has to do already.
const LATE_OF_INIT_NS: u64 = 30_000_000_000;
/// How many are remembered.
const CLIENTS_MAX: usize = 256;
/// The program that has init run something at once.
const SYSTEMD_RUN: &str = "systemd-run";
/// The program that has init start what a unit's file says.
const SYSTEMCTL: &str = "systemctl";
/// Its commands that start a unit; `--now` has others start it, too.
const STARTS: [&str; 6] = ["start", "restart", "try-restart", "reload-or-restart", "try-reload-or-restart", "--now"];
/// How the names of services end.
pub(super) const SERVICE: &str = ".service";
/// The program that has init log somebody in, and run a shell.
const MACHINECTL: &str = "machinectl";
/// The fewest digits of a container's id that name it beyond doubt.
const ID_DIGITS: usize = 8;

/// Those that run, and those that ended a moment ago; the latest last.
#[derive(Default)]
pub(super) struct Clients {
    at_once: VecDeque<Client>,
    /// By whose jobs atd is asked for: who asked last, by `at` or `batch`.
    pub(super) later: LeftBehind,
}

struct Client {
    process: Arc<Process>,
    entry: Arc<Entry>,
    ended_ns: Option<u64>,
    /// Whether what it asked for is there: by one `exec` comes one process.
    answered: bool,
}

/// A tool that asked for a process.
pub(super) struct Asked {
    /// The entry under which it was run.
    pub(super) entry: Arc<Entry>,
    /// How sure that is.
    confidence: Confidence,
    /// Why it is thought to be this one.
    reason: Arc<str>,
}

impl Asked {
    pub(super) fn new(entry: Arc<Entry>, confidence: Confidence, reason: Arc<str>) -> Self {
        Self { entry, confidence, reason }
    }

    /// The person's session, as what was asked for belongs to it.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        let session = self.entry.session()?;
        // What is only likely does not become surer by one more step.
        let confidence = if session.confidence == Confidence::Likely { Confidence::Likely } else { self.confidence };
        Some(Arc::new(Session { confidence, link: Some(Arc::clone(&self.reason)), ..Session::clone(session) }))
    }
}

impl Clients {
    /// A program was executed.
    pub(super) fn add(&mut self, process: &Arc<Process>, parent: Option<&Process>, entry: &Arc<Entry>) {
        self.add_later(process, entry);
        let any = |commands: &[&str]| process.args.iter().any(|argument| commands.contains(&argument));
        let asks = match process.executable_name() {
            SYSTEMD_RUN => true,
            SYSTEMCTL => any(&STARTS),
            MACHINECTL => any(&["shell"]),
            name => TOOLS.contains(&name) && any(&COMMANDS),
        };
        if !asks || parent.is_some_and(|parent| RUNTIMES.iter().any(|it| parent.executable_name().starts_with(it))) {
            return;
        }
        if self.at_once.len() >= CLIENTS_MAX {
            self.at_once.pop_front();
        }
        self.at_once.push_back(Client {
            process: Arc::clone(process),
            entry: Arc::clone(entry),
            ended_ns: None,
            answered: false,
        });
    }

    fn add_later(&mut self, process: &Arc<Process>, entry: &Arc<Entry>) {
        if !matches!(process.executable_name(), "at" | "batch") || entry.session().is_none() {
            return;
        }
        let Some(user) = process.credentials.real_user.name.clone() else { return };
        let how = reason(process, "asked for jobs of this user");
        self.later.put(user, Left::new(entry, how, process.key.start_ns));
    }

    /// A process has ended, by its key as the kernel tells it.
    pub(super) fn end(&mut self, key: ProcessKey, now_ns: u64) {
        let key = to_tick(key);
        if let Some(client) = self.at_once.iter_mut().find(|client| client.process.key == key) {
            client.ended_ns = Some(now_ns);
        }
    }

    /// The tool that asked for a process with these arguments in that container, or, where it is the `first`, for the container.
    pub(super) fn asked(
        &mut self,
        container: &CgroupContainer,
        first: bool,
        args: &Arguments,
        now_ns: u64,
    ) -> Option<Asked> {
        self.forget(now_ns);
        let how = |client: &Client| {
            let named = client.process.args.iter().any(|argument| names(argument, &container.id));
            match (named, ends_with(&client.process.args, args)) {
                (true, true) => Some((0, Confidence::Linked, "named the container")),
                (false, true) => Some((1, Confidence::Likely, "asked for the same command")),
                // Of a script that was asked for, this is the interpreter.
                (true, false) => Some((2, Confidence::Linked, "named the container")),
                // What its image runs, or what was said when it was made, stands in nobody's arguments.
                _ if first && client.starts_container_of(container) => {
                    Some((3, Confidence::Likely, "had a container started"))
                }
                _ => None,
            }
        };
        let newest = self.at_once.iter_mut().rev().filter(|client| client.may_ask_runtime());
        let all = newest.filter_map(|client| Some((how(client)?, client)));
        // Of equals the newest.
        let ((_, confidence, how), client) = all.min_by_key(|((rank, ..), _)| *rank)?;
        client.answered = client.process.args.iter().any(|argument| argument == EXEC);
        Some(client.asked(confidence, how))
    }

    /// The tool that asked init for a process with these arguments, or for the unit whose cgroup this is.
    pub(super) fn asked_init(
        &mut self,
        args: &Arguments,
        cgroup: impl FnOnce() -> Vec<u8>,
        now_ns: u64,
    ) -> Option<Asked> {
        if self.at_once.is_empty() {
            return None;
        }
        self.forget(now_ns);
        let path = cgroup();
        let unit = unit_of(&path);
        let how = |client: &Client| match client.process.executable_name() {
            SYSTEMD_RUN if ends_with(&client.process.args, args) => Some("asked for the same command"),
            SYSTEMCTL if client.process.args.iter().any(|it| names_unit(it, unit)) => Some("asked for this unit"),
            _ => None,
        };
        let mut asked = self.at_once.iter().rev().filter_map(|client| Some((client, how(client)?)));
        asked.next().map(|(client, how)| client.asked(Confidence::Likely, how))
    }

    /// The tool that asked init to log somebody in on the node itself.
    pub(super) fn asked_login(&mut self, now_ns: u64) -> Option<Asked> {
        self.forget(now_ns);
        let asked = |client: &&Client| client.process.executable_name() == MACHINECTL;
        Some(self.at_once.iter().rev().find(asked)?.asked(Confidence::Likely, "asked for a shell"))
    }

    /// Who asked last for jobs of that user.
    pub(super) fn asked_later(&self, user: &str, since_boot_ns: u64) -> Option<Asked> {
        self.later.get(user)?.asked(since_boot_ns)
    }

    fn forget(&mut self, now_ns: u64) {
        self.at_once
            .retain(|client| client.ended_ns.is_none_or(|ended| now_ns.saturating_sub(ended) < client.late_ns()));
    }
}

impl Client {
    fn late_ns(&self) -> u64 {
        let asks_init = [SYSTEMD_RUN, SYSTEMCTL, MACHINECTL].contains(&self.process.executable_name());
        if asks_init { LATE_OF_INIT_NS } else { LATE_NS }
    }

    /// Whether it is one of the runtime's tools, and waits for what it asked for.
    fn may_ask_runtime(&self) -> bool {
        TOOLS.contains(&self.process.executable_name()) && !self.answered
    }

    /// Whether it may have had a container started of which it says neither the id nor the command. One of a pod's is kubelet's.
    fn starts_container_of(&self, container: &CgroupContainer) -> bool {
        let of = (self.process.executable_name(), container.runtime.unwrap_or_default());
        let starts = || self.process.args.iter().any(|argument| STARTS_CONTAINER.contains(&argument));
        container.pod_uid.is_none() && OF_RUNTIME.contains(&of) && starts()
    }

    fn asked(&self, confidence: Confidence, how: &str) -> Asked {
        Asked::new(Arc::clone(&self.entry), confidence, reason(&self.process, how))
    }
}

fn reason(process: &Process, how: &str) -> Arc<str> {
    format!("{} (pid {}) {how}", process.executable_name(), process.key.tgid).into()
}

/// Whether an argument is a container's id, or enough of its beginning.
fn names(argument: &str, container: &str) -> bool {
    argument == container || argument.len() >= ID_DIGITS && container.starts_with(argument)
}

fn ends_with(all: &Arguments, end: &Arguments) -> bool {
    let (count, ends) = (all.count(), end.count());
    // The tool itself comes before, and mostly its command.
    ends > 0 && count > ends && all.iter().skip(count - ends).zip(end.iter()).enumerate().all(is_same)
}

/// Whether an argument is the one that was asked for. For a program that is named alone, its path is looked up.
fn is_same((index, (asked, is)): (usize, (&str, &str))) -> bool {
    let is_looked_up = index == 0 && !asked.contains('/');
    asked == is || is_looked_up && is.rsplit_once('/').is_some_and(|(_, name)| name == asked)
}

/// The service that a cgroup belongs to, which may have cgroups of its own; empty if it belongs to none.
pub(super) fn unit_of(path: &[u8]) -> &str {
    let names = std::str::from_utf8(path).unwrap_or_default().rsplit('/');
    names.into_iter().find(|name| name.ends_with(SERVICE)).unwrap_or_default()
}

/// Whether an argument is that service, which may be named without its type.
fn names_unit(argument: &str, unit: &str) -> bool {
    !argument.is_empty() && unit.strip_prefix(argument).is_some_and(|rest| rest.is_empty() || rest == SERVICE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::EntryType,
        pipeline::left::LATER_NS,
        replay::{self, key},
    };

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn process(pid: u32, args: &[&str]) -> Process {
        replay::process(pid, &format!("/usr/bin/{}", args[0]), args)
    }

    fn client(clients: &mut Clients, pid: u32, args: &[&str]) {
        child(clients, pid, "bash", args);
    }

    fn child(clients: &mut Clients, pid: u32, parent: &str, args: &[&str]) {
        let entry = Arc::new(Entry::new(EntryType::Sshd, key(pid)));
        clients.add(&Arc::new(process(pid, args)), Some(&process(pid + 1, &[parent])), &entry);
    }

    fn container(id: &str, runtime: Option<&'static str>) -> CgroupContainer {
        CgroupContainer { id: id.into(), runtime, pod_uid: None, namespace: None }
    }

    fn asked(clients: &mut Clients, id: &str, args: &[&str], now_ns: u64) -> Option<(u32, Confidence)> {
        let asked = clients.asked(&container(id, None), false, &args.iter().collect(), now_ns)?;
        Some((asked.entry.leader.tgid, asked.confidence))
    }

    #[test]
    fn whoever_names_the_container_comes_before_whoever_asks_for_the_same() {
        let mut clients = Clients::default();
        client(&mut clients, 1, &["crictl", "exec", "-it", &ID[..13], "sh"]);
        client(&mut clients, 2, &["docker", "exec", "-it", "web", "sh"]);
        client(&mut clients, 3, &["crictl", "ps"]);
        client(&mut clients, 4, &["cat", "exec", ID]);
        assert_eq!(asked(&mut clients, ID, &["sh"], 0), Some((1, Confidence::Linked)));
        assert_eq!(asked(&mut clients, "other", &["sh"], 0), Some((2, Confidence::Likely)));
        assert_eq!(asked(&mut clients, "other", &["bash"], 0), None);
        assert_eq!(asked(&mut clients, "other", &[], 0), None);
        // The runtime runs it for whoever asked.
        child(&mut clients, 6, "containerd-shim-runc-v2", &["runc", "exec", "--process", "/x", "abcdef0123"]);
        assert_eq!(asked(&mut clients, "abcdef0123", &["date"], 0), None);
        // Too short to name one container.
        client(&mut clients, 5, &["crictl", "exec", "fedc", "id"]);
        assert_eq!(asked(&mut clients, "fedcba98", &["date"], 0), None);
    }

    #[test]
    fn by_one_exec_comes_one_process() {
        let mut clients = Clients::default();
        client(&mut clients, 1, &["nerdctl", "exec", "-it", &ID[..12], "sh"]);
        assert_eq!(asked(&mut clients, ID, &["sh"], 0), Some((1, Confidence::Linked)));
        // Somebody else calls the same container by its name, while that shell is open.
        client(&mut clients, 2, &["nerdctl", "exec", "web", "./script"]);
        assert_eq!(asked(&mut clients, ID, &["/bin/sh", "./script"], 0), None);
        client(&mut clients, 3, &["nerdctl", "exec", ID, "./script"]);
        assert_eq!(asked(&mut clients, ID, &["/bin/sh", "./script"], 0), Some((3, Confidence::Linked)));
        assert_eq!(asked(&mut clients, ID, &["/bin/sh", "./script"], 0), None);
        // Of one that restarts a container come the first process and others.
        client(&mut clients, 4, &["nerdctl", "restart", ID]);
        for _ in 0..2 {
            assert_eq!(asked(&mut clients, ID, &["/entrypoint"], 0), Some((4, Confidence::Linked)));
        }
    }

    #[test]
    fn who_has_a_container_started_need_not_say_what_it_runs() {
        let mut clients = Clients::default();
        client(&mut clients, 1, &["docker", "run", "--detach", "nginx"]);
        client(&mut clients, 2, &["docker", "exec", "web", "sh"]);
        client(&mut clients, 3, &["ctr", "run", "image", "name"]);
        let mut started = |container: &CgroupContainer, first, args: &[&str]| {
            let asked = clients.asked(container, first, &args.iter().collect(), 0)?;
            Some((asked.entry.leader.tgid, asked.confidence))
        };
        let (docker, containerd) = (container(ID, Some("docker")), container(ID, Some("containerd")));
        assert_eq!(started(&docker, true, &["/entrypoint.sh"]), Some((1, Confidence::Likely)));
        // What was asked for word by word comes first.
        assert_eq!(started(&docker, true, &["sh"]), Some((2, Confidence::Likely)));
        assert_eq!(started(&docker, false, &["/entrypoint.sh"]), None, "a health check, or the like");
        assert_eq!(started(&containerd, true, &["/entrypoint.sh"]), None, "another runtime's");
        let of_pod = CgroupContainer { pod_uid: Some("1".into()), ..docker };
        assert_eq!(started(&of_pod, true, &["/entrypoint.sh"]), None, "kubelet asked for it");
    }

    #[test]
    fn who_asks_for_something_later_is_remembered_for_a_day() {
        let mut clients = Clients::default();
        let mut run = |pid: u32, args: &[&str]| {
            let mut process = process(pid, args);
            Arc::make_mut(&mut process.credentials).real_user.name = Some("ops".into());
            let session = Session {
                id: pid.to_string().into(),
                door: EntryType::Sshd,
                user: "ops".into(),
                allowed: true,
                confidence: Confidence::Certain,
                link: None,
                from: Arc::default(),
            };
            let entry = Entry { own_session: Some(Arc::new(session)), ..Entry::new(EntryType::Sshd, key(pid)) };
            clients.add(&Arc::new(process), None, &Arc::new(entry));
        };
        run(1, &["at", "now"]);
        run(5, &["systemd-run", "--unit=x", "sleep", "5"]);
        let session = |asked: Option<Asked>| asked.and_then(|asked| asked.session()).map(|it| it.id.to_string());
        let later = |user: &str, now_ns| session(clients.asked_later(user, now_ns));
        assert_eq!(later("ops", 0), Some("1".into()));
        assert_eq!(later("ops", 2 * LATER_NS), None);
        assert_eq!(later("web", 0), None);
        let init = |clients: &mut Clients, args: &[&str]| {
            session(clients.asked_init(&args.iter().collect(), || b"/system.slice/x.service".to_vec(), 0))
        };
        assert_eq!(init(&mut clients, &["sleep", "5"]), Some("5".into()));
        assert_eq!(init(&mut clients, &["/usr/bin/sleep", "5"]), Some("5".into()));
        assert_eq!(init(&mut clients, &["/usr/bin/asleep", "5"]), None);
        assert_eq!(init(&mut clients, &["sleep", "6"]), None);
        assert_eq!(init(&mut clients, &[]), None);
    }

    #[test]
    fn who_starts_a_unit_is_known_by_its_cgroup() {
        let mut clients = Clients::default();
        client(&mut clients, 1, &["systemctl", "status", "web.service"]);
        client(&mut clients, 2, &["systemctl", "start", "web", "backup@1.service"]);
        client(&mut clients, 3, &["systemctl", "enable", "--now", "web-admin.service"]);
        let mut asked = |cgroup: &str| {
            let asked = clients.asked_init(&["/bin/x"].iter().collect(), || cgroup.as_bytes().to_vec(), 0)?;
            Some((asked.entry.leader.tgid, asked.confidence))
        };
        assert_eq!(asked("/system.slice/web.service"), Some((2, Confidence::Likely)));
        assert_eq!(asked("/system.slice/web.service/workers"), Some((2, Confidence::Likely)));
        assert_eq!(asked("/system.slice/system-backup.slice/backup@1.service"), Some((2, Confidence::Likely)));
        assert_eq!(asked("/system.slice/web-admin.service"), Some((3, Confidence::Likely)));
        assert_eq!(asked("/system.slice/cron.service"), None);
        assert_eq!(asked("/user.slice/user-0.slice/session-1.scope"), None);
    }

    #[test]
    fn a_shell_on_the_node_itself_is_asked_of_init() {
        let mut clients = Clients::default();
        client(&mut clients, 1, &["machinectl", "list"]);
        assert!(clients.asked_login(0).is_none());
        client(&mut clients, 2, &["machinectl", "shell", "root@.host"]);
        assert_eq!(clients.asked_login(0).map(|asked| asked.entry.leader.tgid), Some(2));
    }

    #[test]
    fn a_tool_that_ended_long_ago_asked_for_nothing() {
        let mut clients = Clients::default();
        client(&mut clients, 1, &["ctr", "task", "exec", "--exec-id", "x", ID, "sh"]);
        // The kernel tells when it began more exactly than it is kept.
        clients.end(ProcessKey::new(1, key(1).start_ns + 1_234_567), 5);
        assert!(asked(&mut clients, ID, &["sh"], LATE_NS).is_some());
        assert!(asked(&mut clients, ID, &["sh"], LATE_NS + 5).is_none());
        // Init may have much to do before it.
        client(&mut clients, 2, &["systemd-run", "sh"]);
        clients.end(key(2), 5);
        let mut of_init = |now_ns| clients.asked_init(&["sh"].iter().collect(), Vec::new, now_ns).is_some();
        assert!(of_init(LATE_OF_INIT_NS) && !of_init(LATE_OF_INIT_NS + 5));
        for pid in 0..2 * CLIENTS_MAX as u32 {
            client(&mut clients, pid, &["ctr", "run", "image", "name"]);
        }
        assert_eq!(clients.at_once.len(), CLIENTS_MAX);
    }
}
