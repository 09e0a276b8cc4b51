//! Entries and access sessions: every process has exactly one entry, made where its lineage crosses a border and inherited
//! from there on.

use std::{net::SocketAddr, sync::Arc};

use postern_ebpf::abi::{EntryMark, LoginClass, ProcessKey};
use rustc_hash::FxHashMap;

use super::{clients::Asked, past::Past, restore::Restored, summaries::Summaries};
use crate::{
    container::cgroup::CgroupContainer,
    detect::{AccessPolicy, Applicant},
    event::{
        Body, Confidence, Container, Door, Entry, EntryType, Event, Lineage, Login, Maintenance, Pod, Process, Session,
        Settled, Source, Timestamp,
    },
    process::{Decoder, Known, login::door, seed::SeedProcess, to_tick},
};

/// Logins that are open at once; past that the one that was opened first loses its details.
const OPEN_MAX: usize = 16_384;

/// How a process came to be in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crossing {
    /// As its first.
    Started,
    /// From outside.
    Entered,
    /// Out of it, into the node's own mount namespace.
    Escaped,
}

/// A process at its exec, with all that says where it belongs.
pub(super) struct Arrival<'a> {
    pub(super) mark: &'a EntryMark,
    pub(super) process: &'a Arc<Process>,
    pub(super) previous: Option<&'a Known>,
    pub(super) parent: Option<&'a Process>,
    pub(super) container: Option<&'a Arc<CgroupContainer>>,
    pub(super) crossing: Option<Crossing>,
    /// Whether it leads its session (setsid(2)).
    pub(super) leads_session: bool,
    /// Whether it leads its process group (setpgid(2)).
    pub(super) leads_group: bool,
    /// From where somebody came, as an SSH server says it in the environment of their first program.
    pub(super) client: Option<SocketAddr>,
    /// Whom the sshd whose program ran before said that it let in.
    pub(super) accepted: Option<&'a Login>,
    /// The runtime's tool that asked for it.
    pub(super) asked: Option<Asked>,
}

/// Where a process belongs.
pub(super) struct Placed {
    pub(super) entry: Arc<Entry>,
    pub(super) leader: Arc<Process>,
    /// Set where an access session opens with this very process.
    pub(super) opened: Option<Arc<Login>>,
}

/// All open logins, and the policy that they are held against.
pub(super) struct Entries {
    policy: AccessPolicy,
    maintenance: Option<Arc<Maintenance>>,
    pub(super) open: FxHashMap<ProcessKey, OpenLogin>,
    pub(super) past: Past,
    pub(super) summaries: Summaries,
    /// While seeding: the mark of each process, by its pid.
    seeded: FxHashMap<u32, EntryMark>,
    /// While seeding: what another run left.
    pub(super) restored: Restored,
    /// Whether something opened, closed or stepped aside since this was looked at.
    pub(super) changed: bool,
}

/// A login that is open, or was.
pub(super) struct OpenLogin {
    pub(super) login: Arc<Login>,
    pub(super) entry_type: EntryType,
    /// What the kernel alone said of its entry.
    pub(super) observed: EntryType,
    /// Of a job: the session of whoever asked for it.
    pub(super) linked: Option<Arc<Session>>,
    /// In nanoseconds since boot: the node's clock may be set while it is open.
    pub(super) since_ns: u64,
    pub(super) opened: bool,
    /// Whether it is open and nobody was told yet.
    pub(super) untold: bool,
    /// Whether the kernel side carries it in the marks of what is under it.
    pub(super) marked: bool,
    /// The first process that executed under it.
    pub(super) leader: Option<ProcessKey>,
    /// The kernel's audit session of that process.
    pub(super) audit_session: Option<u32>,
}

impl Entries {
    pub(super) fn new(policy: AccessPolicy) -> Self {
        Self {
            policy,
            maintenance: None,
            open: FxHashMap::default(),
            past: Past::default(),
            summaries: Summaries::default(),
            seeded: FxHashMap::default(),
            restored: Restored::default(),
            changed: false,
        }
    }

    /// Holds logins against another policy from now on.
    pub(super) fn set_policy(&mut self, policy: AccessPolicy) {
        self.policy = policy;
    }

    /// From now on this is the maintenance that is known of.
    pub(super) fn set_maintenance(&mut self, maintenance: Option<Arc<Maintenance>>) {
        self.maintenance = maintenance;
    }

    /// Whether a process of that session is to be killed. Not one that was only concluded from the shape of things.
    pub(super) fn terminates(&self, session: &Session) -> bool {
        self.policy.terminates() && !session.allowed && session.confidence != Confidence::Likely
    }

    /// Whether something is worth keeping for another run that was not at the last look.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Sessions that are open.
    pub(super) fn session_count(&self) -> usize {
        self.open.values().filter(|open| open.opened && open.login.session.is_some()).count()
    }

    /// Whether a person is in, or something runs that a person asked for.
    pub(super) fn has_people(&self) -> bool {
        self.open.values().any(|open| open.opened && open.login.session.is_some() || open.linked.is_some())
    }

    /// Whether a refusal matters more than another: of whom a rule names, of who is in, or of somebody at the node itself.
    pub(super) fn concerns(&self, login: &Login) -> bool {
        let is_in = |open: &OpenLogin| {
            let by_name = open.login.user == login.user && !login.user.is_empty();
            by_name || open.login.source.ip.is_some_and(|ip| login.source.ip == Some(ip))
        };
        login.source.ip.is_none() || self.policy.names(login) || self.open.values().any(is_in)
    }

    /// Whether a login or an entry is open.
    pub(super) fn is_open(&self, process: ProcessKey) -> bool {
        self.open.contains_key(&to_tick(process))
    }

    /// The entry that a login makes, for what its own program does under it.
    pub(super) fn of_login(&self, mark: &EntryMark) -> Option<Entry> {
        let login = to_tick(mark.login);
        let open = self.open.get(&login).filter(|_| !mark.login.is_none())?;
        let leader = if mark.leader.is_none() { login } else { to_tick(mark.leader) };
        Some(login_entry(open, login, leader))
    }

    /// A login is about to open its session.
    pub(super) fn opening(
        &mut self,
        decoder: &Decoder,
        process: ProcessKey,
        login: Login,
        asked: Option<Asked>,
        now_ns: u64,
    ) {
        let linked = asked.and_then(|asked| asked.session());
        self.open_login(decoder, process, login, Confidence::Certain, linked, now_ns);
    }

    /// Its session is open. Yields the login if a person made it.
    pub(super) fn opened(&mut self, process: ProcessKey) -> Option<Arc<Login>> {
        let open = self.open.get_mut(&to_tick(process))?;
        open.opened = true;
        self.changed = true;
        open.login.session.is_some().then(|| Arc::clone(&open.login))
    }

    /// Its session could not be opened.
    pub(super) fn abandon(&mut self, process: ProcessKey) {
        let key = to_tick(process);
        if self.open.get(&key).is_some_and(|open| !open.opened) {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: ProcessKey) {
        let open = self.open.remove(&key);
        if let Some(session) = open.and_then(|open| open.login.session.clone()) {
            self.summaries.close(&session.id, 0);
        }
    }

    /// A login's session is over. Yields the login if a person made it. Processes that stay keep their entry.
    pub(super) fn close(&mut self, process: ProcessKey, now_ns: u64) -> Option<Arc<Login>> {
        let key = to_tick(process);
        // The end of what entered a container may be told later, with its last event.
        if self.open.get(&key).is_some_and(|open| open.entry_type.is_of_container()) {
            return None;
        }
        self.closed(key, now_ns)
    }

    pub(super) fn closed(&mut self, key: ProcessKey, now_ns: u64) -> Option<Arc<Login>> {
        let open = self.open.remove(&key).filter(|open| open.opened)?;
        self.changed = true;
        let (login, duration_ns) = (Arc::clone(&open.login), now_ns.saturating_sub(open.since_ns));
        self.past.add(key, open);
        let session = login.session.as_ref()?;
        let summary = Some(self.summaries.close(&session.id, duration_ns));
        Some(Arc::new(Login { summary, ..Login::clone(&login) }))
    }

    /// The first event of an entry into a container is about to be told: by now it is known which door that was. Yields the
    /// login if it is a person's, who was in no session before.
    pub(super) fn settle(
        &mut self,
        decoder: &Decoder,
        lineage: &Lineage,
        door: Option<Door>,
        container: &Container,
        now: Timestamp,
    ) -> Option<Arc<Login>> {
        let entry = lineage.entry.as_ref()?;
        let entry_type = door.unwrap_or(entry.observed);
        let session = || {
            let by_person = match entry_type {
                EntryType::KubectlExec | EntryType::KubectlDebug | EntryType::DebugNode => true,
                // Into a container that kubelet does not know, its runtime's own health checks come in the same way.
                EntryType::RuntimeExec => container.pod_uid.is_some(),
                _ => false,
            };
            (by_person && entry.session().is_none()).then(|| {
                let login = Login { door: entry_type, ..Login::default() };
                let applicant = self.applicant(&login, container.pod.as_deref(), now);
                let session = self.session(decoder, entry.leader, applicant, Confidence::Certain);
                Login { session: Some(session), ..login }
            })
        };
        let login = session().map(Arc::new);
        let session = login.as_ref().and_then(|login| login.session.clone());
        // Once: whoever comes later finds it settled.
        entry.settled.set(Settled { entry_type, session }).ok()?;
        let login = login?;
        let open = OpenLogin {
            login: Arc::clone(&login),
            entry_type,
            observed: entry.observed,
            linked: None,
            since_ns: decoder.since_boot_ns(now),
            opened: true,
            untold: false,
            marked: false,
            leader: Some(entry.leader),
            audit_session: None,
        };
        self.add(to_tick(entry.leader), open);
        Some(login)
    }

    /// The last event of an entry into a container is about to be told. Yields the login if its session ends with it.
    pub(super) fn settle_end(&mut self, leader: ProcessKey, now_ns: u64) -> Option<Arc<Login>> {
        let key = to_tick(leader);
        self.open.get(&key).filter(|open| open.entry_type.is_of_container())?;
        self.closed(key, now_ns)
    }

    fn applicant<'a>(&'a self, login: &'a Login, pod: Option<&'a Pod>, time: Timestamp) -> Applicant<'a> {
        Applicant { login, pod, time, maintenance: self.maintenance.as_deref() }
    }

    fn session(
        &self,
        decoder: &Decoder,
        process: ProcessKey,
        applicant: Applicant<'_>,
        confidence: Confidence,
    ) -> Arc<Session> {
        Arc::new(Session {
            id: decoder.session_id(process),
            door: applicant.login.door,
            user: Arc::clone(&applicant.login.user),
            allowed: self.policy.decide(applicant).is_some(),
            confidence,
            link: None,
            from: Arc::default(),
        })
    }

    pub(super) fn add(&mut self, key: ProcessKey, open: OpenLogin) {
        self.changed |= open.opened;
        if self.open.len() >= OPEN_MAX
            && let Some(oldest) = self.open.iter().min_by_key(|(_, open)| open.since_ns).map(|(key, _)| *key)
        {
            self.forget(oldest);
        }
        if let Some(session) = &open.login.session {
            self.summaries.open(&session.id);
        }
        self.open.insert(key, open);
    }

    /// Counts an event of an open session.
    pub(super) fn note(&mut self, event: &Event) {
        let session = match &event.body {
            Body::SessionOpened(login) => login.session.as_ref(),
            _ => event.lineage.as_ref().and_then(|lineage| lineage.entry.as_ref()?.session()),
        };
        if let Some(session) = session {
            self.summaries.note(&session.id, event);
        }
    }

    /// Counts a file that a session changed and of which no event tells.
    pub(super) fn note_file(&mut self, session: &str) {
        self.summaries.note_file(session);
    }

    /// Where a process belongs that has just executed.
    pub(super) fn place(&mut self, decoder: &Decoder, arrival: &Arrival<'_>, now_ns: u64) -> Placed {
        let mut inherited = arrival.previous.and_then(placed);
        if let Some(class) = arrival.mark.entered_by() {
            let login = Some(to_tick(arrival.mark.login));
            // The mark stays on all that comes of a login, whatever entries are made below it.
            let is_known = |it: &Placed| it.entry.login == login;
            inherited = Some(inherited.filter(is_known).unwrap_or_else(|| self.place_login(decoder, arrival, class)));
        }
        if let Some(crossing) = arrival.crossing {
            let placed = cross(arrival, crossing, inherited);
            self.changed |= placed.entry.session().is_some();
            return placed;
        }
        if let Some(placed) = self.place_remote(decoder, arrival, inherited.as_ref(), now_ns) {
            return placed;
        }
        // Whatever init or the kernel itself starts is an entry of its own: a service, or what somebody had it run. Unless
        // init itself has logged somebody in for it (PAMName= of a unit).
        let from_init = is_from_init(arrival.previous, arrival.parent) && arrival.mark.entered_by().is_none();
        let asked = arrival.asked.as_ref().filter(|_| inherited.as_ref().is_none_or(|it| it.entry.session().is_none()));
        match inherited {
            _ if from_init || asked.is_some() => {
                let session = asked.and_then(Asked::session);
                let source_ip = asked.filter(|_| session.is_some()).and_then(|asked| asked.entry.source_ip);
                let of_cron = |it: &Placed| it.entry.observed == EntryType::Cron && !from_init;
                let door = if inherited.as_ref().is_some_and(of_cron) { EntryType::Cron } else { EntryType::Init };
                let init = Entry::new(door, arrival.process.key);
                Placed::leading(Entry { own_session: session, source_ip, ..init }, arrival.process)
            }
            Some(inherited) => inherited,
            None => Placed::leading(Entry::new(EntryType::Unknown, arrival.process.key), arrival.process),
        }
    }

    fn place_login(&mut self, decoder: &Decoder, arrival: &Arrival<'_>, class: LoginClass) -> Placed {
        let leader = to_tick(arrival.mark.leader);
        let leader_process = if leader == arrival.process.key {
            Arc::clone(arrival.process)
        } else {
            Arc::new(decoder.unknown(leader, b""))
        };
        let login = to_tick(arrival.mark.login);
        let mut opened = None;
        if leader == arrival.process.key
            && let Some(open) = self.open.get_mut(&login)
        {
            opened = open.first_program(arrival.client);
            open.leader = Some(leader);
            open.audit_session = arrival.process.credentials.audit_session;
            if class == LoginClass::Cron {
                // Which job it is nobody knows before it runs.
                open.linked = arrival.asked.as_ref().and_then(Asked::session);
            }
            self.changed = true;
        }
        // What it left behind may execute something long after it has ended.
        let open = self.open.get(&login).or_else(|| self.past.get(&login));
        let entry = match open {
            Some(open) => login_entry(open, login, leader),
            None => Entry { login: Some(login), ..Entry::new(door(class), leader) },
        };
        Placed { entry: Arc::new(entry), leader: leader_process, opened }
    }

    /// Where a process belongs that was there before the agent, and the mark that the kernel side is to carry on. Parents
    /// come before their children.
    pub(super) fn place_seed(
        &mut self,
        decoder: &Decoder,
        seed: &SeedProcess,
        process: &Arc<Process>,
        parent: Option<&Known>,
        container: Option<&Arc<CgroupContainer>>,
    ) -> (Placed, EntryMark) {
        let parent_mark = self.seeded.get(&seed.parent).copied().unwrap_or_default();
        let restored = self.restored_mark(process, parent, &parent_mark);
        let mark = restored.unwrap_or_else(|| seed_mark(process, parent, &parent_mark));
        self.seeded.insert(seed.key.tgid, mark);
        if let Some(placed) = self.restored_entry(process) {
            return (placed, mark);
        }
        if mark.leader == process.key && !self.is_restored(mark.login) {
            let login = seeded_login(seed, process);
            self.open_login(decoder, mark.login, login, Confidence::Likely, None, seed.key.start_ns);
            if let Some(open) = self.open.get_mut(&to_tick(mark.login)) {
                open.opened = true;
            }
        }
        let is_orphan = parent.is_none_or(|parent| parent.process.key.tgid <= 2);
        let is_crossing =
            container.is_some_and(|it| parent.is_none_or(|parent| parent.container.as_ref() != Some(&it.id)));
        // A process in /proc runs what its parent was forked to run: the parent stands for the previous program.
        let arrival = Arrival {
            mark: if mark.leader.is_none() { &EntryMark::default() } else { &mark },
            process,
            previous: parent,
            parent: parent.map(|known| &*known.process),
            container,
            // Which of the two it was nobody can say any more, and no event asks.
            crossing: is_crossing.then_some(Crossing::Started),
            leads_session: false,
            leads_group: seed.group == seed.key.tgid,
            client: seed.ssh_connection.as_ref().map(|it| it.client),
            accepted: None,
            asked: None,
        };
        if let Some(class) = mark.entered_by().filter(|_| restored.is_some() && is_orphan && !is_crossing) {
            // Init has taken its parent's place, and did not start it.
            return (self.place_login(decoder, &arrival, class), mark);
        }
        (self.place(decoder, &arrival, seed.key.start_ns), mark)
    }

    pub(super) fn open_login(
        &mut self,
        decoder: &Decoder,
        process: ProcessKey,
        login: Login,
        confidence: Confidence,
        linked: Option<Arc<Session>>,
        now_ns: u64,
    ) {
        let key = to_tick(process);
        if self.open.contains_key(&key) {
            return;
        }
        let entry_type = login.door;
        let login = Login { groups: decoder.groups(&login.user), ..login };
        // Nobody sits at a cron job, and whoever asked for it in his own session is in that one.
        let persons = [EntryType::Sshd, EntryType::Console, EntryType::Ssm, EntryType::CloudAgent];
        let by_person = persons.contains(&entry_type) && linked.is_none();
        let applicant = self.applicant(&login, None, decoder.time(now_ns));
        let session = by_person.then(|| self.session(decoder, process, applicant, confidence));
        let login = Arc::new(Login { session, ..login });
        let open = OpenLogin {
            login,
            entry_type,
            observed: entry_type,
            linked,
            since_ns: now_ns,
            opened: false,
            untold: false,
            marked: true,
            leader: None,
            audit_session: None,
        };
        self.add(key, open);
    }
}

/// Where somebody came from by the environment of their first program. An SSH server puts it there; so can whatever is named like
/// one.
pub(super) fn source(client: SocketAddr) -> Source {
    let address = Some(client.ip().to_string().into());
    Source { address, ip: Some(client.ip()), port: Some(client.port()), claimed: true }
}

fn login_entry(open: &OpenLogin, login: ProcessKey, leader: ProcessKey) -> Entry {
    Entry {
        login: Some(login),
        source_ip: open.login.source.ip,
        own_session: open.login.session.as_ref().or(open.linked.as_ref()).cloned(),
        ..Entry::new(open.entry_type, leader)
    }
}

/// systemd, which is init and also runs each user's own services.
const SYSTEMD: &str = "systemd";
/// What systemd executes first in each process that it starts, since version 255.
const EXECUTOR: &str = "systemd-executor";

/// Whether init or the kernel itself started a process.
pub(super) fn is_from_init(previous: Option<&Known>, parent: Option<&Process>) -> bool {
    let from_init = |pid: u32| pid <= 2;
    match previous {
        Some(previous) if from_init(previous.process.key.tgid) => true,
        Some(previous) if is_executor(previous) => parent.is_some_and(|parent| from_init(parent.key.tgid)),
        Some(previous) if previous.entry.is_some() => false,
        _ => parent.is_none_or(|parent| from_init(parent.key.tgid)),
    }
}

/// Whether a user's own systemd started a process.
pub(super) fn is_from_users_own(previous: Option<&Known>, parent: Option<&Process>) -> bool {
    let starter = previous.filter(|previous| !is_executor(previous)).map(|previous| &*previous.process).or(parent);
    starter.is_some_and(|starter| starter.executable_name() == SYSTEMD)
}

/// Whether it is systemd's own step on the way. Under a person's session it would be somebody's program of that name.
pub(super) fn is_executor(known: &Known) -> bool {
    let is_persons = || known.entry.as_ref().is_some_and(|entry| entry.session().is_some());
    known.process.executable_name() == EXECUTOR && !is_persons()
}

fn placed(known: &Known) -> Option<Placed> {
    Some(Placed { entry: known.entry.clone()?, leader: known.entry_leader.clone()?, opened: None })
}

impl Placed {
    /// A process that leads its entry.
    pub(super) fn leading(entry: Entry, process: &Arc<Process>) -> Self {
        Self { entry: Arc::new(entry), leader: Arc::clone(process), opened: None }
    }
}

/// Into a container or out of one. Whoever took that step in his own session, or asked the runtime to, takes it along.
fn cross(arrival: &Arrival<'_>, crossing: Crossing, inherited: Option<Placed>) -> Placed {
    let is_pod = arrival.container.is_some_and(|container| container.pod_uid.is_some());
    let own = inherited.filter(|it| it.entry.session().is_some());
    let by_hand = own.is_some() || arrival.asked.is_some();
    let observed = match crossing {
        Crossing::Escaped => EntryType::ContainerEscape,
        _ if by_hand || !is_pod => EntryType::RuntimeExec,
        Crossing::Started => EntryType::Kubelet,
        Crossing::Entered => EntryType::KubectlExec,
    };
    let asked = arrival.asked.as_ref();
    let own_session = own.as_ref().and_then(|it| it.entry.session().cloned()).or_else(|| asked?.session());
    let login = own.as_ref().and_then(|it| it.entry.login);
    let multiplexer = own.as_ref().and_then(|it| it.entry.multiplexer);
    let from = own.map(|it| it.entry).or_else(|| Some(Arc::clone(&asked?.entry)));
    let entry = Entry {
        login,
        source_ip: from.and_then(|entry| entry.source_ip),
        own_session,
        multiplexer,
        ..Entry::new(observed, arrival.process.key)
    };
    Placed::leading(entry, arrival.process)
}

/// The mark of a process found in /proc. sshd forks a process for each connection; the first other program below that
/// leads the entry.
fn seed_mark(process: &Process, parent: Option<&Known>, parent_mark: &EntryMark) -> EntryMark {
    let is_sshd = |process: &Process| process.executable_name().starts_with("sshd");
    let parent_is_sshd = parent.is_some_and(|parent| is_sshd(&parent.process));
    match (is_sshd(process), parent_is_sshd) {
        (true, true) if parent_mark.login.is_none() => {
            EntryMark { login: process.key, class: LoginClass::Sshd as u32, ..EntryMark::default() }
        }
        (false, true) if !parent_mark.login.is_none() && parent_mark.leader.is_none() => {
            EntryMark { leader: process.key, ..*parent_mark }
        }
        _ => *parent_mark,
    }
}

fn seeded_login(seed: &SeedProcess, process: &Process) -> Login {
    let user = process.credentials.login_user.as_ref().unwrap_or(&process.credentials.user);
    Login {
        door: EntryType::Sshd,
        user: user.name.clone().unwrap_or_else(|| user.id.to_string().into()),
        user_known: Some(true),
        source: seed.ssh_connection.as_ref().map(|it| source(it.client)).unwrap_or_default(),
        service: "sshd".into(),
        ..Login::default()
    }
}
