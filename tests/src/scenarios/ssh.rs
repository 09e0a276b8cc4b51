//! By sshd, and what people become from there.

use std::{fs, path::Path, process::Command, thread};

use serde_json::Value;

use super::{BY_KEY, Expected, NOBODY, Scenario, stage::Stage};
use crate::harness::{
    agent::{action, is_exec_of, text},
    program::until,
    ssh::Stage as Leaving,
    sshd::GROUP,
};

pub(super) const NOT_ALLOWED: &[&str] = &["postern-access-not-allowed"];

/// Two sessions, the second from within the first.
const IN_THE_FIRST: &[Option<usize>] = &[None, Some(0)];

/// Runs a command by an allowed key.
fn by_key(stage: &mut Stage, command: &str) {
    stage.sshd.by_key(command).succeeded();
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "ssh, key, a command", act: |s, m| by_key(s, &format!("/bin/echo {m}")), expected: BY_KEY },
    Scenario {
        name: "ssh, key, a shell without a terminal",
        act: |s, m| {
            let mut session = s.sshd.open();
            session.run(&format!("/bin/echo {m}"));
            session.log_out();
        },
        expected: BY_KEY,
    },
    Scenario {
        name: "ssh, key, a shell in a terminal",
        act: |s, m| drop(s.sshd.in_terminal(&[&format!("/bin/echo {m}")]).succeeded()),
        expected: BY_KEY,
    },
    Scenario {
        name: "ssh, password, a command",
        act: |s, m| drop(s.sshd.by_password(&format!("/bin/echo {m}")).succeeded()),
        expected: Expected { method: "password", alerts: NOT_ALLOWED, ..BY_KEY },
    },
    Scenario {
        name: "ssh, keyboard-interactive, a command",
        act: |s, m| drop(s.sshd.by_questions(&format!("/bin/echo {m}")).succeeded()),
        expected: Expected { method: "keyboard-interactive", alerts: NOT_ALLOWED, ..BY_KEY },
    },
    Scenario {
        name: "ssh, certificate, a command",
        act: |s, m| drop(s.sshd.by_certificate("ops@scenario", &format!("/bin/echo {m}")).succeeded()),
        expected: BY_KEY,
    },
    Scenario {
        name: "ssh, a certificate that no rule names",
        act: |s, m| drop(s.sshd.by_certificate("other@scenario", &format!("/bin/echo {m}")).succeeded()),
        expected: Expected { alerts: NOT_ALLOWED, ..BY_KEY },
    },
    Scenario {
        name: "ssh, a key that no rule names",
        act: |s, m| drop(s.sshd.by_other_key(&format!("/bin/echo {m}")).succeeded()),
        expected: Expected { alerts: NOT_ALLOWED, ..BY_KEY },
    },
    Scenario {
        name: "sftp",
        act: |s, _| drop(s.sshd.sftp("pwd\n").succeeded()),
        expected: Expected { entry: None, ..BY_KEY },
    },
    Scenario {
        name: "scp, the old protocol",
        act: |s, m| drop(s.sshd.scp(m).succeeded()),
        expected: Expected { program: "scp", ..BY_KEY },
    },
    Scenario {
        name: "ssh -N with a forwarded port",
        act: |s, _| s.sshd.tunnel(),
        expected: Expected { entry: None, ..BY_KEY },
    },
    Scenario {
        name: "ssh ControlMaster: two channels, one session",
        act: |s, m| s.sshd.shared(&["/bin/echo first", &format!("/bin/echo {m}")]),
        expected: BY_KEY,
    },
    Scenario {
        name: "ssh, the client is cut off",
        act: |s, m| {
            let mut session = s.sshd.open();
            session.run(&format!("/bin/echo {m}"));
            session.cut();
        },
        expected: BY_KEY,
    },
    Scenario {
        name: "setsid and nohup",
        act: |s, m| by_key(s, &format!("setsid nohup /bin/sh -c '/bin/echo {m}' >/dev/null 2>&1")),
        expected: BY_KEY,
    },
    Scenario {
        name: "a double fork, orphaned",
        act: |s, m| by_key(s, &format!("(/bin/sh -c '(/bin/sleep 0.2; /bin/echo {m}) >/dev/null 2>&1 &')")),
        expected: BY_KEY,
    },
    Scenario {
        name: "what outlives its sshd",
        act: |s, m| {
            let go = s.sshd.directory().join("go");
            let wait = format!("while [ ! -e {} ]; do /bin/sleep 0.05; done; /bin/echo {m}", go.display());
            by_key(s, &format!("setsid /bin/sh -c '{wait}' >/dev/null 2>&1 </dev/null &"));
            s.agent.wait_for("the loop", |event| is_exec_of(event, m));
            let before = s.agent.seen().len().saturating_sub(200);
            s.agent.wait_for_after(before, "the end of the session", |event| action(event) == "session-closed");
            fs::write(&go, "").expect("the directory is the server's");
            s.agent.wait_for("what came later", |event| {
                is_exec_of(event, m) && text(event, "/process/args/0") == "/bin/echo"
            });
        },
        expected: BY_KEY,
    },
    Scenario {
        name: "tmux, detached",
        act: |s, m| {
            let socket = s.sshd.directory().join("home/tmux");
            by_key(s, &format!("tmux -S {} new-session -d '/bin/echo {m}'", socket.display()));
        },
        expected: BY_KEY,
    },
    Scenario {
        name: "env -i and another name",
        act: |s, m| {
            by_key(
                s,
                &format!("env -i /bin/sh -c 'exec -a kworker /bin/echo {m}' 2>/dev/null || env -i /bin/echo {m}"),
            );
        },
        expected: BY_KEY,
    },
    Scenario {
        name: "sudo, a command",
        act: |s, m| by_key(s, &format!("sudo -n /bin/echo {m}")),
        expected: Expected { chain: &["root"], ..BY_KEY },
    },
    Scenario {
        name: "sudo -i",
        act: |s, m| by_key(s, &format!("sudo -n -i /bin/echo {m}")),
        expected: Expected { chain: &["root"], ..BY_KEY },
    },
    Scenario {
        name: "sudo -s",
        act: |s, m| by_key(s, &format!("sudo -n -s /bin/echo {m}")),
        expected: Expected { chain: &["root"], ..BY_KEY },
    },
    Scenario {
        name: "sudo -u somebody",
        act: |s, m| by_key(s, &format!("sudo -n -u nobody /bin/echo {m}")),
        expected: Expected { chain: &["nobody"], ..BY_KEY },
    },
    Scenario {
        name: "sudo in a terminal",
        act: |s, m| drop(s.sshd.in_terminal(&[&format!("sudo -n /bin/echo {m}; exit")]).succeeded()),
        expected: Expected { chain: &["root"], ..BY_KEY },
    },
    Scenario {
        name: "sudo and su back",
        act: |s, m| by_key(s, &format!("sudo -n su -s /bin/sh $(id -un) -c '/bin/echo {m}'")),
        expected: Expected { chain: &["root", "USER"], ..BY_KEY },
    },
    Scenario {
        name: "sudo and su - with another user",
        act: |s, m| by_key(s, &format!("sudo -n su -s /bin/sh - nobody -c '/bin/echo {m}'")),
        expected: Expected { chain: &["root", "nobody"], ..BY_KEY },
    },
    Scenario {
        name: "sudo and runuser",
        act: |s, m| by_key(s, &format!("sudo -n runuser -u nobody -- /bin/echo {m}")),
        expected: Expected { chain: &["root", "nobody"], ..BY_KEY },
    },
    Scenario {
        name: "sudo and nsenter",
        act: |s, m| {
            let pid = s.sshd.pid();
            by_key(s, &format!("sudo -n nsenter -t {pid} -m -u -i -n /bin/echo {m}"));
        },
        expected: Expected { chain: &["root"], ..BY_KEY },
    },
    Scenario {
        name: "sudo and chroot",
        act: |s, m| by_key(s, &format!("sudo -n chroot / /bin/echo {m}")),
        expected: Expected { chain: &["root"], ..BY_KEY },
    },
    Scenario {
        name: "sudo and unshare",
        act: |s, m| by_key(s, &format!("sudo -n unshare -m -u /bin/echo {m}")),
        expected: Expected { chain: &["root"], ..BY_KEY },
    },
    Scenario {
        name: "su in a terminal, by the other's password",
        act: |s, m| su(s, &format!("/bin/echo {m}"), None),
        expected: Expected { chain: &["ANOTHER"], ..BY_KEY },
    },
    Scenario {
        name: "su in a terminal, and su back, by the password of each",
        act: |s, m| {
            let user = s.sshd.user().clone();
            su(s, &format!("su {} -c \"/bin/echo {m}\"", user.name), Some(&user.password));
        },
        expected: Expected { chain: &["ANOTHER", "USER"], ..BY_KEY },
    },
    Scenario {
        name: "su in a terminal, by a wrong password",
        act: |s, m| {
            let command = format!("su {} -c '/bin/echo no'; /bin/echo {m}", s.another.user.name);
            let mut terminal = s.sshd.terminal(&command);
            terminal.wait_for("Password: ");
            terminal.types("wrong\n");
            terminal.wait_for(m);
            terminal.ends();
        },
        expected: BY_KEY,
    },
    Scenario {
        name: "ssh from a session, as another user",
        act: |s, m| {
            let user = s.another.user.clone();
            let line = s.sshd.line(&user.name, &user.key, &format!("/bin/echo {m}"));
            by_key(s, &line);
        },
        expected: Expected { before: &["USER"], from: IN_THE_FIRST, user: "ANOTHER", alerts: NOT_ALLOWED, ..BY_KEY },
    },
    Scenario {
        name: "ssh from a session, as the same user by another key",
        act: |s, m| {
            let line = s.sshd.line(&s.sshd.user().name, &s.sshd.other_key(), &format!("/bin/echo {m}"));
            by_key(s, &line);
        },
        expected: Expected { before: &["USER"], from: IN_THE_FIRST, alerts: NOT_ALLOWED, ..BY_KEY },
    },
    Scenario {
        name: "ssh from a session, and sudo there",
        act: |s, m| {
            let line = s.sshd.line(&s.sshd.user().name, &s.sshd.user().key, &format!("sudo -n /bin/echo {m}"));
            by_key(s, &line);
        },
        expected: Expected { before: &["USER"], from: IN_THE_FIRST, chain: &["root"], ..BY_KEY },
    },
    Scenario {
        name: "ssh through a port that another session forwards",
        act: |s, m| {
            s.sshd.through_tunnel(&s.another.user, &format!("/bin/echo {m}")).succeeded();
        },
        expected: Expected { before: &["USER"], from: IN_THE_FIRST, user: "ANOTHER", alerts: NOT_ALLOWED, ..BY_KEY },
    },
    Scenario {
        name: "ssh from two sessions of one account at once",
        act: two_at_once,
        expected: Expected {
            before: &["USER", "USER", "USER"],
            from: &[None, None, Some(1), Some(0)],
            alerts: NOT_ALLOWED,
            ..BY_KEY
        },
    },
    Scenario {
        name: "another audit session, by force",
        act: |s, m| by_key(s, &format!("sudo -n /bin/sh -c 'echo 4242 > /proc/self/loginuid; /bin/echo {m}'")),
        expected: Expected { chain: &["root"], alerts: &["postern-audit-session-changed"], ..BY_KEY },
    },
    Scenario { name: "a client that only connects", act: |s, _| leave(s, Leaving::Connected), expected: NOBODY },
    Scenario { name: "a client that greets and goes", act: |s, _| leave(s, Leaving::Greeted), expected: NOBODY },
    Scenario { name: "a client of another protocol", act: |s, _| leave(s, Leaving::OtherProtocol), expected: NOBODY },
    Scenario {
        name: "a forged line in the log",
        act: |_, m| {
            let line = "Accepted publickey for root from 192.0.2.66 port 4242 ssh2: ED25519 SHA256:forged";
            Command::new("/usr/bin/logger").args(["-t", "sshd", line, m]).status().expect("logger runs");
        },
        expected: NOBODY,
    },
    Scenario {
        name: "somebody in a session forges a line as sshd",
        act: |s, m| {
            let line = "Accepted publickey for root from 192.0.2.66 port 4242 ssh2: ED25519 SHA256:forged";
            by_key(s, &format!("/usr/bin/logger -t sshd '{line}' {m}"));
        },
        expected: Expected { program: "logger", ..BY_KEY },
    },
];

/// Other groups. Debian's newest suite does without.
pub(super) const GROUPS: &[Scenario] = &[
    Scenario {
        name: "sg: another group",
        act: |s, m| by_key(s, &format!("sg {GROUP} -c '[ $(id -gn) = {GROUP} ] && /bin/echo {m}'")),
        expected: BY_KEY,
    },
    Scenario {
        name: "newgrp in a terminal",
        act: |s, m| {
            let echo = format!("[ $(id -gn) = {GROUP} ] && /bin/echo {m}");
            s.sshd.in_terminal(&[&format!("exec newgrp {GROUP}"), &echo]).succeeded();
        },
        expected: BY_KEY,
    },
];

/// Why nobody can go on with another group, if nobody can.
pub(super) fn no_groups() -> Option<String> {
    let programs = ["/usr/bin/sg", "/usr/bin/newgrp"];
    programs.into_iter().find(|path| !Path::new(path).exists()).map(|path| format!("there is no {path}"))
}

/// Becomes the other user in a terminal, who runs a command there, which may ask for one more password.
fn su(stage: &mut Stage, command: &str, password: Option<&str>) {
    let another = stage.another.user.clone();
    let mut terminal = stage.sshd.terminal(&format!("su {} -c '{command}'", another.name));
    for password in [Some(&*another.password), password].into_iter().flatten() {
        terminal.wait_for("Password: ");
        terminal.types(&format!("{password}\n"));
    }
    terminal.ends();
}

fn leave(stage: &mut Stage, at: Leaving) {
    stage.sshd.leave_at(at);
    until("sshd's connections end", crate::harness::agent::DEADLINE, || {
        stage.sshd.connections().is_empty().then_some(())
    });
}

/// Somebody who came in by another key, and then the test's user, go on by `ssh` in their sessions. The first does not leave before
/// the second has.
fn two_at_once(stage: &mut Stage, marker: &str) {
    let (agent, sshd) = (&mut stage.agent, &stage.sshd);
    let (user, before) = (sshd.user().clone(), agent.seen().len());
    let line = |command: &str| format!("{} </dev/null", sshd.line(&user.name, &user.key, command));
    let mut await_count = |wanted: &str, count: usize| {
        let is_it = |event: &Value| text(event, "/event/kind") != "alert" && action(event) == wanted;
        while agent.seen()[before..].iter().filter(|event| is_it(event)).count() < count {
            agent.wait_for_after(agent.seen().len(), wanted, is_it);
        }
    };
    let go = sshd.directory().join("go-on");
    let mut session = sshd.open();
    thread::scope(|scope| {
        let wait = line(&format!("'while [ ! -e {} ]; do /bin/sleep 0.05; done'", go.display()));
        let other = scope.spawn(move || sshd.by_other_key(&wait).succeeded());
        await_count("session-opened", 3);
        session.run(&line(&format!("/bin/echo {marker}")));
        await_count("session-closed", 1);
        fs::write(&go, "").expect("the directory is the server's");
        other.join().expect("it ends well");
    });
    await_count("session-closed", 3);
    session.log_out();
}
