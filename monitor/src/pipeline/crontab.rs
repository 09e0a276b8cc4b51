//! cron's tables: where they are, and the commands in them (crontab(5)).

use std::sync::Arc;

use crate::{
    event::Arguments,
    process::{redact, text::printable},
};

/// Where cron looks for tables, for whoever reads them: files, and folders of them with a slash at the end. Debian keeps those of
/// users in the last but one, Red Hat in the last.
pub const PLACES: [&str; 4] = [SYSTEM, "/etc/cron.d/", "/var/spool/cron/crontabs/", "/var/spool/cron/"];
/// The node's own.
const SYSTEM: &str = "/etc/crontab";
/// Folders of programs that jobs of the node's own table run one after the other (run-parts(8)).
const PARTS: [&str; 4] = ["/etc/cron.hourly/", "/etc/cron.daily/", "/etc/cron.weekly/", "/etc/cron.monthly/"];
/// How many fields come before the command, or before the user.
const TIMES: usize = 5;

/// Whether a file is a table, or one that is about to become one.
pub(super) fn is_table(path: &str) -> bool {
    PLACES.iter().any(|place| if place.ends_with('/') { is_in(path, place) } else { path == *place })
}

/// Whether a file is a program that cron runs for its place alone.
pub(super) fn is_part(path: &str) -> bool {
    PARTS.iter().any(|folder| is_in(path, folder))
}

fn is_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

/// The commands of a table, each as the arguments of the shell that runs it would be told.
pub(super) fn commands(path: &str, table: &[u8]) -> impl Iterator<Item = Arc<str>> {
    // The node's own say whose each job is.
    let fields = usize::from(path.starts_with("/etc/"));
    // cron takes a zero byte for the end of a line (its `get_string` looks for it by strchr(3)): what is behind is another one.
    table.split(|byte| matches!(byte, b'\n' | 0)).filter_map(move |line| command(line, fields))
}

/// The command of a line; none if it is a comment or sets a variable.
fn command(line: &[u8], more_fields: usize) -> Option<Arc<str>> {
    let line = line.trim_ascii();
    let fields = match line.first()? {
        b'@' => 1,
        b'0'..=b'9' | b'*' | b'~' | b'-' => TIMES,
        _ => return None,
    };
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let mut rest = line;
    for _ in 0..fields + more_fields {
        let end = rest.iter().position(is_blank)?;
        rest = rest[end..].trim_ascii_start();
    }
    told(&without_input(rest))
}

/// What comes before the first `%`, behind which is what the command reads; `\%` is a `%` of its own.
fn without_input(command: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(command.len());
    for &byte in command {
        match (byte, text.last()) {
            (b'%', Some(b'\\')) => {
                text.pop();
            }
            (b'%', _) => break,
            _ => {}
        }
        text.push(byte);
    }
    text
}

/// A command as it is told: printable, and without secrets.
fn told(command: &[u8]) -> Option<Arc<str>> {
    let arguments: Arguments = ["sh", "-c", printable(command).trim_end()].iter().collect();
    of_shell(&redact(&arguments).unwrap_or(arguments)).map(Arc::from)
}

/// The command that cron has a shell run.
pub(super) fn of_shell(arguments: &Arguments) -> Option<&str> {
    let mut arguments = arguments.iter().skip(1);
    let command = arguments.next().filter(|it| *it == "-c").and_then(|_| arguments.next())?.trim_end();
    (!command.is_empty()).then_some(command)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USERS: &str = "/var/spool/cron/crontabs/ops";

    fn all(path: &str, table: &str) -> Vec<String> {
        commands(path, table.as_bytes()).map(|it| it.to_string()).collect()
    }

    #[test]
    fn a_users_table_has_commands_behind_the_times() {
        let table = "# m h dom mon dow command\nPATH=/bin\n\n*/5 * * * *\t/bin/one  a \n  @reboot two\n@daily\n1 2 3 4 5\n\
                     0-5,7 1 * jan mon-fri three >/dev/null # four\n";
        assert_eq!(all(USERS, table), ["/bin/one  a", "two", "three >/dev/null # four"]);
        assert_eq!(all("/var/spool/cron/ops", "* * * * * one"), ["one"]);
    }

    #[test]
    fn the_nodes_own_say_whose_a_job_is() {
        for path in ["/etc/crontab", "/etc/cron.d/backup"] {
            assert_eq!(
                all(path, "SHELL=/bin/sh\n17 * * * * root cd / && run-parts x\n@hourly www-data two\n@hourly root"),
                ["cd / && run-parts x", "two"]
            );
        }
    }

    #[test]
    fn what_a_command_reads_is_no_part_of_it() {
        assert_eq!(all(USERS, r"* * * * * mail ops%hello%there"), ["mail ops"]);
        assert_eq!(all(USERS, r"* * * * * date +\%F"), ["date +%F"]);
        assert!(all(USERS, "* * * * * %all").is_empty());
        assert_eq!(all(USERS, "@daily one\0two\n@daily three\0@daily four"), ["one", "three", "four"]);
    }

    #[test]
    fn secrets_are_told_as_in_a_command_line() {
        let told = all(USERS, "* * * * * curl https://a:secret@example.org/");
        assert!(told.len() == 1 && !told[0].contains("secret"), "{told:?}");
    }

    #[test]
    fn tables_and_programs_are_known_by_their_places() {
        for table in ["/etc/crontab", "/etc/cron.d/x", USERS, "/var/spool/cron/ops"] {
            assert!(is_table(table) && !is_part(table), "{table}");
        }
        for part in ["/etc/cron.hourly/x", "/etc/cron.monthly/x"] {
            assert!(is_part(part) && !is_table(part), "{part}");
        }
        for none in ["/etc/crontab.bak", "/etc/cron.d/", "/etc/cron.d/a/b", "/srv/etc/cron.d/x", "/etc/cron.hourly/a/b"]
        {
            assert!(!is_part(none) && !is_table(none), "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_table_is_too_strange(table in proptest::collection::vec(any::<u8>(), 0..500), own in any::<bool>()) {
            let path = if own { USERS } else { "/etc/crontab" };
            let lines = table.split(|byte| matches!(byte, b'\n' | 0)).count();
            prop_assert!(commands(path, &table).inspect(|it| assert!(!it.is_empty())).count() <= lines);
        }
    }
}
