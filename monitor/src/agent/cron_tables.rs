//! Reads cron's tables for the pipeline, which reads no files: all of them when somebody comes in, and then what he writes.

use std::{fs, io, path::PathBuf, sync::Arc};

use super::machine::since_boot_ns;
use crate::{
    pipeline::{Input, Pipeline, crontab::PLACES},
    process::seed,
};

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

    /// Hands on what stands in each table that there is.
    pub(super) fn read_all(&self, pipeline: &mut Pipeline) {
        for place in PLACES {
            if place.ends_with('/') {
                self.names(place).into_iter().for_each(|name| self.read(format!("{place}{name}").into(), pipeline));
            } else {
                self.read(place.into(), pipeline);
            }
        }
    }

    /// Hands on what stands in those that somebody wrote.
    pub(super) fn read_written(&self, pipeline: &mut Pipeline) {
        for path in pipeline.unread_tables() {
            self.read(path, pipeline);
        }
    }

    fn read(&self, path: Arc<str>, pipeline: &mut Pipeline) {
        let content = match seed::file(&self.host_root, path.trim_start_matches('/'), TABLE_BYTES) {
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
