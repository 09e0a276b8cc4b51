//! Who asked for a process, or for a login, that comes from somebody else: from the runtime, from init, from atd or cron.

use std::sync::Arc;

use super::{
    clients::{Asked, Clients},
    entries::{Crossing, is_executor, is_from_init, is_from_users_own},
    jobs::CronJobs,
    units::Units,
};
use crate::{
    container::cgroup::CgroupContainer,
    event::{Entry, EntryType, FileChange, Login, Process},
    process::Known,
    record::Exec,
};

/// What is remembered of those who had something done.
#[derive(Default)]
pub(super) struct Links {
    pub(super) clients: Clients,
    pub(super) units: Units,
    pub(super) jobs: CronJobs,
}

/// Where a process comes from that has just executed.
#[derive(Clone, Copy)]
pub(super) struct Arrived<'a> {
    pub(super) crossing: Option<Crossing>,
    pub(super) container: Option<&'a Arc<CgroupContainer>>,
    pub(super) previous: Option<&'a Known>,
    pub(super) parent: Option<&'a Process>,
}

impl Links {
    /// Somebody under a session changed a file.
    pub(super) fn note(&mut self, file: &FileChange, entry: &Arc<Entry>, now_ns: u64) {
        self.units.note(file, entry, now_ns);
        self.jobs.note(file, entry, now_ns);
    }

    /// The tool that asked for a process, or the file that somebody wrote.
    pub(super) fn process(
        &mut self,
        arrived: Arrived<'_>,
        process: &Process,
        exec: &Exec<'_>,
        now_ns: u64,
    ) -> Option<Asked> {
        let Arrived { crossing, container, previous, parent } = arrived;
        match (crossing, container) {
            (Some(Crossing::Started | Crossing::Entered), Some(container)) => {
                self.clients.asked(&container.id, &process.args, now_ns)
            }
            (None, _) if is_from_init(previous, parent) || is_from_users_own(previous, parent) => {
                let cgroup = || exec.cgroup.path();
                self.clients.asked_init(&process.args, cgroup, now_ns).or_else(|| self.units.asked(cgroup, now_ns))
            }
            (None, _) => self.jobs.asked(previous, process, now_ns),
            _ => None,
        }
    }

    /// The tool that asked for a login. `opens` is what is known of the process that opens its session.
    pub(super) fn login(&mut self, opens: Option<&Known>, login: &Login, now_ns: u64) -> Option<Asked> {
        match login.door {
            EntryType::At => self.clients.asked_later(&login.user, now_ns),
            // `login` is a program of its own. init logs somebody in before it runs anything, where a unit says so.
            EntryType::Console if opens.is_none_or(is_executor) => self.clients.asked_login(now_ns),
            _ => None,
        }
    }
}
