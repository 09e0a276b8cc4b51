//! Has files watched for as long as somebody is on the node, and hands what was done to them to the pipeline.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use postern_ebpf::abi::TaskState;
use rustc_hash::FxHashMap;

use super::{cron_tables::CronTables, machine::since_boot_ns};
use crate::{
    event::{AgentEvent, Loss, LossCause},
    files::{Files, Marks},
    metrics::Figures,
    pipeline::{Input, Pipeline},
    probe::Probe,
};

/// How long the marks stay after the last person has left: whoever has tools log in for them comes back at once.
const LINGER: Duration = Duration::from_secs(1);

/// How often it is asked what was mounted meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The sensor in the event loop; none where it could not be armed, or died.
pub(super) struct FileWatch {
    files: Option<Files>,
    cron_tables: CronTables,
    figures: Arc<Figures>,
    /// Since when nobody wants it.
    idle: Option<Instant>,
    looked: Instant,
}

impl FileWatch {
    pub(super) fn new(files: Option<Files>, cron_tables: CronTables, figures: Arc<Figures>) -> Self {
        Self { files, cron_tables, figures, idle: None, looked: Instant::now() }
    }

    /// Whether there is something to read every now and then.
    pub(super) fn is_watching(&self) -> bool {
        self.files.as_ref().is_some_and(Files::is_watching)
    }

    /// Takes what the kernel has ready. To be called before the ring is drained: whoever did it is known after that.
    pub(super) fn read(&mut self) {
        if let Some(files) = self.files.as_mut().filter(|files| files.is_watching()) {
            files.read();
        }
    }

    /// Hands on what was read.
    pub(super) fn tell(&mut self, pipeline: &mut Pipeline, probe: Option<&Probe>) {
        let Some(files) = self.files.as_mut().filter(|files| files.is_watching()) else { return };
        let mut touches = Vec::new();
        let mut forks: FxHashMap<u32, Option<TaskState>> = FxHashMap::default();
        let mut unknown = 0;
        let concerns = |pid: u32| match pipeline.is_in_session(pid) {
            Some(answer) => answer,
            None if pid == 0 => false,
            None => {
                let state = forks.entry(pid).or_insert_with(|| probe.and_then(|probe| probe.lineage(pid)));
                unknown += u64::from(state.is_none());
                state.is_some_and(|state| pipeline.is_fork_in_session(&state))
            }
        };
        let turn = files.take(concerns, |touch| touches.push(touch));
        self.figures.files_seen.add(turn.seen);
        self.figures.files_unknown.add(unknown);
        if turn.senseless > 0 {
            tracing::error!(bytes = turn.senseless, "what the kernel says of files makes no sense");
        }
        let forks = forks.into_iter().filter_map(|(pid, state)| Some((pid, state?))).collect();
        pipeline.input(Input::Files { touches, forks }, since_boot_ns());
        self.cron_tables.read_written(pipeline);
        let lost = turn.overflows + u64::from(turn.senseless > 0);
        if lost > 0 {
            self.figures.files_lost.add(lost);
            let loss = Loss { count: lost, cause: LossCause::Files };
            pipeline.input(Input::Agent(AgentEvent::Lost(loss)), since_boot_ns());
        }
    }

    /// Sets the marks when somebody comes in, and takes them away when the last one has left.
    pub(super) fn follow(&mut self, pipeline: &mut Pipeline, probe: Option<&mut Probe>) {
        let Some(files) = &mut self.files else { return };
        let wanted = pipeline.wants_files(since_boot_ns());
        if wanted {
            self.idle = None;
        }
        let gone = !wanted && files.is_watching() && self.idle.get_or_insert_with(Instant::now).elapsed() >= LINGER;
        let mut broken = None;
        if wanted && !files.is_watching() || gone {
            if let Err(error) = files.watch(wanted) {
                broken = Some(error.to_string());
            }
            if let Some(Err(error)) = probe.map(|probe| probe.want_forked(wanted)) {
                tracing::error!(%error, "what processes without an exec do to files has no owner");
            }
            pipeline.input(Input::FilesWatched(wanted), since_boot_ns());
            if wanted {
                self.cron_tables.read_all(pipeline);
            }
        }
        if self.looked.elapsed() >= LOOK_AGAIN {
            self.looked = Instant::now();
            if let Err(error) = files.look_again() {
                broken = Some(error.to_string());
            }
        }
        while let Some(marks) = files.marks() {
            match marks {
                Marks::Set { count, refused } => {
                    self.figures.file_systems.set(count.into());
                    tracing::debug!(count, refused, "file systems are marked");
                }
                Marks::Broken(reason) => {
                    broken = Some(reason.to_owned());
                    break;
                }
            }
        }
        if let Some(reason) = broken {
            self.give_up(&reason, pipeline);
        }
    }

    fn give_up(&mut self, reason: &str, pipeline: &mut Pipeline) {
        // The group goes with it, and with the group its marks.
        self.files = None;
        self.figures.file_systems.set(0);
        tracing::error!(reason, "files are not watched any more");
        pipeline.input(Input::FilesWatched(false), since_boot_ns());
        let message = format!("files are not watched any more: {reason}").into();
        pipeline.input(Input::Agent(AgentEvent::Changed { message }), since_boot_ns());
    }
}
