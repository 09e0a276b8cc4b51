//! Access scenarios: people come in by a door, become others, and touch something. Of each the whole answer is known: by
//! which door, who, from where, as whom they went on, and which alerts there are. An answer is exact or wrong.

mod containers;
mod crictl;
mod docker;
mod engines;
mod init;
mod nerdctl;
mod other_doors;
mod refused;
mod ssh;
mod stage;
mod teleport;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde_json::Value;

use self::stage::Stage;
use crate::harness::agent::{action, is_exec_of, text};

/// Something that people do, and what must be told of it.
struct Scenario {
    /// What is done.
    name: &'static str,
    /// Does it. What it executes last is [`Expected::program`] with the text in its arguments, if it executes anything.
    act: fn(&mut Stage, &str),
    expected: Expected,
}

/// What must be told.
#[derive(Clone, Copy)]
struct Expected {
    /// The door of the session that opens last; none where none may.
    door: Option<&'static str>,
    /// Whose sessions, by an allowed key at sshd, open before that one: it is come to from there.
    before: &'static [&'static str],
    /// Of each session that opens, which one it was come to in, by its place among them; empty where none was in another one.
    from: &'static [Option<usize>],
    /// The entry type of what was executed last; none where nothing is executed.
    entry: Option<&'static str>,
    /// The name of what was executed last.
    program: &'static str,
    /// Who came in: `USER` stands for the test's user, `ANOTHER` for the other one. Of a session that opened before, too.
    user: &'static str,
    /// Whether they came from the loopback's address.
    remote: bool,
    /// How they proved to be who they say.
    method: &'static str,
    /// As whom they went on, one after the other.
    chain: &'static [&'static str],
    /// How sure the attribution of what was executed last is.
    confidence: &'static str,
    /// Rules that fire, one after the other.
    alerts: &'static [&'static str],
    /// The doors at which logins were refused, and of whom.
    refused: &'static [(&'static str, &'static str)],
    /// The names of the files that the session says it changed, where that is what it is about.
    files: Option<&'static [&'static str]>,
}

/// An SSH login of the test's user by an allowed key, that executes something and does no more.
const BY_KEY: Expected = Expected {
    door: Some("sshd"),
    before: &[],
    from: &[],
    entry: Some("sshd"),
    program: "echo",
    user: "USER",
    remote: true,
    method: "publickey",
    chain: &[],
    confidence: "certain",
    alerts: &[],
    refused: &[],
    files: None,
};

/// Only the shape of what an SSH server does tells that somebody came in, and the environment from where.
const BY_SHAPE: Expected =
    Expected { method: "", confidence: "likely", alerts: &["postern-access-not-allowed"], ..BY_KEY };

/// Nobody comes in.
const NOBODY: Expected =
    Expected { door: None, entry: None, user: "", remote: false, method: "", confidence: "", ..BY_KEY };

/// Why no scenario can be played here, if none can.
pub fn unavailable() -> Option<String> {
    Stage::unavailable().or_else(other_doors::unavailable)
}

/// How many answers were exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    exact: usize,
    played: usize,
    skipped: usize,
}

impl Score {
    /// Whether all were, and there were some.
    pub fn is_perfect(&self) -> bool {
        self.played > 0 && self.exact == self.played
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exact, played, skipped } = self;
        write!(f, "{exact} of {played} access scenarios are exact")?;
        if *skipped > 0 { write!(f, ", {skipped} cannot be played here") } else { Ok(()) }
    }
}

/// Plays them before one agent, and says which answers were exact: all, or those whose name contains one of the parts.
pub fn play(parts: &[String], mut say: impl FnMut(&str)) -> Score {
    let is_wanted = |it: &Scenario| parts.is_empty() || parts.iter().any(|part| it.name.contains(&**part));
    let all = [ssh::SCENARIOS, refused::SCENARIOS, other_doors::SCENARIOS, containers::SCENARIOS].into_iter().flatten();
    let (no_groups, no_init) = (ssh::no_groups(), init::unavailable());
    let (no_docker, no_crictl) = (docker::unavailable(), crictl::unavailable());
    let (no_nerdctl, no_teleport) = (nerdctl::unavailable(), teleport::unavailable());
    let all = all.map(|it| (it, None)).chain(ssh::GROUPS.iter().map(|it| (it, no_groups.as_ref())));
    let all = all.chain(init::SCENARIOS.iter().map(|it| (it, no_init.as_ref())));
    let all = all.chain(docker::SCENARIOS.iter().map(|it| (it, no_docker.as_ref())));
    let all = all.chain(crictl::SCENARIOS.iter().map(|it| (it, no_crictl.as_ref())));
    let all = all.chain(nerdctl::SCENARIOS.iter().map(|it| (it, no_nerdctl.as_ref())));
    let all = all.chain(teleport::SCENARIOS.iter().map(|it| (it, no_teleport.as_ref())));
    let mut score = Score::default();
    let mut stage = Stage::set();
    for (number, (scenario, unavailable)) in all.filter(|(it, _)| is_wanted(it)).enumerate() {
        if let Some(reason) = unavailable {
            score.skipped += 1;
            say(&format!("unplayed {}: {reason}", scenario.name));
            continue;
        }
        score.played += 1;
        match stage.play(scenario, &format!("scenario{number:03}")) {
            Ok(()) => {
                score.exact += 1;
                say(&format!("exact {}", scenario.name));
            }
            Err(problems) => say(&format!("WRONG {}: {}", scenario.name, problems.join("; "))),
        }
    }
    stage.strike();
    score
}

impl Stage {
    /// Plays one, and compares what was told with what must be.
    fn play(&mut self, scenario: &Scenario, marker: &str) -> Result<(), Vec<String>> {
        let before = self.agent.seen().len();
        // A wrong answer to one scenario says nothing of the next.
        let played = catch_unwind(AssertUnwindSafe(|| {
            (scenario.act)(self, marker);
            self.await_end(scenario, marker, before);
        }));
        if let Err(panic) = played {
            let said = panic.downcast_ref::<String>().cloned();
            self.settle(before);
            return Err(vec![said.unwrap_or_else(|| "it cannot be played".to_owned())]);
        }
        let problems = scenario.expected.differences(&self.agent.seen()[before..], marker, &self.names());
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Waits for the end of every session that has opened since, whatever was expected.
    fn settle(&mut self, before: usize) {
        self.barrier();
        let count = |stage: &Self, wanted: &str| {
            let events = stage.agent.seen()[before..].iter();
            events.filter(|event| text(event, "/event/kind") != "alert" && action(event) == wanted).count()
        };
        while count(self, "session-closed") < count(self, "session-opened") {
            let so_far = self.agent.seen().len();
            self.agent.wait_for_after(so_far, "a session's end", |event| action(event) == "session-closed");
        }
    }

    fn await_end(&mut self, scenario: &Scenario, marker: &str, before: usize) {
        if scenario.expected.entry.is_some() {
            self.agent.wait_for("what was executed", |event| scenario.expected.is_last(event, marker));
        }
        let is_end = |event: &Value| action(event) == "session-closed";
        let sessions = scenario.expected.before.len() + usize::from(scenario.expected.door.is_some());
        while self.agent.seen()[before..].iter().filter(|event| is_end(event)).count() < sessions {
            self.agent.wait_for_after(self.agent.seen().len(), "a session's end", is_end);
        }
        self.barrier();
    }
}

impl Expected {
    fn is_last(&self, event: &Value, marker: &str) -> bool {
        // The name that it was given: in a container it is one of many of one program.
        is_exec_of(event, marker) && text(event, "/process/args/0").rsplit('/').next() == Some(self.program)
    }

    /// What was told otherwise.
    fn differences(&self, events: &[Value], marker: &str, names: &[(&str, String)]) -> Vec<String> {
        let named = |name: &str| {
            let stands_for = names.iter().find(|(placeholder, _)| *placeholder == name);
            stands_for.map_or_else(|| name.to_owned(), |(_, name)| name.clone())
        };
        let all = |names: &[&str]| names.iter().map(|name| named(name)).collect::<Vec<_>>();
        let is_plain = |event: &&Value| text(event, "/event/kind") != "alert";
        let of = |wanted: &'static str| events.iter().filter(is_plain).filter(move |event| action(event) == wanted);
        let list = |found: Vec<&Value>, pointer: &str| {
            found.into_iter().map(|event| text(event, pointer).to_owned()).collect::<Vec<_>>()
        };
        let mut problems = Vec::new();
        let mut check = |what: &str, found: String, expected: String| {
            if found != expected {
                problems.push(format!("{what}: {found} and not {expected}"));
            }
        };
        let alerts = events.iter().filter(|event| text(event, "/event/kind") == "alert").collect();
        check("alerts", format!("{:?}", list(alerts, "/rule/id")), format!("{:?}", self.alerts));
        let chain = list(of("user-changed").collect(), "/user/effective/name");
        check("chain", format!("{chain:?}"), format!("{:?}", all(self.chain)));
        let expected: Vec<_> = self.refused.iter().map(|(door, user)| (*door, named(user))).collect();
        check("refused", format!("{:?}", refused(of("login-failed"))), format!("{expected:?}"));
        let doors = list(of("session-opened").collect(), "/postern/session/door");
        let expected: Vec<_> = self.before.iter().map(|_| "sshd").chain(self.door).collect();
        check("doors", format!("{doors:?}"), format!("{expected:?}"));
        let before: Vec<&Value> = of("session-opened").take(self.before.len()).collect();
        check("who before", format!("{:?}", list(before, "/user/name")), format!("{:?}", all(self.before)));
        let ids = list(of("session-opened").collect(), "/postern/session/id");
        let from = list(of("session-opened").collect(), "/postern/session/from/id");
        let expected = ids.iter().enumerate().map(|(at, _)| self.from.get(at).copied().flatten());
        let expected = expected.map(|at| at.map_or_else(String::new, |at| ids.get(at).cloned().unwrap_or_default()));
        check("from", format!("{from:?}"), format!("{:?}", expected.collect::<Vec<_>>()));
        let sure = list(of("session-opened").collect(), "/postern/session/from/confidence");
        let expected: Vec<_> = from.iter().map(|from| if from.is_empty() { "" } else { "linked" }).collect();
        check("how sure that is", format!("{sure:?}"), format!("{expected:?}"));
        let opened = of("session-opened").next_back();
        if let Some(opened) = opened {
            check("who", text(opened, "/user/name").to_owned(), named(self.user));
            check("method", text(opened, "/postern/login/method").to_owned(), self.method.to_owned());
            let remote = if self.remote { "127.0.0.1" } else { "" };
            check("address", text(opened, "/source/ip").to_owned(), remote.to_owned());
            // A server that somebody has left may take longer to end the session than the one that they go on to leave.
            let [mut closed, mut opened] = [list(of("session-closed").collect(), "/postern/session/id"), ids];
            closed.sort();
            opened.sort();
            check("closed", format!("{closed:?}"), format!("{opened:?}"));
        }
        if let Some(files) = self.files {
            let of_session = |event: &&Value| {
                action(event).starts_with("file-")
                    && opened.is_some_and(|opened| same(event, opened, "/postern/session/id"))
            };
            let told = list(events.iter().filter(of_session).collect(), "/file/name");
            check("files", format!("{told:?}"), format!("{files:?}"));
        }
        if let Some(entry) = self.entry {
            let Some(last) = events.iter().rev().find(|event| self.is_last(event, marker)) else {
                return vec!["what was executed was not told".to_owned()];
            };
            check("entry", text(last, "/process/entry_leader/entry_meta/type").to_owned(), entry.to_owned());
            check("owner", text(last, "/postern/session/user").to_owned(), named(self.user));
            check("confidence", text(last, "/postern/session/confidence").to_owned(), self.confidence.to_owned());
            if let Some(opened) = opened {
                for pointer in ["/postern/session/id", "/postern/session/from/id"] {
                    check(pointer, text(last, pointer).to_owned(), text(opened, pointer).to_owned());
                }
            }
        }
        problems
    }
}

fn same(one: &Value, other: &Value, pointer: &str) -> bool {
    text(one, pointer) == text(other, pointer)
}

/// Door and user of each series of refused logins. An event that says that there are more by now is the same series still; one
/// that says nothing new is one too many.
fn refused<'a>(events: impl Iterator<Item = &'a Value>) -> Vec<(&'a str, &'a str)> {
    let attempts = |event: &Value| event.pointer("/postern/login/attempts").and_then(Value::as_u64);
    let mut series: Vec<&Value> = Vec::new();
    for event in events {
        let is_of = |it: &&mut &Value| same(it, event, "/user/name") && same(it, event, "/postern/login/door");
        match series.iter_mut().find(is_of) {
            Some(earlier) if attempts(event) > attempts(earlier) => *earlier = event,
            _ => series.push(event),
        }
    }
    series.into_iter().map(|event| (text(event, "/postern/login/door"), text(event, "/user/name"))).collect()
}
