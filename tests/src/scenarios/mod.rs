//! Access scenarios: people come in by a door, become others, and touch something. Of each the whole answer is known: by
//! which door, who, from where, as whom they went on, and which alerts there are. An answer is exact or wrong.

mod containers;
mod init;
mod other_doors;
mod ssh;
mod stage;

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
    /// The door of the one session that opens and closes; none where none may.
    door: Option<&'static str>,
    /// The entry type of what was executed last; none where nothing is executed.
    entry: Option<&'static str>,
    /// The name of what was executed last.
    program: &'static str,
    /// Who came in: `USER` stands for the test's user. Of a session that opened before, too.
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
    /// Users whose logins were refused.
    refused: &'static [&'static str],
}

/// An SSH login of the test's user by an allowed key, that executes something and does no more.
const BY_KEY: Expected = Expected {
    door: Some("sshd"),
    entry: Some("sshd"),
    program: "echo",
    user: "USER",
    remote: true,
    method: "publickey",
    chain: &[],
    confidence: "certain",
    alerts: &[],
    refused: &[],
};

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
    let all = [ssh::SCENARIOS, other_doors::SCENARIOS, containers::SCENARIOS].into_iter().flatten();
    let (no_init, no_terminal) = (init::unavailable(), other_doors::no_terminal());
    let all = all.map(|it| (it, no_terminal.as_ref().filter(|_| it.expected.door == Some("console"))));
    let all = all.chain(init::SCENARIOS.iter().map(|it| (it, no_init.as_ref())));
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
            self.barrier();
            return Err(vec![said.unwrap_or_else(|| "it cannot be played".to_owned())]);
        }
        let problems = scenario.expected.differences(&self.agent.seen()[before..], marker, &self.sshd.user().name);
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn await_end(&mut self, scenario: &Scenario, marker: &str, before: usize) {
        if scenario.expected.entry.is_some() {
            self.agent.wait_for("what was executed", |event| scenario.expected.is_last(event, marker));
        }
        if scenario.expected.door.is_some() {
            self.agent.wait_for_after(before, "the session's end", |event| action(event) == "session-closed");
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
    fn differences(&self, events: &[Value], marker: &str, user: &str) -> Vec<String> {
        let named = |name: &str| if name == "USER" { user.to_owned() } else { name.to_owned() };
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
        let refused = list(of("login-failed").collect(), "/user/name");
        check("refused", format!("{refused:?}"), format!("{:?}", all(self.refused)));
        let doors = list(of("session-opened").collect(), "/postern/session/door");
        check("doors", format!("{doors:?}"), format!("{:?}", self.door.iter().collect::<Vec<_>>()));
        let opened = of("session-opened").next();
        if let Some(opened) = opened {
            check("who", text(opened, "/user/name").to_owned(), named(self.user));
            check("method", text(opened, "/postern/login/method").to_owned(), self.method.to_owned());
            let remote = if self.remote { "127.0.0.1" } else { "" };
            check("address", text(opened, "/source/ip").to_owned(), remote.to_owned());
            let closed = list(of("session-closed").collect(), "/postern/session/id");
            check("closed", format!("{closed:?}"), format!("{:?}", [text(opened, "/postern/session/id")]));
        }
        if let Some(entry) = self.entry {
            let Some(last) = events.iter().rev().find(|event| self.is_last(event, marker)) else {
                return vec!["what was executed was not told".to_owned()];
            };
            check("entry", text(last, "/process/entry_leader/entry_meta/type").to_owned(), entry.to_owned());
            check("owner", text(last, "/postern/session/user").to_owned(), named(self.user));
            check("confidence", text(last, "/postern/session/confidence").to_owned(), self.confidence.to_owned());
            if let Some(opened) = opened {
                let ids = [last, opened].map(|event| text(event, "/postern/session/id"));
                check("session", ids[0].to_owned(), ids[1].to_owned());
            }
        }
        problems
    }
}
