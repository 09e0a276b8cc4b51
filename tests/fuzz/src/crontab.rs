//! cron's tables, which whoever is in can write: whatever stands in one, it has at most a command a line, and each command stays what
//! it is when it is written into a table again.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the files are the agent's own, taken alone")]

use libfuzzer_sys::fuzz_target;

#[path = "../../../monitor/src/event/arguments.rs"]
mod arguments;
#[path = "../../../monitor/src/pipeline/crontab.rs"]
mod crontab;
#[path = "../../../monitor/src/process/redact.rs"]
mod redact;
#[path = "../../../monitor/src/process/text.rs"]
mod text;

/// Where the parser looks for what it needs.
mod event {
    pub(crate) use crate::arguments::Arguments;
}
mod process {
    pub(crate) use crate::{redact::redact, text};
}

const USERS: &str = "/var/spool/cron/crontabs/ops";

fuzz_target!(|table: &[u8]| {
    let lines = table.split(|byte| matches!(byte, b'\n' | 0)).count();
    for path in [USERS, "/etc/crontab"] {
        let commands: Vec<_> = crontab::commands(path, table).collect();
        assert!(commands.len() <= lines);
        for command in commands {
            assert!(!command.is_empty() && !command.contains(['\n', '\0']));
            let again = format!("* * * * * {}", command.replace('%', "\\%"));
            let again: Vec<_> = crontab::commands(USERS, again.as_bytes()).collect();
            assert_eq!(again, [command]);
        }
    }
});
