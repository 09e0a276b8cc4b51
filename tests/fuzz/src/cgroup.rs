//! The parser of cgroup paths: whatever the text is, it answers, and never with an id that is too long.
#![no_main]
#![allow(dead_code, reason = "the file is the agent's own, taken alone")]

use libfuzzer_sys::fuzz_target;

#[path = "../../../monitor/src/container/cgroup.rs"]
mod cgroup;

fuzz_target!(|path: &str| {
    if let Some(container) = cgroup::parse(path) {
        assert!(!container.id.is_empty() && container.id.len() <= 76);
        assert!(path.contains(&*container.id));
    }
});
