//! What one run of the agent leaves to the next: whatever is in the file, it is refused, or it is bounded and means the same when
//! it is written and read once more.
#![no_main]
#![allow(dead_code, reason = "the file is the agent's own, taken alone")]

use libfuzzer_sys::fuzz_target;

#[path = "../../../monitor/src/pipeline/saved.rs"]
mod saved;

use saved::{KEPT_MAX, LIST_MAX, Saved, TEXT_MAX};

fuzz_target!(|bytes: &[u8]| {
    // Chance seldom finds the outer form.
    let within = |start: &str, end: &str| [start.as_bytes(), bytes, end.as_bytes()].concat();
    for text in [
        bytes.to_vec(),
        within(r#"{"version":1,"boot_id":"b","entries":[],"logins":["#, "]}"),
        within(r#"{"version":1,"boot_id":"b","entries":[],"logins":[{"#, "}]}"),
        within(r#"{"version":1,"boot_id":"b","logins":[],"entries":["#, "]}"),
    ] {
        let Ok(read) = Saved::parse(&text) else { continue };
        assert!(read.logins.len() <= KEPT_MAX && read.entries.len() <= KEPT_MAX);
        for login in &read.logins {
            assert!(login.user.len() <= TEXT_MAX && login.file_paths.len() <= LIST_MAX);
        }
        let (written, left_out) = read.clone().encode();
        assert_eq!((Saved::parse(&written), left_out), (Ok(read), 0));
    }
});
