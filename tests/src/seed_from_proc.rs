//! A session that was open before the agent is found in /proc with its connection and its login.

use std::path::Path;

use crate::harness::sshd::Sshd;
use postern::process::seed::scan;

#[test]
fn the_shell_of_an_open_ssh_session_is_found_with_its_connection() {
    if let Some(reason) = Sshd::unavailable() {
        eprintln!("skipped: {reason}");
        return;
    }
    let server = Sshd::start();
    let mut session = server.open();
    let shell: u32 = session.run("echo $$").trim().parse().expect("a shell knows its pid");
    let seed = scan(Path::new("/proc")).expect("/proc is mounted");
    let find = |pid| seed.processes.iter().find(|process| process.key.tgid == pid).expect("it runs");

    let found = find(shell);
    let connection = found.ssh_connection.expect("sshd names it in the environment");
    assert_eq!(connection.client.ip().to_string(), "127.0.0.1");
    assert_eq!(connection.server, ([127, 0, 0, 1], server.port()).into());
    assert_eq!((found.credentials.uid, found.credentials.login_uid), (server.user().uid, server.user().uid));
    assert_ne!(found.credentials.audit_session, u32::MAX);
    assert_eq!(found.session, shell, "it leads its session");

    let unprivileged = find(found.parent);
    let privileged = find(unprivileged.parent);
    assert_eq!((unprivileged.credentials.euid, privileged.credentials.euid), (server.user().uid, 0));
    assert_eq!(privileged.parent, server.pid());
    for process in [unprivileged, privileged] {
        assert_eq!(process.executable, b"/usr/sbin/sshd");
        assert_eq!(process.ssh_connection, None, "an sshd is no session's process");
        assert_eq!(process.credentials.audit_session, found.credentials.audit_session);
    }
    assert_eq!(find(server.pid()).credentials.login_uid, u32::MAX);
    session.log_out();
}
