//! What init runs because somebody asked for it, as systemd does it before its version 255 and since.

use super::{entry_of, exec, names, pipeline, replay as feed, session};
use crate::{
    event::{Confidence, Event},
    pipeline::{
        Pipeline,
        tests::{EntryMark, EntryType, ExecBody, LoginCall, LoginClass, as_user},
    },
    replay::{self, Written, key},
};

const EXECUTOR: &str = "/usr/lib/systemd/systemd-executor";

fn asks(sequence: u64, path: &str, args: &[&str], mark: EntryMark) -> Written {
    Written::exec(sequence, replay::Exec { pid: 111, previous: 110, path, args, cgroup: "/" }, as_user(0, mark))
}

fn from_init(body: &mut ExecBody) {
    body.parent = key(1);
}

/// What is known of the entry of the last event: its type, whose session, and how sure.
fn last(events: &[Event]) -> (EntryType, Option<(String, Confidence)>) {
    let entry = entry_of(events.last().expect("events"));
    let session = entry.session().map(|session| (session.user.to_string(), session.confidence));
    (entry.entry_type(), session)
}

fn ops() -> (String, Confidence) {
    ("ops".to_owned(), Confidence::Likely)
}

fn ask_and_feed(path: &str, args: &[&str], records: &[Written]) -> (Pipeline, Vec<Event>) {
    let mut pipeline = pipeline();
    let mark = session(&mut pipeline);
    feed(&mut pipeline, &[asks(5, path, args, mark)]);
    let events = feed(&mut pipeline, records);
    (pipeline, events)
}

#[test]
fn what_systemd_run_asks_for_is_linked_through_the_executor_too() {
    let args = ["systemd-run", "/bin/date"];
    let (_, before) = ask_and_feed("/usr/bin/systemd-run", &args, &[exec(6, 200, 1, "/bin/date", |_| {}, "/")]);
    assert_eq!(last(&before), (EntryType::Init, Some(ops())));
    let since = [exec(6, 200, 1, EXECUTOR, |_| {}, "/"), exec(7, 200, 200, "/bin/date", from_init, "/")];
    let (mut pipeline, since) = ask_and_feed("/usr/bin/systemd-run", &args, &since);
    assert_eq!(last(&since), (EntryType::Init, Some(ops())));
    let other = [exec(8, 201, 1, EXECUTOR, |_| {}, "/"), exec(9, 201, 201, "/bin/id", from_init, "/")];
    assert_eq!(last(&feed(&mut pipeline, &other)), (EntryType::Init, None));
}

#[test]
fn a_persons_own_program_of_that_name_does_not_lead_out_of_the_session() {
    let mut pipeline = pipeline();
    let mark = session(&mut pipeline);
    let records = [
        exec(5, 111, 110, EXECUTOR, as_user(1_000, mark), "/"),
        exec(
            6,
            111,
            111,
            "/bin/date",
            |body| {
                as_user(1_000, mark)(body);
                from_init(body);
            },
            "/",
        ),
    ];
    let certain = Some(("ops".to_owned(), Confidence::Certain));
    assert_eq!(last(&feed(&mut pipeline, &records)), (EntryType::Sshd, certain));
}

#[test]
fn a_unit_that_was_started_is_linked_by_its_cgroup_and_no_other_is() {
    let args = ["systemctl", "start", "mine"];
    let own = [exec(6, 200, 1, "/opt/mine", |_| {}, "/system.slice/mine.service")];
    let (mut pipeline, events) = ask_and_feed("/usr/bin/systemctl", &args, &own);
    assert_eq!(last(&events), (EntryType::Init, Some(ops())));
    let other = [exec(7, 201, 1, "/opt/mine", |_| {}, "/system.slice/others.service")];
    assert_eq!(last(&feed(&mut pipeline, &other)), (EntryType::Init, None));
}

#[test]
fn what_a_users_own_manager_is_asked_for_is_linked() {
    let manager = exec(6, 300, 1, "/usr/lib/systemd/systemd", |_| {}, "/");
    let records = [manager, exec(7, 301, 300, "/bin/date", |_| {}, "/"), exec(8, 302, 300, "/bin/id", |_| {}, "/")];
    let (_, events) = ask_and_feed("/usr/bin/systemd-run", &["systemd-run", "--user", "/bin/date"], &records);
    assert_eq!(last(&events[..events.len() - 1]), (EntryType::Init, Some(ops())));
    assert_eq!(last(&events), (EntryType::Init, None));
}

#[test]
fn a_shell_that_init_logs_in_is_the_session_of_whoever_asked() {
    let mark = EntryMark { login: key(200), leader: key(200), class: LoginClass::Console as u32, server: 0 };
    let login = || {
        [
            Written::login(6, 200, LoginCall::Start, "login"),
            Written::login(7, 200, LoginCall::OpenSession, ""),
            Written::login(8, 200, LoginCall::SessionOpened, ""),
            exec(9, 200, 1, "/bin/sh", |body| body.entry = mark, "/"),
            Written::exit(10, 200, mark),
        ]
    };
    let (_, events) = ask_and_feed("/usr/bin/machinectl", &["machinectl", "shell", ".host"], &login());
    assert_eq!(names(&events), ["exec", "end"], "no session of its own");
    assert_eq!(last(&events[..1]), (EntryType::Console, Some(ops())));
    // Whom nobody in a session asked for has come in by himself.
    let (_, events) = ask_and_feed("/usr/bin/machinectl", &["machinectl", "list"], &login());
    assert_eq!(names(&events), ["session-opened", "alert", "exec", "end", "session-closed"]);
    assert_eq!(last(&events[2..3]), (EntryType::Console, Some(("ops".to_owned(), Confidence::Certain))));
}
