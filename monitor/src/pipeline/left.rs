//! What somebody in a session left for others to run later: a unit's file, a job of cron's or of `at`. The session may be long over
//! when it runs, and the agent another run of itself.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{
    clients::Asked,
    restore::{load_entry, save_entry, short},
    saved::{SavedLeft, SavedWhat},
};
use crate::event::{Confidence, Entry, Session};

/// How long after somebody left something it is thought to be theirs, in nanoseconds.
pub(super) const LATER_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// Of how many services, programs or users it is remembered who left something.
pub(super) const LEFT_MAX: usize = 256;

/// What was left last, by what it is: a service, a program, a user's jobs. Past [`LEFT_MAX`], all is forgotten but the last.
#[derive(Default)]
pub(super) struct LeftBehind {
    left: FxHashMap<Arc<str>, Left>,
    /// Whether anything was added since this was looked at.
    pub(super) changed: bool,
}

impl LeftBehind {
    pub(super) fn put(&mut self, what: Arc<str>, left: Left) {
        if self.left.len() >= LEFT_MAX {
            self.left.clear();
        }
        self.left.insert(what, left);
        self.changed = true;
    }

    /// As another run knew it.
    pub(super) fn restore(&mut self, what: &str, left: Left) {
        if self.left.len() < LEFT_MAX {
            self.left.insert(what.into(), left);
        }
    }

    pub(super) fn get(&self, what: &str) -> Option<&Left> {
        self.left.get(what)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Left)> {
        self.left.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }
}

/// By whom, and how.
#[derive(Clone, Debug)]
pub(super) struct Left {
    entry: Arc<Entry>,
    how: Arc<str>,
    at_ns: u64,
}

impl Left {
    pub(super) fn new(entry: &Arc<Entry>, how: Arc<str>, now_ns: u64) -> Self {
        Self { entry: Arc::clone(entry), how, at_ns: now_ns }
    }

    /// By writing a file.
    pub(super) fn written(entry: &Arc<Entry>, path: &str, now_ns: u64) -> Self {
        Self::new(entry, format!("wrote {path}").into(), now_ns)
    }

    /// As what asked for something that runs now, if it is not too long ago.
    pub(super) fn asked(&self, now_ns: u64) -> Option<Asked> {
        self.is_recent(now_ns).then(|| Asked::new(Arc::clone(&self.entry), Confidence::Likely, Arc::clone(&self.how)))
    }

    fn is_recent(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.at_ns) < LATER_NS
    }

    /// As another run needs it.
    pub(super) fn save(&self, what: SavedWhat) -> Option<SavedLeft> {
        let by = save_entry(&self.entry)?;
        what.is_bounded().then(|| SavedLeft { what, how: short(&self.how), at: self.at_ns, by })
    }

    /// As another run left it, with the sessions that are known of: what contradicts them, is of the future or is too old is
    /// left out.
    pub(super) fn load(saved: &SavedLeft, sessions: &FxHashMap<Arc<str>, Arc<Session>>, now_ns: u64) -> Option<Self> {
        let entry = load_entry(&saved.by)?;
        let said = entry.session()?;
        let is_same = |it: &Arc<Session>| (it.door, &it.user, it.allowed) == (said.door, &said.user, said.allowed);
        if !sessions.get(&said.id).is_none_or(is_same) || saved.at > now_ns {
            return None;
        }
        let left = Self { entry: Arc::new(entry), how: saved.how.as_str().into(), at_ns: saved.at };
        left.is_recent(now_ns).then_some(left)
    }
}
