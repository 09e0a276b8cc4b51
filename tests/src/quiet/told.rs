//! What the agent tells of a life in which nobody comes in, checked as it comes and not kept.

use std::{collections::HashMap, fmt};

use serde_json::Value;

use crate::harness::agent::{action, check_last, check_sequence, text, texts};

/// So many false alarms are shown whole.
const SHOWN_MAX: usize = 20;
/// What is told only where somebody came in, was refused, or was missed.
const OF_PEOPLE: [&str; 6] =
    ["session-opened", "session-closed", "login-failed", "user-changed", "container-escaped", "events-lost"];

/// What was told so far.
#[derive(Default)]
pub(super) struct Told {
    events: u64,
    partial: u64,
    alarms: u64,
    shown: Vec<String>,
    /// How often each sign of something ordinary was told: see [`Told::count`].
    signs: HashMap<String, u64>,
    last: Option<Value>,
}

impl Told {
    /// Takes the next event.
    pub(super) fn hear(&mut self, event: &Value) {
        check_sequence(event, self.events);
        self.events += 1;
        self.partial += u64::from(text(event, "/postern/enrichment") == "partial");
        if let Some(why) = alarm(event) {
            self.raise(format!("{why}: {event}"));
        }
        for sign in signs(event) {
            *self.signs.entry(sign).or_default() += 1;
        }
        self.last = Some(event.clone());
    }

    /// Checks what the agent said last: its accounts, in which nothing is missing.
    pub(super) fn finish(&mut self) {
        let last = self.last.take().expect("the agent said something");
        check_last(&last);
        for counters in last.pointer("/postern/counters").and_then(Value::as_array).into_iter().flatten() {
            let of = |name: &str| counters.get(name).and_then(Value::as_u64).expect("a figure");
            if of("lost") + of("rate_limited") > 0 {
                self.raise(format!("a loss: {counters}"));
            }
        }
    }

    fn raise(&mut self, alarm: String) {
        self.alarms += 1;
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(alarm);
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.alarms == 0
    }

    /// The first false alarms.
    pub(super) fn alarms(&self) -> impl Iterator<Item = &str> {
        self.shown.iter().map(String::as_str)
    }

    /// How often something was told: `probe` and `started quiet-job` for containers, `ENTRY MARKER` for what echoed a marker under
    /// an entry of that type.
    pub(super) fn count(&self, sign: &str) -> u64 {
        self.signs.get(sign).copied().unwrap_or(0)
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, partial, alarms, .. } = self;
        write!(f, "{events} events, {partial} of them partial, {alarms} false alarms")
    }
}

/// Why an event is a false alarm, if it is one.
fn alarm(event: &Value) -> Option<&'static str> {
    if text(event, "/event/kind") == "alert" {
        Some("an alert")
    } else if OF_PEOPLE.contains(&action(event)) {
        Some("told of a person or a loss")
    } else if event.pointer("/postern/session").is_some() {
        Some("under a session")
    } else if action(event) == "agent-changed" {
        Some("something is wrong with the agent")
    } else {
        None
    }
}

fn signs(event: &Value) -> Vec<String> {
    let entry = text(event, "/process/entry_leader/entry_meta/type");
    let args = texts(event, "/process/args");
    match (action(event), &*args) {
        ("container-entered", _) => vec![entry.to_owned()],
        ("container-started", [.., last]) if last.ends_with("# quiet-job") => vec!["started quiet-job".to_owned()],
        ("exec", ["/bin/echo", marker]) if marker.starts_with("quiet-") => vec![format!("{entry} {marker}")],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_looks_as_if_somebody_came_in_is_a_false_alarm() {
        for event in [
            json!({ "event": { "kind": "alert", "action": "exec" } }),
            json!({ "event": { "kind": "event", "action": "session-opened" } }),
            json!({ "event": { "kind": "event", "action": "login-failed" } }),
            json!({ "event": { "kind": "event", "action": "events-lost" } }),
            json!({ "event": { "kind": "event", "action": "exec" }, "postern": { "session": { "id": "1" } } }),
        ] {
            assert!(alarm(&event).is_some(), "{event}");
        }
        assert_eq!(alarm(&json!({ "event": { "kind": "event", "action": "exec" } })), None);
    }

    #[test]
    fn signs_are_counted_by_the_entry_that_they_came_by() {
        let mut told = Told::default();
        told.hear(&json!({
            "event": { "action": "exec", "sequence": 0 },
            "process": { "args": ["/bin/echo", "quiet-x"], "entry_leader": { "entry_meta": { "type": "cron" } } },
        }));
        assert_eq!((told.count("cron quiet-x"), told.count("init quiet-x")), (1, 0));
    }
}
