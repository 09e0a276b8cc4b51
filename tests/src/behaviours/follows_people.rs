//! Who came in, and everything they did: all access scenarios, before one agent; and who goes on from one session to another.

use std::thread;

use serde_json::Value;

use super::Behaviour;
use crate::{
    harness::{
        agent::{Agent, action, is_exec_of, text},
        sshd::Sshd,
    },
    scenarios,
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour {
        name: "every access scenario has the door, the owner, the chain and the alerts that it must have",
        unavailable: || super::no_kernel().or_else(scenarios::unavailable),
        run: all,
    },
    Behaviour {
        name: "of two people who go on by ssh at the same moment, each is known by their own connection",
        unavailable: super::no_sshd,
        run: at_the_same_moment,
    },
];

#[expect(clippy::print_stdout, reason = "each scenario is a line of the report")]
fn all() {
    let score = scenarios::play(&[], |line| println!("  {line}"));
    println!("  {score}");
    assert!(score.is_perfect(), "{score}");
}

fn at_the_same_moment() {
    /// How often they do.
    const ROUNDS: usize = 8;
    let sshd = Sshd::start();
    let user = sshd.user().clone();
    // Made, and put where the user may read it, before anybody is in.
    let _ = sshd.other_key();
    let line = |marker: &str| sshd.line(&user.name, &user.key, &format!("/bin/echo {marker}"));
    let _ = line("");
    let mut agent = Agent::start();
    for round in 0..ROUNDS {
        let markers = [format!("one-{round}."), format!("other-{round}.")];
        thread::scope(|scope| {
            scope.spawn(|| sshd.by_key(&line(&markers[0])).succeeded());
            scope.spawn(|| sshd.by_other_key(&line(&markers[1])).succeeded());
        });
        for marker in &markers {
            let mut executed = |program: &str| {
                // The test's own client is in no session.
                let is_in = |event: &Value| !text(event, "/postern/session/id").is_empty();
                let is_it = |event: &Value| is_exec_of(event, marker) && text(event, "/process/name") == program;
                agent.wait_for("what was typed", |event| is_in(event) && is_it(event))
            };
            let (client, echo) = (executed("ssh"), executed("echo"));
            let from = |pointer: &str| text(&echo, &format!("/postern/session/from/{pointer}")).to_owned();
            assert_eq!(from("id"), text(&client, "/postern/session/id"), "{echo}");
            assert_ne!(text(&echo, "/postern/session/id"), text(&client, "/postern/session/id"));
            assert_eq!((&*from("user"), &*from("door"), &*from("confidence")), (&*user.name, "sshd", "linked"));
            assert!(from("link").starts_with("ssh (pid "), "{echo}");
            // It is known from the first event on.
            let id = text(&echo, "/postern/session/id").to_owned();
            let opened = |event: &Value| action(event) == "session-opened" && text(event, "/postern/session/id") == id;
            assert_eq!(text(&agent.wait_for("its opening", opened), "/postern/session/from/id"), from("id"));
        }
    }
    agent.stop();
}
