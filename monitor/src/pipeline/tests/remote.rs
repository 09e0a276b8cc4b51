//! SSH servers that let people in without PAM.

use std::net::SocketAddr;

use postern_ebpf::abi::{EntryMark, ExecBody, LoginCall, LoginClass};

use super::{exec, names, pipeline, replay as feed};
use crate::{
    event::{Body, Confidence, Enrichment, Event, Login, LoginMethod},
    pipeline::{Pipeline, remote::UNTOLD_NS},
    process::{proc_text::SshConnection, seed::SeedProcess},
    replay::{Exec, Written, key},
};

/// The first program below a dropbear.
fn first(pipeline: &mut Pipeline, environment: &[u8]) -> Vec<Event> {
    let shell = Exec { pid: 101, previous: 100, path: "/bin/sh", args: &["sh"], cgroup: "/" };
    let records = [exec(0, 100, 1, "/usr/sbin/dropbear", |_| {}, "/"), Written::exec_in(1, shell, environment, |_| {})];
    feed(pipeline, &records)
}

/// From where the session is that opens, by its login and by its entry.
fn from(events: &[Event]) -> Option<(String, Option<u16>, String)> {
    let opened = events.iter().find_map(Event::login).expect("a session opens");
    let entry = events.last()?.lineage.as_ref()?.entry.clone()?;
    Some((opened.source.address.as_deref()?.to_owned(), opened.source.port, entry.source_ip?.to_string()))
}

#[test]
fn the_environment_of_the_first_program_says_from_where() {
    let mut pipeline = pipeline();
    let events = first(&mut pipeline, b"HOME=/\0SSH_CONNECTION=192.0.2.7 40022 198.51.100.1 22\0");
    assert_eq!(names(&events), ["exec", "exec", "session-opened", "alert"]);
    assert_eq!(from(&events), Some(("192.0.2.7".into(), Some(40_022), "192.0.2.7".into())));
    for hostile in ["", "SSH_CONNECTION=\u{1b}[2J 1 2 3\0", "SSH_CLIENT=localhost 1 2\0"] {
        assert_eq!(from(&first(&mut super::pipeline(), hostile.as_bytes())), None, "{hostile:?}");
    }
    // What no server lets in has no address, whatever it says.
    let shell = Exec { pid: 102, previous: 1, path: "/bin/sh", args: &["sh"], cgroup: "/" };
    let other = feed(&mut pipeline, &[Written::exec_in(2, shell, b"SSH_CLIENT=192.0.2.7 1 22\0", |_| {})]);
    let entry = other[0].lineage.as_ref().and_then(|it| it.entry.clone()).expect("an entry");
    assert_eq!((names(&other), entry.source_ip), (vec!["exec"], None));
}

const LINE: &str = "Accepted publickey for ops from 192.0.2.7 port 40022 ssh2: ED25519 SHA256:ops";
const OTHER_LINE: &str = "Accepted publickey for eve from 203.0.113.9 port 1 ssh2: ED25519 SHA256:eve";

/// An sshd without PAM lets somebody in, whose first program is process 103; process 102 is what it forks for that. Before, lines
/// are logged: each by a process, as the child of another.
fn let_in(lines: &[(u32, u32, &str)]) -> Login {
    let shell = Exec { pid: 103, previous: 101, path: "/bin/sh", args: &["sh"], cgroup: "/" };
    let mut records = vec![
        exec(0, 100, 1, "/usr/sbin/sshd", |_| {}, "/"),
        exec(1, 101, 100, "/usr/lib/openssh/sshd-session", |_| {}, "/"),
        exec(2, 110, 100, "/usr/lib/openssh/sshd-session", |_| {}, "/"),
    ];
    let logged = (3..).zip(lines).map(|(sequence, &(pid, parent, line))| Written::log(sequence, pid, parent, line));
    records.extend(logged);
    let environment = b"SSH_CONNECTION=198.51.100.1 7 192.0.2.1 22\0";
    let first = Written::exec_in(3 + lines.len() as u64, shell, environment, |body| {
        (body.session_leader, body.parent) = (key(103), key(102));
    });
    records.push(first);
    let events = feed(&mut pipeline(), &records);
    let is_opened = |event: &&Event| event.alert.is_none() && matches!(event.body, Body::SessionOpened(_));
    let opened = events.iter().find(is_opened).expect("a session opens");
    let login = opened.login().expect("a login").clone();
    let entry = events.last().and_then(|event| event.lineage.as_ref()?.entry.clone()).expect("an entry");
    assert_eq!(entry.source_ip, login.source.ip);
    let is_complete = opened.enrichment == Enrichment::Complete;
    assert_eq!(is_complete, login.method.is_some());
    login
}

/// What is known of a login: user, key, address and port, and how surely.
fn known(login: &Login) -> (&str, Option<&str>, Option<String>, Option<u16>, Confidence) {
    let confidence = login.session.as_ref().expect("a session").confidence;
    let address = login.source.ip.map(|ip| ip.to_string());
    (&login.user, login.key_fingerprint.as_deref(), address, login.source.port, confidence)
}

#[test]
fn whom_an_sshd_without_pam_let_in_is_who_it_says() {
    let told = ("ops", Some("SHA256:ops"), Some("192.0.2.7".to_owned()), Some(40_022), Confidence::Certain);
    let login = let_in(&[(101, 100, LINE)]);
    assert_eq!((known(&login), login.method.as_ref()), (told.clone(), Some(&LoginMethod::PublicKey)));
    // It says so once: what anybody makes of its name later is not heard, and neither is what its children say.
    for forged in [(101, 100, OTHER_LINE), (102, 101, OTHER_LINE), (110, 100, OTHER_LINE)] {
        assert_eq!(known(&let_in(&[(101, 100, LINE), forged])), told, "{forged:?}");
    }
    // Refusals before do not matter.
    let refused = "Failed publickey for ops from 192.0.2.7 port 40022 ssh2: ED25519 SHA256:other";
    assert_eq!(known(&let_in(&[(101, 100, refused), (101, 100, LINE)])), told);
}

#[test]
fn what_others_say_of_whom_an_sshd_without_pam_let_in_counts_for_nothing() {
    let shape = ("0", None, Some("198.51.100.1".to_owned()), Some(7), Confidence::Likely);
    assert_eq!(known(&let_in(&[])), shape);
    // Another connection's process, the listener, the child of this connection's, and one that nobody knows.
    for (pid, parent) in [(110, 100), (100, 1), (102, 101), (104, 103), (200, 1)] {
        assert_eq!(known(&let_in(&[(pid, parent, LINE)])), shape, "{pid} {parent}");
    }
    // What can be read in two ways names nobody, but that sshd let somebody in.
    let twice = "Accepted publickey for ops from 192.0.2.7 port 1 ssh2: ED25519-CERT SHA256:a ID b from 203.0.113.9 port 1 \
                 ssh2: ED25519-CERT SHA256:c ID d (serial 0) CA ED25519 SHA256:e";
    let login = let_in(&[(101, 100, twice)]);
    assert_eq!(known(&login), ("0", None, Some("198.51.100.1".to_owned()), Some(7), Confidence::Certain));
}

/// Whether a program that a server executes opens a session: the arguments of the server, those of the program, and what its process
/// is like.
fn opens(server: &[&str], program: &[&str], change: impl FnOnce(&mut ExecBody)) -> bool {
    let server = Exec { pid: 100, previous: 1, path: server[0], args: server, cgroup: "/" };
    let program = Exec { pid: 101, previous: 100, path: program[0], args: program, cgroup: "/" };
    let records = [Written::exec(0, server, |_| {}), Written::exec(1, program, change)];
    names(&feed(&mut pipeline(), &records)).contains(&"session-opened")
}

#[test]
fn what_a_server_has_its_helpers_do_is_no_session() {
    let (leads, other) =
        (|body: &mut ExecBody| body.group_leader = key(101), |body: &mut ExecBody| body.credentials.uid = 1);
    for worker in ["/usr/bin/ssm-session-worker", "/usr/bin/ssm-document-worker"] {
        assert!(!opens(&[worker], &["/bin/sh"], |_| {}), "{worker} asks `id`, or lists packages");
        assert!(opens(&[worker], &["/bin/sh"], leads), "{worker}");
        assert!(opens(&[worker], &["/bin/sh"], other), "{worker}");
    }
    for (server, argument) in [("/usr/sbin/tailscaled", "be-child"), ("/usr/local/bin/teleport", "exec")] {
        assert!(!opens(&[server, "--state=/var/lib"], &["/usr/sbin/ip"], leads), "{server}");
        assert!(opens(&[server, argument], &["/bin/bash"], |_| {}), "{server}");
        assert!(!opens(&[server, argument], &["/usr/bin/login", "-f", "ops"], |_| {}), "PAM tells of it");
    }
    for extension in ["/var/lib/waagent/run-command-extension", "/var/lib/waagent/custom-script-extension"] {
        assert!(!opens(&[extension, "enable"], &["/usr/bin/openssl"], |_| {}), "{extension} decrypts");
        assert!(
            !opens(&[extension, "enable"], &["bash", "-c", "ps"], |_| {}),
            "{extension} looks for another of itself"
        );
        assert!(opens(&[extension, "enable"], &["/bin/sh", "-c", "true"], |_| {}), "{extension}");
    }
    for runner in ["/usr/bin/google_metadata_script_runner", "/usr/bin/gce_metadata_script_runner"] {
        assert!(opens(&[runner, "startup"], &["/bin/sh"], |_| {}), "{runner}");
    }
}

/// Teleport has PAM open a session, with or without an address.
fn let_in_by_pam(address: Option<&str>) -> (Pipeline, Vec<Event>) {
    let teleport = Exec { pid: 100, previous: 1, path: "/bin/teleport", args: &["teleport", "exec"], cgroup: "/" };
    let mut records = vec![Written::exec(0, teleport, |_| {}), Written::login(1, 100, LoginCall::Start, "sshd")];
    records.extend(address.map(|address| Written::remote(2, 100, address)));
    records.push(Written::login(3, 100, LoginCall::OpenSession, ""));
    records.push(Written::login(4, 100, LoginCall::SessionOpened, ""));
    let mut pipeline = pipeline();
    let events = feed(&mut pipeline, &records);
    (pipeline, events)
}

#[test]
fn a_server_that_does_not_tell_pam_from_where_somebody_comes_tells_their_first_program() {
    const OPENED: [&str; 2] = ["session-opened", "alert"];
    let (_, events) = let_in_by_pam(Some("192.0.2.7"));
    assert_eq!(names(&events)[1..], OPENED, "it waits for nothing");

    let (mut pipeline, events) = let_in_by_pam(None);
    assert_eq!(names(&events), ["exec"]);
    let mark = EntryMark { login: key(100), leader: key(101), class: LoginClass::Sshd as u32, ..EntryMark::default() };
    let shell = Exec { pid: 101, previous: 100, path: "/bin/sh", args: &["sh"], cgroup: "/" };
    let shell = Written::exec_in(5, shell, b"SSH_CONNECTION=192.0.2.7 40022 198.51.100.1 22\0", |it| it.entry = mark);
    let events = feed(&mut pipeline, &[shell, Written::login(6, 100, LoginCall::CloseSession, "")]);
    assert_eq!(names(&events), ["exec", "session-opened", "alert", "session-closed"]);
    assert_eq!(from(&events[..3]), Some(("192.0.2.7".into(), Some(40_022), "192.0.2.7".into())));
    assert!(events[1].login().is_some_and(|login| login.source.claimed && login.user.as_ref() == "ops"));

    // Whoever only forwards a port has no first program.
    let (mut pipeline, _) = let_in_by_pam(None);
    pipeline.tick(UNTOLD_NS);
    assert_eq!(names(&feed(&mut pipeline, &[])), [""; 0]);
    pipeline.tick(2 * UNTOLD_NS);
    assert_eq!(names(&feed(&mut pipeline, &[])), OPENED);
    pipeline.tick(4 * UNTOLD_NS);
    let closed = feed(&mut pipeline, &[Written::login(5, 100, LoginCall::CloseSession, "")]);
    assert_eq!(names(&closed), ["session-closed"]);

    let (mut pipeline, _) = let_in_by_pam(None);
    pipeline.finish(0);
    assert_eq!(names(&feed(&mut pipeline, &[])), OPENED, "the agent stops");

    let (mut pipeline, _) = let_in_by_pam(None);
    let closed = feed(&mut pipeline, &[Written::login(5, 100, LoginCall::CloseSession, "")]);
    assert_eq!(names(&closed), ["session-opened", "alert", "session-closed"]);
}

#[test]
fn the_kernel_side_is_told_of_servers_that_run_already() {
    let connection = "192.0.2.7:5".parse::<SocketAddr>().expect("an address");
    let of = |pid: u32, parent: u32, path: &str| SeedProcess {
        key: key(pid),
        parent,
        executable: path.as_bytes().to_vec(),
        ssh_connection: (parent == 100).then_some(SshConnection { client: connection, server: connection }),
        ..SeedProcess::default()
    };
    let mut pipeline = pipeline();
    let processes = [
        of(100, 1, "/usr/sbin/dropbear"),
        of(101, 100, "/usr/sbin/dropbear"),
        of(102, 100, "/bin/sh"),
        of(103, 1, "/bin/sh"),
    ];
    let marks = pipeline.seed(&processes, 0);
    let below: Vec<_> = marks.iter().map(|(process, mark)| (process.tgid, mark.server)).collect();
    assert_eq!(below, [(100, 1), (101, 1), (102, 0), (103, 0)]);
    let events = feed(&mut pipeline, &[exec(5, 104, 102, "/bin/ls", |_| {}, "/")]);
    let entry = events[0].lineage.as_ref().and_then(|it| it.entry.clone()).expect("an entry");
    assert_eq!(entry.source_ip, Some(connection.ip()));
}
