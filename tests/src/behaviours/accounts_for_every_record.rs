//! What is lost is counted, exactly, and said on the stream.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Behaviour, no_kernel};
use crate::harness::agent::{Agent, action, is_exec_of, text};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour { name: "a ring that overflows loses nothing silently", unavailable: no_kernel, run: overflow },
    Behaviour { name: "metrics show each hook's account", unavailable: no_kernel, run: metrics },
];

const COUNT: u64 = 3_000;

/// The smallest ring, and an agent that is stopped meanwhile: most of what happens cannot be kept.
fn overflow() {
    let mut agent = Agent::start_with("probe: {ring_bytes: 64KiB}");
    let pid = Pid::from_raw(agent.pid() as i32).expect("a pid");
    kill_process(pid, Signal::STOP).expect("stopped");
    let script = format!("i=0; while [ $i -lt {COUNT} ]; do /bin/true overflow-$i; i=$((i+1)); done");
    assert!(Command::new("/bin/sh").args(["-c", &script]).status().expect("a shell").success());
    kill_process(pid, Signal::CONT).expect("continued");
    agent.wait_for("the loss", |event| action(event) == "events-lost");
    let stopped = agent.stop();
    let last = stopped.events.last().expect("an event");
    let hooks = last["postern"]["counters"].as_array().expect("figures");
    let lost: u64 = hooks.iter().map(|hook| hook["lost"].as_u64().expect("a figure")).sum();
    let said: u64 = stopped
        .events
        .iter()
        .filter(|event| action(event) == "events-lost")
        .map(|event| event["postern"]["loss"]["count"].as_u64().expect("a count"))
        .sum();
    assert_eq!(said, lost);
    let lost_execs =
        hooks.iter().find(|hook| text(hook, "/hook") == "exec").map_or(0, |hook| hook["lost"].as_u64().unwrap_or(0));
    let seen = stopped.events.iter().filter(|event| is_exec_of(event, "overflow-") && is_true(event)).count() as u64;
    // The shell's own exec, and whatever else the machine did, may be among the lost.
    assert!(seen < COUNT && lost_execs >= COUNT - seen, "seen {seen}, lost {lost_execs}");
}

fn is_true(event: &Value) -> bool {
    text(event, "/process/name") == "true"
}

fn metrics() {
    let mut agent = Agent::start();
    Command::new("/bin/true").arg("for-the-metrics").status().expect("true");
    agent.wait_for("the exec", |event| is_exec_of(event, "for-the-metrics"));
    let figure = |agent: &Agent, name: &str| -> u64 {
        let (status, body) = agent.ask("/metrics");
        assert_eq!(status, 200);
        let line =
            body.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in\n{body}"));
        line.trim().parse().expect("a number")
    };
    crate::harness::program::until("the figures", crate::harness::agent::DEADLINE, || {
        (figure(&agent, "postern_hook_received_total{hook=\"exec\"}") > 0).then_some(())
    });
    assert!(figure(&agent, "postern_events_total{kind=\"event\"}") > 0);
    assert!(figure(&agent, "postern_processes ") > 0);
    assert_eq!(agent.ask("/healthz").0, 200);
    assert_eq!(agent.ask("/readyz"), (200, "ok\n".to_owned()));
    agent.stop();
}
