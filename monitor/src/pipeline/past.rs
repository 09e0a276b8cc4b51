//! Logins that have ended: what they left running still belongs to them, however late it executes something.

use std::collections::VecDeque;

use postern_ebpf::abi::ProcessKey;
use rustc_hash::FxHashMap;

use super::entries::OpenLogin;

/// How many are remembered; past that the one that ended first is forgotten.
const PAST_MAX: usize = 256;

#[derive(Default)]
pub(super) struct Past {
    logins: FxHashMap<ProcessKey, OpenLogin>,
    order: VecDeque<ProcessKey>,
}

impl Past {
    /// Remembers one, if anything can be under it that the kernel side tells of by its mark alone.
    pub(super) fn add(&mut self, key: ProcessKey, login: OpenLogin) {
        if !login.marked {
            return;
        }
        if self.logins.insert(key, login).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > PAST_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.logins.remove(&oldest);
        }
    }

    pub(super) fn get(&self, key: &ProcessKey) -> Option<&OpenLogin> {
        self.logins.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ProcessKey, &OpenLogin)> {
        self.logins.iter()
    }
}
