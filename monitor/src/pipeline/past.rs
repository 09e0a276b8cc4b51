//! Logins that have ended: what they left running still belongs to them, however late it executes something.

use std::collections::VecDeque;

use postern_ebpf::abi::ProcessKey;
use rustc_hash::{FxHashMap, FxHashSet};

use super::entries::OpenLogin;

/// How many are remembered though nothing is under them any more: what somebody left to run later carries their session.
const PAST_KEPT: usize = 256;
/// How many are remembered at all; past that the one that ended first is forgotten.
const PAST_MAX: usize = 2_048;

#[derive(Default)]
pub(super) struct Past {
    logins: FxHashMap<ProcessKey, OpenLogin>,
    order: VecDeque<ProcessKey>,
    /// Whether any was added since it was told last which of them anything is under.
    has_grown: bool,
}

impl Past {
    /// Remembers one, if anything can be under it that the kernel side tells of by its mark alone.
    pub(super) fn add(&mut self, key: ProcessKey, login: OpenLogin) {
        if !login.marked {
            return;
        }
        if self.logins.insert(key, login).is_none() {
            self.order.push_back(key);
            self.has_grown = true;
        }
        if self.order.len() > PAST_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.logins.remove(&oldest);
        }
    }

    /// Whether it is time to ask which of them anything is still under.
    pub(super) fn asks(&self) -> bool {
        self.has_grown && self.order.len() > PAST_KEPT
    }

    /// Forgets those that there is no room for and nothing is under; `logins` are those that something is.
    pub(super) fn retain(&mut self, logins: &FxHashSet<ProcessKey>) {
        self.has_grown = false;
        let mut excess = self.order.len().saturating_sub(PAST_KEPT);
        self.order.retain(|key| {
            let goes = excess > 0 && !logins.contains(key);
            if goes {
                excess -= 1;
                self.logins.remove(key);
            }
            !goes
        });
    }

    pub(super) fn get(&self, key: &ProcessKey) -> Option<&OpenLogin> {
        self.logins.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ProcessKey, &OpenLogin)> {
        self.logins.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EntryType, Login};

    fn add(past: &mut Past, pid: u32) {
        let open = OpenLogin {
            login: std::sync::Arc::new(Login::default()),
            entry_type: EntryType::Cron,
            observed: EntryType::Cron,
            linked: None,
            since_ns: 0,
            opened: true,
            untold: false,
            marked: true,
            leader: None,
            audit_session: None,
        };
        past.add(ProcessKey::new(pid, 0), open);
    }

    #[test]
    fn what_anything_is_under_is_remembered_longer_than_the_rest() {
        let mut past = Past::default();
        let kept = PAST_KEPT as u32;
        for pid in 1..=kept {
            add(&mut past, pid);
        }
        assert!(!past.asks());
        for pid in kept + 1..=kept + 10 {
            add(&mut past, pid);
        }
        assert!(past.asks());
        past.retain(&[ProcessKey::new(3, 0)].into_iter().collect());
        let is_known = |past: &Past, pid| past.get(&ProcessKey::new(pid, 0)).is_some();
        assert!(is_known(&past, 3) && !is_known(&past, 2) && !is_known(&past, 11) && is_known(&past, 12));
        assert!(!past.asks() && past.iter().count() == PAST_KEPT);
        for pid in kept + 11..=kept + 10 + PAST_MAX as u32 {
            add(&mut past, pid);
        }
        assert_eq!(past.iter().count(), PAST_MAX);
    }
}
