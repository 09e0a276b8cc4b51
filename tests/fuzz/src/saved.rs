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
        within(r#"{"version":2,"boot_id":"b","left":[],"entries":[],"logins":["#, "]}"),
        within(r#"{"version":2,"boot_id":"b","left":[],"entries":[],"logins":[{"#, "}]}"),
        within(r#"{"version":2,"boot_id":"b","left":[],"logins":[],"entries":["#, "]}"),
        within(r#"{"version":2,"boot_id":"b","logins":[],"entries":[],"left":["#, "]}"),
        within(r#"{"version":2,"boot_id":"b","logins":[],"entries":[],"left":[{"how":"","at":0,"by":{"leader":[1,0],"observed":"","entry_type":"","session":{}},"what":"#, "}]}"),
    ] {
        let Ok(read) = Saved::parse(&text) else { continue };
        assert!([read.logins.len(), read.entries.len(), read.left.len()].iter().all(|it| *it <= KEPT_MAX));
        for login in &read.logins {
            assert!(login.user.len() <= TEXT_MAX && login.file_paths.len() <= LIST_MAX);
        }
        let (written, left_out) = read.clone().encode();
        assert_eq!((Saved::parse(&written), left_out), (Ok(read), 0));
    }
});
