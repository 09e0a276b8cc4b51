//! Who asked for a process, or for a login, that comes from somebody else: from the runtime, from init, from atd or cron.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{
    clients::{Asked, Clients},
    entries::{Crossing, is_executor, is_from_init, is_from_users_own},
    jobs::CronJobs,
    left::Left,
    saved::{SavedLeft, SavedWhat},
    units::Units,
};
use crate::{
    container::cgroup::CgroupContainer,
    event::{Entry, EntryType, FileChange, Login, Process, Session},
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
    /// Whether something was left to run later that was not at the last look.
    pub(super) fn take_changed(&mut self) -> bool {
        let Self { clients, units, jobs } = self;
        let changed =
            [&mut clients.later.changed, &mut units.writers.changed, &mut jobs.parts.changed, &mut jobs.changed];
        changed.map(std::mem::take).contains(&true)
    }

    /// All that another run needs to know; what was left last comes last.
    pub(super) fn save(&self) -> Vec<SavedLeft> {
        let text = |text: &Arc<str>| text.to_string();
        let units = self.units.writers.iter().map(|(service, by)| (SavedWhat::Unit(text(service)), by));
        let jobs = self.jobs.jobs().map(|(table, command, by)| (SavedWhat::CronJob(text(table), text(command)), by));
        let programs = self.jobs.parts.iter().map(|(path, by)| (SavedWhat::CronProgram(text(path)), by));
        let at = self.clients.later.iter().map(|(user, by)| (SavedWhat::AtJobs(text(user)), by));
        let all = units.chain(jobs).chain(programs).chain(at);
        let mut all: Vec<SavedLeft> = all.filter_map(|(what, by)| by.save(what)).collect();
        all.sort_by(|one, other| (one.at, &one.what).cmp(&(other.at, &other.what)));
        all
    }

    /// Takes in what another run left, with the sessions that are known of.
    pub(super) fn restore(&mut self, saved: &[SavedLeft], sessions: &FxHashMap<Arc<str>, Arc<Session>>, now_ns: u64) {
        for left in saved {
            let Some(by) = Left::load(left, sessions, now_ns) else { continue };
            match &left.what {
                SavedWhat::Unit(service) => self.units.writers.restore(service, by),
                SavedWhat::CronJob(table, command) => self.jobs.restore_job(table, command, by),
                SavedWhat::CronProgram(path) => self.jobs.restore_program(path, by),
                SavedWhat::AtJobs(user) => self.clients.later.restore(user, by),
            }
        }
    }

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
                let first = crossing == Some(Crossing::Started);
                self.clients.asked(container, first, &process.args, now_ns)
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
