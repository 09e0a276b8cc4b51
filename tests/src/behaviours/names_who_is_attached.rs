//! tmux and screen that two people share: what is typed there belongs to whoever started it, and names the other as well.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use super::{Behaviour, no_sshd};
use crate::harness::{
    agent::{Agent, DEADLINE, action, is_exec_of, tells_of, text},
    program::run,
    sshd::Sshd,
    sudoers::Sudoers,
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour {
        name: "tmux, detached by one user and attached to by another through sudo: both are named",
        unavailable: no_tmux,
        run: tmux_by_sudo,
    },
    Behaviour {
        name: "screen, detached in one session and attached to in another: both are named",
        unavailable: no_screen,
        run: screen_reattached,
    },
    Behaviour {
        name: "a command that another user sends to a tmux server names both, and a look at it names nobody",
        unavailable: no_tmux,
        run: sent_keys,
    },
];

fn no(program: &str) -> Option<String> {
    no_sshd()
        .or_else(Sudoers::unavailable)
        .or_else(|| (!fs::exists(program).unwrap_or(false)).then(|| format!("there is no {program}")))
}

fn no_tmux() -> Option<String> {
    no("/usr/bin/tmux")
}

fn no_screen() -> Option<String> {
    no("/usr/bin/screen")
}

/// The id of the session that a user opened last.
fn opened(agent: &mut Agent, before: usize, user: &str) -> String {
    let is_it = |event: &Value| {
        action(event) == "session-opened" && text(event, "/event/kind") == "event" && text(event, "/user/name") == user
    };
    text(&agent.wait_for_after(before, "the session", is_it), "/postern/session/id").to_owned()
}

fn echo(agent: &mut Agent, marker: &str) -> Value {
    let is_it = |event: &Value| is_exec_of(event, marker) && text(event, "/process/name") == "echo";
    agent.wait_for("what was typed", is_it)
}

/// Holds an event against its owner's session, and the session that is named beside.
fn assert_named(event: &Value, owner: &str, other: Option<(&str, &str)>) {
    assert_eq!(text(event, "/postern/session/id"), owner, "{event}");
    let named: Vec<(&str, &str)> = event["postern"]["attached"]
        .as_array()
        .map(|list| list.iter().map(|it| (text(it, "/id"), text(it, "/user"))).collect())
        .unwrap_or_default();
    assert_eq!(named, Vec::from_iter(other), "{event}");
    if other.is_some() {
        assert_eq!(text(event, "/postern/attached/0/confidence"), "likely");
        assert!(text(event, "/postern/attached/0/link").contains("(pid "), "{event}");
    }
}

fn send(socket: &Path, command: &str) {
    let mut tmux = Command::new("/usr/bin/tmux");
    run(tmux.arg("-S").arg(socket).args(["send-keys", command, "Enter"]), b"", DEADLINE).succeeded();
}

fn tmux_by_sudo() {
    let (ann, bob) = (Sshd::start(), Sshd::start());
    let _sudoers = Sudoers::allow(&bob.user().name);
    let mut agent = Agent::start();
    let socket = ann.directory().join("home/socket");
    let mut session = ann.open();
    let of_ann = opened(&mut agent, 0, &ann.user().name);
    session.run(&format!("tmux -S {} new-session -d", socket.display()));
    send(&socket, "/bin/echo typed-before");
    assert_named(&echo(&mut agent, "typed-before"), &of_ann, None);
    session.log_out();
    agent.wait_for("the end of the session", |event| action(event) == "session-closed");

    let before = agent.seen().len();
    let mut terminal = bob.terminal(&format!("sudo -n env TERM=xterm tmux -S {} attach", socket.display()));
    let of_bob = opened(&mut agent, before, &bob.user().name);
    let attached = agent.wait_for("the attachment", |event| action(event) == "session-attached");
    assert_eq!(text(&attached, "/postern/session/id"), of_bob);
    assert_eq!(text(&attached, "/postern/attachment/session/id"), of_ann);
    assert_eq!(text(&attached, "/postern/attachment/session/user"), ann.user().name);
    assert_eq!(text(&attached, "/postern/attachment/program"), "tmux");
    // The shell's prompt is drawn: what is typed now arrives.
    terminal.wait_for("typed-before");
    terminal.types("/bin/echo typed-while\r");
    let typed = echo(&mut agent, "typed-while");
    assert_named(&typed, &of_ann, Some((&of_bob, &bob.user().name)));
    // The keys that detach.
    terminal.types("\x02d");
    agent.wait_for("the client's end", |event| {
        tells_of(event, "end") && text(event, "/process/entity_id") == text(&attached, "/process/entity_id")
    });
    send(&socket, "/bin/echo typed-behind");
    assert_named(&echo(&mut agent, "typed-behind"), &of_ann, None);
    drop(terminal);
    run(Command::new("/usr/bin/tmux").arg("-S").arg(&socket).arg("kill-server"), b"", DEADLINE).succeeded();
    ann.wait_until_idle();
    bob.wait_until_idle();
    agent.stop();
}

fn screen_reattached() {
    let server = Sshd::start();
    let user = server.user().clone();
    let mut agent = Agent::start();
    fs::create_dir_all("/run/screen").expect("this is root");
    let mut session = server.open();
    let first = opened(&mut agent, 0, &user.name);
    session.run("screen -dmS shared /bin/sh");
    session.log_out();
    agent.wait_for("the end of the session", |event| action(event) == "session-closed");
    let before = agent.seen().len();
    let mut terminal = server.terminal("TERM=xterm screen -x shared");
    let second = opened(&mut agent, before, &user.name);
    let attached = agent.wait_for("the attachment", |event| action(event) == "session-attached");
    assert_eq!(text(&attached, "/postern/session/id"), second);
    assert_eq!(text(&attached, "/postern/attachment/session/id"), first);
    terminal.wait_for("$");
    terminal.types("/bin/echo typed-in-screen\r");
    assert_named(&echo(&mut agent, "typed-in-screen"), &first, Some((&second, &user.name)));
    terminal.types("exit\r");
    terminal.ends();
    server.wait_until_idle();
    agent.stop();
}

fn sent_keys() {
    let (ann, bob) = (Sshd::start(), Sshd::start());
    let _sudoers = Sudoers::allow(&bob.user().name);
    let mut agent = Agent::start();
    let socket = ann.directory().join("home/socket");
    let mut session = ann.open();
    let of_ann = opened(&mut agent, 0, &ann.user().name);
    session.run(&format!("tmux -S {} new-session -d", socket.display()));
    let tmux = |arguments: &str| bob.by_key(&format!("sudo -n tmux -S {} {arguments}", socket.display())).succeeded();
    let before = agent.seen().len();
    tmux("list-sessions");
    opened(&mut agent, before, &bob.user().name);
    send(&socket, "/bin/echo typed-by-nobody");
    assert_named(&echo(&mut agent, "typed-by-nobody"), &of_ann, None);
    let before = agent.seen().len();
    tmux("send-keys '/bin/echo sent-by-bob' Enter");
    let of_bob = opened(&mut agent, before, &bob.user().name);
    assert_named(&echo(&mut agent, "sent-by-bob"), &of_ann, Some((&of_bob, &bob.user().name)));
    session.run(&format!("tmux -S {} kill-server", socket.display()));
    session.log_out();
    ann.wait_until_idle();
    bob.wait_until_idle();
    let stopped = agent.stop();
    assert!(stopped.events.iter().all(|event| action(event) != "session-attached"));
}
