//! One aligned line per event, for a person at a terminal: when, what kind of thing, which process, who, where, what.
//! Nothing that a user or a process chose can act on the terminal, and what is cut says how much was cut.

mod line;
mod what;

use jiff::tz::TimeZone;
use line::{BLUE, BOLD_RED, CYAN, DIM, GREEN, Line, MAGENTA, RED, RED_BAR, YELLOW, YELLOW_BAR};

use crate::event::{
    AgentEvent, Body, Container, End, Enrichment, EntryType, Event, Lineage, Login, Session, Severity, called,
};

/// Widths of the columns, in characters; a longer cell pushes the rest of its line to the right.
const ACTION: usize = 9;
const PID: usize = 7;
const WHO: usize = 22;
const WHERE: usize = 14;

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
    match pid {
        Some(pid) => line.styled(DIM, |line| line.put(format_args!("{pid:>PID$} "))),
        None => line.pad(PID + 1),
    }
    if matches!(event.body, Body::Agent(_) | Body::Maintenance(_)) && event.alert.is_none() {
        line.cell(BLUE, WHO, |line| line.put("postern"));
        line.cell("", WHERE, |_| {});
    } else {
        line.cell(stance(event), WHO, |line| who(event, line));
        line.cell(DIM, WHERE, |line| place(event.container.as_deref(), line));
    }
    what::write(event, &mut line);
    for attached in &event.attached {
        line.styled(DIM, |line| line.put(format_args!("  [or typed by {}]", called(&attached.session.user))));
    }
    match event.enrichment {
        Enrichment::Complete => {}
        Enrichment::Partial => line.styled(DIM, |line| line.put("  [not all is known]")),
        Enrichment::None => line.styled(DIM, |line| line.put("  [container unknown]")),
    }
    // Columns pad to the right; a line does not end in blanks.
    let end = line.out.trim_end_matches(' ').len();
    line.out.truncate(end);
}

/// What is in the second column.
enum Label {
    Word(&'static str),
    Exit(Option<i32>),
}

impl Label {
    fn write(&self, line: &mut Line<'_>) {
        match self {
            Self::Word(word) => line.put(word),
            Self::Exit(Some(code)) => line.put(format_args!("exit {code}")),
            Self::Exit(None) => line.put("exit ?"),
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
        Body::End(End { exit_code, .. }) => {
            return (Label::Exit(*exit_code), if *exit_code == Some(0) { DIM } else { RED });
        }
        Body::Exec { .. } => ("exec", ""),
        Body::SessionOpened(_) => ("login", GREEN),
        Body::SessionClosed(_) => ("logout", GREEN),
        Body::LoginFailed(_) => ("refused", YELLOW),
        Body::UserChanged(_) => ("user", YELLOW),
        Body::SessionDisputed(_) => ("disputed", BOLD_RED),
        Body::SessionAttached(_) => ("attached", YELLOW),
        Body::Terminated(_) => ("killed", BOLD_RED),
        Body::ContainerStarted(_) => ("container", MAGENTA),
        Body::ContainerEntered(_) => ("entered", MAGENTA),
        Body::ContainerEscaped => ("escaped", BOLD_RED),
        Body::File(_) => ("file", ""),
        Body::Maintenance(_) => ("upkeep", BLUE),
        Body::Agent(agent) => match **agent {
            AgentEvent::Lost(_) => ("LOST", BOLD_RED),
            AgentEvent::Counted(_) => ("counted", DIM),
            _ => ("agent", BLUE),
        },
    };
    (Label::Word(word), style)
}

/// The colour of who: people stand out from services, and those whom the policy does not cover from the others.
fn stance(event: &Event) -> &'static str {
    match event.session() {
        Some(session) if session.allowed => CYAN,
        Some(_) => YELLOW,
        None => "",
    }
}

/// Who: the person who came in and, if another, the user they act as; else the process's user.
fn who(event: &Event, line: &mut Line<'_>) {
    if let Body::SessionOpened(login) | Body::SessionClosed(login) | Body::LoginFailed(login) = &event.body {
        return visitor(login, line);
    }
    let Some(lineage) = &event.lineage else { return };
    let acting = &lineage.process.credentials.user;
    if let Some(session) = event.session() {
        person(session, lineage, line);
        return match &acting.name {
            Some(name) if *name != session.user => line.put(format_args!(" as {name}")),
            None if event.container.is_none() => line.put(format_args!(" as uid {}", acting.id)),
            _ => {}
        };
    }
    match &acting.name {
        Some(name) => line.put(name),
        None => line.put(format_args!("uid {}", acting.id)),
    }
    match lineage.entry.as_ref().map(|entry| entry.entry_type()) {
        None | Some(EntryType::Init | EntryType::Unknown | EntryType::Kubelet) => {}
        Some(entry) => line.put(format_args!(" ({})", entry.as_str())),
    }
}

fn visitor(login: &Login, line: &mut Line<'_>) {
    line.put(called(&login.user));
    match (login.source.ip, &login.source.address) {
        (Some(ip), _) => line.put(format_args!("@{}", ip.to_canonical())),
        (None, Some(address)) => line.put(format_args!("@{address}")),
        (None, None) => line.put(format_args!(" ({})", login.door.as_str())),
    }
}

fn person(session: &Session, lineage: &Lineage, line: &mut Line<'_>) {
    line.put(called(&session.user));
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
            "16:00:20.124 exec         4251 ops@192.0.2.7 as root  host           find /etc -name '*.key files'"
        );
    }

    #[test]
    fn no_sample_puts_a_control_character_out() {
        for event in samples::all() {
            let line = plain(&event);
            assert!(!line.is_empty() && !line.chars().any(crate::sink::encode::escape::is_unsafe), "{line}");
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
}
