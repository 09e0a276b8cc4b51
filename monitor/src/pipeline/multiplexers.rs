//! tmux and screen: their server goes on when whoever started it has left, and others attach to it. What runs under a server
//! belongs to the session that it was started in; while somebody is attached from another session, nobody can know who of
//! them typed it, and all are named.
//!
//! A server is known by what runs under it: it is forked from its first client, and the kernel side tells of a process that
//! never executes only as the parent of those that do. It counts as gone when nothing that it started runs any more, which
//! is when it ends. A client that attaches is an execution of the same program in another session, for the same socket.

use std::{collections::VecDeque, sync::Arc};

use postern_ebpf::abi::ProcessKey;
use rustc_hash::FxHashMap;

use super::{
    entries::Placed,
    sockets::{self, Wish},
};
use crate::event::{Attached, Attachment, Confidence, Entry, Process, Session};

/// How many servers are known at once; past that the one that was known first is forgotten.
const SERVERS_MAX: usize = 256;
/// How many processes of one server are followed.
const PANES_MAX: usize = 256;
/// How many clients are known at once.
const CLIENTS_MAX: usize = 256;
/// How many people are named on one event.
const NAMED_MAX: usize = 8;
/// How long after its end a client that only sent a command may still be what a process comes from, in nanoseconds.
const LATE_NS: u64 = 2_000_000_000;

/// Servers that run, and clients in other sessions than theirs.
#[derive(Default)]
pub(super) struct Multiplexers {
    servers: FxHashMap<ProcessKey, Server>,
    /// In the order in which they became known.
    order: VecDeque<ProcessKey>,
    /// By what a server started: the server.
    panes: FxHashMap<ProcessKey, ProcessKey>,
    clients: VecDeque<Client>,
}

struct Server {
    program: &'static str,
    /// The session that it was started in.
    session: Option<Arc<Session>>,
    /// Its process as it is known: its arguments are those of its first client.
    process: Process,
    panes: usize,
}

struct Client {
    process: ProcessKey,
    server: ProcessKey,
    attached: Arc<Attached>,
    /// Whether it only sends a command, and does not stay.
    brief: bool,
    ended_ns: Option<u64>,
}

impl Multiplexers {
    /// A process executed, and belongs to `entry`. Yields the server that it runs under, if a server itself started it.
    pub(super) fn pane(&mut self, process: &Process, parent: Option<&Process>, entry: &Entry) -> Option<ProcessKey> {
        let parent = parent?;
        if sockets::program(process.executable_name()).is_some() {
            return None;
        }
        // The program that it was forked from may be forgotten by now.
        if !self.servers.contains_key(&parent.key) {
            let program = sockets::program(parent.executable_name()).filter(|_| is_server(parent))?;
            self.add(parent, program, entry.session());
        }
        let server = self.servers.get_mut(&parent.key)?;
        if server.panes < PANES_MAX && self.panes.insert(process.key, parent.key).is_none() {
            server.panes += 1;
        }
        Some(parent.key)
    }

    /// A process executed. Yields what is to be told if it attaches to the server of another session.
    pub(super) fn client(&mut self, process: &Process, entry: &Entry) -> Option<Attachment> {
        let program = sockets::program(process.executable_name())?;
        let session = entry.session()?;
        let wish = sockets::wish(program, process)?;
        let is_other = |server: &Server| server.session.as_ref().is_none_or(|owner| owner.id != session.id);
        let reached = |server: &Server| {
            server.program == program && is_other(server) && sockets::reaches(process, &server.process)
        };
        // The latest, where several could be meant.
        let (key, server) = self
            .servers
            .iter()
            .filter(|(_, server)| reached(server))
            .max_by_key(|(key, _)| (key.start_ns, key.tgid))
            .map(|(key, server)| (*key, server))?;
        let what = if wish == Wish::Attach { "attaches to the same server" } else { "sent that server a command" };
        let attached = Arc::new(Attached {
            session: Arc::clone(session),
            confidence: Confidence::Likely,
            reason: format!("{program} (pid {}) {what}", process.key.tgid).into(),
        });
        let attachment =
            Attachment { to: server.session.clone(), program: program.into(), server: key.tgid, pid: process.key.tgid };
        if self.clients.len() >= CLIENTS_MAX {
            self.clients.pop_front();
        }
        let brief = wish == Wish::Command;
        self.clients.push_back(Client { process: process.key, server: key, attached, brief, ended_ns: None });
        (!brief).then_some(attachment)
    }

    /// A process has ended.
    pub(super) fn end(&mut self, process: ProcessKey, now_ns: u64) {
        for client in self.clients.iter_mut().filter(|client| client.process == process) {
            client.ended_ns = Some(now_ns);
        }
        self.clients.retain(|client| client.brief || client.ended_ns.is_none());
        if let Some(server) = self.panes.remove(&process)
            && let Some(known) = self.servers.get_mut(&server)
        {
            known.panes -= 1;
            if known.panes == 0 {
                self.forget(server);
            }
        }
    }

    /// Who beside the owner of `entry` is attached to the server that it is under.
    pub(super) fn attached(&self, entry: &Entry, now_ns: u64) -> Box<[Arc<Attached>]> {
        let Some(server) = entry.multiplexer else { return Box::default() };
        let mut named: Vec<Arc<Attached>> = Vec::new();
        for client in self.clients.iter().filter(|client| client.server == server) {
            let late = client.ended_ns.is_some_and(|ended| now_ns.saturating_sub(ended) > LATE_NS);
            let id = &client.attached.session.id;
            let is_owner = entry.session().is_some_and(|owner| owner.id == *id);
            if !late && !is_owner && named.len() < NAMED_MAX && named.iter().all(|it| it.session.id != *id) {
                named.push(Arc::clone(&client.attached));
            }
        }
        named.into()
    }

    /// Time has gone by.
    pub(super) fn tick(&mut self, now_ns: u64) {
        self.clients.retain(|client| client.ended_ns.is_none_or(|ended| now_ns.saturating_sub(ended) <= LATE_NS));
    }

    fn add(&mut self, process: &Process, program: &'static str, session: Option<&Arc<Session>>) {
        if self.servers.len() >= SERVERS_MAX
            && let Some(oldest) = self.order.front().copied()
        {
            self.forget(oldest);
        }
        let server = Server { program, session: session.cloned(), process: process.clone(), panes: 0 };
        self.servers.insert(process.key, server);
        self.order.push_back(process.key);
    }

    fn forget(&mut self, server: ProcessKey) {
        self.servers.remove(&server);
        self.order.retain(|key| *key != server);
        self.panes.retain(|_, of| *of != server);
        self.clients.retain(|client| client.server != server);
    }
}

/// Notes on its entry that a process runs under a terminal multiplexer, so that all below it are known to.
pub(super) fn under_multiplexer(
    multiplexers: &mut Multiplexers,
    placed: Placed,
    process: &Process,
    parent: Option<&Process>,
) -> Placed {
    // What is not settled yet is shared by all of an entry until it is.
    let is_open = placed.entry.session().is_none() && placed.entry.entry_type().is_of_container();
    let server = multiplexers.pane(process, parent, &placed.entry).filter(|_| !is_open);
    if server.is_none() || server == placed.entry.multiplexer {
        return placed;
    }
    let entry = Arc::new(Entry { multiplexer: server, ..Entry::clone(&placed.entry) });
    Placed { entry, ..placed }
}

/// Whether a parent that runs such a program is a server, and no client that has others run: a server was forked and runs on, or
/// was told to be one. Of what was there before the agent nobody can say how it came to be.
fn is_server(parent: &Process) -> bool {
    parent.forked || parent.seeded || parent.args.iter().any(|argument| argument == "-D")
}
