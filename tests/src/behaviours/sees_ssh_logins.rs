//! SSH logins with a real sshd: who came in, from where, how, and every process under them.

use rustix::process::Signal;
use serde_json::Value;

use super::{Behaviour, no_sshd};
use crate::harness::{
    agent::{Agent, action, is_exec_of, text},
    ssh::Stage,
    sshd::Sshd,
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour {
        name: "a login by key names user, source and key, and owns its processes",
        unavailable: no_sshd,
        run: key,
    },
    Behaviour { name: "a login by password says so", unavailable: no_sshd, run: password },
    Behaviour {
        name: "an interactive session holds all that is typed, and closes",
        unavailable: no_sshd,
        run: terminal,
    },
    Behaviour { name: "refused passwords and unknown users are failed logins", unavailable: no_sshd, run: refused },
    Behaviour { name: "a login that access.allow covers is no alert", unavailable: no_sshd, run: allowed },
    Behaviour {
        name: "the access policy is reloaded as a whole or not at all, and open sessions stay",
        unavailable: no_sshd,
        run: reloaded,
    },
    Behaviour {
        name: "a session that no rule allows is ended where that is asked for, and no other",
        unavailable: no_sshd,
        run: terminated,
    },
    Behaviour { name: "clients that go early open no session", unavailable: no_sshd, run: early },
    Behaviour { name: "a session that was open before the agent is known", unavailable: no_sshd, run: open_before },
    Behaviour { name: "a user made while the agent runs has a name", unavailable: no_sshd, run: new_user },
];

fn opened_by(user: &str) -> impl Fn(&Value) -> bool {
    move |event| {
        action(event) == "session-opened" && text(event, "/event/kind") == "event" && text(event, "/user/name") == user
    }
}

fn key() {
    let server = Sshd::start();
    let mut agent = Agent::start();
    let user = server.user().clone();
    server.by_key("/bin/echo first-command; /bin/echo second-command").succeeded();
    let opened = agent.wait_for("the session", opened_by(&user.name));
    assert_eq!(text(&opened, "/event/outcome"), "success");
    assert_eq!(text(&opened, "/source/ip"), "127.0.0.1");
    assert!(opened["source"]["port"].as_u64().expect("a port") > 0);
    assert_eq!(text(&opened, "/postern/login/method"), "publickey");
    assert_eq!(text(&opened, "/postern/login/key/fingerprint"), user.fingerprint);
    assert_eq!(text(&opened, "/postern/login/key/type"), "ED25519");
    assert_eq!(text(&opened, "/postern/enrichment"), "complete");
    let session = text(&opened, "/postern/session/id").to_owned();
    assert!(!session.is_empty());

    let alert =
        agent.wait_for("the alert", |event| text(event, "/event/kind") == "alert" && action(event) == "session-opened");
    assert_eq!(text(&alert, "/rule/id"), "postern-access-not-allowed");

    // The session's first process is the login shell that runs the command.
    let first = agent.wait_for("the first process", |event| {
        action(event) == "exec" && text(event, "/postern/session/id") == session && is_exec_of(event, "first-command; ")
    });
    let leader = text(&first, "/process/entry_leader/entity_id").to_owned();
    assert_eq!(leader, text(&first, "/process/entity_id"));
    for command in ["first-command", "second-command"] {
        let event =
            agent.wait_for(command, |event| is_exec_of(event, command) && text(event, "/process/name") == "echo");
        assert_eq!(text(&event, "/process/entry_leader/entry_meta/type"), "sshd");
        assert_eq!(text(&event, "/process/entry_leader/entry_meta/source/ip"), "127.0.0.1");
        assert_eq!(text(&event, "/process/entry_leader/entity_id"), leader);
        assert_eq!(text(&event, "/postern/session/id"), session);
        assert_eq!(text(&event, "/postern/session/user"), user.name);
        assert_eq!(event["postern"]["session"]["allowed"], false);
    }
    let closed = agent.wait_for("the logout", |event| action(event) == "session-closed");
    assert_eq!(text(&closed, "/postern/session/id"), session);
    assert!(closed["event"]["duration"].as_u64().expect("a duration") > 0);
    agent.stop();
}

fn password() {
    let server = Sshd::start();
    let mut agent = Agent::start();
    let user = server.user().clone();
    server.by_password("true").succeeded();
    let opened = agent.wait_for("the session", opened_by(&user.name));
    assert_eq!(text(&opened, "/postern/login/method"), "password");
    assert_eq!(text(&opened, "/postern/login/key/fingerprint"), "");
    agent.stop();
}

fn terminal() {
    let server = Sshd::start();
    let mut agent = Agent::start();
    server
        .in_terminal(&[
            "/bin/echo typed-one",
            "(setsid nohup /bin/sh -c '/bin/echo detached-one' &)",
            "/bin/true typed-two",
        ])
        .succeeded();
    let typed = agent.wait_for("the command", |event| is_exec_of(event, "typed-one"));
    assert_eq!(typed["process"]["interactive"], true);
    assert_eq!(typed["process"]["tty"]["char_device"]["major"], 136);
    let session = text(&typed, "/postern/session/id").to_owned();
    assert!(!session.is_empty());
    for command in ["detached-one", "typed-two"] {
        let event =
            agent.wait_for(command, |event| is_exec_of(event, command) && text(event, "/process/name") != "nohup");
        assert_eq!(text(&event, "/postern/session/id"), session, "{event}");
    }
    agent.wait_for("the logout", |event| {
        action(event) == "session-closed" && text(event, "/postern/session/id") == session
    });
    agent.stop();
}

fn refused() {
    let server = Sshd::start();
    let mut agent = Agent::start();
    let user = server.user().clone();
    server.with_wrong_password();
    let failed = agent.wait_for("the refused password", |event| {
        action(event) == "login-failed" && text(event, "/user/name") == user.name
    });
    assert_eq!(text(&failed, "/event/outcome"), "failure");
    assert_eq!(text(&failed, "/source/ip"), "127.0.0.1");
    assert_eq!(text(&failed, "/postern/login/method"), "password");
    assert_eq!(text(&failed, "/event/reason"), "PAM_AUTH_ERR");

    let name = "a \"b\" from 9.9.9.9 port 1";
    server.as_unknown(name);
    let unknown = agent.wait_for("the unknown user", |event| {
        action(event) == "login-failed" && text(event, "/user/name") != user.name
    });
    assert_eq!(text(&unknown, "/user/name"), name);
    assert_eq!(text(&unknown, "/source/ip"), "127.0.0.1");
    assert_eq!(unknown["postern"]["login"]["user_known"], false);
    let stopped = agent.stop();
    assert!(stopped.events.iter().all(|event| action(event) != "session-opened"));
    let failures = stopped.events.iter().filter(|event| action(event) == "login-failed").count();
    assert_eq!(failures, 2, "each attempt once");
}

fn allowed() {
    let server = Sshd::start();
    let user = server.user().clone();
    let allow = format!(
        "access: {{allow: [{{door: sshd, users: [{}], keys: ['{}'], from: [127.0.0.0/8]}}]}}",
        user.name, user.fingerprint
    );
    let mut agent = Agent::start_with(&allow);
    server.by_key("true").succeeded();
    let by_key = agent.wait_for("the session", opened_by(&user.name));
    assert_eq!(by_key["postern"]["session"]["allowed"], true);
    // The same person by password is not covered.
    server.by_password("true").succeeded();
    let alert = agent.wait_for("the alert", |event| text(event, "/event/kind") == "alert");
    assert_eq!(text(&alert, "/postern/login/method"), "password");
    let stopped = agent.stop();
    assert_eq!(stopped.events.iter().filter(|event| text(event, "/event/kind") == "alert").count(), 1);
}

fn terminated() {
    let server = Sshd::start();
    let user = server.user().clone();
    let access =
        format!("access: {{on_violation: terminate, allow: [{{door: sshd, keys: ['{}']}}]}}", user.fingerprint);
    let mut agent = Agent::start_with(&access);
    let evidence = server.directory().join("home/was-here");
    let command = format!("touch {}", evidence.display());
    for _ in 0..5 {
        let outcome = server.by_password(&command);
        assert!(!outcome.status.success(), "the session was not ended");
        assert!(!evidence.exists(), "a command ran before the session was ended");
    }
    let ended = agent.wait_for("the termination", |event| action(event) == "session-terminated");
    assert_eq!(text(&ended, "/event/outcome"), "success");
    assert_eq!(ended["postern"]["session"]["allowed"], false);
    server.by_key(&command).succeeded();
    assert!(evidence.exists());
    server.wait_until_idle();
    let stopped = agent.stop();
    let count = |wanted: &str| stopped.events.iter().filter(|event| action(event) == wanted).count();
    // With each alert, the event comes twice.
    assert_eq!((count("session-opened"), count("session-closed")), (11, 6));
    let wrong = stopped
        .events
        .iter()
        .filter(|event| action(event) == "session-terminated" && event["postern"]["session"]["allowed"] != false);
    assert_eq!(wrong.count(), 0);
}

fn reloaded() {
    let server = Sshd::start();
    let user = server.user().clone();
    let mut agent = Agent::start();
    let mut session = server.open();
    agent
        .wait_for("the first", |event| opened_by(&user.name)(event) && event["postern"]["session"]["allowed"] == false);
    let said = |agent: &mut Agent, part: &str| {
        agent.wait_for(part, |event| action(event) == "agent-changed" && text(event, "/message").contains(part));
    };
    agent.configure("access: {allow: [{door: nowhere}]}");
    agent.signal(Signal::HUP);
    said(&mut agent, "1 problems and stays as it was");
    agent.configure(&format!("access: {{allow: [{{door: sshd, users: ['{}']}}]}}", user.name));
    agent.signal(Signal::HUP);
    said(&mut agent, "was reloaded: 1 rules");
    server.by_key("true").succeeded();
    agent
        .wait_for("the second", |event| opened_by(&user.name)(event) && event["postern"]["session"]["allowed"] == true);
    session.run("/bin/echo still-the-first");
    let still = agent.wait_for("the first's command", |event| is_exec_of(event, "still-the-first"));
    assert_eq!(still["postern"]["session"]["allowed"], false);
    session.log_out();
    server.wait_until_idle();
    // Without a signal: the file alone.
    agent.configure("");
    said(&mut agent, "was reloaded: 0 rules");
    agent.stop();
}

fn early() {
    let server = Sshd::start();
    let agent = Agent::start();
    for stage in [Stage::Connected, Stage::Greeted, Stage::OtherProtocol] {
        server.leave_at(stage);
    }
    server.wait_until_idle();
    let stopped = agent.stop();
    assert!(stopped.events.iter().all(|event| !action(event).starts_with("session-")));
}

fn open_before() {
    let server = Sshd::start();
    let user = server.user().clone();
    let mut session = server.open();
    session.run("id -un");
    let mut agent = Agent::start();
    session.run("/bin/echo after-the-agent");
    let event = agent.wait_for("the command", |event| {
        is_exec_of(event, "after-the-agent") && text(event, "/process/name") == "echo"
    });
    assert_eq!(text(&event, "/process/entry_leader/entry_meta/type"), "sshd");
    assert_eq!(text(&event, "/postern/session/user"), user.name);
    assert_eq!(text(&event, "/postern/session/confidence"), "likely");
    session.log_out();
    agent.wait_for("the logout", |event| action(event) == "session-closed");
    agent.stop();
}

/// As cloud agents make one for whoever is about to come in.
fn new_user() {
    let mut agent = Agent::start();
    let server = Sshd::start();
    let user = server.user();
    server.by_key("/bin/echo of-a-new-user").succeeded();
    let is_echo = |event: &Value| is_exec_of(event, "of-a-new-user") && text(event, "/process/name") == "echo";
    let event = agent.wait_for("the command", is_echo);
    assert_eq!(text(&event, "/process/user/id"), user.uid.to_string());
    assert_eq!(text(&event, "/process/user/name"), user.name);
    agent.stop();
}
