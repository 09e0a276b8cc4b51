//! One aligned line per event, for a person at a terminal: when, what kind of thing, which process, who, where, what.
//! Nothing that a user or a process chose can act on the terminal, and what is cut says how much was cut.

use std::fmt::{Display, Write};

use jiff::tz::TimeZone;

use super::{
    command_line::{self, Quoting},
    ecs::session_of,
    escape::Visible,
    sentence::{self, Span},
};
use crate::event::{
    AgentEvent, Body, Container, Enrichment, EntryType, Event, InMemory, Lineage, Login, Process, SecurityContext,
    Session, Severity,
};

/// Widths of the columns, in characters; a longer cell pushes the rest of its line to the right.
const ACTION: usize = 9;
const PID: usize = 7;
const WHO: usize = 20;
const WHERE: usize = 24;

/// The longest cell and the longest text at the end of a line, in characters.
const CELL_LIMIT: usize = 64;
const TEXT_LIMIT: usize = 300;

/// ANSI colours (ECMA-48, "select graphic rendition").
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BLUE: &str = "34";
const MAGENTA: &str = "35";
const BOLD: &str = "1";
const BOLD_RED: &str = "1;31";
const BOLD_YELLOW: &str = "1;33";
const RED_BAR: &str = "1;97;41";
const YELLOW_BAR: &str = "1;30;43";

/// Appends `event` to `out` as one line without a newline behind it. `colour` adds ANSI escapes of our own; none of
/// foreign origin gets through. The time is UTC.
pub fn pretty(event: &Event, out: &mut String, colour: bool) {
    let mut line = Line { out, colour };
    line.styled(DIM, |line| line.put(event.time.to_zoned(TimeZone::UTC).strftime("%H:%M:%S%.3f")));
    line.put(' ');
    let (label, style) = action(event);
    line.cell(style, ACTION, |line| label.write(line));
    let lineage = event.lineage.as_ref();
    let pid = lineage.map(|lineage| lineage.process.key.tgid);
    line.styled(DIM, |line| match pid {
        Some(pid) => line.put(format_args!("{pid:>PID$}")),
        None => line.pad(PID),
    });
    line.put(' ');
    if matches!(event.body, Body::Agent(_)) && event.alert.is_none() {
        line.cell(BLUE, WHO, |line| line.put("postern"));
        line.cell("", WHERE, |_| {});
    } else {
        line.cell("", WHO, |line| who(event, line));
        line.cell(DIM, WHERE, |line| place(event.container.as_deref(), line));
    }
    what(event, &mut line);
    if event.enrichment != Enrichment::Complete {
        line.styled(DIM, |line| line.put(format_args!("  [{} enrichment]", event.enrichment.as_str())));
    }
    // Columns pad to the right; a line does not end in blanks.
    let end = line.out.trim_end_matches(' ').len();
    line.out.truncate(end);
}

/// A line that is being written.
struct Line<'a> {
    out: &'a mut String,
    colour: bool,
}

impl Line<'_> {
    /// Appends a text, whatever it contains.
    fn put(&mut self, text: impl Display) {
        // Writing to a String cannot fail.
        let _ = write!(Visible(&mut *self.out), "{text}");
    }

    fn pad(&mut self, width: usize) {
        self.out.extend(std::iter::repeat_n(' ', width));
    }

    /// Appends in a colour; an empty one is none.
    fn styled(&mut self, style: &str, write: impl FnOnce(&mut Self)) {
        if !self.colour || style.is_empty() {
            return write(self);
        }
        let _ = write!(self.out, "\x1b[{style}m");
        write(self);
        self.out.push_str("\x1b[0m");
    }

    /// Appends a column: `width` wide at least, and a blank.
    fn cell(&mut self, style: &str, width: usize, write: impl FnOnce(&mut Self)) {
        let mut used = 0;
        self.styled(style, |line| used = line.limited(CELL_LIMIT, write));
        self.pad(width.saturating_sub(used) + 1);
    }

    /// Appends at most `limit` characters of what is written, and how many more there were. Returns the width.
    fn limited(&mut self, limit: usize, write: impl FnOnce(&mut Self)) -> usize {
        let (from, colour) = (self.out.len(), std::mem::take(&mut self.colour));
        write(self);
        self.colour = colour;
        let Some((cut, _)) = self.out[from..].char_indices().nth(limit) else {
            return self.out[from..].chars().count();
        };
        let more = self.out[from + cut..].chars().count();
        self.out.truncate(from + cut);
        let _ = write!(self.out, "… (+{more} chars)");
        self.out[from..].chars().count()
    }
}

/// What is in the second column.
enum Label {
    Word(&'static str),
    Exit(i32),
}

impl Label {
    fn write(&self, line: &mut Line<'_>) {
        match self {
            Self::Word(word) => line.put(word),
            Self::Exit(code) => line.put(format_args!("exit {code}")),
        }
    }
}

/// The label of an event, and its colour.
fn action(event: &Event) -> (Label, &'static str) {
    if let Some(alert) = &event.alert {
        let bar = if alert.rule.severity >= Severity::High { RED_BAR } else { YELLOW_BAR };
        return (Label::Word("ALERT"), bar);
    }
    let (word, style) = match &event.body {
        Body::End { exit_code } => {
            return (Label::Exit(*exit_code), if *exit_code == 0 { DIM } else { RED });
        }
        Body::Exec => ("exec", ""),
        Body::SessionOpened(_) => ("login", GREEN),
        Body::SessionClosed(_) => ("logout", GREEN),
        Body::LoginFailed(_) => ("refused", YELLOW),
        Body::ContainerStarted(_) => ("container", MAGENTA),
        Body::ContainerEntered(_) => ("entered", MAGENTA),
        Body::Agent(AgentEvent::Lost(_)) => ("LOST", BOLD_RED),
        Body::Agent(AgentEvent::Counted(_)) => ("counted", DIM),
        Body::Agent(_) => ("agent", BLUE),
    };
    (Label::Word(word), style)
}

/// Who: the person who came in and, if another, the user they act as; else the process's user.
fn who(event: &Event, line: &mut Line<'_>) {
    if let Body::SessionOpened(login) | Body::SessionClosed(login) | Body::LoginFailed(login) = &event.body {
        return visitor(login, line);
    }
    let Some(lineage) = &event.lineage else { return };
    let acting = &lineage.process.credentials.user;
    match session_of(event) {
        Some(session) => {
            person(session, lineage, line);
            match &acting.name {
                Some(name) if *name != session.user => line.put(format_args!(" as {name}")),
                None if event.container.is_none() => line.put(format_args!(" as uid {}", acting.id)),
                _ => {}
            }
        }
        None => {
            match &acting.name {
                Some(name) => line.put(name),
                None => line.put(format_args!("uid {}", acting.id)),
            }
            match lineage.entry.as_ref().map(|entry| entry.entry_type) {
                None | Some(EntryType::Init | EntryType::Unknown | EntryType::Kubelet) => {}
                Some(entry) => line.put(format_args!(" ({})", entry.as_str())),
            }
        }
    }
}

fn visitor(login: &Login, line: &mut Line<'_>) {
    line.put(&login.user);
    match (login.source.ip, &login.source.address) {
        (Some(ip), _) => line.put(format_args!("@{}", ip.to_canonical())),
        (None, Some(address)) => line.put(format_args!("@{address}")),
        (None, None) => line.put(format_args!(" ({})", login.door.as_str())),
    }
}

fn person(session: &Session, lineage: &Lineage, line: &mut Line<'_>) {
    line.put(&session.user);
    match lineage.entry.as_ref().and_then(|entry| entry.source_ip) {
        Some(ip) => line.put(format_args!("@{}", ip.to_canonical())),
        None => line.put(format_args!(" ({})", session.door.as_str())),
    }
}

/// Where: the pod and container, the bare container, or the node itself.
fn place(container: Option<&Container>, line: &mut Line<'_>) {
    let Some(container) = container else { return line.put("host") };
    // Twelve digits of a container's id are what its own tools show and take.
    let name = container.name.as_deref().unwrap_or_else(|| container.id.get(..12).unwrap_or(&container.id));
    match &container.pod {
        Some(pod) => line.put(format_args!("{}/{}/{name}", pod.namespace, pod.name)),
        None => line.put(name),
    }
}

fn what(event: &Event, line: &mut Line<'_>) {
    if let Some(alert) = &event.alert {
        let style = if alert.rule.severity >= Severity::High { BOLD_RED } else { BOLD_YELLOW };
        line.styled(style, |line| line.put(format_args!("{}: {}", alert.rule.severity.as_str(), alert.rule.name)));
        line.put(" - ");
        line.limited(TEXT_LIMIT, |line| line.put(&alert.message));
        return;
    }
    match (&event.body, &event.lineage) {
        (Body::Exec, Some(lineage)) => {
            command(&lineage.process, "", line);
            remarks(&lineage.process, line);
        }
        (Body::End { .. }, Some(lineage)) => {
            command(&lineage.process, DIM, line);
            let lived = event.time.duration_since(lineage.process.start).as_nanos();
            if let Ok(lived) = u64::try_from(lived) {
                line.styled(DIM, |line| line.put(format_args!("  {}", Span(lived))));
            }
        }
        (Body::ContainerStarted(context) | Body::ContainerEntered(context), lineage) => {
            if let Some(lineage) = lineage {
                command(&lineage.process, BOLD, line);
            }
            powers(event.container.as_deref(), context, line);
        }
        _ => {
            if let Some(sentence) = sentence::of(event) {
                line.limited(TEXT_LIMIT, |line| line.put(sentence));
            }
            if let Body::Agent(agent) = &event.body {
                details(agent, line);
            }
        }
    }
}

/// The command line, or, as `ps` does it, the name in brackets where there is none.
fn command(process: &Process, style: &str, line: &mut Line<'_>) {
    line.styled(style, |line| {
        line.limited(TEXT_LIMIT, |line| {
            if process.args.is_empty() {
                let name = if process.executable.path.is_empty() { &process.name } else { &process.executable.path };
                return line.put(format_args!("[{name}]"));
            }
            // Writing to a String cannot fail.
            let _ = command_line::write(&process.args, Quoting::Visible, line.out);
        });
    });
}

/// What the command line does not show.
fn remarks(process: &Process, line: &mut Line<'_>) {
    let executable = &process.executable;
    match executable.in_memory {
        Some(InMemory::Program) => line.styled(BOLD_RED, |line| line.put("  [only in memory]")),
        Some(InMemory::Script) => line.styled(BOLD_RED, |line| line.put("  [script only in memory]")),
        None => {}
    }
    if executable.deleted {
        line.styled(RED, |line| line.put("  [file deleted]"));
    }
    line.styled(DIM, |line| {
        for (set, remark) in [
            (process.args_cut, "arguments cut"),
            (process.args_unreadable, "arguments unreadable"),
            (process.args_redacted, "secrets redacted"),
        ] {
            if set {
                line.put(format_args!("  [{remark}]"));
            }
        }
    });
}

/// What a container's process may do.
fn powers(container: Option<&Container>, context: &SecurityContext, line: &mut Line<'_>) {
    if context.privileged {
        line.styled(BOLD_RED, |line| line.put("  privileged"));
    }
    line.styled(DIM, |line| {
        if let Some(image) = container.and_then(|container| container.image.as_ref()) {
            line.put(format_args!("  image {}", image.name));
            if let Some(tag) = &image.tag {
                line.put(format_args!(":{tag}"));
            }
        }
        if !context.host_namespaces.is_empty() {
            line.put("  host namespaces");
            for (position, namespace) in context.host_namespaces.iter().enumerate() {
                line.put(if position == 0 { ' ' } else { ',' });
                line.put(namespace.as_str());
            }
        }
        let capabilities = context.effective.names().count();
        line.put(format_args!("  {capabilities} capabilities, seccomp {}", context.seccomp.as_str()));
    });
}

/// What a sentence about the agent leaves out.
fn details(agent: &AgentEvent, line: &mut Line<'_>) {
    let AgentEvent::Started { sensors, missing } = agent else { return };
    line.styled(DIM, |line| {
        for (position, sensor) in sensors.iter().enumerate() {
            line.put(if position == 0 { " (" } else { ", " });
            line.put(sensor);
        }
        if !sensors.is_empty() {
            line.put(')');
        }
    });
    for missing in missing {
        line.styled(YELLOW, |line| line.put(format_args!("  [{missing}]")));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sink::encode::samples;

    fn plain(event: &Event) -> String {
        let mut out = String::new();
        pretty(event, &mut out, false);
        out
    }

    #[test]
    fn a_command_under_a_session_names_the_person() {
        assert_eq!(
            plain(&samples::exec()),
            "16:00:20.124 exec         4251 ops@192.0.2.7 as root host                     find /etc -name '*.key files'"
        );
    }

    #[test]
    fn no_sample_puts_a_control_character_out() {
        for event in samples::all() {
            let line = plain(&event);
            assert!(!line.is_empty() && !line.chars().any(super::super::escape::is_unsafe), "{line}");
        }
    }

    #[test]
    fn a_long_command_line_says_how_much_was_cut() {
        let mut event = samples::exec();
        if let Some(lineage) = &mut event.lineage {
            lineage.process = Arc::new(samples::process(1, "/bin/echo", &["echo", &"é".repeat(400)]));
        }
        let line = plain(&event);
        assert!(line.ends_with("é… (+105 chars)"), "{line}");
    }

    #[test]
    fn colours_wrap_whole_cells_and_are_all_closed() {
        for event in samples::all() {
            let mut line = String::new();
            pretty(&event, &mut line, true);
            assert_eq!(line.matches("\x1b[").count(), 2 * line.matches("\x1b[0m").count(), "{line}");
        }
    }

    /// Prints all samples: `cargo test -p postern --lib pretty -- --ignored --nocapture`.
    #[test]
    #[ignore = "for a person to look at"]
    #[expect(clippy::print_stdout, reason = "printing is what it is for")]
    fn show() {
        for event in samples::all() {
            let mut line = String::new();
            pretty(&event, &mut line, true);
            println!("{line}");
        }
    }
}
