//! What is lost is counted, exactly, and said on the stream.

use std::{fs, process::Command};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Behaviour, no_kernel, watches_containers::no_containerd};
use crate::harness::{
    agent::{Agent, DEADLINE, action, is_exec_of, tells_of, text, texts},
    containerd::{Containerd, IMAGE},
    program::until,
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour { name: "a ring that overflows loses nothing silently", unavailable: no_kernel, run: overflow },
    Behaviour {
        name: "what executed in a loss, and what ended in it, is found out",
        unavailable: no_containerd,
        run: stock,
    },
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

/// Has the agent lose all that happens in `during`.
fn lose(agent: &mut Agent, during: impl FnOnce()) {
    let pid = Pid::from_raw(agent.pid() as i32).expect("a pid");
    kill_process(pid, Signal::STOP).expect("stopped");
    let storm = format!("i=0; while [ $i -lt {COUNT} ]; do /bin/true; i=$((i+1)); done");
    assert!(Command::new("/bin/sh").args(["-c", &storm]).status().expect("a shell").success());
    during();
    kill_process(pid, Signal::CONT).expect("continued");
    agent.wait_for("the loss", |event| action(event) == "events-lost");
}

/// A container's own process that executed in a loss goes on after it: nobody has come in.
fn stock() {
    const LATER: &str = "read line < /second; /bin/echo it-is-known; :";
    let containerd = Containerd::start();
    let settings =
        format!("probe: {{ring_bytes: 64KiB}}\ncontainers: {{endpoint: '{}'}}", containerd.socket().display());
    let mut agent = Agent::start_with(&settings);
    let script =
        format!("/bin/busybox mkfifo /first /second; read line < /first; /bin/sh -c '{LATER}'; exec /bin/sleep 1000");
    containerd.run_image(IMAGE, "busy", &[], &["/bin/sh", "-c", &script]);
    let started = agent.wait_for("the start", |event| tells_of(event, "container-started"));
    let mut sleeper = Command::new("/bin/sleep").arg("1000").spawn().expect("sleep");
    let pid = sleeper.id();
    agent.wait_for("the sleeper", |event| tells_of(event, "exec") && event["process"]["pid"] == pid);
    let say = |to: &str| fs::write(format!("/proc/{}/root/{to}", started["process"]["pid"]), "\n").expect("it is read");
    lose(&mut agent, || {
        say("first");
        until("the container goes on", DEADLINE, || {
            let all = fs::read_dir("/proc").expect("it is mounted").filter_map(|entry| Some(entry.ok()?.path()));
            let lines = all.filter_map(|path| fs::read_to_string(path.join("cmdline")).ok());
            lines.into_iter().any(|line| line == format!("/bin/sh\0-c\0{LATER}\0")).then_some(())
        });
        sleeper.kill().expect("it runs");
        sleeper.wait().expect("it ends");
    });
    let found =
        agent.wait_for("what executed unseen", |event| texts(event, "/process/args") == ["/bin/sh", "-c", LATER]);
    assert_eq!(found["postern"]["process"]["seeded"], true);
    let ended = agent.wait_for("what ended unseen", |event| tells_of(event, "end") && event["process"]["pid"] == pid);
    assert!(ended["process"]["exit_code"].is_null() && !text(&ended, "/event/reason").is_empty(), "{ended}");
    say("second");
    let late =
        agent.wait_for("what comes of it", |event| texts(event, "/process/args") == ["/bin/echo", "it-is-known"]);
    for event in [&found, &late] {
        assert_eq!(text(event, "/process/entry_leader/entity_id"), text(&started, "/process/entity_id"));
        assert_eq!(text(event, "/container/id"), "busy");
    }
    assert_eq!(text(&late, "/process/parent/entity_id"), text(&found, "/process/entity_id"));
    let stopped = agent.stop();
    assert!(!stopped.events.iter().any(|event| action(event) == "container-entered"));
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
    until("the figures", DEADLINE, || (figure(&agent, "postern_hook_received_total{hook=\"exec\"}") > 0).then_some(()));
    assert!(figure(&agent, "postern_events_total{kind=\"event\"}") > 0);
    assert!(figure(&agent, "postern_processes ") > 0);
    assert_eq!(agent.ask("/healthz").0, 200);
    assert_eq!(agent.ask("/readyz"), (200, "ok\n".to_owned()));
    agent.stop();
}
