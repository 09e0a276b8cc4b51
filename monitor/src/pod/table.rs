//! The pods that are known, by UID and by container id. One owner, no locks, no clock but the time handed in.
//!
//! A process outlives what the API says of it: its exit is read after its pod is gone, and after its container's next run took its place in the pod's
//! status. So nothing is forgotten at once. What left is kept for `REMEMBERED_NS`, at most `REMEMBERED` of it, and answers like the living; a new
//! list of the node's pods, whenever one is needed, drops nobody either.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{ContainerFacts, PodFacts, PodUpdate};
use crate::event::Container;

/// How long what left is remembered: longer than any grace period that kubelet grants by default, in nanoseconds.
const REMEMBERED_NS: u64 = 5 * 60 * 1_000_000_000;
/// How many pods, and how many containers, are remembered at most after they left.
const REMEMBERED: usize = 512;
/// How many living pods are held at most. Kubelet's own default limit is 110; large nodes are run with a few hundred.
const PODS: usize = 4096;

/// The pods of this node.
#[derive(Debug, Default)]
pub struct PodTable {
    pods: HashMap<Arc<str>, Held<Arc<PodFacts>>>,
    containers: HashMap<Arc<str>, Held<ContainerOfPod>>,
    /// UIDs that static pods run under, each with the UID of its mirror in the API.
    mirrors: HashMap<Arc<str>, Arc<str>>,
    gone_pods: VecDeque<(u64, Arc<str>)>,
    gone_containers: VecDeque<(u64, Arc<str>)>,
    living: usize,
    refused: u64,
    cut: u64,
}

/// Something that is known, and since when it is gone, if it is.
#[derive(Debug)]
struct Held<T> {
    what: T,
    gone_ns: Option<u64>,
}

#[derive(Debug)]
struct ContainerOfPod {
    pod: Arc<PodFacts>,
    container: Arc<ContainerFacts>,
}

/// A container and the pod that it is in.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The pod.
    pub pod: &'a Arc<PodFacts>,
    /// The container.
    pub container: &'a Arc<ContainerFacts>,
}

/// Figures for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounts {
    /// Pods that the API has.
    pub living: usize,
    /// Pods that are remembered though they left.
    pub remembered: usize,
    /// Container ids that are known, past runs included.
    pub containers: usize,
    /// Pods not held because there were too many, or because their UID or container id was another living pod's.
    pub refused: u64,
    /// Values of pods left out or shortened because they were too long or too many.
    pub cut: u64,
}

impl PodTable {
    /// Takes in what the watch said. `now_ns` is a monotonic time in nanoseconds.
    pub fn apply(&mut self, update: &PodUpdate, now_ns: u64) {
        match update {
            PodUpdate::Listed(pods) => self.list(pods, now_ns),
            PodUpdate::Applied(pod) => self.put(pod, now_ns),
            PodUpdate::Deleted(uid) => self.retire(uid, now_ns),
            PodUpdate::Standalone { .. } | PodUpdate::Unreachable { .. } | PodUpdate::Reachable => {}
        }
        self.forget(now_ns);
    }

    /// The pod with this UID, which may be the one that the cgroups of a static pod are named by.
    pub fn pod_by_uid(&self, uid: &str) -> Option<&Arc<PodFacts>> {
        let held = self.pods.get(uid).or_else(|| self.pods.get(self.mirrors.get(uid)?))?;
        Some(&held.what)
    }

    /// The container with this id, whether it runs or is the run before.
    pub fn container(&self, id: &str) -> Option<Found<'_>> {
        let held = &self.containers.get(id)?.what;
        Some(Found { pod: &held.pod, container: &held.container })
    }

    /// The same by all that is known of it: the API may not have heard of its id yet, but of its pod and its name in it.
    pub fn find(&self, container: &Container) -> Option<Found<'_>> {
        self.container(&container.id).or_else(|| {
            let pod = self.pod_by_uid(container.pod_uid.as_deref()?)?;
            let container = pod.containers.iter().find(|it| Some(&it.name) == container.name.as_ref())?;
            Some(Found { pod, container })
        })
    }

    /// The same of one that nobody has named yet: it can only be one of its pod's that have no id, and is known where that is a
    /// single one. Not for a pod's sandbox, which has no name either and is none of its containers.
    pub fn find_unnamed(&self, container: &Container) -> Option<Found<'_>> {
        let pod = self.pod_by_uid(container.pod_uid.as_deref().filter(|_| container.name.is_none())?)?;
        let mut without_id = pod.containers.iter().filter(|it| it.id.is_none());
        let container = without_id.next().filter(|_| without_id.next().is_none())?;
        Some(Found { pod, container })
    }

    /// What can be said of a container whose cgroup names its id and its pod's UID. `None` where the API knows neither (yet).
    pub fn describe(&self, id: &str, pod_uid: Option<&str>) -> Option<Container> {
        let found = self.container(id);
        let pod = found.map(|found| found.pod).or_else(|| self.pod_by_uid(pod_uid?))?;
        let container = found.map(|found| found.container);
        Some(Container {
            id: id.into(),
            runtime: container.and_then(|container| container.runtime.clone()),
            name: container.map(|container| container.name.clone()),
            image: container.and_then(|container| container.image.clone()),
            pod_uid: Some(pod_uid.map_or_else(|| pod.pod.uid.clone(), Into::into)),
            pod: Some(pod.pod.clone()),
        })
    }

    /// Figures for metrics.
    pub fn counts(&self) -> TableCounts {
        TableCounts {
            living: self.living,
            remembered: self.pods.len() - self.living,
            containers: self.containers.len(),
            refused: self.refused,
            cut: self.cut,
        }
    }

    fn list(&mut self, pods: &[Arc<PodFacts>], now_ns: u64) {
        let listed: std::collections::HashSet<&str> = pods.iter().map(|pod| &*pod.pod.uid).collect();
        let missing = |(uid, held): (&Arc<str>, &Held<_>)| {
            (held.gone_ns.is_none() && !listed.contains(&**uid)).then(|| uid.clone())
        };
        for uid in self.pods.iter().filter_map(missing).collect::<Vec<_>>() {
            self.retire(&uid, now_ns);
        }
        for pod in pods {
            self.put(pod, now_ns);
        }
    }

    fn put(&mut self, pod: &Arc<PodFacts>, now_ns: u64) {
        let uid = &pod.pod.uid;
        let before = self.pods.get(uid);
        let lives = before.is_some_and(|held| held.gone_ns.is_none());
        if !lives && self.living >= PODS {
            self.refused += 1;
            return;
        }
        if before.is_none_or(|held| held.what.cut != pod.cut) {
            self.cut += u64::from(pod.cut);
        }
        let before = self.pods.insert(uid.clone(), Held { what: pod.clone(), gone_ns: None });
        self.living += usize::from(!lives);
        if let Some(hash) = &pod.config_hash {
            self.mirror(hash, uid);
        }
        for container in &pod.containers {
            for id in [&container.id, &container.previous_id].into_iter().flatten() {
                self.put_container(id, pod, container);
            }
        }
        if let Some(before) = before {
            if before.what.config_hash != pod.config_hash {
                self.unmirror(&before.what);
            }
            let kept: Vec<_> = container_ids(pod).collect();
            for id in container_ids(&before.what).filter(|id| !kept.contains(id)) {
                self.retire_container(id, uid, now_ns);
            }
        }
    }

    /// The first living pod that a UID or an id was seen with keeps it: nobody can take another's name by claiming it later.
    fn mirror(&mut self, hash: &Arc<str>, uid: &Arc<str>) {
        let taken = self.mirrors.get(hash).filter(|other| *other != uid).and_then(|other| self.pods.get(other));
        if taken.is_some_and(|other| other.gone_ns.is_none()) {
            self.refused += 1;
        } else {
            self.mirrors.insert(hash.clone(), uid.clone());
        }
    }

    fn unmirror(&mut self, pod: &PodFacts) {
        if let Some(hash) = &pod.config_hash
            && self.mirrors.get(hash) == Some(&pod.pod.uid)
        {
            self.mirrors.remove(hash);
        }
    }

    fn put_container(&mut self, id: &Arc<str>, pod: &Arc<PodFacts>, container: &Arc<ContainerFacts>) {
        let taken = self.containers.get(id).filter(|held| held.what.pod.pod.uid != pod.pod.uid);
        if taken.is_some_and(|held| held.gone_ns.is_none()) {
            self.refused += 1;
            return;
        }
        let what = ContainerOfPod { pod: pod.clone(), container: container.clone() };
        self.containers.insert(id.clone(), Held { what, gone_ns: None });
    }

    fn retire(&mut self, uid: &str, now_ns: u64) {
        let Some(held) = self.pods.get_mut(uid).filter(|held| held.gone_ns.is_none()) else { return };
        held.gone_ns = Some(now_ns);
        let pod = held.what.clone();
        self.living -= 1;
        self.gone_pods.push_back((now_ns, pod.pod.uid.clone()));
        for id in container_ids(&pod) {
            self.retire_container(id, uid, now_ns);
        }
    }

    fn retire_container(&mut self, id: &Arc<str>, uid: &str, now_ns: u64) {
        let Some(held) = self.containers.get_mut(id) else { return };
        if held.gone_ns.is_none() && *held.what.pod.pod.uid == *uid {
            held.gone_ns = Some(now_ns);
            self.gone_containers.push_back((now_ns, id.clone()));
        }
    }

    /// A queue's entry counts only while what it names is still gone since then: it may have come back.
    fn forget(&mut self, now_ns: u64) {
        while let Some((since, uid)) = pop_due(&mut self.gone_pods, now_ns) {
            if self.pods.get(&uid).is_some_and(|held| held.gone_ns == Some(since))
                && let Some(Held { what, .. }) = self.pods.remove(&uid)
            {
                self.unmirror(&what);
            }
        }
        while let Some((since, id)) = pop_due(&mut self.gone_containers, now_ns) {
            if self.containers.get(&id).is_some_and(|held| held.gone_ns == Some(since)) {
                self.containers.remove(&id);
            }
        }
    }
}

fn container_ids(pod: &PodFacts) -> impl Iterator<Item = &Arc<str>> {
    pod.containers.iter().flat_map(|container| container.id.iter().chain(&container.previous_id))
}

/// The oldest entry, if its time is up or there are too many.
fn pop_due<T>(queue: &mut VecDeque<(u64, T)>, now_ns: u64) -> Option<(u64, T)> {
    let (since, _) = queue.front()?;
    (queue.len() > REMEMBERED || now_ns.saturating_sub(*since) >= REMEMBERED_NS).then(|| queue.pop_front()).flatten()
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
