//! SSH servers that let people in without PAM.

use std::net::SocketAddr;

use super::{exec, names, pipeline, replay as feed};
use crate::{
    event::Event,
    pipeline::Pipeline,
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
