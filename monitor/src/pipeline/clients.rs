//! The runtimes' own tools. What `crictl exec` asks for is started by the runtime, not by `crictl`, so that no lineage leads to
//! the person who typed it: what was asked for, and when, does.

use std::{collections::VecDeque, sync::Arc};

use postern_ebpf::abi::ProcessKey;

use crate::event::{Arguments, Confidence, Entry, Process, Session};

/// Programs that ask a runtime for containers and for processes in them.
const TOOLS: [&str; 8] = ["crictl", "ctr", "nerdctl", "docker", "podman", "runc", "crun", "docker-compose"];
/// Commands of theirs that start something.
const COMMANDS: [&str; 6] = ["exec", "run", "start", "attach", "create", "restart"];
/// Who runs some of those tools for whoever asked: beginnings of the names of their programs.
const RUNTIMES: [&str; 5] = ["containerd", "conmon", "crio", "dockerd", "kubelet"];
/// How long after its end a tool may still be what a process comes from, in nanoseconds.
const LATE_NS: u64 = 2_000_000_000;
/// How many are remembered.
const CLIENTS_MAX: usize = 256;
/// The fewest digits of a container's id that name it beyond doubt.
const ID_DIGITS: usize = 8;

/// Those that run, and those that ended a moment ago; the latest last.
#[derive(Default)]
pub(super) struct Clients(VecDeque<Client>);

struct Client {
    process: Arc<Process>,
    entry: Arc<Entry>,
    ended_ns: Option<u64>,
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
        let asks = TOOLS.contains(&process.executable_name()) && process.args.iter().any(|it| COMMANDS.contains(&it));
        if !asks || parent.is_some_and(|parent| RUNTIMES.iter().any(|it| parent.executable_name().starts_with(it))) {
            return;
        }
        if self.0.len() >= CLIENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Client { process: Arc::clone(process), entry: Arc::clone(entry), ended_ns: None });
    }

    /// A process has ended.
    pub(super) fn end(&mut self, key: ProcessKey, now_ns: u64) {
        if let Some(client) = self.0.iter_mut().find(|client| client.process.key == key) {
            client.ended_ns = Some(now_ns);
        }
    }

    /// The tool that asked for a process with these arguments in that container.
    pub(super) fn asked(&mut self, container: &str, args: &Arguments, now_ns: u64) -> Option<Asked> {
        self.0.retain(|client| client.ended_ns.is_none_or(|ended| now_ns.saturating_sub(ended) < LATE_NS));
        let named = |client: &&Client| client.process.args.iter().any(|argument| names(argument, container));
        let same = |client: &&Client| !args.is_empty() && ends_with(&client.process.args, args);
        let newest = || self.0.iter().rev();
        let found = newest().find(named).map(|client| (client, Confidence::Linked, "named the container"));
        let (client, confidence, how) =
            found.or_else(|| newest().find(same).map(|it| (it, Confidence::Likely, "asked for the same command")))?;
        let reason = format!("{} (pid {}) {how}", client.process.executable_name(), client.process.key.tgid).into();
        Some(Asked { entry: Arc::clone(&client.entry), confidence, reason })
    }
}

/// Whether an argument is a container's id, or enough of its beginning.
fn names(argument: &str, container: &str) -> bool {
    argument == container || argument.len() >= ID_DIGITS && container.starts_with(argument)
}

fn ends_with(all: &Arguments, end: &Arguments) -> bool {
    let (count, ends) = (all.count(), end.count());
    // The tool itself and its command come before.
    count >= ends + 2 && all.iter().skip(count - ends).eq(end.iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::EntryType,
        process::{Decoder, users::Passwd},
        replay::key,
    };

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn process(pid: u32, args: &[&str]) -> Process {
        let decoder = Decoder::new("boot".into(), 0, Passwd::default(), 1);
        let mut process = decoder.unknown(key(pid), b"");
        process.executable.path = format!("/usr/bin/{}", args[0]).into();
        process.args = args.iter().collect();
        process
    }

    fn client(clients: &mut Clients, pid: u32, args: &[&str]) {
        child(clients, pid, "bash", args);
    }

    fn child(clients: &mut Clients, pid: u32, parent: &str, args: &[&str]) {
        let entry = Arc::new(Entry::new(EntryType::Sshd, key(pid)));
        clients.add(&Arc::new(process(pid, args)), Some(&process(pid + 1, &[parent])), &entry);
    }

    fn asked(clients: &mut Clients, container: &str, args: &[&str], now_ns: u64) -> Option<(u32, Confidence)> {
        let asked = clients.asked(container, &args.iter().collect(), now_ns)?;
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
    fn a_tool_that_ended_long_ago_asked_for_nothing() {
        let mut clients = Clients::default();
        client(&mut clients, 1, &["ctr", "task", "exec", "--exec-id", "x", ID, "sh"]);
        clients.end(key(1), 5);
        assert!(asked(&mut clients, ID, &["sh"], LATE_NS).is_some());
        assert!(asked(&mut clients, ID, &["sh"], LATE_NS + 5).is_none());
        for pid in 0..2 * CLIENTS_MAX as u32 {
            client(&mut clients, pid, &["ctr", "run", "image", "name"]);
        }
        assert_eq!(clients.0.len(), CLIENTS_MAX);
    }
}
