//! In which session somebody came in who comes from this node itself: `ssh` typed in one opens another, and no lineage leads from
//! sshd to whoever typed it. The connection does: its client's end belongs to a process of that session, or to the sshd that carries
//! it and forwards a port. Whose it is stands in /proc, which is not read here: it is asked for, and answered before anything is told of
//! the new session.
//!
//! A client may be gone a moment after the session has opened. So it is asked twice: as soon as sshd says from where somebody
//! comes, if a client runs at all in a session, and where that yields nothing, when the session opens.

use std::{cmp::Reverse, net::IpAddr, sync::Arc};

use postern_ebpf::abi::ProcessKey;
use rustc_hash::FxHashMap;

use super::{Pipeline, entries::OpenLogin};
use crate::{
    event::{Confidence, EntryType, Origin, Process, Session},
    process::{Known, to_tick},
};

/// Programs that speak SSH themselves; `scp`, `sftp`, `rsync` and `sshpass` run one of them.
const CLIENTS: [&str; 5] = ["ssh", "dbclient", "plink", "pscp", "psftp"];
/// How many processes are looked at.
const HOLDERS_MAX: usize = 512;
/// How long after its end a client may still be who came in, in nanoseconds.
pub(super) const LATE_NS: u64 = 2_000_000_000;
/// How often it is asked in a second of whom nobody knows whether they will be let in: whoever guesses passwords is not to have /proc
/// read for each.
pub(super) const EARLY_MAX: usize = 16;
/// See [`EARLY_MAX`].
const SECOND_NS: u64 = 1_000_000_000;
/// Of how many who are not in yet it is known from where they come.
const COMING_MAX: usize = 256;

/// What is asked and what is known of those who are not in yet.
#[derive(Default)]
pub(super) struct Origins {
    questions: Vec<Question>,
    /// By the process that lets them in.
    coming: FxHashMap<ProcessKey, Origin>,
    /// When a second began, and how often it was asked early since.
    early: (u64, usize),
}

/// Which of these processes has the connection by which somebody comes?
#[derive(Debug)]
pub struct Question {
    /// None before it opens.
    session: Option<Arc<Session>>,
    asked_ns: u64,
    /// The process that lets them in.
    pub server: ProcessKey,
    /// From where they come.
    pub ip: IpAddr,
    /// From which port, if that is known.
    pub port: Option<u16>,
    /// All that run in other sessions, clients of SSH before others, and the latest of each first.
    pub among: Vec<ProcessKey>,
    /// How many more there are than are asked for.
    pub left_out: usize,
    /// The processes of sshd that carry other sessions: what they forward, they or their children connect to.
    pub carriers: Vec<ProcessKey>,
}

/// The answer.
#[derive(Debug, Default)]
pub struct Holders {
    /// Those that have it.
    pub found: Vec<ProcessKey>,
    /// Those that could not be looked at: mostly, because they have ended.
    pub unseen: Vec<ProcessKey>,
    /// Carriers that have it.
    pub carried: Vec<ProcessKey>,
    /// Whether somebody else has it.
    pub others: bool,
}

impl Origins {
    /// Whether it may be asked early once more.
    fn may_ask(&mut self, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.early.0) >= SECOND_NS {
            self.early = (now_ns, 0);
        }
        self.early.1 += 1;
        self.early.1 <= EARLY_MAX
    }

    /// A process has ended.
    pub(super) fn end(&mut self, process: ProcessKey) {
        self.coming.remove(&to_tick(process));
    }
}

impl Pipeline {
    /// What is to be answered, each by an [`Input::Origin`](super::Input::Origin), before the next event is taken.
    pub fn take_questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.origins.questions)
    }

    /// Somebody wants to come in.
    pub(super) fn comes(&mut self, process: ProcessKey, ip: IpAddr, now_ns: u64) {
        let runs = |known: &Known| is_client(&known.process) && session_of(known).is_some();
        if self.origins.may_ask(now_ns) && self.processes.living().any(runs) {
            let (among, left_out) = self.among(None);
            let ip = ip.to_canonical();
            let asked_ns = now_ns;
            let carriers = Vec::new();
            let question =
                Question { session: None, asked_ns, server: process, ip, port: None, among, left_out, carriers };
            self.origins.questions.push(question);
        }
    }

    /// Somebody is in.
    pub(super) fn came(&mut self, process: ProcessKey, now_ns: u64) {
        let known = self.origins.coming.remove(&to_tick(process));
        let Some(login) = self.entries.open.get(&to_tick(process)).map(|open| &open.login) else { return };
        let (Some(session), Some(ip)) = (&login.session, login.source.ip) else { return };
        if let Some(origin) = known {
            // It opens once.
            let _ = session.from.set(origin);
            return;
        }
        let (among, mut left_out) = self.among(Some(session));
        let mut carriers = self.carriers(session);
        left_out += carriers.len().saturating_sub(HOLDERS_MAX);
        carriers.truncate(HOLDERS_MAX);
        // Nobody else is in, mostly.
        if among.is_empty() && carriers.is_empty() && self.late(Some(session), now_ns).next().is_none() {
            return;
        }
        let (session, ip, port) = (Some(Arc::clone(session)), ip.to_canonical(), login.source.port);
        let asked_ns = now_ns;
        let question = Question { session, asked_ns, server: process, ip, port, among, left_out, carriers };
        self.origins.questions.push(question);
    }

    /// Notes in which session it was, if it was one and no other.
    pub(super) fn came_from(&mut self, question: &Question, holders: &Holders) {
        let Question { session, server, asked_ns, ip, .. } = question;
        let own = session.as_deref();
        let known = |keys: &[ProcessKey]| keys.iter().filter_map(|key| self.processes.get(*key)).collect::<Vec<_>>();
        let found = known(&holders.found).into_iter().filter_map(|known| candidate(known, own));
        let carried = holders.carried.iter().filter_map(|key| {
            let session = self.entries.open.get(&to_tick(*key))?.login.session.clone()?;
            Some((session, format!("sshd (pid {})", key.tgid)))
        });
        let found = the_one(found, Confidence::Linked, "has the connection")
            .or_else(|| the_one(carried, Confidence::Linked, "forwards the connection"));
        let Some(session) = session else {
            if self.origins.coming.len() >= COMING_MAX {
                self.origins.coming.clear();
            }
            self.origins.coming.extend(found.map(|origin| (to_tick(*server), origin)));
            return;
        };
        let may_be_here = holders.found.is_empty() && (ip.is_loopback() || holders.others);
        let origin = found.or_else(|| {
            // One that was not found in time. Where somebody has the connection still, only what went on without its first process
            // can be it.
            let may_be = |known: &&Known| is_client(&known.process) && (!holders.others || forks(&known.process));
            let unseen = known(&holders.unseen).into_iter().chain(self.late(own, *asked_ns)).filter(may_be);
            let unseen = unseen.filter(|_| may_be_here).filter_map(|known| candidate(known, own));
            the_one(unseen, Confidence::Likely, "ended as it began, and no other client of another session did")
        });
        if let Some(origin) = origin {
            // It opens once.
            let _ = session.from.set(origin);
        }
    }

    /// Whom to ask for, and how many are left out.
    fn among(&self, session: Option<&Session>) -> (Vec<ProcessKey>, usize) {
        let mut among: Vec<&Known> = self.processes.living().filter(|known| other(known, session).is_some()).collect();
        among.sort_by_key(|known| (!is_client(&known.process), Reverse(known.process.key.start_ns)));
        let left_out = among.len().saturating_sub(HOLDERS_MAX);
        (among.into_iter().take(HOLDERS_MAX).map(|known| known.process.key).collect(), left_out)
    }

    /// Who carries other sessions.
    fn carriers(&self, session: &Session) -> Vec<ProcessKey> {
        // A server without PAM has its first program for its login.
        let carries = |open: &OpenLogin| {
            let is_other = open.login.session.as_ref().is_some_and(|other| other.id != session.id);
            open.opened && open.marked && open.entry_type == EntryType::Sshd && is_other
        };
        let open = self.entries.open.iter().filter(|(_, open)| carries(open));
        open.map(|(key, _)| *key).collect()
    }

    /// Clients in other sessions that ended a moment before.
    fn late(&self, session: Option<&Session>, now_ns: u64) -> impl Iterator<Item = &Known> {
        let ended = self.processes.ended_since(now_ns.saturating_sub(LATE_NS));
        ended.filter(move |known| is_client(&known.process) && other(known, session).is_some())
    }
}

/// The session of a process.
fn session_of(known: &Known) -> Option<&Arc<Session>> {
    known.entry.as_ref()?.session()
}

/// The session of a process, if it is another one.
fn other<'a>(known: &'a Known, session: Option<&Session>) -> Option<&'a Arc<Session>> {
    session_of(known).filter(|own| session.is_none_or(|session| own.id != session.id))
}

fn is_client(process: &Process) -> bool {
    CLIENTS.contains(&process.executable_name())
}

/// Whether it was told to go on in the background, which is as another process.
fn forks(process: &Process) -> bool {
    process.args.iter().any(|it| it.strip_prefix('-').is_some_and(|options| options.contains('f')))
}

/// A process of another session, by its name and number.
fn candidate(known: &Known, session: Option<&Session>) -> Option<(Arc<Session>, String)> {
    let process = &known.process;
    let name = format!("{} (pid {})", process.executable_name(), process.key.tgid);
    Some((Arc::clone(other(known, session)?), name))
}

/// The session that all of these are of, if it is one; the first stands for it.
fn the_one(
    candidates: impl IntoIterator<Item = (Arc<Session>, String)>,
    confidence: Confidence,
    how: &str,
) -> Option<Origin> {
    let mut candidates = candidates.into_iter();
    let (first, process) = candidates.next()?;
    // What is only likely does not become surer by one more step.
    let confidence = if first.confidence == Confidence::Likely { Confidence::Likely } else { confidence };
    candidates.all(|(other, _)| other.id == first.id).then(|| Origin {
        id: Arc::clone(&first.id),
        door: first.door,
        user: Arc::clone(&first.user),
        confidence,
        reason: format!("{process} {how}").into(),
    })
}
