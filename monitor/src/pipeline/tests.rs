//! Streams of records, replayed: the same records always yield the same events.

mod init;
mod later;
mod origins;
mod remote;
mod stock;

use postern_ebpf::abi::{EntryMark, ExecBody, LoginCall, LoginClass};

use super::*;
use crate::{
    detect::AccessRule,
    event::{Confidence, Container, Entry, EntryType, Pod},
    pod::{CommandPurpose, ContainerFacts, ContainerKind, PodCommand, PodFacts, PodUpdate},
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
fn an_end_joins_its_execution_unless_that_went_out_before() {
    let mut pipeline = pipeline();
    let records = [
        exec(0, 100, 1, "/bin/bash", |_| {}, "/"),
        exec(1, 110, 100, "/bin/sh", |_| {}, "/"),
        exec(2, 110, 110, "/bin/ls", |_| {}, "/"),
        exec(3, 120, 100, "/bin/date", |_| {}, "/"),
        Written::exit(4, 110, EntryMark::default()),
    ];
    let events = replay(&mut pipeline, &records);
    assert_eq!(names(&events), ["exec"; 4]);
    let ended: Vec<bool> = events.iter().map(|event| event.end().is_some()).collect();
    assert_eq!(ended, [false, false, true, false], "what ran last in that process is what ended");
    assert!(events[2].end().is_some_and(|end| end.time > events[2].time));
    let events = replay(&mut pipeline, &[Written::exit(5, 120, EntryMark::default())]);
    assert_eq!((names(&events), events[0].sequence), (vec!["end"], 4));
}

#[test]
fn a_clock_that_is_set_moves_times_and_bends_no_duration() {
    const HOUR_NS: i128 = 3_600_000_000_000;
    let lived = |set_by_ns: i128| {
        let mut pipeline = pipeline();
        let mark = session(&mut pipeline);
        if set_by_ns != 0 {
            let boot_time_ns = pipeline.decoder.time(0).as_nanosecond() + set_by_ns;
            pipeline.input(Input::Clock { boot_time_ns }, 5_000_000);
            assert_eq!(names(&pipeline.take_events().collect::<Vec<_>>()), ["agent-changed"]);
        }
        // Later than the processes began.
        let ends = [Written::exit(200_000, 110, mark), Written::exit(200_001, 100, EntryMark::default())];
        let events = replay(&mut pipeline, &ends);
        let lived_ns = events[0].end().expect("bash ended").lived_ns;
        let closed = events.last().expect("some");
        assert_eq!(closed.categorization().action, "session-closed");
        let session_ns = closed.login().and_then(|login| Some(login.summary.as_ref()?.duration_ns));
        (lived_ns, session_ns, closed.time.as_nanosecond())
    };
    let (lived_ns, session_ns, time) = lived(0);
    assert!(lived_ns > 0 && session_ns.is_some_and(|it| it > 0), "{lived_ns} {session_ns:?}");
    for by_ns in [HOUR_NS, -HOUR_NS] {
        assert_eq!(lived(by_ns), (lived_ns, session_ns, time + by_ns));
    }
}

#[test]
fn an_sshd_without_pam_lets_in_who_leads_a_session_and_not_its_helpers() {
    let mut pipeline = pipeline();
    let leads = |pid: u32| move |body: &mut ExecBody| body.session_leader = key(pid);
    let events = replay(
        &mut pipeline,
        &[
            exec(0, 100, 1, "/usr/sbin/sshd", |_| {}, "/"),
            exec(1, 101, 100, "/usr/lib/openssh/sshd-session", leads(101), "/"),
            exec(2, 102, 101, "/usr/bin/keys-of-user", leads(101), "/"),
            exec(3, 103, 101, "/bin/bash", leads(103), "/"),
            exec(4, 104, 103, "/bin/ls", leads(103), "/"),
            Written::exit(5, 103, EntryMark::default()),
        ],
    );
    let expected = ["exec", "exec", "exec", "exec", "session-opened", "alert", "exec", "end", "session-closed"];
    assert_eq!(names(&events), expected);
    let session = |at: usize| events[at].session().map(|it| (it.door, it.confidence));
    assert_eq!(session(2), None);
    assert_eq!(session(3), Some((EntryType::Sshd, Confidence::Likely)));
    assert_eq!(session(6), session(3));
}

#[test]
fn a_session_is_on_everything_below_it_and_on_nothing_else() {
    let mark =
        |leader: u32| EntryMark { login: key(100), leader: key(leader), class: LoginClass::Sshd as u32, server: 0 };
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
    let session = entry(3).session().cloned().expect("a session");
    assert_eq!((&*session.user, session.allowed), ("ops", false));
    assert_eq!((entry(4).leader, entry(4).session().map(|it| it.id.clone())), (key(110), Some(session.id.clone())));
    assert_eq!(
        (entry(0).entry_type(), entry(5).entry_type(), entry(5).session().is_none()),
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
    pipeline.finish(0);
    pipeline.take_events();
    let with_little = |body: &mut ExecBody| {
        in_container(9)(body);
        body.credentials.cap_bounding = 0;
    };
    let mut events = replay(&mut pipeline, &[exec(u64::from(2 * short + 1), 500_000, 0, "/bin/sh", with_little, &old)]);
    pipeline.finish(0);
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

#[test]
fn a_line_that_could_not_be_read_is_counted_and_said() {
    let mut pipeline = pipeline();
    assert!(
        replay(&mut pipeline, &[Written::log(0, 100, 10, "Server listening"), Written::log(1, 100, 10, "")]).is_empty()
    );
    pipeline.input(Input::Counters(Vec::new()), 0);
    let events: Vec<Event> = pipeline.take_events().collect();
    assert_eq!((names(&events), pipeline.malformed()), (vec!["events-lost"], 1));
}

/// A session of `ops`, whose shell is process 110.
fn session(pipeline: &mut Pipeline) -> EntryMark {
    let mark = EntryMark { login: key(100), leader: key(110), class: LoginClass::Sshd as u32, server: 0 };
    let records = [
        exec(0, 100, 1, "/usr/sbin/sshd", |_| {}, "/"),
        Written::login(1, 100, LoginCall::Start, "sshd"),
        Written::login(2, 100, LoginCall::OpenSession, ""),
        Written::login(3, 100, LoginCall::SessionOpened, ""),
        exec(4, 110, 100, "/bin/bash", as_user(1_000, mark), "/"),
    ];
    replay(pipeline, &records);
    mark
}

fn as_user(uid: u32, mark: EntryMark) -> impl FnOnce(&mut ExecBody) {
    move |body| {
        body.entry = mark;
        (body.credentials.uid, body.credentials.euid) = (uid, uid);
    }
}

fn entry_of(event: &Event) -> Arc<Entry> {
    event.lineage.as_ref().and_then(|it| it.entry.clone()).expect("an entry")
}

#[test]
fn a_change_of_user_is_told_once_and_a_setuid_program_is_none() {
    let mut pipeline = pipeline();
    let mark = session(&mut pipeline);
    let setuid = |body: &mut ExecBody| {
        as_user(1_000, mark)(body);
        body.credentials.euid = 0;
    };
    let events = replay(
        &mut pipeline,
        &[
            exec(5, 111, 110, "/usr/bin/sudo", setuid, "/"),
            exec(6, 112, 111, "/bin/bash", as_user(0, mark), "/"),
            exec(7, 113, 112, "/bin/ls", as_user(0, mark), "/"),
            // PAM asks it for sudo whether the account has expired.
            exec(8, 114, 111, "/usr/sbin/unix_chkpwd", as_user(0, mark), "/"),
            Written::exit(9, 100, EntryMark::default()),
        ],
    );
    assert_eq!(names(&events), ["exec", "exec", "user-changed", "exec", "exec", "end", "session-closed"]);
    let Body::UserChanged(change) = &events[2].body else { panic!("{events:?}") };
    assert_eq!((change.from.id, change.to.id, &*change.program), (1_000, 0, "/usr/bin/sudo"));
    let Body::SessionClosed(login) = &events[6].body else { panic!("{events:?}") };
    let summary = login.summary.as_ref().expect("a summary");
    assert_eq!((summary.commands, &summary.users[..], summary.alerts), (5, &["0".into()][..], 1));
    assert_eq!(summary.duration_ns, 7_000_000);
}

#[test]
fn what_is_asked_of_the_runtime_belongs_to_whoever_asked() {
    let mut pipeline = pipeline();
    let mark = session(&mut pipeline);
    let cgroup = format!("/kubepods/burstable/pod{UID}/{ID}");
    let args = ["crictl", "exec", "-it", &ID[..13], "sh"];
    let crictl = replay::Exec { pid: 111, previous: 110, path: "/usr/bin/crictl", args: &args, cgroup: "/" };
    let mut events = replay(
        &mut pipeline,
        &[
            exec(5, 60, 50, "/bin/web", in_container(1), &cgroup),
            Written::exec(6, crictl, as_user(1_000, mark)),
            exec(7, 61, 50, "/bin/sh", in_container(7), &cgroup),
            exec(8, 62, 50, "/bin/date", in_container(8), &cgroup),
        ],
    );
    pipeline.tick(5_000_000_000);
    events.extend(pipeline.take_events());
    let entered = |pid: u32| {
        let of = |event: &&Event| matches!(event.body, Body::ContainerEntered(_)) && event.alert.is_none();
        let found =
            events.iter().filter(of).find(|it| it.lineage.as_ref().is_some_and(|it| it.process.key.tgid == pid));
        entry_of(found.expect("it entered"))
    };
    let by_hand = entered(61);
    let session = by_hand.session().expect("the person's session");
    assert_eq!(
        (by_hand.entry_type(), &*session.user, session.confidence),
        (EntryType::RuntimeExec, "ops", Confidence::Linked)
    );
    assert!(session.link.as_ref().is_some_and(|link| link.starts_with("crictl (pid 111)")), "{session:?}");
    // The tool is still there, and has got what it asked for: this one was asked for by somebody else.
    assert_eq!(entered(62).entry_type(), EntryType::KubectlExec);
}

#[test]
fn a_pods_own_commands_and_debuggers_are_told_from_execs() {
    use EntryType::{DebugNode, KubectlDebug, KubectlExec, Kubelet, Probe};
    let exec_of = |pod: PodFacts, args: &[&str]| {
        let mut pipeline = pipeline();
        pipeline.input(Input::Pods(PodUpdate::Listed(vec![Arc::new(pod)])), 0);
        let cgroup = format!("/kubepods/burstable/pod{UID}/{ID}");
        let entering = replay::Exec { pid: 61, previous: 50, path: "/bin/sh", args, cgroup: &cgroup };
        let mut events = replay(
            &mut pipeline,
            &[
                exec(0, 60, 50, "/bin/web", in_container(1), &cgroup),
                Written::exec(1, entering, in_container(7)),
                exec(2, 62, 61, "/bin/cat", in_container(8), &cgroup),
            ],
        );
        let answer = Lookup::Found(Container { id: ID.into(), ..Container::default() });
        pipeline.input(Input::Container { id: ID.into(), answer }, 3_000_000);
        events.extend(pipeline.take_events());
        let doors: Vec<EntryType> = events.iter().map(|event| entry_of(event).entry_type()).collect();
        assert_eq!(events.last().map(|event| event.categorization().action), Some("exec"), "{events:?}");
        (doors[0], doors[events.len() - 1], names(&events).iter().filter(|&&name| name == "alert").count())
    };
    let commands = vec![PodCommand {
        purpose: CommandPurpose::Readiness,
        args: vec!["sh".into(), "-c".into(), "probe --at $(HOST):80".into()],
    }];
    let facts = |kind, host_pid, name: &str| PodFacts {
        pod: Arc::new(Pod {
            uid: UID.into(),
            name: name.into(),
            namespace: "shop".into(),
            service_account: None,
            labels: std::collections::BTreeMap::new(),
            owner: None,
        }),
        host_pid,
        containers: vec![Arc::new(ContainerFacts {
            id: Some(ID.into()),
            kind,
            commands: commands.clone(),
            ..ContainerFacts::default()
        })],
        ..PodFacts::default()
    };
    let (regular, ephemeral) = (ContainerKind::Regular, ContainerKind::Ephemeral);
    let probe = ["sh", "-c", "probe --at 10.0.0.7:80"];
    // A probe is no alert, in a privileged container neither: what stays is the container's own start. A person is two: he came
    // in where no rule lets him, and to a privileged container.
    assert_eq!(exec_of(facts(regular, false, "web-1"), &probe), (Kubelet, Probe, 1));
    assert_eq!(exec_of(facts(regular, false, "web-1"), &["sh", "-c", "id"]), (Kubelet, KubectlExec, 3));
    assert_eq!(exec_of(facts(ephemeral, false, "web-1"), &["sh"]).0, KubectlDebug);
    assert_eq!(exec_of(facts(regular, true, "node-debugger-n1-abcde"), &["sh"]).0, DebugNode);
    assert_eq!(exec_of(facts(regular, false, "node-debugger-n1-abcde"), &["sh"]).0, Kubelet);
    // Before anybody has said the container's id or name, what starts may be the pod's sandbox, and what enters may not.
    let unheard = |pod: PodFacts| {
        let containers =
            pod.containers.iter().map(|it| Arc::new(ContainerFacts { id: None, ..ContainerFacts::clone(it) }));
        PodFacts { containers: containers.collect(), ..pod }
    };
    assert_eq!(exec_of(unheard(facts(regular, true, "node-debugger-n1-abcde")), &["sh"]).0, Kubelet);
    assert_eq!(exec_of(unheard(facts(regular, false, "web-1")), &probe).1, Probe);
}

#[test]
fn an_exec_through_the_api_server_is_a_session_held_against_the_policy() {
    let pod = PodFacts {
        pod: Arc::new(Pod { uid: UID.into(), name: "web-1".into(), namespace: "shop".into(), ..Pod::default() }),
        containers: vec![Arc::new(ContainerFacts { id: Some(ID.into()), ..ContainerFacts::default() })],
        ..PodFacts::default()
    };
    let sessions = |namespace: &str| {
        let rule = AccessRule { namespaces: vec![namespace.into()], ..AccessRule::default() };
        let mut pipeline = replay::pipeline(AccessPolicy { allow: vec![rule], ..AccessPolicy::default() });
        pipeline.input(Input::Pods(PodUpdate::Listed(vec![Arc::new(pod.clone())])), 0);
        let cgroup = format!("/kubepods/pod{UID}/{ID}");
        let entering = replay::Exec { pid: 61, previous: 50, path: "/bin/sh", args: &["sh"], cgroup: &cgroup };
        let mut events = replay(
            &mut pipeline,
            &[
                exec(0, 60, 50, "/bin/web", in_container(1), &cgroup),
                Written::exec(1, entering, in_container(7)),
                exec(2, 62, 61, "/bin/cat", in_container(8), &cgroup),
                Written::exit(3, 62, EntryMark::default()),
                Written::exit(4, 61, EntryMark::default()),
            ],
        );
        // All of it waited for the container, and goes out in its order.
        let answer = Lookup::Found(Container { id: ID.into(), ..Container::default() });
        pipeline.input(Input::Container { id: ID.into(), answer }, 3_000_000);
        events.extend(pipeline.take_events());
        assert_eq!(pipeline.sizes().sessions, 0, "it is closed");
        events
    };
    let events = sessions("shop");
    let of = |action: &str| {
        let found = |event: &&Event| event.categorization().action == action && event.session().is_some();
        events.iter().filter(found).collect::<Vec<_>>()
    };
    let opened = of("session-opened");
    let [opened] = opened[..] else { panic!("{events:?}") };
    let session = opened.session().expect("a session");
    assert_eq!((session.door, &*session.user, session.allowed), (EntryType::KubectlExec, "", true));
    assert!(opened.container.as_ref().is_some_and(|it| it.pod.as_ref().is_some_and(|pod| &*pod.name == "web-1")));
    // The shell, what it ran, and both of their ends.
    assert_eq!((of("exec").len(), of("end").len()), (2, 2));
    let closed = of("session-closed");
    let [closed] = closed[..] else { panic!("{events:?}") };
    let summary = closed.login().and_then(|login| login.summary.as_ref()).expect("a summary");
    assert_eq!((summary.commands, summary.alerts), (2, 1), "{summary:?}");

    let elsewhere = sessions("bank");
    let alerts =
        elsewhere.iter().filter_map(|event| event.alert.as_ref()).map(|alert| alert.rule.id).collect::<Vec<_>>();
    assert!(alerts.contains(&"postern-exec-not-allowed"), "{alerts:?}");
}

#[test]
fn a_process_that_leaves_its_container_is_an_alert() {
    let cgroup = format!("/docker/{ID}");
    let mut pipeline = pipeline();
    let mut events = replay(
        &mut pipeline,
        &[
            exec(0, 60, 50, "/bin/sleep", in_container(1), &cgroup),
            exec(1, 61, 60, "/usr/bin/nsenter", in_container(7), &cgroup),
            exec(2, 61, 61, "/bin/bash", |_| {}, &cgroup),
            exec(3, 62, 61, "/bin/ls", |_| {}, &cgroup),
        ],
    );
    pipeline.finish(0);
    events.extend(pipeline.take_events());
    let of =
        |pid: u32| events.iter().filter(move |it| it.lineage.as_ref().is_some_and(|it| it.process.key.tgid == pid));
    let escaped: Vec<&Event> = of(61).filter(|event| matches!(event.body, Body::ContainerEscaped)).collect();
    assert_eq!(escaped.len(), 2, "the event and its alert: {events:?}");
    assert!(escaped.iter().all(|event| event.container.as_ref().is_some_and(|it| &*it.id == ID)));
    assert!(
        of(62).all(|event| entry_of(event).entry_type() == EntryType::ContainerEscape && event.container.is_none())
    );
}
