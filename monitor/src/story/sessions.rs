//! Access sessions, put together from their events.

use std::{collections::BTreeSet, io::BufRead, net::IpAddr};

use ipnet::IpNet;
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::seen::{LINE_BYTES, Named, Other, Seen};
use crate::event::Timestamp;

/// An access session as its events tell it.
#[derive(Clone, Debug, Serialize)]
pub struct StorySession {
    /// Its id.
    pub id: String,
    /// By which door.
    pub door: String,
    /// Who came in; empty where nobody on the node can know.
    pub user: String,
    /// From which address.
    pub ip: Option<IpAddr>,
    /// From which port.
    pub port: Option<u16>,
    /// How the user proved to be who they say.
    pub method: String,
    /// With which key.
    pub key: String,
    /// Whether a rule allows it.
    pub allowed: bool,
    /// How sure the attribution is.
    pub confidence: String,
    /// The session that it was come to in; its id is empty where it was none on this node.
    pub from: Other,
    /// The pod and container that it entered as its door.
    pub place: String,
    /// When it opened; the first event that is known where its opening is not.
    pub opened: Timestamp,
    /// When it closed.
    pub closed: Option<Timestamp>,
    /// Programs executed.
    pub commands: u64,
    /// Alerts raised.
    pub alerts: u64,
    /// Users that its processes became.
    pub users: BTreeSet<String>,
    /// Pods and containers that its processes were in.
    pub containers: BTreeSet<String>,
    /// Files of the node that its processes changed, as far as they were told.
    pub files: BTreeSet<String>,
    /// Tickets of the maintenances during which it did something.
    pub tickets: BTreeSet<String>,
}

/// A session with all its events, in their order.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    /// What they come to.
    pub session: StorySession,
    /// The events.
    pub events: Vec<Seen>,
}

/// Which sessions are of interest: those that match all that is set.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The user who came in.
    pub user: Option<String>,
    /// The network that they came from.
    pub from: Option<IpNet>,
    /// The door.
    pub door: Option<String>,
    /// A pod, as `NAMESPACE/NAME`, that they were in.
    pub pod: Option<String>,
    /// Those that were open after this.
    pub since: Option<Timestamp>,
    /// Whether they are open still.
    pub open: Option<bool>,
    /// Those that no rule allows.
    pub not_allowed: bool,
}

/// What lines come to.
#[derive(Debug, Default)]
pub struct Collected {
    /// Sessions, the one that opened first before the others.
    pub stories: Vec<Story>,
    /// Lines that are no events.
    pub skipped: u64,
}

impl Filter {
    /// Whether a session is of interest.
    pub fn takes(&self, session: &StorySession) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let in_pod = |pod: &String| {
            let within = |place: &String| place.strip_prefix(&**pod).is_some_and(|rest| rest.starts_with('/'));
            within(&session.place) || session.containers.iter().any(within)
        };
        is(&self.user, &session.user)
            && is(&self.door, &session.door)
            && self.from.is_none_or(|net| session.ip.is_some_and(|ip| net.contains(&ip)))
            && self.pod.as_ref().is_none_or(in_pod)
            && self.since.is_none_or(|since| session.closed.is_none_or(|closed| closed >= since))
            && self.open.is_none_or(|open| open == session.closed.is_none())
            && !(self.not_allowed && session.allowed)
    }
}

/// Puts sessions together. The error is that of reading.
pub fn collect(mut lines: impl BufRead) -> std::io::Result<Collected> {
    let mut stories: FxHashMap<String, Story> = FxHashMap::default();
    let mut skipped = 0;
    let mut line = Vec::new();
    while next_line(&mut lines, &mut line)? {
        match Seen::parse(&line) {
            None => skipped += 1,
            Some(seen) if seen.postern.session.id.is_empty() => {}
            Some(seen) => {
                // Whoever reads one of the two is to know of the other.
                for other in seen.others() {
                    if let Some(story) = stories.get_mut(&other.id) {
                        story.events.push(seen.clone());
                    }
                }
                let id = seen.postern.session.id.clone();
                let story = stories.entry(id).or_insert_with(|| Story { session: first(&seen), events: Vec::new() });
                note(&mut story.session, &seen);
                story.events.push(seen);
            }
        }
    }
    let mut stories: Vec<Story> = stories.into_values().collect();
    stories.sort_by(|a, b| (a.session.opened, &a.session.id).cmp(&(b.session.opened, &b.session.id)));
    Ok(Collected { stories, skipped })
}

/// Reads a line without its end; returns whether there was one. Of one that is too long, the end is left out.
pub(crate) fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let buffer = lines.fill_buf()?;
        if buffer.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        let room = (LINE_BYTES + 1).saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = end.map_or(buffer.len(), |end| end + 1);
        lines.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

fn first(seen: &Seen) -> StorySession {
    let session = &seen.postern.session;
    StorySession {
        id: session.id.clone(),
        door: session.door.clone(),
        user: session.user.clone(),
        ip: None,
        port: None,
        method: String::new(),
        key: String::new(),
        allowed: session.allowed,
        confidence: session.confidence.clone(),
        from: session.from.clone(),
        place: String::new(),
        opened: seen.time,
        closed: None,
        commands: 0,
        alerts: 0,
        users: BTreeSet::new(),
        containers: BTreeSet::new(),
        files: BTreeSet::new(),
        tickets: BTreeSet::new(),
    }
}

fn note(session: &mut StorySession, seen: &Seen) {
    let place = seen.place();
    if !place.is_empty() {
        session.containers.insert(place.clone());
    }
    if !seen.postern.maintenance.ticket.is_empty() {
        session.tickets.insert(seen.postern.maintenance.ticket.clone());
    }
    if seen.is_alert() {
        session.alerts += 1;
        return;
    }
    match seen.event.action.first() {
        "session-opened" => {
            session.opened = seen.time;
            session.ip = seen.source.ip.parse().ok();
            session.port = Some(seen.source.port).filter(|port| *port != 0);
            session.method.clone_from(&seen.postern.login.method);
            session.key.clone_from(&seen.postern.login.key.fingerprint);
            session.confidence.clone_from(&seen.postern.session.confidence);
            session.place = place;
        }
        "session-closed" => session.closed = Some(seen.time),
        "exec" => session.commands += 1,
        "user-changed" => {
            let Named { id, name } = &seen.user.effective;
            session.users.insert(if name.is_empty() { id } else { name }.clone());
        }
        action if action.starts_with("file-") => {
            let path = if seen.file.path.is_empty() { &seen.file.name } else { &seen.file.path };
            session.files.insert(path.clone());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::encode::{Encoder, samples};

    fn lines() -> Vec<u8> {
        let mut encoder = Encoder::new(samples::node());
        let mut lines = Vec::new();
        for event in samples::all() {
            encoder.encode(&event, &mut lines);
            lines.push(b'\n');
        }
        lines
    }

    #[test]
    fn events_come_to_sessions_and_other_lines_are_counted() {
        let mut lines = lines();
        lines.extend_from_slice(b"{}\nno event\n\n");
        lines.extend(std::iter::repeat_n(b'x', LINE_BYTES + 5));
        let Collected { stories, skipped } = collect(&*lines).expect("read");
        assert_eq!(skipped, 4);
        let story = stories.iter().find(|story| story.session.user == "ops" && story.session.closed.is_some());
        let session = &story.expect("the one that closed").session;
        assert_eq!((&*session.door, session.ip), ("sshd", Some([192, 0, 2, 7].into())));
        assert!(session.commands > 0 && session.users.contains("root"), "{session:?}");
    }

    #[test]
    fn what_concerns_two_sessions_is_in_the_story_of_both_and_counted_in_its_own() {
        let event = |action: &str, id: &str, more: &str| {
            format!(
                r#"{{"@timestamp":"2026-11-24T00:00:00Z","event":{{"kind":"event","action":"{action}"}},"message":"{action}","process":{{"command_line":"id"}},"postern":{{"session":{{"id":"{id}","user":"{id}"}}{more}}}}}"#
            )
        };
        let lines = [
            event("session-opened", "ann", ""),
            event("session-opened", "bob", ""),
            event("session-attached", "bob", r#","attachment":{"session":{"id":"ann"}}"#),
            event("exec", "ann", r#","attached":[{"id":"bob","user":"bob"},{"id":"unknown"}]"#),
        ];
        let Collected { stories, .. } = collect(lines.join("\n").as_bytes()).expect("read");
        let of = |id: &str| stories.iter().find(|it| it.session.id == id).expect("it is there");
        let actions = |id: &str| of(id).events.iter().map(|it| it.event.action.first().to_owned()).collect::<Vec<_>>();
        assert_eq!(stories.len(), 2);
        assert_eq!(actions("ann"), ["session-opened", "session-attached", "exec"]);
        assert_eq!(actions("bob"), ["session-opened", "session-attached", "exec"]);
        assert_eq!((of("ann").session.commands, of("bob").session.commands), (1, 0));
        let mut told = [String::new(), String::new()];
        for (id, out) in ["ann", "bob"].into_iter().zip(&mut told) {
            crate::story::tree::write(of(id), crate::story::tree::Style::default(), out).expect("written");
        }
        assert!(
            told[0].contains("id  [or typed by bob and others]") && told[1].contains("id  [in session ann of ann]"),
            "{told:?}"
        );
    }

    #[test]
    fn who_comes_in_from_another_session_is_said_in_the_story_of_both() {
        let event = |action: &str, id: &str, more: &str| {
            format!(
                r#"{{"@timestamp":"2026-11-24T00:00:00Z","event":{{"kind":"event","action":"{action}"}},"message":"{action} {id}","process":{{"command_line":"id"}},"postern":{{"session":{{"id":"{id}","user":"{id}"{more}}}}}}}"#
            )
        };
        let from = r#","from":{"id":"ann","user":"ann","link":"ssh (pid 7) has the connection"}"#;
        let lines =
            [event("session-opened", "ann", ""), event("session-opened", "root", from), event("exec", "root", from)];
        let Collected { stories, .. } = collect(lines.join("\n").as_bytes()).expect("read");
        let told = |id: &str| {
            let story = stories.iter().find(|it| it.session.id == id).expect("it is there");
            let mut out = String::new();
            crate::story::tree::write(story, crate::story::tree::Style::default(), &mut out).expect("written");
            out
        };
        assert!(
            told("root").contains("root by , in session ann of ann (ssh (pid 7) has the connection)"),
            "{}",
            told("root")
        );
        let ann = told("ann");
        assert!(
            ann.contains("-- session-opened root") && !ann.contains(" id"),
            "what is done there is not done here: {ann}"
        );
    }

    #[test]
    fn filters_take_what_matches_all_of_them() {
        let Collected { stories, .. } = collect(&*lines()).expect("read");
        let session = stories.iter().map(|it| &it.session).find(|it| it.closed.is_some()).expect("one");
        let filter = Filter {
            user: Some("ops".into()),
            from: "192.0.2.0/24".parse().ok(),
            door: Some("sshd".into()),
            open: Some(false),
            since: session.closed,
            ..Filter::default()
        };
        assert!(filter.takes(session) && Filter::default().takes(session));
        for other in [
            Filter { user: Some("root".into()), ..filter.clone() },
            Filter { from: "198.51.100.0/24".parse().ok(), ..filter.clone() },
            Filter { door: Some("console".into()), ..filter.clone() },
            Filter { open: Some(true), ..filter.clone() },
            Filter {
                since: session.closed.and_then(|it| it.checked_add(jiff::SignedDuration::from_secs(1)).ok()),
                ..filter.clone()
            },
            Filter { pod: Some("nowhere/none".into()), ..filter.clone() },
        ] {
            assert!(!other.takes(session), "{other:?}");
        }
    }
}
