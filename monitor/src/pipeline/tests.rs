//! Streams of records, replayed: the same records always yield the same events.

use postern_ebpf::abi::{EntryMark, ExecBody, LoginCall, LoginClass};

use super::*;
use crate::{
    event::EntryType,
    replay::{self, Written, in_container, key},
};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const UID: &str = "12345678-9abc-def0-1234-56789abcdef0";

fn pipeline() -> Pipeline {
    replay::pipeline(AccessPolicy::default())
}

/// A process executes `path`, having run the program of `previous` before.
fn exec(
    sequence: u64,
    pid: u32,
    previous: u32,
    path: &str,
    change: impl FnOnce(&mut ExecBody),
    cgroup: &str,
) -> Written {
    Written::exec(sequence, replay::Exec { pid, previous, path, args: &[path], cgroup }, change)
}

fn replay(pipeline: &mut Pipeline, records: &[Written]) -> Vec<Event> {
    for record in records {
        pipeline.record(record.bytes()).expect("a good record");
    }
    pipeline.take_events().collect()
}

fn names(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(|event| if event.alert.is_some() { "alert" } else { event.categorization().action }).collect()
}

#[test]
fn a_session_is_on_everything_below_it_and_on_nothing_else() {
    let mark =
        |leader: u32| EntryMark { login: key(100), leader: key(leader), class: LoginClass::Sshd as u32, reserved: 0 };
    let mut pipeline = pipeline();
    let events = replay(
        &mut pipeline,
        &[
            exec(0, 100, 1, "/usr/sbin/sshd", |_| {}, "/"),
            Written::login(1, 100, LoginCall::Start, "sshd"),
            Written::login(2, 100, LoginCall::OpenSession, ""),
            Written::login(3, 100, LoginCall::SessionOpened, ""),
            exec(4, 110, 100, "/bin/bash", |body| body.entry = mark(110), "/"),
            exec(5, 111, 110, "/bin/ls", |body| body.entry = mark(110), "/"),
            exec(6, 200, 1, "/usr/sbin/cron", |_| {}, "/"),
            Written::exit(7, 100, mark(0)),
        ],
    );
    assert_eq!(names(&events), ["exec", "session-opened", "alert", "exec", "exec", "exec", "end", "session-closed"]);
    assert!(events.iter().enumerate().all(|(position, event)| event.sequence == position as u64));
    let entry = |position: usize| events[position].lineage.as_ref().and_then(|it| it.entry.clone()).expect("an entry");
    let session = entry(3).session.clone().expect("a session");
    assert_eq!((&*session.user, session.allowed), ("ops", false));
    assert_eq!(
        (entry(4).leader, entry(4).session.as_ref().map(|it| it.id.clone())),
        (key(110), Some(session.id.clone()))
    );
    assert_eq!(
        (entry(0).entry_type, entry(5).entry_type, entry(5).session.is_none()),
        (EntryType::Init, EntryType::Init, true)
    );
}

#[test]
fn a_containers_start_is_told_from_what_enters_it() {
    let cgroup = format!("/docker/{ID}");
    let mut pipeline = pipeline();
    let records = [
        exec(0, 50, 1, "/usr/bin/containerd", |_| {}, "/"),
        exec(1, 60, 50, "/usr/sbin/runc", |_| {}, &cgroup),
        exec(2, 60, 60, "/bin/sleep", in_container(1), &cgroup),
        exec(3, 61, 60, "/bin/date", in_container(7), &cgroup),
        exec(4, 70, 50, "/usr/sbin/runc", |_| {}, &cgroup),
        exec(5, 70, 70, "/bin/sh", in_container(9), &cgroup),
    ];
    assert_eq!(names(&replay(&mut pipeline, &records)), ["exec", "exec", "exec"], "the rest waits for the runtime");
    let wanted = pipeline.take_requests();
    assert_eq!(wanted.iter().map(|it| &*it.id).collect::<Vec<_>>(), [ID], "asked once");
    let found = Container { id: ID.into(), image: Some(crate::pod::parse_image("busybox:1")), ..Container::default() };
    pipeline.input(Input::Container { id: ID.into(), answer: Lookup::Found(found) }, 6_000_000);
    let events: Vec<Event> = pipeline.take_events().collect();
    assert_eq!(names(&events), ["exec", "container-started", "alert", "exec", "exec", "container-entered", "alert"]);
    assert!(events.iter().all(|event| event.enrichment == Enrichment::Complete && event.container.is_some()));
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for_for_ever() {
    let cgroup = format!("/kubepods/burstable/pod{UID}/{ID}");
    let mut pipeline = pipeline();
    assert!(replay(&mut pipeline, &[exec(0, 60, 0, "/bin/sleep", in_container(1), &cgroup)]).is_empty());
    pipeline.tick(500_000_000);
    assert_eq!(pipeline.take_events().count(), 0);
    pipeline.tick(2_000_000_000);
    let events: Vec<Event> = pipeline.take_events().collect();
    assert!(events.len() >= 2 && events.iter().all(|event| event.enrichment == Enrichment::None), "{events:?}");
    assert_eq!(events[0].container.as_ref().and_then(|it| it.pod_uid.as_deref()), Some(UID));
}

#[test]
fn a_runtime_that_could_not_be_asked_is_asked_again() {
    let cgroup = format!("/docker/{ID}");
    let mut pipeline = pipeline();
    replay(&mut pipeline, &[exec(0, 60, 0, "/bin/sleep", in_container(1), &cgroup)]);
    assert_eq!(pipeline.take_requests().len(), 1);
    pipeline.input(Input::Container { id: ID.into(), answer: Lookup::Failed }, 1_000_000);
    assert!(pipeline.take_events().count() > 0, "nothing to wait for now");
    replay(&mut pipeline, &[exec(2, 61, 60, "/bin/date", in_container(7), &cgroup)]);
    assert_eq!(pipeline.take_requests().len(), 0, "not at once");
    replay(&mut pipeline, &[exec(20_000, 62, 60, "/bin/date", in_container(8), &cgroup)]);
    assert_eq!(pipeline.take_requests().len(), 1);
}

#[test]
fn many_short_containers_do_not_make_a_running_one_forgotten() {
    let old = format!("/docker/{ID}");
    let mut pipeline = pipeline();
    replay(&mut pipeline, &[exec(0, 60, 0, "/bin/proxy", in_container(1), &old)]);
    let short = 8_200;
    for number in 1..=short {
        let cgroup = format!("/docker/{number:064x}");
        let pid = 1_000 + number;
        let started = exec(
            u64::from(2 * number - 1),
            pid,
            0,
            "/bin/true",
            |body| {
                in_container(1)(body);
                body.cgroup_id = u64::from(10_000 + number);
            },
            &cgroup,
        );
        replay(&mut pipeline, &[started, Written::exit(u64::from(2 * number), pid, EntryMark::default())]);
    }
    pipeline.finish();
    pipeline.take_events();
    let with_little = |body: &mut ExecBody| {
        in_container(9)(body);
        body.credentials.cap_bounding = 0;
    };
    let mut events = replay(&mut pipeline, &[exec(u64::from(2 * short + 1), 500_000, 0, "/bin/sh", with_little, &old)]);
    pipeline.finish();
    events.extend(pipeline.take_events());
    assert_eq!(names(&events), ["exec", "container-entered", "alert"]);
}

#[test]
fn bytes_that_are_no_record_are_counted_and_said() {
    let mut pipeline = pipeline();
    assert!(pipeline.record(b"nonsense").is_err());
    pipeline.input(Input::Counters(Vec::new()), 0);
    let events: Vec<Event> = pipeline.take_events().collect();
    assert_eq!((names(&events), pipeline.malformed()), (vec!["events-lost"], 1));
}
