//! The event loop: a thread of its own that drains the ring, runs the pipeline and hands events to their delivery. All that
//! can wake it is the ring, a [`Message`] and the time.
//!
//! The ring is drained on a timer while records come, and not at each wake-up: many records cost one turn of the loop. When
//! none has come for a while the loop sleeps until the kernel side wakes it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use postern_ebpf::abi::Inheritance;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    files::FileWatch,
    inbox::{Mail, Message},
    machine::{exact_boot_time_ns, since_boot_ns},
    origins,
    state::StateFile,
    terminate,
    users::Users,
};
use crate::{
    admin::Health,
    container::cgroup::CgroupContainer,
    event::{AgentEvent, Enrichment, Termination},
    metrics::Figures,
    pipeline::{Input, Lookup, Pipeline},
    probe::{CounterReader, Probe, Ring},
    process::seed,
    sink::delivery::Publisher,
};

/// How long a record may take to its sink, but for what is urgent: most of it is the time that the ring is left alone, for
/// each turn finds cold caches, and leaves cold ones to whoever else runs on this processor.
const WITHIN: Duration = Duration::from_millis(45);
/// How long it is left alone at least.
const DRAIN_EVERY_MIN: Duration = Duration::from_millis(10);
/// How long no record must have come before the loop sleeps. Longer than [`Ring::QUIET`], during which the kernel side
/// announces none.
const AWAKE: Duration = Ring::QUIET.saturating_add(Duration::from_millis(5));
/// How often file events are read while nothing else happens: the kernel's queue has room for 160,000 a second.
const FILES_EVERY: Duration = Duration::from_millis(100);
/// How often figures are read and the pipeline is told the time.
const TICK: Duration = Duration::from_secs(1);
/// The same, while an event waits to be completed.
const TICK_WAITING: Duration = Duration::from_millis(50);
/// How often the figures go out as an event.
const FIGURES_EVERY: Duration = Duration::from_mins(1);
/// Records between two looks at the inbox.
const BATCH: usize = 2_048;

/// All that the loop owns.
pub(super) struct EventLoop {
    /// Until it is detached.
    pub(super) probe: Option<Probe>,
    pub(super) ring: Ring,
    pub(super) counters: CounterReader,
    pub(super) files: FileWatch,
    pub(super) users: Users,
    pub(super) pipeline: Pipeline,
    pub(super) state: Option<StateFile>,
    pub(super) mail: Mail,
    pub(super) publisher: Publisher,
    /// What each process that runs has from others, and when that was asked.
    pub(super) inherited: Option<(Vec<Inheritance>, u64)>,
    pub(super) lookups: tokio::sync::mpsc::Sender<Arc<CgroupContainer>>,
    pub(super) health: Arc<Health>,
    pub(super) figures: Arc<Figures>,
}

impl EventLoop {
    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        let mut last_record: Option<Instant> = Some(Instant::now());
        let mut last_tick = Instant::now();
        let mut last_figures = Instant::now();
        let mut took = Duration::ZERO;
        let reason = loop {
            self.wait(last_record.is_some().then_some(took));
            // In this order: the kernel side must not count on a loop that is awake for longer than it is.
            let now_ns = since_boot_ns();
            let now = Instant::now();
            self.files.read();
            self.read_users();
            if self.drain() > 0 {
                last_record = Some(now);
                self.ring.stay_awake(now_ns);
            } else if last_record.is_some_and(|then| now - then >= AWAKE) {
                last_record = None;
            }
            self.files.tell(&mut self.pipeline, self.probe.as_ref());
            self.files.follow(&mut self.pipeline, self.probe.as_mut());
            if let Some(reason) = self.read_mail() {
                break reason;
            }
            let tick = if self.pipeline.is_waiting() { TICK_WAITING } else { TICK };
            if now - last_tick >= tick {
                last_tick = now;
                self.tick();
            }
            if now - last_figures >= FIGURES_EVERY {
                last_figures = now;
                let counters = self.pipeline.counters();
                self.pipeline.input(Input::Agent(AgentEvent::Counted(counters)), since_boot_ns());
            }
            self.terminate();
            self.publish();
            self.publisher.hand_over();
            self.health.beat();
            took = now.elapsed();
        };
        self.finish(reason);
    }

    /// Waits for whatever comes first. While awake the ring itself is not waited for, which would be ready at once for one
    /// record, but what the kernel side announces: what is urgent, or much.
    fn wait(&mut self, last_turn: Option<Duration>) {
        let timeout = match (last_turn, self.pipeline.is_waiting()) {
            // The next turn takes as long, and the sink hardly longer.
            (Some(took), _) => WITHIN.saturating_sub(2 * took).max(DRAIN_EVERY_MIN),
            (None, true) => TICK_WAITING,
            (None, false) if self.files.is_watching() => FILES_EVERY,
            (None, false) => TICK,
        };
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        let mail = PollFd::new(&self.mail, PollFlags::IN);
        let announced = self.ring.announced();
        let ring = if last_turn.is_some() {
            PollFd::new(&announced, PollFlags::IN)
        } else {
            PollFd::new(&self.ring, PollFlags::IN)
        };
        let mut ends = [mail, ring];
        // A signal ends the wait early, and nothing else can go wrong with two open descriptors.
        let _ = poll(&mut ends, Some(&timeout));
        if !ends[1].revents().is_empty() {
            self.ring.heard();
        }
    }

    /// Takes what is in the ring; returns how many records that was.
    fn drain(&mut self) -> usize {
        let mut drained = 0;
        loop {
            let pipeline = &mut self.pipeline;
            let mut bytes = 0;
            let count = self.ring.drain(BATCH, |record| {
                bytes += record.len() as u64;
                if let Err(error) = pipeline.record(record) {
                    tracing::error!(%error, "a record from the kernel makes no sense");
                }
            });
            drained += count;
            if count > 0 {
                self.figures.ring_drains.add(1);
                let peak = self.figures.ring_peak_bytes.get().max(bytes);
                self.figures.ring_peak_bytes.set(peak);
            }
            self.terminate();
            self.look_up_origins();
            self.publish();
            if count < BATCH {
                return drained;
            }
            self.publisher.hand_over();
            self.health.beat();
        }
    }

    /// Before the records of those who act as them.
    fn read_users(&mut self) {
        match self.users.changed() {
            None => {}
            Some(Ok(users)) => self.pipeline.input(Input::Users(users), since_boot_ns()),
            Some(Err(error)) => {
                let message = format!("users keep the names that they had: cannot read /etc/passwd: {error}").into();
                self.pipeline.input(Input::Agent(AgentEvent::Changed { message }), since_boot_ns());
            }
        }
    }

    fn read_mail(&mut self) -> Option<Arc<str>> {
        self.mail.clear();
        while let Some(message) = self.mail.next() {
            match message {
                Message::Input(input) => self.pipeline.input(input, since_boot_ns()),
                Message::Stop { reason } => return Some(reason),
            }
        }
        None
    }

    fn tick(&mut self) {
        if let Some(boot_time_ns) = exact_boot_time_ns() {
            self.pipeline.input(Input::Clock { boot_time_ns }, since_boot_ns());
        }
        self.count();
        self.tell_losses();
        self.ask_for_inherited();
        self.take_stock();
        self.pipeline.tick(since_boot_ns());
        self.save(false);
    }

    /// What runs, for those who executed something of which the record was lost, and for those whose end was.
    fn take_stock(&mut self) {
        let asked_ns = since_boot_ns();
        let wanted = self.pipeline.asks_what_runs(asked_ns);
        let Some(probe) = self.probe.as_mut().filter(|probe| wanted && probe.tells_tasks()) else { return };
        let records = probe.running().unwrap_or_else(|error| {
            let message = format!("what executed in the loss may be taken for new: {error}").into();
            self.pipeline.input(Input::Agent(AgentEvent::Changed { message }), asked_ns);
            Vec::new()
        });
        let arguments = |pid: u32| Some((pid, seed::arguments("/proc".as_ref(), pid)?));
        let args = self.pipeline.unseen(&records).into_iter().filter_map(arguments).collect();
        self.pipeline.input(Input::Running { records, args, asked_ns }, asked_ns);
    }

    /// Used a tick after it was asked: what happened before may stand in a record that was not read yet.
    fn ask_for_inherited(&mut self) {
        let now_ns = since_boot_ns();
        if let Some((told, asked_ns)) = self.inherited.take() {
            self.pipeline.input(Input::Inherited { told, asked_ns }, now_ns);
        }
        let Some(probe) = self.probe.as_mut().filter(|_| self.pipeline.asks_for_inherited(now_ns)) else { return };
        let told = probe.inherited().unwrap_or_else(|error| {
            let message = format!("what runs on after its parent's end may be taken for new: {error}").into();
            self.pipeline.input(Input::Agent(AgentEvent::Changed { message }), now_ns);
            Vec::new()
        });
        self.inherited = Some((told, now_ns));
    }

    /// Leaves the next run what is known of open sessions: at the end all of it, before that what a killed agent would miss most.
    fn save(&mut self, always: bool) {
        let Some(state) = &mut self.state else { return };
        let Some(saved) = self.pipeline.save(always) else { return };
        if let Some(message) = state.write(saved) {
            self.pipeline.input(Input::Agent(AgentEvent::Changed { message: message.into() }), since_boot_ns());
        }
    }

    /// What the sinks' queues had no room for.
    fn tell_losses(&mut self) {
        for loss in self.publisher.take_losses() {
            self.pipeline.input(Input::Agent(AgentEvent::Lost(loss)), since_boot_ns());
        }
    }

    fn count(&mut self) {
        match self.counters.read() {
            Ok(counters) => {
                for ((_, counters), figures) in counters.iter().zip(&self.figures.hooks) {
                    figures.seen.set(counters.seen);
                    figures.submitted.set(counters.submitted);
                    figures.filtered.set(counters.filtered);
                    figures.rate_limited.set(counters.rate_limited);
                    figures.lost.set(counters.lost);
                    figures.untracked.set(counters.untracked);
                }
                self.figures.lost_in_ring.set(counters.iter().map(|(_, counters)| counters.lost).sum());
                self.pipeline.input(Input::Counters(counters), since_boot_ns());
            }
            Err(error) => tracing::error!(%error, "the kernel side's counters cannot be read"),
        }
        for (counters, figures) in self.pipeline.counters().iter().zip(&self.figures.hooks) {
            figures.received.set(counters.received);
        }
        let sizes = self.pipeline.sizes();
        self.figures.processes.set(sizes.processes as u64);
        self.figures.sessions.set(sizes.sessions as u64);
        self.figures.pods.set(sizes.pods as u64);
        self.figures.malformed.set(self.pipeline.malformed());
    }

    /// Kills what the access policy wants killed, before anything else: a login shell is about to run its first command.
    fn terminate(&mut self) {
        for (process, session) in self.pipeline.take_terminations() {
            let failure = match terminate::kill(process) {
                Ok(true) => None,
                Ok(false) => continue,
                Err(error) => Some(error.to_string().into()),
            };
            let termination = Termination { session, failure };
            self.pipeline.input(Input::Terminated { process, termination }, since_boot_ns());
        }
    }

    /// Before anything is told of those who came in: who they were before is part of it.
    fn look_up_origins(&mut self) {
        for question in self.pipeline.take_questions() {
            let holders = origins::holders(&question);
            self.pipeline.input(Input::Origin(question, holders), since_boot_ns());
        }
    }

    fn publish(&mut self) {
        for event in self.pipeline.take_events().as_slice() {
            self.figures.events(event.kind()).add(1);
            if event.enrichment != Enrichment::Complete {
                self.figures.partial.add(1);
            }
            self.publisher.publish(event);
        }
        for request in self.pipeline.take_requests() {
            let id = Arc::clone(&request.id);
            if self.lookups.try_send(request).is_err() {
                // So many are asked for already: it goes out without, and says so.
                self.pipeline.input(Input::Container { id, answer: Lookup::Failed }, since_boot_ns());
            }
        }
    }

    /// Detaches, so that nothing more comes, takes what is left, and says how it all adds up.
    fn finish(mut self, reason: Arc<str>) {
        self.files.read();
        self.drain();
        self.files.tell(&mut self.pipeline, self.probe.as_ref());
        drop(self.probe.take());
        self.drain();
        self.pipeline.finish(since_boot_ns());
        self.publish();
        self.save(true);
        self.count();
        self.tell_losses();
        let counters = self.pipeline.counters();
        let submitted: u64 = counters.iter().map(|it| it.submitted).sum();
        let received: u64 = counters.iter().map(|it| it.received).sum();
        let lost: u64 = counters.iter().map(|it| it.lost).sum();
        let holes = self.pipeline.holes();
        // Two witnesses. A record that was lost at the very end leaves no hole, so there may be fewer holes than losses.
        if submitted != received || holes > lost {
            tracing::error!(submitted, received, lost, holes, "the accounts of the kernel side and of this one differ");
        }
        self.pipeline.input(Input::Agent(AgentEvent::Stopped { reason, counters }), since_boot_ns());
        self.publish();
        self.publisher.hand_over();
    }
}
