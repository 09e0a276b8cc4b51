//! A maintenance of the node, as its own object in the API server announces it: rules that hold while it is on, and its ticket
//! on what is done then.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Behaviour, no_sshd};
use crate::harness::{
    agent::{Agent, action, is_exec_of, text},
    api_server::{ApiServer, Fault, On},
    sshd::Sshd,
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour {
        name: "a rule for a maintenance holds while the node announces one, and its ticket is on every event",
        unavailable: no_sshd,
        run: announced,
    },
    Behaviour {
        name: "without permission to read the node there is no maintenance, and that is said once",
        unavailable: no_sshd,
        run: forbidden,
    },
];

const TICKET: &str = "postern.dev/maintenance-ticket";
const UNTIL: &str = "postern.dev/maintenance-until";

fn agent(server: &ApiServer, sshd: &Sshd) -> Agent {
    Agent::start_with(&format!(
        "node: {{name: node-1}}\nkubernetes: {{kubeconfig: '{}'}}\n\
         access: {{allow: [{{door: sshd, users: ['{}'], during: maintenance}}]}}",
        server.kubeconfig_path().display(),
        sshd.user().name,
    ))
}

fn announce(server: &ApiServer, ticket: &str, seconds: i64) -> String {
    let until = (Timestamp::now() + SignedDuration::from_secs(seconds)).to_string();
    server.annotate_node("node-1", &json!({ TICKET: ticket, UNTIL: until }));
    until
}

/// Logs in, runs a command, and yields the session's opening and the command.
fn log_in(agent: &mut Agent, sshd: &Sshd, marker: &str) -> [Value; 2] {
    let before = agent.seen().len();
    sshd.by_key(&format!("/bin/echo {marker}; :")).succeeded();
    let opened = agent.wait_for_after(before, "the session", |event| {
        action(event) == "session-opened" && text(event, "/event/kind") == "event"
    });
    [opened, echo(agent, marker)]
}

fn echo(agent: &mut Agent, marker: &str) -> Value {
    agent.wait_for("the command", |event| is_exec_of(event, marker) && text(event, "/process/name") == "echo")
}

fn assert_ticket(event: &Value, allowed: bool, ticket: &str) {
    assert_eq!(event["postern"]["session"]["allowed"], allowed, "{event}");
    assert_eq!(text(event, "/postern/maintenance/ticket"), ticket, "{event}");
}

fn wait_for(agent: &mut Agent, before: usize, wanted: &str) -> Value {
    agent.wait_for_after(before, wanted, |event| action(event) == wanted)
}

fn announced() {
    let (server, sshd) = (ApiServer::start([]), Sshd::start());
    let mut agent = agent(&server, &sshd);
    server.wait_for_node_watch(Duration::from_secs(20));
    let mut early = sshd.open();
    for event in log_in(&mut agent, &sshd, "before-it") {
        assert_ticket(&event, false, "");
    }
    announce(&server, "OPS-7", 3_600);
    wait_for(&mut agent, 0, "maintenance-begun");
    for event in log_in(&mut agent, &sshd, "during-it") {
        assert_ticket(&event, true, "OPS-7");
        assert!(text(&event, "/postern/maintenance/until").parse::<Timestamp>().is_ok_and(|it| it > Timestamp::now()));
    }
    // What was decided when it opened stays; the ticket is on what is done from now on.
    early.run("/bin/echo by-the-early");
    assert_ticket(&echo(&mut agent, "by-the-early"), false, "OPS-7");
    early.log_out();
    announce(&server, "OPS-8", 3_600);
    let changed = wait_for(&mut agent, 0, "maintenance-changed");
    assert_eq!(text(&changed, "/postern/maintenance/ticket"), "OPS-8");

    // Nonsense ends it, and is said by the annotation's name.
    server.annotate_node("node-1", &json!({ TICKET: "OPS-9", UNTIL: "when it is done \u{1b}[2J" }));
    let ended = wait_for(&mut agent, 0, "maintenance-ended");
    assert_eq!(text(&ended, "/postern/maintenance/ticket"), "OPS-8");
    agent.wait_for("the complaint", |event| {
        action(event) == "agent-changed" && text(event, "/message").contains(&format!("`{UNTIL}` is no time"))
    });
    for event in log_in(&mut agent, &sshd, "after-nonsense") {
        assert_ticket(&event, false, "");
    }
    // One that ends by itself.
    let before = agent.seen().len();
    announce(&server, "OPS-10", 2);
    wait_for(&mut agent, before, "maintenance-begun");
    wait_for(&mut agent, before, "maintenance-ended");
    for event in log_in(&mut agent, &sshd, "after-its-end") {
        assert_ticket(&event, false, "");
    }
    sshd.wait_until_idle();
    agent.stop();
}

fn forbidden() {
    let (server, sshd) = (ApiServer::start([]), Sshd::start());
    announce(&server, "OPS-7", 3_600);
    server.script_until_healed(On::Node, Fault::forbidden());
    let mut agent = agent(&server, &sshd);
    let is_said = |event: &Value| text(event, "/message").contains("may not list and watch nodes");
    agent.wait_for("the complaint", is_said);
    for event in log_in(&mut agent, &sshd, "without-permission") {
        assert_ticket(&event, false, "");
    }
    server.heal();
    wait_for(&mut agent, 0, "maintenance-begun");
    for event in log_in(&mut agent, &sshd, "with-permission") {
        assert_ticket(&event, true, "OPS-7");
    }
    sshd.wait_until_idle();
    let stopped = agent.stop();
    assert_eq!(stopped.events.iter().filter(|event| is_said(event)).count(), 1);
}
