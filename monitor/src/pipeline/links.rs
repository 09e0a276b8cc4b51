//! Who asked for a process, or for a login, that comes from somebody else: from the runtime, from init, from atd or cron.

use std::sync::Arc;

use super::{
    clients::{Asked, Clients, Scheduler},
    entries::{Crossing, is_executor, is_from_init, is_from_users_own},
    units::Units,
};
use crate::{
    container::cgroup::CgroupContainer,
    event::{EntryType, Login, Process},
    process::Known,
    record::Exec,
};

/// Where a process comes from that has just executed.
#[derive(Clone, Copy)]
pub(super) struct Arrived<'a> {
    pub(super) crossing: Option<Crossing>,
    pub(super) container: Option<&'a Arc<CgroupContainer>>,
    pub(super) previous: Option<&'a Known>,
    pub(super) parent: Option<&'a Process>,
}

/// The tool that asked for a process, or the unit file that somebody wrote.
pub(super) fn process(
    clients: &mut Clients,
    units: &Units,
    arrived: Arrived<'_>,
    process: &Process,
    exec: &Exec<'_>,
    now_ns: u64,
) -> Option<Asked> {
    let Arrived { crossing, container, previous, parent } = arrived;
    match (crossing, container) {
        (Some(Crossing::Started | Crossing::Entered), Some(container)) => {
            clients.asked(&container.id, &process.args, now_ns)
        }
        (None, _) if is_from_init(previous, parent) || is_from_users_own(previous, parent) => {
            let cgroup = || exec.cgroup.path();
            clients.asked_init(&process.args, cgroup, now_ns).or_else(|| units.asked(cgroup, now_ns))
        }
        _ => None,
    }
}

/// The tool that asked for a login. `opens` is what is known of the process that opens its session.
pub(super) fn login(clients: &mut Clients, opens: Option<&Known>, login: &Login, now_ns: u64) -> Option<Asked> {
    match login.door {
        EntryType::At => clients.asked_later(Scheduler::At, &login.user, now_ns),
        EntryType::Cron => clients.asked_later(Scheduler::Cron, &login.user, now_ns),
        // `login` is a program of its own. init logs somebody in before it runs anything, where a unit says so.
        EntryType::Console if opens.is_none_or(is_executor) => clients.asked_login(now_ns),
        _ => None,
    }
}
