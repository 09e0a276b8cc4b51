//! A session as a tree of processes, with times: what a person reads.

use std::fmt::{self, Write};

use jiff::tz::TimeZone;
use rustc_hash::FxHashMap;

use super::{Seen, Story, StorySession};
use crate::{
    event::{Timestamp, called},
    sink::encode::Foreign,
};

/// How deep a branch is drawn; what is deeper stands there as if it were not.
const DEPTH_MAX: usize = 32;

/// Whether lines have colours.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// ANSI escapes of our own; none of foreign origin gets through.
    pub colour: bool,
    /// Columns of the terminal, beyond which a line is cut.
    pub width: Option<usize>,
}

#[derive(Default)]
struct Node<'a> {
    lines: Vec<(Timestamp, Text<'a>)>,
    children: Vec<usize>,
    ended: Option<i64>,
}

enum Text<'a> {
    Command(&'a Seen),
    Note(&'a Seen),
}

/// Writes a session's story.
pub fn write(story: &Story, style: Style, out: &mut String) -> fmt::Result {
    head(&story.session, out)?;
    let (nodes, roots) = grow(&story.events);
    let mut zone = Clock::default();
    // Not recursive: whoever made the processes chose how deep they are.
    let mut open: Vec<(usize, String, bool)> = Vec::new();
    let push = |open: &mut Vec<_>, children: &[usize], indent: &str, is_root: bool| {
        for (at, &child) in children.iter().enumerate().rev() {
            let is_last = at + 1 == children.len();
            open.push((child, indent.to_owned(), is_last && !is_root));
        }
    };
    push(&mut open, &roots, "", true);
    while let Some((at, indent, is_last)) = open.pop() {
        let Some(node) = nodes.get(at) else { continue };
        let is_root = roots.contains(&at);
        let (branch, below) = match (is_root, is_last) {
            (true, _) => ("", ""),
            (false, true) => ("└─ ", "   "),
            (false, false) => ("├─ ", "│  "),
        };
        let deep = indent.chars().count() >= 3 * DEPTH_MAX;
        let next = if deep { indent.clone() } else { format!("{indent}{below}") };
        for (number, (time, text)) in node.lines.iter().enumerate() {
            let start = match (number, deep) {
                (0, false) => format!("{indent}{branch}"),
                _ => next.clone(),
            };
            let ended = node.ended.filter(|_| number + 1 == node.lines.len());
            line(&zone.show(*time), &start, text, &remark(&story.session, text, ended), style, out)?;
        }
        push(&mut open, &node.children, &next, false);
    }
    Ok(())
}

fn head(session: &StorySession, out: &mut String) -> fmt::Result {
    write!(out, "session {}: {} by {}", Foreign(&session.id), Foreign(called(&session.user)), Foreign(&session.door))?;
    if !session.place.is_empty() {
        write!(out, " to {}", Foreign(&session.place))?;
    }
    if let Some(ip) = session.ip {
        write!(out, " from {}", ip.to_canonical())?;
    }
    if let Some(port) = session.port {
        write!(out, " port {port}")?;
    }
    for text in [&session.method, &session.key] {
        if !text.is_empty() {
            write!(out, " {}", Foreign(text))?;
        }
    }
    let StorySession { from, .. } = session;
    if !from.id.is_empty() {
        write!(out, ", in session {} of {} ({})", Foreign(&from.id), Foreign(called(&from.user)), Foreign(&from.link))?;
    }
    writeln!(out, "{}", if session.allowed { "" } else { ", which no rule allows" })?;
    write!(out, "opened {}, ", day(session.opened))?;
    match session.closed {
        Some(closed) => write!(out, "closed {}", day(closed))?,
        None => out.push_str("still open"),
    }
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    let StorySession { commands, alerts, .. } = *session;
    write!(out, "; {commands} command{}, {alerts} alert{}", plural(commands), plural(alerts))?;
    for (what, list) in
        [("became", &session.users), ("was in", &session.containers), ("during maintenance", &session.tickets)]
    {
        if !list.is_empty() {
            let names: Vec<String> = list.iter().map(|name| Foreign(name).to_string()).collect();
            write!(out, "; {what} {}", names.join(", "))?;
        }
    }
    match session.files.len() {
        0 => {}
        files => write!(out, "; changed {files} file{}", plural(files as u64))?,
    }
    out.push_str("\n\n");
    Ok(())
}

fn day(time: Timestamp) -> impl fmt::Display {
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%SZ")
}

/// A node for each process, and those that hang from no other.
fn grow(events: &[Seen]) -> (Vec<Node<'_>>, Vec<usize>) {
    let mut nodes: Vec<Node<'_>> = Vec::new();
    let mut roots = Vec::new();
    let mut by_process: FxHashMap<&str, usize> = FxHashMap::default();
    for seen in events {
        let process = &seen.process;
        // What is about the session as a whole stands by itself.
        let own = matches!(seen.event.action.first(), "session-opened" | "session-closed");
        let known = by_process.get(&*process.entity_id).copied().filter(|_| !own);
        let at = known.unwrap_or_else(|| {
            let at = nodes.len();
            nodes.push(Node::default());
            let parent = by_process.get(&*process.parent.entity_id).filter(|_| !own);
            match parent.and_then(|&parent| nodes.get_mut(parent)) {
                Some(parent) => parent.children.push(at),
                None => roots.push(at),
            }
            if !own && !process.entity_id.is_empty() {
                by_process.insert(&process.entity_id, at);
            }
            at
        });
        let Some(node) = nodes.get_mut(at) else { continue };
        if seen.event.action.has("end") {
            node.ended = process.exit_code;
        }
        match seen.event.action.first() {
            "end" => {}
            "exec" if !seen.is_alert() => node.lines.push((seen.time, Text::Command(seen))),
            _ => node.lines.push((seen.time, Text::Note(seen))),
        }
    }
    (nodes, roots)
}

/// The time of day, with the date where it changes.
#[derive(Default)]
struct Clock(Option<jiff::civil::Date>);

impl Clock {
    fn show(&mut self, time: Timestamp) -> String {
        let time = time.to_zoned(TimeZone::UTC);
        let same = self.0.replace(time.date()) == Some(time.date());
        let format = if same { "           %H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        time.strftime(format).to_string()
    }
}

/// What stands behind a line: whose it is or may be, where that is not plain, and how it ended.
fn remark(session: &StorySession, text: &Text<'_>, ended: Option<i64>) -> String {
    let mut remark = String::new();
    if let Text::Command(seen) = text {
        let own = &seen.postern.session;
        if own.id != session.id {
            // Writing to a String cannot fail, here and below.
            let _ = write!(remark, "  [in session {} of {}]", Foreign(&own.id), Foreign(&own.user));
        } else if let Some(other) = seen.postern.attached.first() {
            let more = seen.postern.attached.len() - 1;
            let _ =
                write!(remark, "  [or typed by {}{}]", Foreign(&other.user), if more > 0 { " and others" } else { "" });
        }
    }
    if let Some(code) = ended.filter(|code| *code != 0) {
        let _ = write!(remark, "  [exit {code}]");
    }
    remark
}

fn line(time: &str, start: &str, text: &Text<'_>, exit: &str, style: Style, out: &mut String) -> fmt::Result {
    let (mark, words, colour) = match text {
        Text::Command(seen) => {
            let command = &seen.process.command_line;
            let command = if command.is_empty() { &seen.process.executable } else { command };
            ("", Foreign(command).to_string(), "")
        }
        Text::Note(seen) => {
            let message = if seen.message.is_empty() { seen.event.action.first() } else { &seen.message };
            let (mark, colour) = if seen.is_alert() { ("!! ", "\x1b[1;31m") } else { ("-- ", "\x1b[33m") };
            (mark, Foreign(message).to_string(), colour)
        }
    };
    let head = format!("{time} {start}{mark}");
    let room = style.width.map(|width| width.saturating_sub(head.chars().count() + exit.chars().count()));
    let words = cut(&words, room);
    if style.colour && !colour.is_empty() {
        writeln!(out, "{head}{colour}{words}\x1b[0m{exit}")
    } else {
        writeln!(out, "{head}{words}{exit}")
    }
}

/// At most so many characters, the last an ellipsis where some are missing.
pub(crate) fn cut(text: &str, room: Option<usize>) -> String {
    match room {
        Some(room) if text.chars().count() > room => {
            text.chars().take(room.saturating_sub(1)).chain(std::iter::once('…').take(room.min(1))).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::collect;

    fn exec(second: u32, id: &str, parent: &str, command: &str) -> String {
        format!(
            r#"{{"@timestamp":"2026-11-24T00:00:{second:02}Z","event":{{"kind":"event","action":"exec"}},"process":{{"entity_id":"{id}","command_line":"{command}","parent":{{"entity_id":"{parent}"}}}},"postern":{{"session":{{"id":"s1","door":"sshd","user":"ops"}}}}}}"#
        )
    }

    fn written(lines: &[String], style: Style) -> String {
        let collected = collect(lines.join("\n").as_bytes()).expect("read");
        let [story] = &collected.stories[..] else { panic!("{collected:?}") };
        let mut out = String::new();
        write(story, style, &mut out).expect("written");
        out
    }

    #[test]
    fn children_hang_from_their_parents() {
        let end = r#"{"@timestamp":"2026-11-25T00:00:09Z","event":{"action":"end"},"process":{"entity_id":"c","exit_code":1},"postern":{"session":{"id":"s1"}}}"#;
        let lines = [
            exec(0, "a", "sshd", "-bash"),
            exec(1, "b", "a", "sudo -i"),
            exec(2, "c", "b", "cat /etc/\\u001b[31mshadow"),
            exec(3, "d", "a", "ls"),
            exec(4, "d", "a", "date"),
            end.to_owned(),
        ];
        let expected = "\
session s1: ops by sshd, which no rule allows
opened 2026-11-24 00:00:00Z, still open; 5 commands, 0 alerts

2026-11-24 00:00:00 -bash
           00:00:01 ├─ sudo -i
           00:00:02 │  └─ cat /etc/\\e[31mshadow  [exit 1]
           00:00:03 └─ ls
           00:00:04    date
";
        assert_eq!(written(&lines, Style::default()), expected);
    }

    #[test]
    fn changed_files_stand_under_who_changed_them() {
        let file = r#"{"@timestamp":"2026-11-24T00:00:02Z","event":{"action":"file-created"},"message":"Created /etc/x","file":{"path":"/etc/x"},"process":{"entity_id":"b"},"postern":{"session":{"id":"s1"}}}"#;
        let out = written(
            &[exec(0, "a", "sshd", "-bash"), exec(1, "b", "a", "tee /etc/x"), file.to_owned()],
            Style::default(),
        );
        assert!(out.contains("; changed 1 file\n"), "{out}");
        assert!(out.ends_with("└─ tee /etc/x\n           00:00:02    -- Created /etc/x\n"), "{out}");
    }

    #[test]
    fn a_deep_tree_and_a_narrow_terminal_are_borne() {
        let lines: Vec<String> =
            (1..3_000).map(|number| exec(0, &number.to_string(), &(number - 1).to_string(), "sh")).collect();
        let out = written(&lines, Style { colour: true, width: Some(20) });
        assert_eq!(out.lines().count(), lines.len() + 3);
        assert!(out.lines().all(|line| line.len() < 1_000));
        assert_eq!(
            (cut("abc", Some(3)), cut("abcd", Some(3)), cut("abcd", Some(0))),
            ("abc".into(), "ab…".into(), String::new())
        );
    }
}
