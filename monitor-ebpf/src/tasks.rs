//! What is remembered of each live process, by thread group id.
//!
//! A node starts its processes one behind the other, and most of them live for a moment: each finds a place of its own in a small
//! table by its number alone, next to its predecessor's, which takes a fraction of the time of a hash table (`process_fork` in what
//! `cargo xtask bench` prints). Whoever finds its place taken, and what ran before the agent did, is in the hash table.

use postern_ebpf::abi::{HookId, TaskState};

use crate::{
    maps::{NEW_TASKS, TASKS},
    ring::untracked,
};

/// The state of a process; whoever is not known has none. It lives until the program returns, and is the process's own to write.
#[inline(always)]
pub fn get(tgid: u32) -> Option<*mut TaskState> {
    match place(tgid) {
        // SAFETY: the map's value lives until the program returns.
        Some(state) if unsafe { (*state).tgid } == tgid => Some(state),
        _ => TASKS.get_ptr_mut(tgid),
    }
}

/// Remembers a process that is not known; counts it where there is no room.
#[inline(always)]
pub fn insert(state: TaskState, hook: HookId) {
    let is_free = |place: &*mut TaskState| {
        // SAFETY: as above.
        let tgid = unsafe { (**place).tgid };
        tgid == 0 || tgid == state.tgid
    };
    if let Some(place) = place(state.tgid).filter(is_free) {
        // SAFETY: as above. Two that start at once have numbers next to each other, and so not the same place.
        unsafe { *place = state };
    } else if TASKS.insert(state.tgid, state, 0).is_err() {
        untracked(hook);
    }
}

/// Forgets a process, whose state this is.
#[inline(always)]
pub fn remove(tgid: u32) {
    match place(tgid) {
        // SAFETY: as above.
        Some(state) if unsafe { (*state).tgid } == tgid => unsafe { (*state).tgid = 0 },
        _ => {
            // An error says that it is not there.
            let _ = TASKS.remove(tgid);
        }
    }
}

#[inline(always)]
fn place(tgid: u32) -> Option<*mut TaskState> {
    NEW_TASKS.get_ptr_mut(TaskState::place(tgid))
}
