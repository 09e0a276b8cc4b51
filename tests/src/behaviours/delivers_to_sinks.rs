//! Where events go, and what happens when they cannot: nothing is lost without a word, and nobody waits for anybody.

use std::{collections::HashSet, fs, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use super::{Behaviour, no_kernel};
use crate::harness::{
    agent::{Agent, DEADLINE, action, is_exec_of, text},
    fluentd::{FluentdServer, Options},
    program::{free_address, until},
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour { name: "events reach Fluentd and are acknowledged", unavailable: no_kernel, run: fluentd },
    Behaviour {
        name: "a chunk that Fluentd does not acknowledge is sent again under its id",
        unavailable: no_kernel,
        run: again,
    },
    Behaviour { name: "Fluentd over TLS with a shared key and a user", unavailable: no_kernel, run: secured },
    Behaviour {
        name: "a Fluentd with another key gets nothing, and it is said",
        unavailable: no_kernel,
        run: wrong_key,
    },
    Behaviour {
        name: "a sink that is down holds nobody up and gets everything later",
        unavailable: no_kernel,
        run: down,
    },
    Behaviour { name: "a sink's queue that overflows says how much it lost", unavailable: no_kernel, run: overflow },
    Behaviour { name: "a file is rotated and every line is whole", unavailable: no_kernel, run: file },
];

fn marked(count: usize, mark: &str) {
    for number in 0..count {
        Command::new("/bin/true").arg(format!("{mark}-{number}")).status().expect("true");
    }
}

fn ids<'a>(events: impl IntoIterator<Item = &'a Value>) -> HashSet<String> {
    events.into_iter().map(|event| text(event, "/event/id").to_owned()).collect()
}

fn sink(server: &FluentdServer, more: &str) -> String {
    format!(
        "sinks:\n- {{type: stdout, format: json}}\n- {{type: fluentd, address: 'tcp://127.0.0.1:{}', ack_timeout: 2s{more}}}",
        server.port()
    )
}

/// Stops the agent, and checks that the server has every event of the stream.
fn check_all_arrived(agent: Agent, server: &FluentdServer) {
    let stopped = agent.stop();
    let records = server.records();
    assert_eq!(ids(&records), ids(&stopped.events));
    assert_eq!(records.len(), stopped.events.len(), "each once, where each was acknowledged");
}

fn fluentd() {
    let server = FluentdServer::start(Options::default());
    let mut agent = Agent::start_with(&sink(&server, ", tag: node.events"));
    marked(20, "to-fluentd");
    agent.wait_for("the exec", |event| is_exec_of(event, "to-fluentd-19"));
    until("it to arrive", DEADLINE, || server.records().iter().any(|it| is_exec_of(it, "to-fluentd-19")).then_some(()));
    assert!(server.chunks().iter().all(|chunk| chunk.tag == "node.events"));
    check_all_arrived(agent, &server);
}

fn again() {
    let faults = Options { unacknowledged: 2, misacknowledged: 1, garbled: 1, ..Options::default() };
    let server = FluentdServer::start(faults);
    let mut agent = Agent::start_with(&sink(&server, ""));
    marked(3, "sent-again");
    agent.wait_for("the exec", |event| is_exec_of(event, "sent-again-2"));
    until("it to arrive", DEADLINE, || server.records().iter().any(|it| is_exec_of(it, "sent-again-2")).then_some(()));
    let chunks = server.chunks();
    assert!(chunks[..5].iter().all(|chunk| chunk.id == chunks[0].id), "the same chunk until it is acknowledged");
    assert_eq!(chunks.iter().filter(|chunk| !chunk.acknowledged).count(), 4);
    check_all_arrived(agent, &server);
}

fn secured() {
    let server = FluentdServer::start(Options {
        tls: true,
        shared_key: Some("a shared key".into()),
        user: Some(("postern".into(), "a password".into())),
        ..Options::default()
    });
    let configuration = format!(
        "sinks:\n- {{type: stdout, format: json}}\n- {{type: fluentd, address: 'tls://localhost:{}', ca_file: '{}', \
         shared_key: a shared key, username: postern, password: a password}}",
        server.port(),
        server.ca_file().display()
    );
    let mut agent = Agent::start_with(&configuration);
    marked(3, "over-tls");
    agent.wait_for("the exec", |event| is_exec_of(event, "over-tls-2"));
    until("it to arrive", DEADLINE, || server.records().iter().any(|it| is_exec_of(it, "over-tls-2")).then_some(()));
    check_all_arrived(agent, &server);
}

fn wrong_key() {
    let server = FluentdServer::start(Options { shared_key: Some("theirs".into()), ..Options::default() });
    let settings = format!("{}\nshutdown: {{deadline: 3s}}", sink(&server, ", shared_key: ours"));
    let mut agent = Agent::start_with(&settings);
    marked(1, "kept-back");
    agent.wait_for("the exec", |event| is_exec_of(event, "kept-back"));
    until("a refusal", DEADLINE, || (server.refused() > 0).then_some(()));
    let (_, metrics) = agent.ask("/metrics");
    assert!(metrics.contains("postern_sink_up{sink=\"fluentd-2\"} 0"), "{metrics}");
    let stopped = agent.stop();
    assert!(server.chunks().is_empty());
    assert!(stopped.log.contains("it refused the handshake"), "{}", stopped.log);
    assert!(stopped.log.contains("events were not delivered before the deadline"), "{}", stopped.log);
}

fn down() {
    let port = free_address().port();
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("events.json");
    let configuration = format!(
        "sinks:\n- {{type: stdout, format: json}}\n- {{type: file, path: '{}'}}\n\
         - {{type: fluentd, address: 'tcp://127.0.0.1:{port}'}}",
        file.display()
    );
    let mut agent = Agent::start_with(&configuration);
    marked(50, "while-down");
    agent.wait_for("the exec", |event| is_exec_of(event, "while-down-49"));
    until("the file", DEADLINE, || {
        fs::read_to_string(&file).is_ok_and(|it| it.contains("while-down-49")).then_some(())
    });
    let server = FluentdServer::start_at(port, Options::default());
    until("it to arrive", DEADLINE, || server.records().iter().any(|it| is_exec_of(it, "while-down-49")).then_some(()));
    check_all_arrived(agent, &server);
}

fn overflow() {
    let port = free_address().port();
    let configuration = format!(
        "sinks:\n- {{type: stdout, format: json}}\n\
         - {{type: fluentd, name: narrow, address: 'tcp://127.0.0.1:{port}', queue_size: 1MiB}}\n\
         shutdown: {{deadline: 3s}}"
    );
    let mut agent = Agent::start_with(&configuration);
    marked(2_000, "too-many");
    let lost = agent
        .wait_for("the loss", |event| action(event) == "events-lost" && text(event, "/postern/loss/sink") == "narrow");
    assert!(lost["postern"]["loss"]["count"].as_u64().expect("a count") > 0);
    let (_, metrics) = agent.ask("/metrics");
    let dropped = metrics
        .lines()
        .find_map(|line| line.strip_prefix("postern_sink_dropped_events_total{sink=\"narrow\"} "))
        .and_then(|value| value.parse::<u64>().ok());
    assert!(dropped.is_some_and(|dropped| dropped > 0), "{metrics}");
    agent.stop();
}

fn file() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("events.json");
    let configuration = format!(
        "sinks:\n- {{type: stdout, format: json}}\n- {{type: file, path: '{}', max_size: 64KiB, keep: 100}}",
        path.display()
    );
    let mut agent = Agent::start_with(&configuration);
    marked(100, "to-a-file");
    agent.wait_for("the exec", |event| is_exec_of(event, "to-a-file-99"));
    let stopped = agent.stop();
    let mut files: Vec<_> = fs::read_dir(folder.path()).expect("files").map(|it| it.expect("a file").path()).collect();
    files.sort();
    assert!(files.len() > 2, "{files:?}");
    let lines = files.iter().flat_map(|file| {
        let text = fs::read_to_string(file).expect("text");
        assert!(text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a whole line")).collect::<Vec<_>>()
    });
    assert_eq!(ids(&lines.collect::<Vec<_>>()), ids(&stopped.events));
}
