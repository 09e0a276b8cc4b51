//! Record to event to alert. Synchronous, the one owner of all state: no locks, no I/O and no clock but the times handed
//! in, so that a stream of records can be replayed and yields the same events.

mod accounting;
mod clients;
mod containers;
pub mod crontab;
mod ends;
mod entries;
mod files;
mod inherited;
mod input;
mod jobs;
mod left;
mod links;
mod maintenance;
mod multiplexers;
mod origins;
mod past;
mod refusals;
mod remote;
mod restore;
pub mod saved;
mod siblings;
mod sockets;
mod start;
mod steps;
mod stock;
mod summaries;
mod units;

use std::{borrow::Cow, sync::Arc};

use postern_ebpf::abi::{ExecBody, Namespaces, ProcessKey};

use self::{
    accounting::Accounting,
    containers::Containers,
    entries::{Crossing, Entries, Placed},
    files::FileChanges,
    links::Links,
    maintenance::Maintenances,
    multiplexers::{Multiplexers, under_multiplexer},
    origins::Origins,
    refusals::{Refusal, Refusals},
    remote::UNTOLD_NS,
    saved::Saved,
    siblings::{Found, Siblings},
    steps::{announcement, audit_change, crossing, security_context, user_change},
    stock::Stock,
};
pub use self::{
    input::{Input, Lookup},
    origins::{Holders, Question},
};
use crate::{
    container::cgroup::CgroupContainer,
    detect::{AccessPolicy, alert},
    event::{AgentEvent, Body, Capabilities, Counters, Enrichment, Event, Lineage, Login, Process, Relatives, Session},
    process::{
        Decoder, Known, ProcessTable,
        login::{LoginTracker, Outcome},
        proc_text::ssh_client,
    },
    record::{self, DecodeError, Exec},
};

/// What the node itself is, against which containers are held.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The namespaces of the node's init.
    pub namespaces: Namespaces,
    /// The bounding set of the node's init: all that anything on this node can be allowed.
    pub capabilities: Capabilities,
}

/// How much the pipeline knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Processes, ended ones that are still remembered included.
    pub processes: usize,
    /// Access sessions that are open.
    pub sessions: usize,
    /// Pods of this node.
    pub pods: usize,
}

/// The whole state behind the stream.
pub struct Pipeline {
    host: Host,
    decoder: Decoder,
    processes: ProcessTable,
    logins: LoginTracker,
    entries: Entries,
    refusals: Refusals,
    links: Links,
    containers: Containers,
    files: FileChanges,
    maintenances: Maintenances,
    siblings: Siblings,
    multiplexers: Multiplexers,
    accounting: Accounting,
    /// How many processes, logins and jobs were forgotten, as far as it was said.
    forgotten: [u64; 3],
    next_sequence: u64,
    out: Vec<Event>,
    terminations: Vec<(ProcessKey, Arc<Session>)>,
    origins: Origins,
    stock: Stock,
    /// Sessions that ended while no agent ran, until they are told.
    ended: Vec<(ProcessKey, Arc<Login>)>,
}

impl Pipeline {
    /// An empty pipeline.
    pub fn new(host: Host, decoder: Decoder, policy: AccessPolicy) -> Self {
        Self {
            host,
            decoder,
            processes: ProcessTable::default(),
            logins: LoginTracker::default(),
            entries: Entries::new(policy),
            refusals: Refusals::default(),
            links: Links::default(),
            containers: Containers::default(),
            files: FileChanges::default(),
            maintenances: Maintenances::default(),
            siblings: Siblings::default(),
            multiplexers: Multiplexers::default(),
            accounting: Accounting::default(),
            forgotten: [0; 3],
            next_sequence: 0,
            out: Vec::new(),
            terminations: Vec::new(),
            origins: Origins::default(),
            stock: Stock::default(),
            ended: Vec::new(),
        }
    }

    /// Events that are ready to go, in the order of their sequence numbers.
    pub fn take_events(&mut self) -> std::vec::Drain<'_, Event> {
        self.out.drain(..)
    }

    /// Processes that are to be killed; what became of each is to come back as [`Input::Terminated`].
    pub fn take_terminations(&mut self) -> Vec<(ProcessKey, Arc<Session>)> {
        std::mem::take(&mut self.terminations)
    }

    /// Tables of cron's that are to be read, each into an [`Input::CronTable`].
    pub fn unread_tables(&self) -> Vec<Arc<str>> {
        self.links.jobs.unread().cloned().collect()
    }

    /// Tables of cron's of which something is remembered: to be read with all others, so that what is gone is forgotten.
    pub fn known_tables(&self) -> Vec<Arc<str>> {
        self.links.jobs.known().cloned().collect()
    }

    /// Containers that the runtime is to be asked for.
    pub fn take_requests(&mut self) -> Vec<Arc<CgroupContainer>> {
        self.containers.take_requests()
    }

    /// One record's bytes.
    pub fn record(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let record = record::decode(bytes).inspect_err(|_| self.accounting.malformed())?;
        self.accounting.received(&record.header);
        let now_ns = record.header.time_ns;
        match record.body {
            record::Body::Exec(exec) => self.exec(&exec, now_ns),
            record::Body::Exit(exit) => self.ended(exit, now_ns),
            record::Body::Login(login) => {
                if let Some(outcome) = self.logins.call(&login, now_ns) {
                    self.login(outcome, now_ns);
                }
            }
            record::Body::Log(log) => {
                // sshd logs no empty lines: the kernel side could not read this one, which may have told of anybody.
                if log.text.is_empty() {
                    self.accounting.malformed();
                }
                if let Some(outcome) = self.logins.log(&log, now_ns) {
                    self.login(outcome, now_ns);
                }
            }
        }
        Ok(())
    }

    /// Anything else.
    pub fn input(&mut self, input: Input, now_ns: u64) {
        match input {
            Input::Pods(update) => {
                self.containers.pods(&update, now_ns);
                if let Some(message) = announcement(&update) {
                    self.agent(AgentEvent::Changed { message }, now_ns);
                }
                self.release(now_ns);
            }
            Input::Node(update) => {
                let told = self.maintenances.update(&update, self.decoder.time(now_ns));
                self.maintenance(told, now_ns);
            }
            Input::Container { id, answer } => {
                self.containers.answered(&id, answer, now_ns);
                self.release(now_ns);
            }
            Input::Counters(counters) => {
                for event in self.accounting.counted(counters) {
                    self.stock.is_due = true;
                    self.agent(event, now_ns);
                }
            }
            Input::Origin(question, holders) => self.came_from(&question, &holders),
            Input::FilesWatched(watched) => self.files_watched(watched),
            Input::Files { touches, forks } => self.touched(touches, &forks, now_ns),
            Input::CronTable { path, content } => self.links.jobs.read(&path, &content),
            Input::Inherited { told, asked_ns } => self.inherited(&told, asked_ns),
            Input::Running { records, args, asked_ns } => self.take_stock(&records, &args, asked_ns),
            Input::Users(users) => self.decoder.set_users(users),
            Input::Policy(policy) => self.entries.set_policy(policy),
            Input::Terminated { process, termination } => {
                self.session_event(Body::Terminated(Arc::new(termination)), process, Enrichment::Complete, now_ns);
            }
            Input::Clock { boot_time_ns } => {
                let Some(by) = self.decoder.follow_clock(boot_time_ns) else { return };
                let by = by.as_secs_f64();
                let way = if by < 0.0 { "back" } else { "forward" };
                let message =
                    format!("the node's clock was set {way} by {:.3} s: times go by it from here on", by.abs());
                self.agent(AgentEvent::Changed { message: message.into() }, now_ns);
            }
            Input::Agent(event) => self.agent(event, now_ns),
        }
    }

    /// Has a process killed if its session is one to be ended.
    fn terminate(&mut self, session: Option<&Arc<Session>>, process: ProcessKey) {
        if let Some(session) = session.filter(|session| self.entries.terminates(session)) {
            self.terminations.push((process, Arc::clone(session)));
        }
    }

    /// Time has gone by.
    pub fn tick(&mut self, now_ns: u64) {
        let ended = self.maintenances.tick(self.decoder.time(now_ns));
        self.maintenance(ended, now_ns);
        for outcome in self.logins.overdue(now_ns) {
            self.login(outcome, now_ns);
        }
        let grown = self.refusals.overdue(now_ns);
        self.refused(grown, now_ns);
        self.tell_untold(UNTOLD_NS, now_ns);
        self.processes.expire(now_ns);
        self.multiplexers.tick(now_ns);
        self.admit_bounds(now_ns);
        self.release(now_ns);
    }

    /// Lets everything go that waits for anything: the agent stops.
    pub fn finish(&mut self, now_ns: u64) {
        self.files_watched(false);
        let grown = self.refusals.finish();
        self.refused(grown, now_ns);
        self.tell_untold(0, now_ns);
        self.release(u64::MAX);
    }

    /// Whether an event waits, so that `tick` is needed soon.
    pub fn is_waiting(&self) -> bool {
        self.containers.is_waiting() || self.files.is_waiting()
    }

    /// Each hook's figures.
    pub fn counters(&self) -> Vec<Counters> {
        self.accounting.counters()
    }

    /// Records that never came, by the holes in the sequence.
    pub fn holes(&self) -> u64 {
        self.accounting.holes()
    }

    /// Records that made no sense.
    pub fn malformed(&self) -> u64 {
        self.accounting.malformed_count()
    }

    /// How much is known.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            processes: self.processes.len(),
            sessions: self.entries.session_count(),
            pods: self.containers.pod_count(),
        }
    }

    /// Says on the stream what was forgotten because there is only so much room.
    fn admit_bounds(&mut self, now_ns: u64) {
        let forgotten = [self.processes.evicted(), self.logins.given_up(), self.links.jobs.left_out()];
        if forgotten != self.forgotten {
            let [processes, logins, jobs] = [0, 1, 2].map(|it| forgotten[it] - self.forgotten[it]);
            self.forgotten = forgotten;
            let message = format!(
                "{processes} live processes, {logins} logins under way and {jobs} jobs of cron's were forgotten for want of room"
            );
            self.agent(AgentEvent::Changed { message: message.into() }, now_ns);
        }
    }

    fn exec(&mut self, exec: &Exec<'_>, now_ns: u64) {
        let body = exec.body;
        let cgroup = self.containers.of_cgroup(body.cgroup_id, || exec.cgroup.path());
        let (process, facts) = self.decoder.exec(exec, cgroup.is_some());
        // The runtime's own processes are in the container's cgroup before they enter its namespaces.
        let container = cgroup.filter(|_| facts.namespaces.mnt != self.host.namespaces.mnt);
        let parent = self.parent(exec);
        let previous = self.processes.before(body);
        let crossing = crossing(&mut self.containers, container.as_ref(), previous, &process, &facts, now_ns);
        let escaped = previous.filter(|_| crossing == Some(Crossing::Escaped));
        let escaped = escaped.and_then(|known| self.containers.reference(known.container.as_ref()?));
        let asked = self.links.process(
            links::Arrived { crossing, container: container.as_ref(), previous, parent: parent.as_deref() },
            &process,
            exec,
            now_ns,
        );
        let placed = self.entries.place(
            &self.decoder,
            &entries::Arrival {
                mark: &body.entry,
                process: &process,
                previous,
                parent: parent.as_deref(),
                container: container.as_ref(),
                crossing,
                leads_session: body.session_leader.tgid == body.process.tgid,
                leads_group: body.group_leader.tgid == body.process.tgid,
                client: ssh_client(exec.environment),
                accepted: previous.and_then(|previous| self.logins.accepted(previous.process.key)),
                asked,
            },
            now_ns,
        );
        let opened = placed.opened.clone();
        let placed = under_multiplexer(&mut self.multiplexers, placed, &process, parent.as_deref());
        let attachment = self.multiplexers.client(&process, &placed.entry);
        self.links.clients.add(&process, parent.as_deref(), &placed.entry);
        let change = previous.and_then(|previous| user_change(previous, &process, &placed.entry));
        let disputed = previous.and_then(|previous| audit_change(previous, &process, &placed.entry));
        self.terminate(placed.entry.session(), body.process);
        let relatives = self.relatives(body, &process, parent.as_ref(), &placed);
        let lineage = Lineage { process: Arc::clone(&process), relatives };
        let has_more = crossing.is_some() || change.is_some() || opened.is_some();
        let more = (has_more || disputed.is_some() || attachment.is_some()).then(|| lineage.clone());
        let event = self.event(Body::EXEC, Some(lineage), now_ns);
        self.processes.insert(Known {
            process,
            entry: Some(placed.entry),
            entry_leader: Some(placed.leader),
            container: container.as_ref().map(|container| container.id.clone()),
            told: self.next_sequence,
        });
        self.send_whole(event, container.as_ref(), now_ns);
        let Some(lineage) = more else { return };
        if let Some(login) = opened {
            self.came(lineage.entry.as_ref().and_then(|entry| entry.login).unwrap_or(body.process), now_ns);
            self.tell_opened(login, body.process, now_ns);
        }
        if let Some(disputed) = disputed {
            self.tell(Body::SessionDisputed(disputed), Some(lineage.clone()), container.as_ref(), now_ns);
        }
        if let Some(attachment) = attachment {
            self.tell(Body::SessionAttached(Arc::new(attachment)), Some(lineage.clone()), container.as_ref(), now_ns);
        }
        if let Some(change) = change {
            self.tell(Body::UserChanged(Arc::new(change)), Some(lineage.clone()), container.as_ref(), now_ns);
        }
        let Some(crossing) = crossing else { return };
        if crossing == Crossing::Escaped {
            return self.tell(Body::ContainerEscaped, Some(lineage), escaped.as_ref(), now_ns);
        }
        let mut context = security_context(self.host, &facts);
        if let Some(container) = &container {
            // Whoever enters a privileged container is in one, whatever he was left with.
            context.privileged = self.containers.note_privileged(&container.id, context.privileged);
        }
        let body = match crossing {
            Crossing::Started => Body::ContainerStarted(Arc::new(context)),
            Crossing::Entered | Crossing::Escaped => Body::ContainerEntered(Arc::new(context)),
        };
        self.tell(body, Some(lineage), container.as_ref(), now_ns);
    }

    fn parent(&mut self, exec: &Exec<'_>) -> Option<Arc<Process>> {
        let body = exec.body;
        if body.parent.is_none() {
            return None;
        }
        if let Some(known) = self.processes.get(body.parent) {
            return Some(Arc::clone(&known.process));
        }
        let decoder = &self.decoder;
        Some(self.processes.forked(body.parent, |processes| match processes.get(body.parent_image) {
            Some(image) => decoder.forked(&image.process, body.parent, &body.parent_comm),
            None => decoder.unknown(body.parent, &body.parent_comm),
        }))
    }

    /// Those that a process hangs from.
    fn relatives(
        &mut self,
        exec: &ExecBody,
        process: &Arc<Process>,
        parent: Option<&Arc<Process>>,
        placed: &Placed,
    ) -> Arc<Relatives> {
        let leader = |key: ProcessKey| {
            if key.is_none() {
                return None;
            }
            if key.tgid == process.key.tgid {
                return Some(Cow::Borrowed(process));
            }
            // A leader that has gone has no start time any more.
            let known = if key.start_ns == 0 { self.processes.by_pid(key.tgid) } else { self.processes.get(key) };
            known
                .map(|known| Cow::Borrowed(&known.process))
                .or_else(|| (key.start_ns != 0).then(|| Cow::Owned(Arc::new(self.decoder.unknown(key, b"")))))
        };
        let (group_leader, session_leader) = (leader(exec.group_leader), leader(exec.session_leader));
        self.siblings.share(Found {
            parent,
            group_leader: group_leader.as_deref(),
            session_leader: session_leader.as_deref(),
            entry_leader: &placed.leader,
            entry: &placed.entry,
        })
    }

    fn login(&mut self, outcome: Outcome, now_ns: u64) {
        match outcome {
            Outcome::Coming { process, ip } => self.comes(process, ip, now_ns),
            Outcome::Opening { process, login } => {
                let asked = self.links.login(self.processes.get(process), &login, now_ns);
                self.entries.opening(&self.decoder, process, login, asked, now_ns);
                self.came(process, now_ns);
            }
            Outcome::Opened { process } => self.opened(process, now_ns),
            Outcome::Failed { process, login, partial } => {
                self.entries.abandon(process);
                let concerned = |login: &Login| self.entries.concerns(login);
                let told = self.refusals.add(Refusal { process, login, partial }, concerned, now_ns);
                self.refused(told, now_ns);
            }
            Outcome::Closed { process } => self.close(process, now_ns),
        }
    }

    fn refused(&mut self, told: impl IntoIterator<Item = Refusal>, now_ns: u64) {
        for Refusal { process, login, partial } in told {
            let enrichment = if partial { Enrichment::Partial } else { Enrichment::Complete };
            self.session_event(Body::LoginFailed(Arc::new(login)), process, enrichment, now_ns);
        }
    }

    fn session_event(&mut self, body: Body, process: ProcessKey, enrichment: Enrichment, now_ns: u64) {
        let lineage = self.processes.get(process).map(Known::alone);
        let event = self.event(body, lineage, now_ns);
        self.send(Event { enrichment, ..event });
    }

    fn agent(&mut self, event: AgentEvent, now_ns: u64) {
        let event = self.event(Body::Agent(Arc::new(event)), None, now_ns);
        self.send(event);
    }

    fn tell(&mut self, body: Body, lineage: Option<Lineage>, container: Option<&Arc<CgroupContainer>>, now_ns: u64) {
        self.send_whole(self.event(body, lineage, now_ns), container, now_ns);
    }

    /// Sends an event once it says what can be known of its container.
    fn send_whole(&mut self, event: Event, container: Option<&Arc<CgroupContainer>>, now_ns: u64) {
        let Some(container) = container else { return self.send(event) };
        if let Some(event) = self.containers.complete(event, container, now_ns) {
            self.send(event);
        }
    }

    fn release(&mut self, now_ns: u64) {
        if self.containers.is_waiting() {
            for event in self.containers.released(now_ns) {
                self.send(event);
            }
        }
    }

    fn event(&self, body: Body, lineage: Option<Lineage>, now_ns: u64) -> Event {
        let entry = lineage.as_ref().and_then(|lineage| lineage.entry.as_ref());
        let attached = entry.map(|entry| self.multiplexers.attached(entry, now_ns)).unwrap_or_default();
        Event {
            sequence: 0,
            time: self.decoder.time(now_ns),
            body,
            lineage,
            container: None,
            enrichment: Enrichment::Complete,
            alert: None,
            maintenance: None,
            attached,
        }
    }

    /// An event goes out, and behind it what it says of a session in a container: by now all that can be known of its
    /// container is known.
    fn send(&mut self, event: Event) {
        let session = self.container_session(&event);
        self.number(event);
        if let Some(session) = session {
            self.number(session);
        }
    }

    /// The session that opens with the first event of an entry into a container, or closes with its last.
    fn container_session(&mut self, event: &Event) -> Option<Event> {
        let lineage = event.lineage.as_ref()?;
        let entry = lineage.entry.as_ref().filter(|entry| entry.leader == lineage.process.key)?;
        let body = match event.body {
            Body::Exec { .. } if entry.settled.get().is_none() => {
                let container = event.container.as_deref()?;
                let door = self.containers.door(container, entry.observed, &lineage.process.args);
                let login = self.entries.settle(&self.decoder, lineage, door, container, event.time)?;
                self.terminate(login.session.as_ref(), lineage.process.key);
                Body::SessionOpened(login)
            }
            Body::End(_) => return self.close_entry(event, entry.leader),
            _ => return None,
        };
        Some(Event { body, ..event.clone() })
    }

    /// Numbers an event, and the alert that it gives rise to.
    fn number(&mut self, event: Event) {
        let event = self.out.push_mut(event);
        event.sequence = self.next_sequence;
        self.next_sequence += 1;
        if let Some(known) = self.maintenances.known()
            && event.maintenance.is_none()
            && event.session().is_some()
            && known.covers(event.time)
        {
            event.maintenance = Some(Arc::clone(known));
        }
        self.entries.note(event);
        if let Some(alert) = alert(event) {
            let alert = Event { sequence: self.next_sequence, alert: Some(Arc::new(alert)), ..event.clone() };
            self.next_sequence += 1;
            self.entries.note(&alert);
            self.out.push(alert);
        }
    }
}

#[cfg(test)]
mod tests;
