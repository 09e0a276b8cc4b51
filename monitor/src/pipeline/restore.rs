//! Sessions that are open when the agent stops, and those that left something behind: handed out as plain values, and taken in
//! again by the next run. What is taken in is held against the processes that run: a session whose process has gone meanwhile
//! is closed, and said to be.

use std::sync::{Arc, OnceLock};

use postern_ebpf::abi::{EntryMark, LoginClass, ProcessKey};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    entries::{Entries, OpenLogin, Placed},
    saved::{LIST_MAX, Saved, SavedEntry, SavedKey, SavedLogin, SavedOrigin, SavedSession, TEXT_MAX},
};
use crate::{
    event::{Confidence, Entry, EntryType, Login, LoginMethod, Origin, Process, Session, Settled, Source, Summary},
    process::{Decoder, Known, login::door, seed::SeedProcess, text::cut, to_tick},
};

/// What another run left, while the processes that run are taken in.
#[derive(Default)]
pub(super) struct Restored {
    /// Logins of the other run.
    logins: FxHashSet<ProcessKey>,
    /// By the kernel's audit session: the login that it began with.
    audit: FxHashMap<u32, ProcessKey>,
    /// By their first process: entries below a session.
    entries: FxHashMap<ProcessKey, Arc<Entry>>,
}

impl Entries {
    /// All that another run needs to know.
    pub(super) fn save<'a>(&self, decoder: &Decoder, known: impl Iterator<Item = &'a Known>) -> Saved {
        let mut saved = Saved::new(decoder.boot_id());
        let open = self.open.iter().filter(|(_, open)| open.opened).map(|(key, open)| (key, open, false));
        let past = self.past.iter().map(|(key, open)| (key, open, true));
        let mut all: Vec<_> = past.chain(open).collect();
        all.sort_by_key(|(key, open, closed)| (!closed, open.since_ns, key.tgid));
        saved.logins = all
            .into_iter()
            .map(|(key, open, closed)| {
                let summary = open.login.session.as_ref().and_then(|session| self.summaries.get(&session.id));
                SavedLogin { closed, ..save_login(*key, open, summary.unwrap_or(&Summary::default())) }
            })
            .collect();
        // What is under a login follows from it. What began with a step of its own would not.
        let own = |known: &&Known| known.entry.as_ref().is_some_and(|entry| entry.leader == known.process.key);
        let entries = known.filter(own).filter_map(|known| known.entry.as_ref());
        let below = entries.filter(|entry| entry.observed != EntryType::Sshd && !self.open.contains_key(&entry.leader));
        saved.entries = below.filter_map(|entry| save_entry(entry)).collect();
        saved
    }

    /// Takes in what another run left. Yields the sessions whose processes have gone meanwhile.
    pub(super) fn restore(
        &mut self,
        decoder: &Decoder,
        saved: &Saved,
        living: &FxHashSet<ProcessKey>,
        now_ns: u64,
    ) -> Vec<(ProcessKey, Arc<Login>)> {
        let mut gone = Vec::new();
        for login in &saved.logins {
            let Some((key, open, summary)) = load_login(decoder, login) else { continue };
            self.restored.logins.insert(key);
            if let Some(audit) = login.audit_session {
                self.restored.audit.insert(audit, key);
            }
            if login.closed {
                self.past.add(key, open);
                continue;
            }
            let session = open.login.session.clone();
            self.add(key, open);
            if let Some(session) = &session {
                self.summaries.put(&session.id, summary);
            }
            if !living.contains(&key)
                && let Some(closed) = self.closed(key, now_ns)
            {
                let reason = Some("it ended while the agent was not running".into());
                gone.push((key, Arc::new(Login { reason, ..Login::clone(&closed) })));
            }
        }
        self.restored.entries =
            saved.entries.iter().filter_map(load_entry).map(|entry| (entry.leader, Arc::new(entry))).collect();
        gone
    }

    /// The sessions that logins opened, by their ids.
    pub(super) fn sessions(&self) -> FxHashMap<Arc<str>, Arc<Session>> {
        let all = self.open.values().chain(self.past.iter().map(|(_, open)| open));
        all.filter_map(|open| open.login.session.as_ref()).map(|it| (Arc::clone(&it.id), Arc::clone(it))).collect()
    }

    /// The processes that run are taken in: what is left of the other run is of processes that have gone.
    pub(super) fn end_restoring(&mut self) {
        self.restored = Restored::default();
    }

    /// The mark of a process that another run has placed under a login.
    pub(super) fn restored_mark(
        &self,
        process: &Process,
        parent: Option<&Known>,
        parent_mark: &EntryMark,
    ) -> Option<EntryMark> {
        if self.restored.logins.is_empty() {
            return None;
        }
        let of = |login: ProcessKey| {
            let open = self.open.get(&login).or_else(|| self.past.get(&login))?;
            Some((login_class(open.entry_type).filter(|_| open.marked)?, open.leader))
        };
        let under = |login: ProcessKey, leader: ProcessKey| {
            let (class, known) = of(login)?;
            let leader = if leader.is_none() { known.unwrap_or(process.key) } else { leader };
            Some(EntryMark { login, leader, class: class as u32, server: 0 })
        };
        if self.restored.logins.contains(&process.key) {
            let (class, leader) = of(process.key)?;
            let leader = leader.filter(|leader| *leader == process.key).unwrap_or(ProcessKey::NONE);
            return Some(EntryMark { login: process.key, leader, class: class as u32, server: 0 });
        }
        if self.restored.logins.contains(&parent_mark.login) {
            // The login program forks, and what it forks is not yet under the entry's leader.
            let is_login_program =
                parent.is_some_and(|parent| parent.process.executable.path == process.executable.path);
            let before = parent_mark.leader.is_none() && is_login_program;
            return if before { Some(*parent_mark) } else { under(parent_mark.login, parent_mark.leader) };
        }
        // Its parent has gone, and left it to init.
        let audit = process.credentials.audit_session?;
        under(*self.restored.audit.get(&audit).filter(|_| parent_mark.login.is_none())?, ProcessKey::NONE)
    }

    /// Whether another run knew that login.
    pub(super) fn is_restored(&self, login: ProcessKey) -> bool {
        self.restored.logins.contains(&login)
    }

    /// The entry that another run has placed a process in which began it.
    pub(super) fn restored_entry(&mut self, process: &Arc<Process>) -> Option<Placed> {
        if let Some(entry) = self.restored.entries.remove(&process.key) {
            return Some(Placed { entry, leader: Arc::clone(process), opened: None });
        }
        if !self.restored.logins.contains(&process.key) {
            return None;
        }
        let open = self.open.get(&process.key).filter(|open| open.entry_type.is_of_container())?;
        let entry = Entry::new(open.observed, process.key);
        let settled = Settled { entry_type: open.entry_type, session: open.login.session.clone() };
        // It is new, and so not settled yet.
        let _ = entry.settled.set(settled);
        Some(Placed { entry: Arc::new(entry), leader: Arc::clone(process), opened: None })
    }
}

/// Every process that runs.
pub(super) fn living(processes: &[SeedProcess]) -> FxHashSet<ProcessKey> {
    processes.iter().map(|process| to_tick(process.key)).collect()
}

fn login_class(entry_type: EntryType) -> Option<LoginClass> {
    LoginClass::ENTRIES.into_iter().find(|&class| door(class) == entry_type)
}

pub(super) fn short(text: &str) -> String {
    cut(text, TEXT_MAX).to_owned()
}

fn maybe(text: Option<&Arc<str>>) -> Option<String> {
    text.map(|text| short(text))
}

fn list(texts: &[Arc<str>]) -> Vec<String> {
    texts.iter().take(LIST_MAX).map(|text| short(text)).collect()
}

fn saved_key(key: ProcessKey) -> SavedKey {
    let key = to_tick(key);
    SavedKey(key.tgid, key.start_ns)
}

fn key(saved: SavedKey) -> ProcessKey {
    to_tick(ProcessKey::new(saved.0, saved.1))
}

fn save_session(session: &Session) -> SavedSession {
    SavedSession {
        id: short(&session.id),
        door: session.door.as_str().to_owned(),
        user: short(&session.user),
        allowed: session.allowed,
        confidence: session.confidence.as_str().to_owned(),
        link: maybe(session.link.as_ref()),
        from: session.from.get().map(|from| SavedOrigin {
            id: short(&from.id),
            door: from.door.as_str().to_owned(),
            user: short(&from.user),
            confidence: from.confidence.as_str().to_owned(),
            reason: short(&from.reason),
        }),
    }
}

fn load_origin(saved: &SavedOrigin) -> Option<Origin> {
    Some(Origin {
        id: saved.id.as_str().into(),
        door: EntryType::parse(&saved.door)?,
        user: saved.user.as_str().into(),
        confidence: Confidence::parse(&saved.confidence)?,
        reason: saved.reason.as_str().into(),
    })
}

fn load_session(saved: &SavedSession) -> Option<Arc<Session>> {
    Some(Arc::new(Session {
        id: saved.id.as_str().into(),
        door: EntryType::parse(&saved.door)?,
        user: saved.user.as_str().into(),
        allowed: saved.allowed,
        confidence: Confidence::parse(&saved.confidence)?,
        link: saved.link.as_deref().map(Arc::from),
        from: Arc::new(match &saved.from {
            Some(from) => OnceLock::from(load_origin(from)?),
            None => OnceLock::new(),
        }),
    }))
}

fn save_login(process: ProcessKey, open: &OpenLogin, summary: &Summary) -> SavedLogin {
    let login = &open.login;
    SavedLogin {
        process: saved_key(process),
        marked: open.marked,
        leader: open.leader.map(saved_key),
        audit_session: open.audit_session,
        closed: false,
        since: open.since_ns as i64,
        entry_type: open.entry_type.as_str().to_owned(),
        observed: open.observed.as_str().to_owned(),
        user: short(&login.user),
        user_known: login.user_known,
        address: maybe(login.source.address.as_ref()),
        ip: login.source.ip,
        port: login.source.port,
        method: login.method.as_ref().map(|method| short(method.as_str())),
        key_fingerprint: maybe(login.key_fingerprint.as_ref()),
        key_type: maybe(login.key_type.as_ref()),
        certificate: maybe(login.certificate.as_ref()),
        groups: list(&login.groups),
        terminal: maybe(login.terminal.as_ref()),
        service: short(&login.service),
        session: login.session.as_deref().map(save_session),
        linked: open.linked.as_deref().map(save_session),
        commands: summary.commands,
        alerts: summary.alerts,
        users: list(&summary.users),
        containers: list(&summary.containers),
        files: summary.files,
        file_paths: list(&summary.file_paths),
        cut: summary.cut,
    }
}

/// A login as it was, if it is one: the session that it opened has the id that its process gives it.
fn load_login(decoder: &Decoder, saved: &SavedLogin) -> Option<(ProcessKey, OpenLogin, Summary)> {
    let process = key(saved.process);
    let session = match &saved.session {
        Some(session) if *session.id == *decoder.session_id(process) => Some(load_session(session)?),
        Some(_) => return None,
        None => None,
    };
    let linked = match &saved.linked {
        Some(session) => Some(load_session(session)?),
        None => None,
    };
    let text = |text: &Option<String>| text.as_deref().map(Arc::from);
    let texts = |list: &[String]| list.iter().map(|text| Arc::from(text.as_str())).collect();
    let entry_type = EntryType::parse(&saved.entry_type)?;
    let login = Login {
        door: entry_type,
        user: saved.user.as_str().into(),
        user_known: saved.user_known,
        // Whether the address is more than a claim mattered to the policy, which has decided.
        source: Source { address: text(&saved.address), ip: saved.ip, port: saved.port, claimed: false },
        method: saved.method.as_deref().map(LoginMethod::parse),
        key_fingerprint: text(&saved.key_fingerprint),
        certificate: text(&saved.certificate),
        groups: texts(&saved.groups),
        key_type: text(&saved.key_type),
        terminal: text(&saved.terminal),
        service: saved.service.as_str().into(),
        session,
        ..Login::default()
    };
    let open = OpenLogin {
        login: Arc::new(login),
        entry_type,
        observed: EntryType::parse(&saved.observed)?,
        linked,
        since_ns: u64::try_from(saved.since).ok()?,
        opened: true,
        untold: false,
        marked: saved.marked,
        leader: saved.leader.map(key),
        audit_session: saved.audit_session,
    };
    let summary = Summary {
        duration_ns: 0,
        commands: saved.commands,
        alerts: saved.alerts,
        users: texts(&saved.users),
        containers: texts(&saved.containers),
        files: saved.files,
        file_paths: texts(&saved.file_paths),
        cut: saved.cut,
    };
    Some((process, open, summary))
}

pub(super) fn save_entry(entry: &Entry) -> Option<SavedEntry> {
    Some(SavedEntry {
        leader: saved_key(entry.leader),
        login: entry.login.map(saved_key),
        observed: entry.observed.as_str().to_owned(),
        entry_type: entry.entry_type().as_str().to_owned(),
        ip: entry.source_ip,
        session: save_session(entry.session()?),
        multiplexer: entry.multiplexer.map(saved_key),
    })
}

pub(super) fn load_entry(saved: &SavedEntry) -> Option<Entry> {
    let session = load_session(&saved.session)?;
    let entry = Entry {
        login: saved.login.map(key),
        source_ip: saved.ip,
        own_session: Some(session),
        multiplexer: saved.multiplexer.map(key),
        ..Entry::new(EntryType::parse(&saved.observed)?, key(saved.leader))
    };
    // It is new, and so not settled yet.
    let _ = entry.settled.set(Settled { entry_type: EntryType::parse(&saved.entry_type)?, session: None });
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_taken_in_with_the_one_that_it_was_come_from() {
        let origin = Origin {
            id: "a".into(),
            door: EntryType::Sshd,
            user: "dev".into(),
            confidence: Confidence::Linked,
            reason: "ssh (pid 7) has the connection".into(),
        };
        let session = Session {
            id: "b".into(),
            door: EntryType::Sshd,
            user: "root".into(),
            allowed: true,
            confidence: Confidence::Certain,
            link: None,
            from: Arc::new(origin.clone().into()),
        };
        let saved = save_session(&session);
        assert_eq!(load_session(&saved).and_then(|session| session.from.get().cloned()), Some(origin));
        let senseless = SavedOrigin { confidence: "sure".into(), ..saved.from.clone().expect("it has one") };
        assert!(load_session(&SavedSession { from: Some(senseless), ..saved }).is_none());
    }
}
