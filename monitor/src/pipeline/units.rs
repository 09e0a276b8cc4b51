//! Unit files that somebody in a session wrote. What init starts of such a unit later, at a timer, on a socket, after a failure or
//! at nobody's word, comes from no lineage and no request: the file's name and that of the service's cgroup join them.

use std::sync::Arc;

use super::{
    clients::{Asked, SERVICE, unit_of},
    left::{Left, LeftBehind},
};
use crate::event::{Entry, FileAction, FileChange};

/// Folders of the units of the node and of its users (systemd.unit(5)).
const FOLDERS: [&str; 6] = [
    "/etc/systemd/system/",
    "/run/systemd/system/",
    "/usr/local/lib/systemd/system/",
    "/usr/lib/systemd/system/",
    "/etc/systemd/user/",
    "/usr/lib/systemd/user/",
];
/// The folder of a user's own, below a home.
const OWN_FOLDER: &str = "/.config/systemd/user/";
/// How the names of units end that start the service of the same name.
const STARTERS: [&str; 4] = [SERVICE, ".timer", ".socket", ".path"];

/// By the service: who wrote of it last.
#[derive(Default)]
pub(super) struct Units {
    pub(super) writers: LeftBehind,
}

impl Units {
    /// Somebody under a session changed a file.
    pub(super) fn note(&mut self, file: &FileChange, entry: &Arc<Entry>, now_ns: u64) {
        let is_written = matches!(file.action, FileAction::Created | FileAction::Changed | FileAction::Renamed);
        let Some(path) = file.path.as_ref().filter(|_| is_written) else { return };
        let Some(service) = service_of_file(path) else { return };
        self.writers.put(service.into(), Left::written(entry, path, now_ns));
    }

    /// Who wrote the unit whose cgroup this is.
    pub(super) fn asked(&self, cgroup: impl FnOnce() -> Vec<u8>, now_ns: u64) -> Option<Asked> {
        if self.writers.is_empty() {
            return None;
        }
        let path = cgroup();
        let service = unit_of(&path);
        self.writers.get(service).or_else(|| self.writers.get(&template(service)?))?.asked(now_ns)
    }
}

/// The service that a unit file is about: its own, that of the starter of the same name, or that whose settings it adds to.
fn service_of_file(path: &str) -> Option<String> {
    let of_node = || FOLDERS.iter().find_map(|folder| path.strip_prefix(folder));
    let rest = of_node().or_else(|| path.split_once(OWN_FOLDER).map(|(_, rest)| rest))?;
    let unit = rest.split('/').next()?;
    let unit = unit.strip_suffix(".d").unwrap_or(unit);
    let name = STARTERS.iter().find_map(|end| unit.strip_suffix(end)).filter(|name| !name.is_empty())?;
    Some(format!("{name}{SERVICE}"))
}

/// The template that a service is an instance of.
fn template(service: &str) -> Option<String> {
    Some(format!("{}@{SERVICE}", service.split_once('@')?.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::EntryType,
        pipeline::left::{LATER_NS, LEFT_MAX},
        replay::{change, key},
    };

    fn note(units: &mut Units, pid: u32, path: &str, action: FileAction) {
        units.note(&change(path, action), &Arc::new(Entry::new(EntryType::Sshd, key(pid))), 0);
    }

    #[test]
    fn what_a_written_unit_starts_later_is_its_writers() {
        use FileAction::{Created, Deleted, Renamed};
        let mut units = Units::default();
        for (pid, path, action) in [
            (1, "/etc/systemd/system/web.service", Renamed),
            (2, "/run/systemd/system/backup@.timer", Created),
            (3, "/etc/systemd/system/cron.service.d/10-nice.conf", Created),
            (4, "/home/ops/.config/systemd/user/own.path", Created),
            (5, "/etc/systemd/system/gone.service", Deleted),
            (6, "/etc/systemd/system/multi-user.target.wants/other.service", Created),
            (7, "/home/ops/web.service", Created),
            (8, "/etc/systemd/system/.service", Created),
            (9, "/srv/other-root/etc/systemd/system/elsewhere.service", Created),
        ] {
            note(&mut units, pid, path, action);
        }
        let writer = |cgroup: &str, now_ns| {
            units.asked(|| cgroup.as_bytes().to_vec(), now_ns).map(|asked| asked.entry.leader.tgid)
        };
        assert_eq!(writer("/system.slice/web.service", 0), Some(1));
        assert_eq!(writer("/system.slice/web.service/workers", 0), Some(1));
        assert_eq!(writer("/system.slice/system-backup.slice/backup@daily.service", 0), Some(2));
        assert_eq!(writer("/system.slice/cron.service", 0), Some(3));
        assert_eq!(writer("/user.slice/user-1000.slice/user@1000.service/app.slice/own.service", 0), Some(4));
        assert_eq!(writer("/system.slice/web.service", LATER_NS), None);
        for none in [
            "/system.slice/gone.service",
            "/system.slice/other.service",
            "/system.slice/elsewhere.service",
            "/user.slice",
            "",
        ] {
            assert_eq!(writer(none, 0), None, "{none}");
        }
    }

    #[test]
    fn they_are_bounded() {
        let mut units = Units::default();
        for number in 0..2 * LEFT_MAX {
            note(&mut units, 1, &format!("/etc/systemd/system/unit-{number}.service"), FileAction::Created);
        }
        assert!(units.writers.iter().count() <= LEFT_MAX);
    }
}
