//! Delivery: one queue and one worker for each sink. A sink that is down is retried for ever, and holds nobody up.
//!
//! To wake a worker costs more than to encode a line, so ordinary lines are handed over many at a time. Alerts do not wait.

use std::{
    io::IsTerminal as _,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::{runtime::Handle, sync::Notify, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Line, Sink, SinkError,
    encode::{Encoder, Tail, pretty},
    memory::{Block, Memory},
    queue::Queue,
    recent::Recent,
    settings::{Format, SinkSettings, Target},
};
use crate::{
    event::{Event, Kind, Loss, LossCause, Node, Timestamp},
    metrics::Figures,
};

/// How many lines, and how much, a sink is given at once.
const BATCH_LINES: usize = 4_000;
/// See `BATCH_LINES`.
const BATCH_BYTES: usize = 2 << 20;
/// The first wait after a failure.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait after failures.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The event loop's end: takes events and never waits.
pub struct Publisher {
    encoder: Encoder,
    forms: Vec<Written>,
    outlets: Vec<Outlet>,
    recent: Arc<Recent>,
    /// What the last event for `recent` was written to.
    copy: Vec<u8>,
}

/// The lines of one form, for all sinks that take it.
struct Written {
    form: Form,
    memory: Memory,
}

/// The other end: the sinks' workers.
pub struct Workers {
    tasks: JoinSet<String>,
    drain: CancellationToken,
    outlets: Vec<Arc<Shared>>,
}

struct Outlet {
    form: Form,
    events: Vec<Kind>,
    shared: Arc<Shared>,
    /// What was not handed over yet, and stands in the block that is being written.
    unsealed: Vec<Unsealed>,
    /// What was not handed over yet, and stands in full blocks.
    pending: Vec<Line>,
    /// How many of the dropped lines have been told.
    told: u64,
}

/// A line to be.
struct Unsealed {
    sequence: u64,
    kind: Kind,
    time: Timestamp,
    range: Range<usize>,
    tail: Option<Tail>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Pretty { colour: bool },
}

/// What the event loop and a worker share.
struct Shared {
    name: Arc<str>,
    queue: Mutex<Queue>,
    filled: Notify,
    dropped: AtomicU64,
    figures: Arc<Figures>,
    index: usize,
}

/// Builds the sinks and starts their workers. To be called within a runtime.
pub fn start(
    settings: &[SinkSettings],
    node: &Arc<Node>,
    figures: &Arc<Figures>,
    recent: Arc<Recent>,
) -> Result<(Publisher, Workers), SinkError> {
    let drain = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let mut outlets = Vec::new();
    for (index, settings) in settings.iter().enumerate() {
        let sink = Sink::build(settings)?;
        let shared = Arc::new(Shared {
            name: settings.name.as_str().into(),
            queue: Mutex::new(Queue::new(settings.queue_bytes)),
            filled: Notify::new(),
            dropped: AtomicU64::new(0),
            figures: Arc::clone(figures),
            index,
        });
        let blocks = sink.blocks();
        let worker = work(sink, Arc::clone(&shared), drain.clone());
        if blocks {
            // A thread of its own, and not one for each batch: to go from thread to thread costs more than to write.
            let runtime = Handle::current();
            tasks.spawn_blocking(move || runtime.block_on(worker));
        } else {
            tasks.spawn(worker);
        }
        outlets.push(Outlet {
            form: form(&settings.target),
            events: settings.events.clone(),
            shared,
            unsealed: Vec::new(),
            pending: Vec::new(),
            told: 0,
        });
    }
    let workers = Workers { tasks, drain, outlets: outlets.iter().map(|outlet| Arc::clone(&outlet.shared)).collect() };
    let mut forms: Vec<Written> = Vec::new();
    for outlet in &outlets {
        if forms.iter().all(|written| written.form != outlet.form) {
            forms.push(Written { form: outlet.form, memory: Memory::default() });
        }
    }
    let encoder = Encoder::new(Arc::clone(node));
    Ok((Publisher { encoder, forms, outlets, recent, copy: Vec::new() }, workers))
}

impl Publisher {
    /// Encodes an event for every sink that takes its kind, once for each form. To be followed by `hand_over`.
    pub fn publish(&mut self, event: &Event) {
        let kind = event.kind();
        for written in &mut self.forms {
            let form = written.form;
            let mut takers = self
                .outlets
                .iter_mut()
                .filter(|outlet| outlet.form == form)
                .filter(|outlet| outlet.events.is_empty() || outlet.events.contains(&kind))
                .peekable();
            if takers.peek().is_none() {
                continue;
            }
            let (range, mut tail) = written.write(event, &mut self.encoder);
            while let Some(outlet) = takers.next() {
                let tail = if takers.peek().is_some() { tail.clone() } else { tail.take() };
                let range = range.clone();
                outlet.unsealed.push(Unsealed { sequence: event.sequence, kind, time: event.time, range, tail });
            }
            if written.memory.is_full() {
                written.seal(&mut self.outlets);
            }
        }
        if self.recent.wants(event) {
            self.copy.clear();
            self.encoder.encode(event, &mut self.copy);
            self.recent.put(event, &self.copy);
        }
    }

    /// Gives the workers what was published since.
    pub fn hand_over(&mut self) {
        for written in &mut self.forms {
            written.seal(&mut self.outlets);
            written.memory.trim();
        }
        self.outlets.iter_mut().for_each(Outlet::hand_over);
    }

    /// What the queues had no room for since the last call.
    pub fn take_losses(&mut self) -> Vec<Loss> {
        let lost = |outlet: &mut Outlet| {
            let dropped = outlet.shared.dropped.load(Relaxed);
            let count = dropped - std::mem::replace(&mut outlet.told, dropped);
            let cause = LossCause::Sink { name: Arc::clone(&outlet.shared.name), reason: "its queue was full".into() };
            (count > 0).then_some(Loss { count, cause })
        };
        self.outlets.iter_mut().filter_map(lost).collect()
    }
}

impl Written {
    /// Writes an event's line; returns where it stands, and its tail, where it shares that with others.
    fn write(&mut self, event: &Event, encoder: &mut Encoder) -> (Range<usize>, Option<Tail>) {
        let block = self.memory.block();
        let start = block.len();
        let tail = match self.form {
            Form::Json => encoder.encode_own(event, block),
            Form::Pretty { colour } => {
                let mut line = String::new();
                pretty(event, &mut line, colour);
                block.extend_from_slice(line.as_bytes());
                None
            }
        };
        (start..block.len(), tail)
    }

    /// Makes lines of what was written.
    fn seal(&mut self, outlets: &mut [Outlet]) {
        if self.memory.block().is_empty() {
            return;
        }
        let block = self.memory.seal();
        outlets.iter_mut().filter(|outlet| outlet.form == self.form).for_each(|outlet| outlet.seal(&block));
    }
}

impl Outlet {
    fn seal(&mut self, block: &Block) {
        let line = |Unsealed { sequence, kind, time, range, tail }| {
            let line = Line { sequence, kind, time, block: Arc::clone(block), range, tail };
            // An alert may wait long after the lines around it have gone.
            if kind == Kind::Alert { line.alone() } else { line }
        };
        self.pending.extend(self.unsealed.drain(..).map(line));
    }

    fn hand_over(&mut self) {
        if !self.pending.is_empty() {
            self.shared.put(self.pending.drain(..));
        }
    }
}

impl Workers {
    /// Waits until a worker ends, which on its own it never should; says which sink's.
    pub async fn died(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(error)) => error.to_string(),
            None => std::future::pending().await,
        }
    }

    /// Delivers what waits, until the deadline. Says what is left, by sink.
    pub async fn drain(mut self, deadline: Duration) -> Vec<(String, u64)> {
        self.drain.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // What is left is told below.
        let _ = timeout(deadline, all).await;
        self.tasks.abort_all();
        let left = |outlet: &Arc<Shared>| {
            let count = outlet.queue().len() as u64;
            (count > 0).then(|| (outlet.name.to_string(), count))
        };
        self.outlets.iter().filter_map(left).collect()
    }
}

impl Shared {
    fn put(&self, lines: impl Iterator<Item = Line>) {
        let was_empty = {
            let mut queue = self.queue();
            let was_empty = queue.len() == 0;
            lines.for_each(|line| queue.put(line));
            self.dropped.store(queue.dropped(), Relaxed);
            self.show(&queue);
            was_empty
        };
        // A worker that is busy looks again by itself.
        if was_empty {
            self.filled.notify_one();
        }
    }

    fn take(&self, batch: &mut Vec<Line>) {
        self.queue().take(batch, BATCH_LINES, BATCH_BYTES);
    }

    fn acknowledge(&self, count: usize) {
        let mut queue = self.queue();
        queue.acknowledge();
        self.show(&queue);
        if let Some(figures) = self.figures.sinks.get(self.index) {
            figures.delivered.add(count as u64);
        }
    }

    fn show(&self, queue: &Queue) {
        if let Some(figures) = self.figures.sinks.get(self.index) {
            figures.queued_events.set(queue.len() as u64);
            figures.queued_bytes.set(queue.bytes() as u64);
            figures.dropped.set(queue.dropped());
        }
    }

    fn set_up(&self, up: bool) {
        if let Some(figures) = self.figures.sinks.get(self.index) {
            figures.up.set(up.into());
            if !up {
                figures.retries.add(1);
            }
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        // Nothing in the queue's methods leaves it half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Delivers one sink's lines until told to drain and nothing is left. Returns the sink's name.
async fn work(mut sink: Sink, shared: Arc<Shared>, drain: CancellationToken) -> String {
    let mut batch = Vec::new();
    loop {
        shared.take(&mut batch);
        if batch.is_empty() {
            if drain.is_cancelled() {
                return shared.name.to_string();
            }
            tokio::select! {
                () = shared.filled.notified() => {}
                () = drain.cancelled() => {}
            }
            continue;
        }
        deliver(&mut sink, &shared, &batch, &drain, pauses()).await;
        let count = batch.len();
        batch.clear();
        shared.acknowledge(count);
    }
}

/// The pauses after failures: longer and longer, and not the same for all agents.
fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::new().with_min_delay(RETRY_MIN).with_max_delay(RETRY_MAX).with_jitter().without_max_times()
}

/// Delivers one batch, however often that takes.
async fn deliver(
    sink: &mut Sink,
    shared: &Shared,
    batch: &[Line],
    drain: &CancellationToken,
    pauses: ExponentialBuilder,
) {
    let mut waits = pauses.build();
    let mut failed = false;
    let mut draining = drain.is_cancelled();
    while let Err(error) = sink.deliver(batch).await {
        shared.set_up(false);
        if !std::mem::replace(&mut failed, true) {
            tracing::warn!(sink = &*shared.name, %error, "a sink takes no events; trying again");
        }
        tokio::select! {
            () = tokio::time::sleep(waits.next().unwrap_or(RETRY_MAX)) => {}
            // The agent's deadline may be nearer than the end of a long pause: there is one more try, and short pauses again.
            () = drain.cancelled(), if !draining => {
                draining = true;
                waits = pauses.build();
            }
        }
    }
    shared.set_up(true);
    if failed {
        tracing::info!(sink = &*shared.name, "the sink takes events again");
    }
}

fn form(target: &Target) -> Form {
    let is_terminal = || std::io::stdout().is_terminal();
    let colour = || is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match target {
        Target::Stdout { format: Format::Pretty } => Form::Pretty { colour: colour() },
        Target::Stdout { format: Format::Auto } if is_terminal() => Form::Pretty { colour: colour() },
        _ => Form::Json,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::blocking::{Blocking, WriteLines};

    /// How long a test waits for what should happen at once.
    const SOON: Duration = Duration::from_secs(10);

    struct Panics;

    impl WriteLines for Panics {
        fn write(&mut self, _: &[u8], _: &mut usize) -> Result<(), SinkError> {
            panic!("as told");
        }
    }

    /// Fails halfway the first time.
    struct FailsOnce {
        written: Arc<Mutex<Vec<u8>>>,
        failed: Arc<Notify>,
    }

    impl WriteLines for FailsOnce {
        fn write(&mut self, lines: &[u8], done: &mut usize) -> Result<(), SinkError> {
            let first = *done == 0;
            let end = if first { 1 } else { lines.len() };
            self.written.lock().expect("no panic holds it").extend_from_slice(&lines[*done..end]);
            *done = end;
            if first {
                self.failed.notify_one();
                let source = std::io::ErrorKind::StorageFull.into();
                return Err(SinkError::System { place: "a sink".into(), source });
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn draining_does_not_sit_out_a_long_pause_and_a_batch_goes_on_where_it_stopped() {
        let (written, failed) = (Arc::default(), Arc::new(Notify::new()));
        let writer = FailsOnce { written: Arc::clone(&written), failed: Arc::clone(&failed) };
        let (mut sink, shared, drain) = (Sink::Blocking(Blocking::new(writer)), shared(), CancellationToken::new());
        let mut batch = Vec::new();
        shared.take(&mut batch);
        let hours = pauses().with_min_delay(Duration::from_hours(1)).with_max_delay(Duration::from_hours(2));
        let delivered = deliver(&mut sink, &shared, &batch, &drain, hours);
        let told = async {
            failed.notified().await;
            drain.cancel();
        };
        timeout(SOON, async { tokio::join!(delivered, told) }).await.expect("in time");
        assert_eq!(*written.lock().expect("no panic holds it"), b"{}\n");
    }

    fn shared() -> Arc<Shared> {
        let shared = Shared {
            name: "a sink".into(),
            queue: Mutex::new(Queue::new(1 << 20)),
            filled: Notify::new(),
            dropped: AtomicU64::new(0),
            figures: Arc::new(Figures::new([], ["a sink"])),
            index: 0,
        };
        shared.put(std::iter::once(Line::for_test(0, Kind::Event, "{}")));
        Arc::new(shared)
    }

    #[tokio::test]
    async fn a_writer_that_panics_is_noticed() {
        let sink = Sink::Blocking(Blocking::new(Panics));
        let worker = tokio::spawn(work(sink, shared(), CancellationToken::new()));
        let ended = timeout(SOON, worker).await.expect("it ends instead of trying for ever");
        assert!(ended.is_err_and(|error| error.is_panic()));
    }
}
