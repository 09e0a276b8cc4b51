//! Jobs of cron's that somebody in a session added. Nothing in a job's lineage leads to him; the table that he wrote holds the
//! command that cron has a shell run. Which of a table's jobs are new is known by what stood in all tables before.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{
    clients::Asked,
    crontab,
    left::{Left, LeftBehind},
};
use crate::{
    event::{Entry, FileAction, FileChange, Process},
    process::Known,
};

/// How many tables, jobs of one, and programs are remembered.
const TABLES_MAX: usize = 64;
/// See `TABLES_MAX`.
const JOBS_MAX: usize = 512;
/// Of how many tables it is remembered what had no room. Past that, all are forgotten, and counted once more.
const CROWDED_MAX: usize = 1_024;
/// What cron's daemon is called.
const CRONS: [&str; 3] = ["cron", "crond", "busybox"];

/// By their commands: who added each, if it was somebody in a session.
type Jobs = FxHashMap<Arc<str>, Option<Left>>;

/// What is known of cron's jobs.
#[derive(Default)]
pub(super) struct CronJobs {
    tables: FxHashMap<Arc<str>, Jobs>,
    /// Tables that are to be read, and who wrote each last.
    unread: FxHashMap<Arc<str>, Left>,
    /// Programs in the folders of those that cron runs every hour, day and so on.
    pub(super) parts: LeftBehind,
    /// Whether anybody in a session added a job at all.
    has_writers: bool,
    /// Whether a table that one wrote was read since this was looked at.
    pub(super) changed: bool,
    /// By their tables, which are read again and again: how many jobs there is no room for, as far as that is counted.
    crowded: FxHashMap<Arc<str>, u64>,
    /// Jobs, or tables, that there was no room for.
    left_out: u64,
}

impl CronJobs {
    /// Somebody under a session changed a file.
    pub(super) fn note(&mut self, file: &FileChange, entry: &Arc<Entry>, now_ns: u64) {
        let Some(path) = file.path.as_ref().filter(|_| !file.is_directory) else { return };
        let written = || Left::written(entry, path, now_ns);
        if crontab::is_table(path) {
            if self.unread.len() < TABLES_MAX || self.unread.contains_key(path) {
                self.unread.insert(Arc::clone(path), written());
            } else {
                self.left_out += 1;
            }
        } else if crontab::is_part(path) && file.action != FileAction::Deleted {
            self.parts.put(Arc::clone(path), written());
            self.has_writers = true;
        }
    }

    /// Tables that are to be read now.
    pub(super) fn unread(&self) -> impl Iterator<Item = &Arc<str>> {
        self.unread.keys()
    }

    /// Tables of which anything is remembered: one that is gone is to be read, too, and is forgotten then.
    pub(super) fn known(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tables.keys().chain(self.crowded.keys())
    }

    /// What stands in a table now: nothing if it is gone. What is new in one that somebody wrote is his.
    pub(super) fn read(&mut self, path: &Arc<str>, content: &[u8]) {
        let writer = self.unread.remove(path);
        self.changed |= writer.is_some();
        let mut jobs = Jobs::default();
        let mut left_out = 0;
        for command in crontab::commands(path, content) {
            if jobs.len() >= JOBS_MAX {
                left_out += 1;
                continue;
            }
            let known = self.tables.values().find_map(|jobs| jobs.get(&command));
            let by = known.map_or_else(|| writer.clone(), Clone::clone);
            self.has_writers |= by.is_some();
            jobs.insert(command, by);
        }
        if jobs.is_empty() {
            self.tables.remove(path);
        } else if self.tables.len() < TABLES_MAX || self.tables.contains_key(path) {
            self.tables.insert(Arc::clone(path), jobs);
        } else {
            left_out += jobs.len() as u64;
        }
        self.leave_out(path, left_out);
    }

    /// Counts what there is no room for of a table, but for what was counted of it before.
    fn leave_out(&mut self, path: &Arc<str>, count: u64) {
        let before = self.crowded.remove(path).unwrap_or_default();
        self.left_out += count.saturating_sub(before);
        if count == 0 {
            return;
        }
        if self.crowded.len() >= CROWDED_MAX {
            self.crowded.clear();
        }
        self.crowded.insert(Arc::clone(path), count);
    }

    /// Whose each job is: its table, its command, and who added it.
    pub(super) fn jobs(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &Left)> {
        let all = self.tables.iter().flat_map(|(path, jobs)| jobs.iter().map(move |(command, by)| (path, command, by)));
        all.filter_map(|(path, command, by)| Some((path, command, by.as_ref()?)))
    }

    /// A job as another run knew it. What else stands in its table is known when that is read.
    pub(super) fn restore_job(&mut self, path: &str, command: &str, by: Left) {
        if !crontab::is_table(path) || self.tables.len() >= TABLES_MAX && !self.tables.contains_key(path) {
            return;
        }
        let jobs = self.tables.entry(path.into()).or_default();
        if jobs.len() < JOBS_MAX {
            jobs.insert(command.into(), Some(by));
            self.has_writers = true;
        }
    }

    /// A program in a folder of cron's, as another run knew it.
    pub(super) fn restore_program(&mut self, path: &str, by: Left) {
        if crontab::is_part(path) {
            self.parts.restore(path, by);
            self.has_writers = true;
        }
    }

    /// How many jobs, or tables, there was no room for.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Who added the job whose first program this is.
    pub(super) fn asked(&self, previous: Option<&Known>, process: &Process, now_ns: u64) -> Option<Asked> {
        if !self.has_writers {
            return None;
        }
        let file = process.executable.script.as_deref().unwrap_or(&process.executable.path);
        if let Some(written) = self.parts.get(file) {
            return written.asked(now_ns);
        }
        if !CRONS.contains(&previous?.process.executable_name()) {
            return None;
        }
        let command = crontab::of_shell(&process.args)?;
        self.tables.values().find_map(|jobs| jobs.get(command)?.as_ref())?.asked(now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::EntryType,
        replay::{change, key, process},
    };

    const OWN: &str = "/var/spool/cron/crontabs/ops";
    const NODES: &str = "/etc/cron.d/node";

    fn note(jobs: &mut CronJobs, pid: u32, path: &str) {
        jobs.note(&change(path, FileAction::Renamed), &Arc::new(Entry::new(EntryType::Sshd, key(pid))), 0);
    }

    fn read(jobs: &mut CronJobs, path: &str, table: &str) {
        jobs.read(&path.into(), table.as_bytes());
    }

    /// Whose the job is in which cron has a shell run that.
    fn writer(jobs: &CronJobs, daemon: &str, command: &str) -> Option<u32> {
        let known = Known {
            process: Arc::new(process(8, daemon, &[])),
            entry: None,
            entry_leader: None,
            container: None,
            told: 0,
        };
        let asked = jobs.asked(Some(&known), &process(9, "/usr/bin/dash", &["/bin/sh", "-c", command]), 0)?;
        Some(asked.entry.leader.tgid)
    }

    #[test]
    fn only_what_is_new_in_a_table_is_its_writers() {
        let mut jobs = CronJobs::default();
        read(&mut jobs, OWN, "* * * * * old\n");
        read(&mut jobs, NODES, "* * * * * root nodes\n");
        assert_eq!(writer(&jobs, "/usr/sbin/cron", "old"), None);
        note(&mut jobs, 1, OWN);
        assert_eq!(jobs.unread().count(), 1);
        read(&mut jobs, OWN, "* * * * * old\n* * * * * first%input\n* * * * * nodes\n");
        assert_eq!(jobs.unread().count(), 0);
        note(&mut jobs, 2, OWN);
        read(&mut jobs, OWN, "* * * * * first\n* * * * * second\n");
        for (command, expected) in [("old", None), ("nodes", None), ("first", Some(1)), ("second", Some(2))] {
            assert_eq!(writer(&jobs, "/usr/sbin/cron", command), expected, "{command}");
        }
        assert_eq!(writer(&jobs, "/usr/bin/bash", "first"), None, "no job of cron's");
        // Gone, and added again by another.
        note(&mut jobs, 3, OWN);
        read(&mut jobs, OWN, "");
        assert_eq!(writer(&jobs, "/usr/sbin/cron", "first"), None);
        note(&mut jobs, 4, NODES);
        read(&mut jobs, NODES, "* * * * * root first\n");
        assert_eq!(writer(&jobs, "/usr/sbin/crond", "first"), Some(4));
    }

    #[test]
    fn a_program_in_a_folder_of_crons_is_its_writers() {
        let mut jobs = CronJobs::default();
        note(&mut jobs, 1, "/etc/cron.daily/backup");
        let script = |path: &str| {
            let mut process = process(9, "/usr/bin/dash", &["/bin/sh", path]);
            process.executable.script = Some(path.into());
            jobs.asked(None, &process, 0).map(|asked| asked.entry.leader.tgid)
        };
        assert_eq!((script("/etc/cron.daily/backup"), script("/etc/cron.daily/other")), (Some(1), None));
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let mut jobs = CronJobs::default();
        for number in 0..TABLES_MAX + 2 {
            read(&mut jobs, &format!("/etc/cron.d/{number}"), &format!("@daily root job-{number}\n"));
            note(&mut jobs, 1, &format!("/etc/cron.d/new-{number}"));
        }
        assert_eq!((jobs.tables.len(), jobs.unread.len(), jobs.left_out()), (TABLES_MAX, TABLES_MAX, 4));
        let lines: Vec<String> = (0..JOBS_MAX + 3).map(|number| format!("@daily root own-{number}\n")).collect();
        read(&mut jobs, "/etc/cron.d/0", &lines.concat());
        assert_eq!((jobs.tables["/etc/cron.d/0"].len(), jobs.left_out()), (JOBS_MAX, 7));
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_once_however_often_it_is_read() {
        let mut jobs = CronJobs::default();
        let table =
            |count: usize| (0..count).map(|number| format!("@daily job-{number}\n")).collect::<Vec<_>>().concat();
        for (count, expected) in [(JOBS_MAX + 3, 3), (JOBS_MAX + 3, 3), (JOBS_MAX + 5, 5), (1, 5), (JOBS_MAX + 1, 6)] {
            read(&mut jobs, OWN, &table(count));
            assert_eq!(jobs.left_out(), expected, "{count}");
        }
        let mut jobs = CronJobs::default();
        let mut read_all = || {
            (0..TABLES_MAX + 2).for_each(|number| read(&mut jobs, &format!("/etc/cron.d/{number}"), "@daily root x\n"));
            jobs.left_out()
        };
        assert_eq!((read_all(), read_all()), (2, 2));
        for number in 0..2 * CROWDED_MAX {
            read(&mut jobs, &format!("/etc/cron.d/more-{number}"), "@daily root x\n");
        }
        assert!(jobs.crowded.len() <= CROWDED_MAX);
    }

    #[test]
    fn a_table_that_is_gone_is_read_once_more_and_makes_room() {
        let mut jobs = CronJobs::default();
        for number in 0..=TABLES_MAX {
            read(&mut jobs, &format!("/etc/cron.d/{number}"), "@daily root x\n");
        }
        let known: Vec<_> = jobs.known().cloned().collect();
        assert_eq!(known.len(), TABLES_MAX + 1, "what had no room is known, too");
        for path in &known {
            jobs.read(path, b"");
        }
        assert_eq!(jobs.known().count(), 0);
        read(&mut jobs, NODES, "@daily root x\n");
        assert_eq!((jobs.tables.len(), jobs.left_out()), (1, 1));
    }
}
