//! What each open session has done so far.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::event::{Body, Container, Event, Summary};

/// How many users, and how many containers, are listed of one session.
const LISTED_MAX: usize = 32;

/// How many files are. What is told of one session is bounded, and so is what is counted of it here.
const FILES_MAX: usize = 64;

/// By the session's id. As many as there are open sessions.
#[derive(Default)]
pub(super) struct Summaries(FxHashMap<Arc<str>, Open>);

#[derive(Default)]
struct Open {
    summary: Summary,
    /// Each file once.
    files: FxHashSet<Arc<str>>,
}

impl Summaries {
    pub(super) fn open(&mut self, id: &Arc<str>) {
        self.0.insert(Arc::clone(id), Open::default());
    }

    /// What another run has counted.
    pub(super) fn put(&mut self, id: &Arc<str>, summary: Summary) {
        let files = summary.file_paths.iter().cloned().collect();
        self.0.insert(Arc::clone(id), Open { summary, files });
    }

    pub(super) fn get(&self, id: &str) -> Option<&Summary> {
        self.0.get(id).map(|open| &open.summary)
    }

    pub(super) fn note(&mut self, id: &str, event: &Event) {
        let Some(Open { summary, files }) = self.0.get_mut(id) else { return };
        if event.alert.is_some() {
            summary.alerts += 1;
            return;
        }
        match &event.body {
            Body::Exec { .. } => summary.commands += 1,
            Body::UserChanged(change) => {
                let name = || change.to.name.clone().unwrap_or_else(|| change.to.id.to_string().into());
                summary.cut |= !list(&mut summary.users, name());
            }
            Body::File(file) => {
                let path = file.path.as_ref().unwrap_or(&file.name);
                if files.insert(Arc::clone(path)) {
                    summary.files += 1;
                    let room = summary.file_paths.len() < FILES_MAX;
                    summary.cut |= !room;
                    summary.file_paths.extend(room.then(|| Arc::clone(path)));
                }
            }
            _ => {}
        }
        if let Some(container) = &event.container {
            summary.cut |= !list(&mut summary.containers, name(container));
        }
    }

    /// A file that is counted and of which no event tells.
    pub(super) fn note_file(&mut self, id: &str) {
        let Some(open) = self.0.get_mut(id) else { return };
        open.summary.files += 1;
        open.summary.cut = true;
    }

    pub(super) fn close(&mut self, id: &str, duration_ns: u64) -> Summary {
        Summary { duration_ns, ..self.0.remove(id).unwrap_or_default().summary }
    }
}

/// Adds a text that is not there yet. Returns whether there was room.
fn list(into: &mut Vec<Arc<str>>, text: Arc<str>) -> bool {
    if into.contains(&text) {
        return true;
    }
    let room = into.len() < LISTED_MAX;
    if room {
        into.push(text);
    }
    room
}

/// What a person calls a container.
fn name(container: &Container) -> Arc<str> {
    let own = container.name.as_ref().unwrap_or(&container.id);
    match &container.pod {
        Some(pod) => format!("{}/{}/{own}", pod.namespace, pod.name).into(),
        None => Arc::clone(own),
    }
}
