use postern_ebpf::abi::{EntryMark, LoginCall, LoginClass};

use super::*;
use crate::{
    detect::AccessPolicy,
    event::Summary,
    pipeline::Input,
    replay::{self, Written, key},
};

fn exec(sequence: u64, pid: u32, previous: u32, path: &str, mark: EntryMark) -> Written {
    Written::exec(sequence, replay::Exec { pid, previous, path, args: &[path], cgroup: "/" }, |body| body.entry = mark)
}

/// A session of `ops` whose shell is process 110, and a service that is process 200.
fn pipeline() -> (Pipeline, EntryMark) {
    let mut pipeline = replay::pipeline(AccessPolicy::default());
    pipeline.input(Input::FilesWatched(true), 0);
    let mark = EntryMark { login: key(100), leader: key(110), class: LoginClass::Sshd as u32, server: 0 };
    let records = [
        exec(0, 100, 1, "/usr/sbin/sshd", EntryMark::default()),
        Written::login(1, 100, LoginCall::Start, "sshd"),
        Written::login(2, 100, LoginCall::OpenSession, ""),
        Written::login(3, 100, LoginCall::SessionOpened, ""),
        exec(4, 110, 100, "/bin/bash", mark),
        exec(5, 200, 1, "/usr/bin/service", EntryMark::default()),
    ];
    feed(&mut pipeline, &records);
    pipeline.take_events();
    (pipeline, mark)
}

fn feed(pipeline: &mut Pipeline, records: &[Written]) {
    for record in records {
        pipeline.record(record.bytes()).expect("a record");
    }
}

fn touch(pid: u32, action: FileAction, path: &str) -> Touch {
    let name = path.rsplit('/').next().unwrap_or_default().as_bytes().into();
    Touch { pid, action, path: Some(path.as_bytes().into()), name, from: None, is_directory: false }
}

fn hand_over(pipeline: &mut Pipeline, touches: Vec<Touch>, forks: &[(u32, TaskState)], now_ns: u64) -> Vec<Event> {
    pipeline.input(Input::Files { touches, forks: forks.iter().copied().collect() }, now_ns);
    pipeline.take_events().collect()
}

fn told(events: &[Event]) -> Vec<(&'static str, String, u32)> {
    let of = |event: &Event| {
        let Body::File(file) = &event.body else { return None };
        let pid = event.lineage.as_ref().expect("whose").process.key.tgid;
        Some((file.action.as_str(), file.path.as_deref().unwrap_or("?").to_owned(), pid))
    };
    events.iter().filter_map(of).collect()
}

fn summary(events: &[Event]) -> Option<Summary> {
    events.iter().find_map(|event| match &event.body {
        Body::SessionClosed(login) => login.summary.clone(),
        _ => None,
    })
}

#[test]
fn what_a_person_changes_is_told_and_what_a_service_changes_is_not() {
    let (mut pipeline, _) = pipeline();
    assert_eq!(
        (pipeline.is_in_session(110), pipeline.is_in_session(200), pipeline.is_in_session(7)),
        (Some(true), Some(false), None)
    );
    let touches = vec![
        touch(110, FileAction::Created, "/etc/x"),
        touch(200, FileAction::Created, "/etc/y"),
        touch(7, FileAction::Created, "/etc/z"),
    ];
    let events = hand_over(&mut pipeline, touches, &[], 1);
    assert_eq!(told(&events), [("file-created", "/etc/x".to_owned(), 110)]);
    assert_eq!(events[0].session().map(|session| &*session.user), Some("ops"));
    assert_eq!(events[0].categorization().types, ["creation"]);
}

#[test]
fn a_summary_waits_for_what_was_done_before_the_end() {
    let (mut pipeline, mark) = pipeline();
    assert!(pipeline.wants_files(0));
    feed(
        &mut pipeline,
        &[exec(6, 111, 110, "/usr/bin/tee", mark), Written::exit(7, 111, mark), Written::exit(8, 100, mark)],
    );
    let first = hand_over(&mut pipeline, vec![touch(110, FileAction::Deleted, "/etc/a")], &[], 9_000_000);
    assert_eq!((told(&first).len(), summary(&first)), (1, None));
    assert!(pipeline.is_waiting() && pipeline.wants_files(0));
    // Read after the end was heard, done before; by a process that has ended.
    let second = hand_over(&mut pipeline, vec![touch(111, FileAction::Changed, "/etc/b")], &[], 10_000_000);
    let summary = summary(&second).expect("it is closed now");
    assert_eq!((summary.files, summary.file_paths), (2, vec!["/etc/a".into(), "/etc/b".into()]));
    assert_eq!(summary.duration_ns, 6_000_000, "as long as it lasted, not as long as it waited");
    assert!(!pipeline.is_waiting() && !pipeline.wants_files(0));
}

#[test]
fn a_summary_does_not_wait_for_files_that_nobody_watches_any_more() {
    let (mut pipeline, mark) = pipeline();
    feed(&mut pipeline, &[Written::exit(6, 100, mark)]);
    assert!(summary(&pipeline.take_events().collect::<Vec<_>>()).is_none());
    pipeline.input(Input::FilesWatched(false), 7);
    assert!(summary(&pipeline.take_events().collect::<Vec<_>>()).is_some());
}

#[test]
fn who_never_executed_acts_as_what_it_was_forked_from() {
    let (mut pipeline, mark) = pipeline();
    let state = |image, entry| TaskState { image, entry, tgid: 0, reported: 0, forked: 0 };
    let (subshell, of_sshd) = (state(key(110), mark), state(key(100), EntryMark { leader: ProcessKey::NONE, ..mark }));
    let (service, stranger) = (state(key(200), EntryMark::default()), state(key(999), EntryMark::default()));
    assert!(pipeline.is_fork_in_session(&subshell) && pipeline.is_fork_in_session(&of_sshd));
    assert!(!pipeline.is_fork_in_session(&service) && !pipeline.is_fork_in_session(&stranger));
    let touches = (120..124).map(|pid| touch(pid, FileAction::Created, &format!("/srv/{pid}"))).collect();
    let forks = [(120, subshell), (121, of_sshd), (122, service), (123, stranger)];
    let events = hand_over(&mut pipeline, touches, &forks, 1);
    // The shell, and sshd itself, which serves files.
    let expected = [("file-created", "/srv/120".to_owned(), 110), ("file-created", "/srv/121".to_owned(), 100)];
    assert_eq!(told(&events), expected);
    assert!(events.iter().all(|event| event.session().is_some()));
}

#[test]
fn one_change_is_told_once_and_again_after_a_while() {
    let (mut pipeline, _) = pipeline();
    let mut tell = |action, now_ns| told(&hand_over(&mut pipeline, vec![touch(110, action, "/x")], &[], now_ns)).len();
    assert_eq!(
        (tell(FileAction::Created, 1), tell(FileAction::Changed, 2), tell(FileAction::AttributesChanged, 3)),
        (1, 0, 0)
    );
    assert_eq!((tell(FileAction::Deleted, 4), tell(FileAction::Deleted, 5)), (1, 1));
    assert_eq!(
        (
            tell(FileAction::Changed, SAME_NS),
            tell(FileAction::Changed, SAME_NS + 1),
            tell(FileAction::Changed, 3 * SAME_NS)
        ),
        (1, 0, 1)
    );
}

#[test]
fn a_login_program_keeps_its_accounts_and_nobody_else_does() {
    let (mut pipeline, mark) = pipeline();
    feed(&mut pipeline, &[exec(6, 111, 110, "/usr/bin/sudo", mark)]);
    let touches = vec![
        touch(111, FileAction::Changed, "/run/sudo/ts/ops"),
        touch(111, FileAction::Deleted, "/var/log/wtmp"),
        touch(110, FileAction::Changed, "/var/log/wtmp"),
    ];
    let events = hand_over(&mut pipeline, touches, &[], 1);
    let expected =
        [("file-deleted", "/var/log/wtmp".to_owned(), 111), ("file-changed", "/var/log/wtmp".to_owned(), 110)];
    assert_eq!(told(&events), expected);
}

#[test]
fn a_session_that_changes_very_much_is_counted_to_its_end() {
    let (mut pipeline, mark) = pipeline();
    let many = TOLD_MAX + 50;
    let touches = (0..many).map(|number| touch(110, FileAction::Created, &format!("/srv/{number}"))).collect();
    let events = hand_over(&mut pipeline, touches, &[], 1);
    let notes = events.iter().filter(|event| event.categorization().action == "agent-changed").count();
    assert_eq!((told(&events).len(), notes), (TOLD_MAX, 1));
    feed(&mut pipeline, &[Written::exit(6, 100, mark)]);
    pipeline.finish(1);
    let summary = summary(&pipeline.take_events().collect::<Vec<_>>()).expect("closed");
    assert_eq!((summary.files, summary.file_paths.len(), summary.cut), (many as u64, 64, true));
    // Paths as long as they can be fill the room sooner.
    let mut told = Told::default();
    let long = |number: usize| Arc::from(format!("/{number:>4000}"));
    let taken = (0..100).take_while(|number| told.admit(&long(*number)) == Admitted::Told).count();
    assert!(taken < 70 && told.admit(&long(1_000)) == Admitted::Counted && told.admit(&long(1)) == Admitted::Told);
}

#[test]
fn what_a_container_writes_to_itself_is_not_the_nodes() {
    let (mut pipeline, mark) = pipeline();
    let cgroup = format!("/docker/{}", "0123456789abcdef".repeat(4));
    let entering = replay::Exec { pid: 111, previous: 110, path: "/bin/sh", args: &["sh"], cgroup: &cgroup };
    let entered = Written::exec(6, entering, |body| {
        replay::in_container(7)(body);
        body.entry = mark;
    });
    feed(&mut pipeline, &[entered]);
    let layer = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/9/fs/etc/x";
    let touches = vec![touch(111, FileAction::Created, layer), touch(111, FileAction::Created, "/etc/cron.d/x")];
    let mut events = hand_over(&mut pipeline, touches, &[], 7_000_000);
    pipeline.finish(8_000_000);
    events.extend(pipeline.take_events());
    assert_eq!(told(&events), [("file-created", "/etc/cron.d/x".to_owned(), 111)]);
    let event = events.iter().find(|event| matches!(event.body, Body::File(_))).expect("told");
    assert_eq!(event.session().map(|session| &*session.user), Some("ops"));
    assert!(event.container.is_some());
}
