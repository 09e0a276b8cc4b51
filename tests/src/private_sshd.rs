//! The private sshd lets in whom it should, and nobody else, and is gone afterwards.

use std::path::Path;

use crate::harness::{
    ssh::Stage,
    sshd::{Sshd, make_key},
};

#[test]
fn a_private_sshd_serves_logins_and_leaves_nothing_behind() {
    if let Some(reason) = Sshd::unavailable() {
        eprintln!("skipped: {reason}");
        return;
    }
    let server = Sshd::start();
    let user = server.user().clone();
    let name = format!("{}\n", user.name);

    // The audit ids that PAM gives to a login, on a kernel with auditing.
    let by_key = server.by_key("id -un; cat /proc/self/loginuid").succeeded();
    assert_eq!(by_key.stdout, format!("{name}{}", user.uid));
    assert_eq!(server.by_password("id -un").succeeded().stdout, name);
    assert!(!server.with_wrong_password().status.success());
    assert!(!server.as_unknown("a \"b\" from 9.9.9.9 port 1").status.success());
    let other = server.directory().join("other_key");
    make_key(&other);
    assert!(!server.with_key(&other).status.success());
    let shown = server.in_terminal(&["tty", "echo a-$((1 + 1))"]).succeeded().stdout;
    assert!(shown.contains("/dev/pts/") && shown.contains("a-2"), "{shown}");

    let mut session = server.open();
    assert_eq!(session.run("id -un"), name);
    assert_eq!(server.connections().len(), 1);
    session.log_out();
    for stage in [Stage::Connected, Stage::Greeted, Stage::OtherProtocol] {
        server.leave_at(stage);
    }
    server.wait_until_idle();

    let mut left_open = server.open();
    left_open.run("sleep 1000 &");
    let (pid, directory) = (server.pid(), server.directory().to_path_buf());
    drop(server);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(!directory.exists());
    let users = std::fs::read_to_string("/etc/passwd").expect("the machine has users");
    assert!(!users.contains(&user.name));
}
