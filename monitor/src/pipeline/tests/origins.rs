//! In which session somebody came in who comes from this node itself.

use postern_ebpf::abi::{EntryMark, LoginCall};

use super::{as_user, exec, names, pipeline, replay as feed, session};
use crate::{
    event::{Event, Origin},
    pipeline::{
        Holders, Input, Pipeline, Question,
        origins::{EARLY_MAX, LATE_NS},
    },
    replay::{Exec, Written, key},
};

const MILLISECOND: u64 = 1_000_000;

/// A pipeline in which `ops` is in, and in another session, of another person, the shell 401.
fn two_are_in() -> (Pipeline, EntryMark) {
    let mut pipeline = pipeline();
    let mark = session(&mut pipeline);
    let shell = Exec { pid: 401, previous: 400, path: "/bin/sh", args: &["sh"], cgroup: "/" };
    let from = b"SSH_CONNECTION=192.0.2.9 5 198.51.100.1 22\0";
    feed(
        &mut pipeline,
        &[exec(10, 400, 1, "/usr/sbin/dropbear", |_| {}, "/"), Written::exec_in(11, shell, from, |_| {})],
    );
    pipeline.take_questions();
    (pipeline, mark)
}

/// `ops` runs a client.
fn client(pipeline: &mut Pipeline, sequence: u64, pid: u32, args: &[&str], mark: EntryMark) {
    let exec = Exec { pid, previous: 110, path: "/usr/bin/ssh", args, cgroup: "/" };
    feed(pipeline, &[Written::exec(sequence, exec, as_user(1_000, mark))]);
}

/// Somebody comes in from there, at that moment. Nothing has been told of it yet.
fn comes_in(pipeline: &mut Pipeline, sequence: u64, from: &str) -> Vec<Question> {
    let environment = format!("SSH_CONNECTION={from} 127.0.0.1 22\0");
    let shell = Exec { pid: 501, previous: 500, path: "/bin/sh", args: &["sh"], cgroup: "/" };
    let records = [
        exec(sequence, 500, 1, "/usr/sbin/dropbear", |_| {}, "/"),
        Written::exec_in(sequence + 1, shell, environment.as_bytes(), |_| {}),
    ];
    for record in records {
        pipeline.record(record.bytes()).expect("a good record");
    }
    pipeline.take_questions()
}

/// What is told of the session, once there is an answer.
fn told(pipeline: &mut Pipeline, questions: Vec<Question>, holders: Holders) -> Option<Origin> {
    let mut questions = questions.into_iter();
    if let Some(question) = questions.next() {
        pipeline.input(Input::Origin(question, holders), 0);
    }
    assert!(questions.next().is_none());
    let events: Vec<Event> = pipeline.take_events().collect();
    assert_eq!(names(&events), ["exec", "exec", "session-opened", "alert"]);
    let all: Vec<_> = events[1..].iter().map(|it| it.session().expect("its session").from.get().cloned()).collect();
    assert!(all.iter().all(|it| *it == all[0]), "{all:?}");
    all[0].clone()
}

fn said(origin: Option<&Origin>) -> Option<(&str, &str, &str)> {
    origin.map(|it| (&*it.user, it.confidence.as_str(), &*it.reason))
}

#[test]
fn whoever_has_the_connection_is_who_came_in() {
    let (mut pipeline, mark) = two_are_in();
    client(&mut pipeline, 20, 120, &["ssh", "localhost"], mark);
    let questions = comes_in(&mut pipeline, 30, "127.0.0.1 40022");
    let asked = &questions[0];
    assert_eq!((asked.server, asked.ip, asked.port), (key(501), [127, 0, 0, 1].into(), Some(40_022)));
    assert_eq!(asked.among, [120, 401, 110].map(key), "clients before others, the latest first");
    let found = Holders { found: vec![key(120)], ..Holders::default() };
    let origin = told(&mut pipeline, questions, found);
    assert_eq!(said(origin.as_ref()), Some(("ops", "linked", "ssh (pid 120) has the connection")));
}

#[test]
fn one_connection_of_two_people_is_nobodys() {
    let (mut pipeline, mark) = two_are_in();
    client(&mut pipeline, 20, 120, &["ssh", "localhost"], mark);
    let questions = comes_in(&mut pipeline, 30, "127.0.0.1 40022");
    let found = Holders { found: vec![key(120), key(401)], ..Holders::default() };
    assert_eq!(told(&mut pipeline, questions, found), None);
}

#[test]
fn whoever_forwards_a_port_is_who_came_in_by_it() {
    let (mut pipeline, _) = two_are_in();
    let questions = comes_in(&mut pipeline, 30, "127.0.0.1 40022");
    assert_eq!(questions[0].carriers, [key(100)], "the other server has no process of which PAM was told");
    let carried = Holders { carried: vec![key(100)], ..Holders::default() };
    let origin = told(&mut pipeline, questions, carried);
    assert_eq!(said(origin.as_ref()), Some(("ops", "linked", "sshd (pid 100) forwards the connection")));
    // A process that has it comes first.
    let (mut pipeline, _) = two_are_in();
    let questions = comes_in(&mut pipeline, 30, "127.0.0.1 40022");
    let both = Holders { found: vec![key(110)], carried: vec![key(100)], ..Holders::default() };
    let origin = told(&mut pipeline, questions, both);
    assert_eq!(said(origin.as_ref()), Some(("ops", "linked", "bash (pid 110) has the connection")));
}

#[test]
fn a_client_that_was_gone_before_it_was_looked_at_is_likely_if_it_is_the_only_one() {
    let gone = |pids: &[u32], others| Holders {
        unseen: pids.iter().map(|pid| key(*pid)).collect(),
        others,
        ..Holders::default()
    };
    // What the arguments of two clients are, which ended, from where somebody comes and when, what is found; whether it is one.
    for (args, ended, from, sequence, holders, expected) in [
        (&["ssh", "localhost"][..], true, "127.0.0.1 40022", 30, gone(&[], false), true),
        (&["ssh", "localhost"], false, "127.0.0.1 40022", 30, gone(&[120], false), true),
        (&["ssh", "localhost"], false, "127.0.0.1 40022", 30, gone(&[], false), false),
        // Somebody else has the connection, or what it left behind in the background.
        (&["ssh", "localhost"], true, "127.0.0.1 40022", 30, gone(&[], true), false),
        (&["ssh", "-fN", "localhost"], true, "127.0.0.1 40022", 30, gone(&[], true), true),
        // From elsewhere, as far as anybody knows.
        (&["ssh", "localhost"], true, "192.0.2.1 40022", 30, gone(&[], false), false),
        (&["ssh", "localhost"], true, "127.0.0.1 40022", 30 + LATE_NS / MILLISECOND, gone(&[], false), false),
    ] {
        let (mut pipeline, mark) = two_are_in();
        client(&mut pipeline, 20, 120, args, mark);
        if ended {
            feed(&mut pipeline, &[Written::exit(21, 120, mark)]);
        }
        let questions = comes_in(&mut pipeline, sequence, from);
        let origin = told(&mut pipeline, questions, holders);
        let reason = "ssh (pid 120) ended as it began, and no other client of another session did";
        assert_eq!(
            said(origin.as_ref()),
            expected.then_some(("ops", "likely", reason)),
            "{args:?} {ended} {from} {sequence}"
        );
    }
}

#[test]
fn of_two_peoples_clients_that_were_gone_neither_is_it() {
    let (mut pipeline, mark) = two_are_in();
    client(&mut pipeline, 20, 120, &["ssh", "localhost"], mark);
    feed(&mut pipeline, &[exec(21, 410, 401, "/usr/bin/ssh", |_| {}, "/")]);
    let questions = comes_in(&mut pipeline, 30, "127.0.0.1 40022");
    let unseen = Holders { unseen: vec![key(120), key(410)], ..Holders::default() };
    assert_eq!(told(&mut pipeline, questions, unseen), None);
}

#[test]
fn nothing_is_asked_while_nobody_else_is_in() {
    let mut pipeline = pipeline();
    assert!(comes_in(&mut pipeline, 30, "127.0.0.1 40022").is_empty());
}

/// What the process of an sshd says to PAM until somebody is in, and whether it opens at last.
fn by_sshd(pipeline: &mut Pipeline, sequence: u64, answer: &Holders) -> Option<Origin> {
    let records = [
        exec(sequence, 600, 1, "/usr/sbin/sshd", |_| {}, "/"),
        Written::login(sequence + 1, 600, LoginCall::Start, "sshd"),
        Written::remote(sequence + 2, 600, "127.0.0.1"),
    ];
    feed(pipeline, &records);
    for question in pipeline.take_questions() {
        assert_eq!((question.server, question.port), (key(600), None));
        let found = Holders { found: answer.found.clone(), ..Holders::default() };
        pipeline.input(Input::Origin(question, found), 0);
    }
    let open = [LoginCall::OpenSession, LoginCall::SessionOpened];
    let open = [0, 1].map(|at| Written::login(sequence + 3 + at as u64, 600, open[at], ""));
    let events = feed(pipeline, &open);
    let session = events.iter().find_map(|event| event.login()?.session.clone()).expect("it opens");
    session.from.get().cloned()
}

#[test]
fn who_comes_is_asked_before_they_are_in_and_again_if_that_was_too_early() {
    let (mut pipeline, mark) = two_are_in();
    client(&mut pipeline, 20, 120, &["ssh", "localhost"], mark);
    let found = Holders { found: vec![key(120)], ..Holders::default() };
    let origin = by_sshd(&mut pipeline, 30, &found);
    assert_eq!(said(origin.as_ref()), Some(("ops", "linked", "ssh (pid 120) has the connection")));
    assert!(pipeline.take_questions().is_empty(), "it is known");
    let (mut pipeline, mark) = two_are_in();
    client(&mut pipeline, 20, 120, &["ssh", "localhost"], mark);
    assert_eq!(by_sshd(&mut pipeline, 30, &Holders::default()), None);
    assert_eq!(pipeline.take_questions().len(), 1);
    // While nobody who is in runs a client, a guess costs nothing.
    let (mut pipeline, _) = two_are_in();
    feed(&mut pipeline, &[Written::login(30, 600, LoginCall::Start, "sshd"), Written::remote(31, 600, "192.0.2.1")]);
    assert!(pipeline.take_questions().is_empty());
}

#[test]
fn guesses_have_only_so_much_looked_up() {
    let (mut pipeline, mark) = two_are_in();
    client(&mut pipeline, 20, 120, &["ssh", "elsewhere"], mark);
    for guess in 0..100 {
        let pid = 1_000 + guess as u32;
        let records = [
            Written::login(30 + 2 * guess, pid, LoginCall::Start, "sshd"),
            Written::remote(31 + 2 * guess, pid, "192.0.2.1"),
        ];
        feed(&mut pipeline, &records);
    }
    assert_eq!(pipeline.take_questions().len(), EARLY_MAX);
}
