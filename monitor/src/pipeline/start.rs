//! How a run begins and ends: what another run left, the processes that ran before, and what the next run is to know. Beside it,
//! what the node's own object says.

use postern_ebpf::abi::{EntryMark, ProcessKey};

use super::{
    Pipeline, Saved, containers::Containers, maintenance::Told, multiplexers::under_multiplexer, remote::is_ssh_server,
    restore, steps::security_context,
};
use crate::{
    event::{AgentEvent, Body, Enrichment, Event},
    process::{Known, seed::SeedProcess},
};

impl Pipeline {
    /// What another run left, before the processes that run are taken in. The error says why it is of no use.
    pub fn restore(&mut self, saved: &Saved, processes: &[SeedProcess], now_ns: u64) -> Result<(), &'static str> {
        if saved.boot_id != self.decoder.boot_id() {
            return Err("it is of another boot");
        }
        let living = restore::living(processes);
        self.ended = self.entries.restore(&self.decoder, saved, &living, now_ns);
        self.links.restore(&saved.left, &self.entries.sessions(), now_ns);
        Ok(())
    }

    /// What another run is to know, where that has changed since it was asked last, or `always`.
    pub fn save(&mut self, always: bool) -> Option<Saved> {
        // Both are looked at: what is handed out now holds what is new in either.
        let changed = self.entries.take_changed() | self.links.take_changed();
        (changed || always).then(|| {
            let mut saved = self.entries.save(&self.decoder, self.processes.iter());
            saved.left = self.links.save();
            saved
        })
    }

    /// Tells of the sessions that ended while no agent ran.
    pub fn tell_ended(&mut self, now_ns: u64) {
        for (process, login) in std::mem::take(&mut self.ended) {
            self.session_event(Body::SessionClosed(login), process, Enrichment::Partial, now_ns);
        }
    }

    /// Processes that were there before the agent. Returns the lineage that the kernel side is to carry on.
    pub fn seed(&mut self, processes: &[SeedProcess], now_ns: u64) -> Vec<(ProcessKey, EntryMark)> {
        let mut marks = Vec::with_capacity(processes.len());
        // A parent has started before its child, and in one tick has the lower pid unless pids have just wrapped round.
        let mut order: Vec<&SeedProcess> = processes.iter().collect();
        order.sort_by_key(|process| (process.key.start_ns, process.key.tgid));
        for seed in order {
            let cgroup = Containers::of_seed(&seed.cgroup);
            let (process, facts) = self.decoder.seeded(seed, cgroup.is_some());
            let container = cgroup.filter(|_| facts.namespaces.mnt != self.host.namespaces.mnt);
            let parent = self.processes.by_pid(seed.parent).cloned();
            if let Some(container) = &container {
                self.containers.enter(container, process.key, facts.inner_pid, now_ns);
                self.containers.note_privileged(&container.id, security_context(self.host, &facts).privileged);
            }
            let (placed, mark) =
                self.entries.place_seed(&self.decoder, seed, &process, parent.as_ref(), container.as_ref());
            // Whom PAM has told of is known.
            let server = u32::from(mark.entered_by().is_none() && is_ssh_server(&process));
            marks.push((process.key, EntryMark { server, ..mark }));
            let parent = parent.as_ref().map(|known| &*known.process);
            let placed = under_multiplexer(&mut self.multiplexers, placed, &process, parent);
            // Who attached before the agent was there is attached still, and was told by another run.
            let _ = self.multiplexers.client(&process, &placed.entry);
            self.processes.insert(Known {
                told: 0,
                process,
                entry: Some(placed.entry),
                entry_leader: Some(placed.leader),
                container: container.map(|container| container.id.clone()),
            });
        }
        self.entries.end_restoring();
        marks
    }

    pub(super) fn maintenance(&mut self, told: impl IntoIterator<Item = Told>, now_ns: u64) {
        for told in told {
            match told {
                Told::Problem(message) => self.agent(AgentEvent::Changed { message }, now_ns),
                Told::Step(step, maintenance) => {
                    let event = self.event(Body::Maintenance(step), None, now_ns);
                    self.send(Event { maintenance: Some(maintenance), ..event });
                }
            }
        }
        self.entries.set_maintenance(self.maintenances.known().cloned());
    }
}

#[cfg(test)]
mod tests {
    use postern_ebpf::abi::Namespaces;

    use super::*;
    use crate::{
        detect::AccessPolicy,
        replay::{self, CONTAINER_MNT, Exec, Written, in_container, key},
    };

    #[test]
    fn what_executes_before_the_kernel_side_knows_its_parent_is_where_its_parent_is() {
        const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let cgroup = format!("/kubepods.slice/cri-containerd-{ID}.scope");
        let mut pipeline = replay::pipeline(AccessPolicy::default());
        let shell = SeedProcess {
            key: key(10),
            executable: b"/bin/sh".to_vec(),
            namespaces: Namespaces { mnt: CONTAINER_MNT, ..Namespaces::default() },
            inner_pid: 1,
            cgroup: cgroup.clone().into_bytes(),
            ..SeedProcess::default()
        };
        pipeline.seed(&[shell], 0);
        let sleep = Exec { pid: 11, previous: 0, path: "/bin/sleep", args: &["sleep"], cgroup: &cgroup };
        let record = Written::exec(0, sleep, |body| {
            in_container(7)(body);
            body.parent = key(10);
        });
        pipeline.record(record.bytes()).expect("a good record");
        pipeline.finish(u64::MAX);
        let actions: Vec<&str> = pipeline.take_events().map(|event| event.categorization().action).collect();
        assert_eq!(actions, ["exec"], "and nobody enters the container");
    }
}
