//! The node's containers: which cgroup is whose, what is known of each, and which events still wait to be told.

use std::{collections::VecDeque, sync::Arc};

use postern_ebpf::abi::ProcessKey;
use rustc_hash::FxHashMap;

use super::Lookup;
use crate::{
    container::cgroup::{self, CgroupContainer},
    event::{Arguments, Container, Enrichment, EntryType, Event},
    pod::{ContainerKind, Found, PodFacts, PodTable, PodUpdate},
};

/// How long an event waits for what is still unknown of its container, in nanoseconds.
const WAIT_NS: u64 = 1_000_000_000;
/// How long after a failure the runtime is asked again for a container that is still active, in nanoseconds.
const ASK_AGAIN_NS: u64 = 10_000_000_000;
/// How many events wait; past that the one that came first goes out as it is.
const WAITING_MAX: usize = 4_096;
/// How many cgroups and containers are remembered.
const REMEMBERED_MAX: usize = 8_192;

/// The node's containers.
#[derive(Default)]
pub(super) struct Containers {
    /// By the cgroup's id in the kernel.
    by_cgroup: FxHashMap<u64, Option<Arc<CgroupContainer>>>,
    known: FxHashMap<Arc<str>, State>,
    pods: PodTable,
    /// Whether there is no API server, so that no pod will ever be told.
    standalone: bool,
    waiting: VecDeque<Waiting>,
    requests: Vec<Arc<CgroupContainer>>,
}

struct State {
    reference: Arc<CgroupContainer>,
    answer: Answer,
    /// What was said of it last, until something more is heard.
    settled: Option<(Arc<Container>, Enrichment)>,
    /// Its first process.
    init: Option<ProcessKey>,
    privileged: bool,
    since_ns: u64,
}

enum Answer {
    /// Asked for, and not answered yet.
    Pending,
    /// Answered.
    Found(Arc<Container>),
    /// The runtime does not know it.
    Unknown,
    /// The runtime could not be asked, the last time at this point.
    Failed { at_ns: u64 },
}

struct Waiting {
    since_ns: u64,
    id: Arc<str>,
    event: Event,
}

/// What the pod says of an entry into one of its containers, where that is more than the kernel could see.
fn door(observed: EntryType, found: Found<'_>, args: &Arguments) -> Option<EntryType> {
    let is_probe = || found.container.commands.iter().any(|command| is_command(&command.args, args));
    match observed {
        EntryType::Kubelet | EntryType::KubectlExec if found.container.kind == ContainerKind::Ephemeral => {
            Some(EntryType::KubectlDebug)
        }
        EntryType::Kubelet | EntryType::KubectlExec if is_node_debugger(found.pod) => Some(EntryType::DebugNode),
        EntryType::KubectlExec if is_probe() => Some(EntryType::Probe),
        _ => None,
    }
}

/// `kubectl debug node/NAME` makes a pod `node-debugger-NAME-xxxxx` in the node's own namespaces.
fn is_node_debugger(pod: &PodFacts) -> bool {
    pod.host_pid && pod.pod.name.starts_with("node-debugger-")
}

/// Whether these are the arguments that a pod's command has, whatever kubelet put in the place of each `$(NAME)`.
fn is_command(command: &[Arc<str>], args: &Arguments) -> bool {
    let is_argument = |(wanted, argument): (&Arc<str>, &str)| match (wanted.split_once("$("), wanted.rsplit_once(')')) {
        (Some((before, _)), Some((_, behind))) => argument.starts_with(before) && argument.ends_with(behind),
        _ => **wanted == *argument,
    };
    command.len() == args.count() && command.iter().zip(args.iter()).all(is_argument)
}

impl Containers {
    /// The container that a cgroup belongs to.
    pub(super) fn of_cgroup(&mut self, id: u64, path: impl FnOnce() -> Vec<u8>) -> Option<Arc<CgroupContainer>> {
        if let Some(known) = self.by_cgroup.get(&id) {
            return known.clone();
        }
        let container = str::from_utf8(&path()).ok().and_then(cgroup::parse).map(Arc::new);
        if self.by_cgroup.len() >= REMEMBERED_MAX {
            self.by_cgroup.clear();
        }
        self.by_cgroup.insert(id, container.clone());
        container
    }

    /// The container that a process found in /proc runs in.
    pub(super) fn of_seed(path: &[u8]) -> Option<Arc<CgroupContainer>> {
        str::from_utf8(path).ok().and_then(cgroup::parse).map(Arc::new)
    }

    /// The container with that id, if it was seen.
    pub(super) fn reference(&self, id: &str) -> Option<Arc<CgroupContainer>> {
        self.known.get(id).map(|state| Arc::clone(&state.reference))
    }

    /// A process runs in the container. Returns whether it is its first.
    pub(super) fn enter(
        &mut self,
        container: &Arc<CgroupContainer>,
        process: ProcessKey,
        inner_pid: u32,
        now_ns: u64,
    ) -> bool {
        let state = self.state(container, now_ns);
        let first = state.init.is_none() || inner_pid == 1;
        if first {
            state.init = Some(process);
        }
        first
    }

    /// Remembers whether a container may do everything; true once and for all.
    pub(super) fn note_privileged(&mut self, id: &str, privileged: bool) -> bool {
        self.known.get_mut(id).is_some_and(|state| {
            state.privileged |= privileged;
            state.privileged
        })
    }

    /// A container's first process has ended: the container has, and one with the same id would be another.
    pub(super) fn leave(&mut self, id: &str, process: ProcessKey) {
        if let Some(state) = self.known.get_mut(id)
            && state.init == Some(process)
        {
            state.init = None;
            state.privileged = false;
        }
    }

    /// What the API server said.
    pub(super) fn pods(&mut self, update: &PodUpdate, now_ns: u64) {
        self.standalone |= matches!(update, PodUpdate::Standalone { .. });
        self.pods.apply(update, now_ns);
        for state in self.known.values_mut() {
            state.settled = None;
        }
    }

    /// Pods of this node.
    pub(super) fn pod_count(&self) -> usize {
        self.pods.counts().living
    }

    /// What the runtime said of a container.
    pub(super) fn answered(&mut self, id: &str, answer: Lookup, now_ns: u64) {
        if let Some(state) = self.known.get_mut(id) {
            state.answer = match answer {
                Lookup::Found(container) => Answer::Found(Arc::new(container)),
                Lookup::Unknown => Answer::Unknown,
                Lookup::Failed => Answer::Failed { at_ns: now_ns },
            };
            state.settled = None;
        }
    }

    /// What the runtime is to be asked.
    pub(super) fn take_requests(&mut self) -> Vec<Arc<CgroupContainer>> {
        std::mem::take(&mut self.requests)
    }

    /// Completes an event with its container, or keeps it until more is known.
    pub(super) fn complete(&mut self, event: Event, container: &Arc<CgroupContainer>, now_ns: u64) -> Option<Event> {
        self.state(container, now_ns);
        if let Some((container, enrichment)) = self.describe(&container.id, false) {
            return Some(Event { container: Some(container), enrichment, ..event });
        }
        self.waiting.push_back(Waiting { since_ns: now_ns, id: container.id.clone(), event });
        None
    }

    /// Events that waited and now are complete, or have waited long enough.
    pub(super) fn released(&mut self, now_ns: u64) -> Vec<Event> {
        let mut out = Vec::new();
        let waiting = std::mem::take(&mut self.waiting);
        let over = waiting.len().saturating_sub(WAITING_MAX);
        for (position, waiting) in waiting.into_iter().enumerate() {
            let overdue = position < over || now_ns.saturating_sub(waiting.since_ns) >= WAIT_NS;
            match self.describe(&waiting.id, overdue) {
                Some((container, enrichment)) => {
                    out.push(Event { container: Some(container), enrichment, ..waiting.event });
                }
                None if overdue => out.push(Event { enrichment: Enrichment::None, ..waiting.event }),
                None => self.waiting.push_back(waiting),
            }
        }
        out
    }

    /// Whether any event waits.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What can be said of a container, if no more is to come or to be waited for.
    fn describe(&mut self, id: &str, overdue: bool) -> Option<(Arc<Container>, Enrichment)> {
        let state = self.known.get_mut(id)?;
        if let Some(settled) = &state.settled {
            return Some(settled.clone());
        }
        let reference = &state.reference;
        let told = self.pods.describe(&reference.id, reference.pod_uid.as_deref());
        let by_api = told.is_some() || self.standalone;
        let mut container = told.unwrap_or_else(|| Container {
            id: reference.id.clone(),
            pod_uid: reference.pod_uid.clone(),
            ..Container::default()
        });
        let mut found_runtime = None;
        if let Answer::Found(found) = &state.answer {
            found_runtime.clone_from(&found.runtime);
            container.name = container.name.or_else(|| found.name.clone());
            container.image = container.image.or_else(|| found.image.clone());
            container.pod = container.pod.or_else(|| found.pod.clone());
            container.pod_uid = container.pod_uid.or_else(|| found.pod_uid.clone());
        }
        // The cgroup's path tells Docker's containers from containerd's own.
        container.runtime = reference.runtime.map(Into::into).or(container.runtime).or(found_runtime);
        // The runtime's labels name a pod; its own labels and its owner only the API server knows.
        let pod_is_whole = container.pod_uid.is_none() || (container.pod.is_some() && by_api);
        let enrichment = match (container.image.is_some(), pod_is_whole) {
            (true, true) => Enrichment::Complete,
            (false, _) if container.pod.is_none() => Enrichment::None,
            _ => Enrichment::Partial,
        };
        let answered = !matches!(state.answer, Answer::Pending);
        let last_word = answered && (pod_is_whole || self.standalone);
        if enrichment != Enrichment::Complete && !last_word && !overdue {
            return None;
        }
        let settled = (Arc::new(container), enrichment);
        state.settled = Some(settled.clone());
        Some(settled)
    }

    /// Which door an entry came by, whose first process has these arguments, where the pod tells more than the kernel.
    pub(super) fn door(&self, container: &Container, observed: EntryType, args: &Arguments) -> Option<EntryType> {
        // Nobody enters a sandbox: whoever enters something that has no name yet is in a container.
        let unnamed = || self.pods.find_unnamed(container).filter(|_| observed == EntryType::KubectlExec);
        door(observed, self.pods.find(container).or_else(unnamed)?, args)
    }

    fn state(&mut self, container: &Arc<CgroupContainer>, now_ns: u64) -> &mut State {
        if !self.known.contains_key(&container.id) {
            // Ended ones first: a node's own services start before all else, and an exec into a container that was
            // forgotten would pass for its start, and for one into a container without privileges.
            if self.known.len() >= REMEMBERED_MAX
                && let Some(spare) = self
                    .known
                    .iter()
                    .min_by_key(|(_, state)| (state.init.is_some(), state.since_ns))
                    .map(|(id, _)| Arc::clone(id))
            {
                self.known.remove(&spare);
            }
            self.requests.push(Arc::clone(container));
        }
        let state = self.known.entry(container.id.clone()).or_insert_with(|| State {
            reference: Arc::clone(container),
            answer: Answer::Pending,
            settled: None,
            init: None,
            privileged: false,
            since_ns: now_ns,
        });
        if let Answer::Failed { at_ns } = state.answer
            && now_ns.saturating_sub(at_ns) >= ASK_AGAIN_NS
        {
            state.answer = Answer::Pending;
            state.settled = None;
            self.requests.push(Arc::clone(container));
        }
        state
    }
}
