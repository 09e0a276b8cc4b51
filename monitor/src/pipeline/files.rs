//! What people change on the node: whose a change is, what of it is told, and that nothing of it comes after the session's
//! own summary.
//!
//! The kernel tells of files by another way than of processes, and without a time. So whoever hands changes in has read them
//! before the records that are handled first, and a session that ends while files are watched is closed only with the second
//! hand-over after its end: whatever it changed has been read by then.

use std::sync::Arc;

use postern_ebpf::abi::{ProcessKey, TaskState};
use rustc_hash::{FxHashMap, FxHashSet};

use super::Pipeline;
use crate::{
    event::{AgentEvent, Body, Enrichment, Event, FileAction, FileChange},
    files::Touch,
    process::{Known, text::printable},
};

/// How many files of one session are told; more are counted.
const TOLD_MAX: usize = 1_000;
/// The same, in bytes of their paths.
const TOLD_BYTES: usize = 256 << 10;
/// For how long what a process does to a file once more is the same change, in nanoseconds.
const SAME_NS: u64 = 5_000_000_000;
/// How many changes are remembered for that, and then none for a moment.
const RECENT_MAX: usize = 1_024;
/// Files in which login programs keep accounts of who is in. What anybody else does to them matters.
const ACCOUNTS: [&str; 9] = [
    "/run/utmp",
    "/run/sudo/ts/",
    "/var/lib/sudo/",
    "/var/run/utmp",
    "/var/run/sudo/ts/",
    "/var/log/wtmp",
    "/var/log/lastlog",
    "/var/log/btmp",
    "/var/log/faillog",
];
/// Programs that do.
const ACCOUNTANTS: [&str; 9] = ["sudo", "su", "login", "sshd", "sshd-session", "utempter", "screen", "tmux", "runuser"];
/// What PAM has made anew at each login, before the person's own first program: it is nobody's, and does not last.
const GREETINGS: [&str; 2] = ["/run/motd.dynamic", "/run/motd.dynamic.new"];
/// Where runtimes keep what containers write to their own file systems.
const LAYERS: [&str; 4] =
    ["/io.containerd.snapshotter.v1.", "/overlay2/", "/overlay-containers/", "/containers/storage/overlay/"];

/// What is remembered of files.
#[derive(Default)]
pub(super) struct FileChanges {
    /// Whether files are watched, and so hand-overs come.
    watched: bool,
    recent: FxHashMap<(u32, Arc<str>), (FileAction, u64)>,
    sessions: FxHashMap<Arc<str>, Told>,
    /// Ends of sessions that wait for the hand-over after the next, and for the next.
    later: Vec<Closing>,
    next: Vec<Closing>,
}

/// What was told of one session.
#[derive(Default)]
struct Told {
    paths: FxHashSet<Arc<str>>,
    bytes: usize,
    full: bool,
}

/// The end of a session.
enum Closing {
    /// Of a login, and when.
    Login(ProcessKey, u64),
    /// Of an entry into a container, by the last event of it.
    Container(Box<Event>),
}

impl FileChanges {
    /// Whether something waits for the next hand-over.
    pub(super) fn is_waiting(&self) -> bool {
        !self.later.is_empty() || !self.next.is_empty()
    }
}

impl Pipeline {
    /// Whether files are to be watched: somebody is on the node, or is about to be.
    pub fn wants_files(&self, now_ns: u64) -> bool {
        self.entries.has_people() || self.logins.is_admitting(now_ns)
    }

    /// Whether a process is in a person's session; `None` where it is not known, and its lineage decides.
    pub fn is_in_session(&self, pid: u32) -> Option<bool> {
        self.processes.by_pid(pid).map(|known| known.entry.as_ref().is_some_and(|entry| entry.session().is_some()))
    }

    /// The same of a process that never executed.
    pub fn is_fork_in_session(&self, state: &TaskState) -> bool {
        self.owner_of_fork(0, state).is_some()
    }

    /// Files are watched from now on, or are not.
    pub(super) fn files_watched(&mut self, watched: bool) {
        self.files.watched = watched;
        if !watched {
            self.close_waiting();
            self.close_waiting();
            self.files.recent = FxHashMap::default();
            // What is left are sessions that went on after they were closed.
            self.files.sessions = FxHashMap::default();
        }
    }

    /// What was done to files, with the lineage of those who never executed.
    pub(super) fn touched(&mut self, touches: Vec<Touch>, forks: &FxHashMap<u32, TaskState>, now_ns: u64) {
        for touch in touches {
            self.touch(&touch, forks.get(&touch.pid), now_ns);
        }
        self.close_waiting();
    }

    fn touch(&mut self, touch: &Touch, fork: Option<&TaskState>, now_ns: u64) {
        let Some(owner) = self.owner(touch.pid, fork) else { return };
        let Some(entry) = &owner.entry else { return };
        let Some(session) = entry.session().cloned() else { return };
        let file = change(touch);
        let name = owner.process.executable_name();
        if is_of_login(name, &file) || owner.container.is_some() && is_of_container(&file) {
            return;
        }
        self.links.note(&file, entry, now_ns);
        let key = file.path.as_ref().unwrap_or(&file.name);
        let recent = &mut self.files.recent;
        if recent.len() >= RECENT_MAX {
            recent.clear();
        }
        let last = recent.get(&(touch.pid, Arc::clone(key)));
        if last.is_some_and(|&(last, then)| now_ns.saturating_sub(then) < SAME_NS && is_same(last, file.action)) {
            return;
        }
        recent.insert((touch.pid, Arc::clone(key)), (file.action, now_ns));
        match self.files.sessions.entry(Arc::clone(&session.id)).or_default().admit(key) {
            Admitted::Told => {}
            Admitted::Full => {
                let message = format!(
                    "more than {TOLD_MAX} files changed in session {}: the others are only counted",
                    session.id
                );
                self.agent(AgentEvent::Changed { message: message.into() }, now_ns);
                return self.entries.note_file(&session.id);
            }
            Admitted::Counted => return self.entries.note_file(&session.id),
        }
        let container = owner.container.as_ref().and_then(|id| self.containers.reference(id));
        let enrichment = if file.path.is_some() { Enrichment::Complete } else { Enrichment::Partial };
        let event = Event { enrichment, ..self.event(Body::File(Arc::new(file)), Some(owner.alone()), now_ns) };
        self.send_whole(event, container.as_ref(), now_ns);
    }

    /// Whose a change is.
    fn owner(&self, pid: u32, fork: Option<&TaskState>) -> Option<Known> {
        self.processes.by_pid(pid).cloned().or_else(|| self.owner_of_fork(pid, fork?))
    }

    /// A process that was forked and never executed does what it does as the program that it was forked from. One of a login
    /// program itself belongs to the login: sshd serves files so.
    fn owner_of_fork(&self, pid: u32, state: &TaskState) -> Option<Known> {
        let image = self.processes.get(state.image);
        let is_in_session = |known: &&Known| known.entry.as_ref().is_some_and(|entry| entry.session().is_some());
        if let Some(known) = image.filter(is_in_session) {
            return Some(known.clone());
        }
        let entry = self.entries.of_login(&state.entry).filter(|entry| entry.session().is_some())?;
        let process = match image {
            Some(known) => Arc::clone(&known.process),
            None => Arc::new(self.decoder.unknown(ProcessKey::new(pid, 0), b"")),
        };
        Some(Known { process, entry: Some(Arc::new(entry)), entry_leader: None, container: None, told: 0 })
    }

    /// A login's session is over: now, or once all that it did is known.
    pub(super) fn close(&mut self, process: ProcessKey, now_ns: u64) {
        if self.files.watched && self.entries.is_open(process) {
            self.files.later.push(Closing::Login(process, now_ns));
        } else {
            self.close_now(process, now_ns);
        }
    }

    fn close_now(&mut self, process: ProcessKey, now_ns: u64) {
        self.tell_if_untold(process, now_ns);
        if let Some(login) = self.entries.close(process, now_ns) {
            self.forget_session(&login);
            self.session_event(Body::SessionClosed(login), process, Enrichment::Complete, now_ns);
        }
    }

    /// An entry into a container is over. Yields the event that says so, unless that has to wait.
    pub(super) fn close_entry(&mut self, event: &Event, leader: ProcessKey) -> Option<Event> {
        if self.files.watched && self.entries.is_open(leader) {
            self.files.later.push(Closing::Container(Box::new(event.clone())));
            return None;
        }
        self.close_entry_now(event)
    }

    fn close_entry_now(&mut self, event: &Event) -> Option<Event> {
        let now_ns = self.decoder.since_boot_ns(event.time);
        let login = self.entries.settle_end(event.lineage.as_ref()?.process.key, now_ns)?;
        self.forget_session(&login);
        Some(Event { body: Body::SessionClosed(login), ..event.clone() })
    }

    fn forget_session(&mut self, login: &crate::event::Login) {
        if let Some(session) = &login.session {
            self.files.sessions.remove(&session.id);
        }
    }

    fn close_waiting(&mut self) {
        let ready = std::mem::replace(&mut self.files.next, std::mem::take(&mut self.files.later));
        for closing in ready {
            match closing {
                Closing::Login(process, now_ns) => self.close_now(process, now_ns),
                Closing::Container(event) => {
                    if let Some(closed) = self.close_entry_now(&event) {
                        self.number(closed);
                    }
                }
            }
        }
    }
}

/// What becomes of a change of one more file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admitted {
    Told,
    /// Counted from here on.
    Full,
    Counted,
}

impl Told {
    fn admit(&mut self, path: &Arc<str>) -> Admitted {
        if self.paths.contains(path) {
            return Admitted::Told;
        }
        if self.paths.len() >= TOLD_MAX || self.bytes + path.len() > TOLD_BYTES {
            return if std::mem::replace(&mut self.full, true) { Admitted::Counted } else { Admitted::Full };
        }
        self.bytes += path.len();
        self.paths.insert(Arc::clone(path));
        Admitted::Told
    }
}

fn change(touch: &Touch) -> FileChange {
    FileChange {
        action: touch.action,
        path: touch.path.as_deref().map(printable),
        name: match touch.path.as_deref().filter(|_| &*touch.name == b".") {
            Some(path) => printable(path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()),
            None => printable(&touch.name),
        },
        from: touch.from.as_deref().map(printable),
        is_directory: touch.is_directory,
    }
}

/// Whether a change only goes on with the one before it.
fn is_same(before: FileAction, now: FileAction) -> bool {
    use FileAction::{AttributesChanged, Changed, Created};
    match now {
        Changed => matches!(before, Created | Changed),
        AttributesChanged => matches!(before, Created | Changed | AttributesChanged),
        _ => false,
    }
}

/// Whether a login writes down who is in, or makes its greeting. To remove such a file is another thing.
fn is_of_login(program: &str, file: &FileChange) -> bool {
    let Some(path) = file.path.as_deref().filter(|_| !matches!(file.action, FileAction::Deleted | FileAction::Passed))
    else {
        return false;
    };
    let is_account = |it: &str| if it.ends_with('/') { path.starts_with(it) } else { path == it };
    let by_accountant = ACCOUNTANTS.contains(&program) && file.action != FileAction::Renamed;
    GREETINGS.contains(&path) || by_accountant && ACCOUNTS.iter().any(|it| is_account(it))
}

/// Whether a file is on a container's own file system, seen from below.
fn is_of_container(file: &FileChange) -> bool {
    file.path.as_deref().is_none_or(|path| LAYERS.iter().any(|layer| path.contains(layer)))
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
