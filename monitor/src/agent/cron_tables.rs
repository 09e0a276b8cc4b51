//! Reads cron's tables for the pipeline, which reads no files: all of them when somebody comes in, and then what he writes.

use std::{fs, io, path::PathBuf, sync::Arc};

use rustc_hash::FxHashSet;

use super::{host_file::HostRoot, machine::since_boot_ns};
use crate::pipeline::{Input, Pipeline, crontab::PLACES};

/// Larger tables are not read, in bytes: cron's own bound is 256 KiB on Debian.
const TABLE_BYTES: u64 = 256 << 10;
/// How many files of a folder are looked at.
const FILES_MAX: usize = 256;

/// See the module.
pub(super) struct CronTables {
    host_root: PathBuf,
}

impl CronTables {
    pub(super) fn new(host_root: PathBuf) -> Self {
        Self { host_root }
    }

    /// Hands on what stands in each table that there is, and that nothing does in those that are gone.
    pub(super) fn read_all(&self, pipeline: &mut Pipeline) {
        let mut paths: FxHashSet<Arc<str>> = FxHashSet::default();
        for place in PLACES {
            if place.ends_with('/') {
                paths.extend(self.names(place).into_iter().map(|name| Arc::from(format!("{place}{name}"))));
            } else {
                paths.insert(place.into());
            }
        }
        let gone: Vec<_> = pipeline.known_tables().into_iter().filter(|path| !paths.contains(path)).collect();
        // Those that are gone come last: where one has another name now, its jobs are known by what stood in it.
        for path in paths.into_iter().chain(gone) {
            self.read(path, pipeline);
        }
    }

    /// Hands on what stands in those that somebody wrote.
    pub(super) fn read_written(&self, pipeline: &mut Pipeline) {
        for path in pipeline.unread_tables() {
            self.read(path, pipeline);
        }
    }

    fn read(&self, path: Arc<str>, pipeline: &mut Pipeline) {
        let read = |root: HostRoot| root.read(path.trim_start_matches('/'), TABLE_BYTES);
        let content = match HostRoot::open(&self.host_root).and_then(read) {
            Ok(content) => content,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = &*path, %error, "a table of cron's cannot be read: its jobs are linked to nobody");
                }
                Vec::new()
            }
        };
        pipeline.input(Input::CronTable { path, content }, since_boot_ns());
    }

    /// The files of a folder; none where there is no such folder.
    fn names(&self, folder: &str) -> Vec<String> {
        let folder = self.host_root.join(folder.trim_start_matches('/'));
        let files = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        let files = files.filter(|file| file.file_type().is_ok_and(|kind| kind.is_file()));
        files.filter_map(|file| file.file_name().into_string().ok()).take(FILES_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{detect::AccessPolicy, replay};

    #[test]
    fn what_is_gone_since_the_last_time_is_forgotten() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("etc/cron.d");
        fs::create_dir_all(&folder).expect("the folder is ours");
        let write = |name: &str| fs::write(folder.join(name), "@daily root x\n").expect("the folder is ours");
        let mut pipeline = replay::pipeline(AccessPolicy::default());
        let tables = CronTables::new(root.path().to_owned());
        let mut known = || {
            tables.read_all(&mut pipeline);
            let mut known = pipeline.known_tables();
            known.sort();
            known
        };
        write("one");
        write("two");
        assert_eq!(known(), ["/etc/cron.d/one".into(), "/etc/cron.d/two".into()]);
        fs::remove_file(folder.join("one")).expect("it was written");
        write("three");
        assert_eq!(known(), ["/etc/cron.d/three".into(), "/etc/cron.d/two".into()]);
    }
}
