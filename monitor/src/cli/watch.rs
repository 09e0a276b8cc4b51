//! `postern watch`: what happens on the node, as it happens.

use std::io::{self, BufRead, Write};

use clap::Args;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::{
    Output,
    source::{SourceOptions, style},
};
use crate::{
    control::Request,
    event::called,
    exit::Exit,
    sink::encode::Foreign,
    story::{Seen, Style, cut, next_line},
};

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// Where to read from.
    #[command(flatten)]
    pub source: SourceOptions,
    /// In which form.
    #[arg(long, value_enum, value_name = "FORM", default_value = "pretty")]
    pub output: Output,
    /// Only sessions of this user.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Only this session, by enough of the beginning of its id.
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Only sessions by this door.
    #[arg(long, value_name = "DOOR")]
    pub door: Option<String>,
    /// Only in this pod.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub pod: Option<String>,
    /// Only what people did: events of access sessions, and alerts.
    #[arg(long)]
    pub people: bool,
    /// Only alerts.
    #[arg(long)]
    pub alerts: bool,
}

/// What stands in the place of events that were missed.
#[derive(Deserialize)]
struct Missed {
    missed: u64,
}

impl Watch {
    fn takes(&self, seen: &Seen) -> bool {
        let session = &seen.postern.session;
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let in_pod = |pod: &String| seen.place().strip_prefix(&**pod).is_some_and(|rest| rest.starts_with('/'));
        is(&self.user, &session.user)
            && is(&self.door, &session.door)
            && self.session.as_deref().is_none_or(|id| !session.id.is_empty() && session.id.starts_with(id))
            && self.pod.as_ref().is_none_or(in_pod)
            && (!self.alerts || seen.is_alert())
            && (!self.people || seen.is_alert() || !session.id.is_empty())
    }
}

/// `postern watch`: until the agent ends, or the reader of `out` has gone.
pub fn watch(wanted: &Watch, out: &mut impl Write, errors: &mut impl Write) -> Exit {
    let mut lines = match wanted.source.open(Request { history: false, follow: true }, errors) {
        Ok(lines) => lines,
        Err(exit) => return exit,
    };
    match copy(wanted, &mut lines, out, errors) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(errors, "postern: {error}");
            Exit::No
        }
        _ => Exit::Success,
    }
}

fn copy(wanted: &Watch, lines: &mut impl BufRead, out: &mut impl Write, errors: &mut impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    while next_line(lines, &mut line)? {
        if let Some(seen) = Seen::parse(&line) {
            if wanted.takes(&seen) {
                match wanted.output {
                    Output::Json => out.write_all(&line)?,
                    // A terminal's width changes.
                    Output::Pretty => out.write_all(shown(&seen, style()).as_bytes())?,
                }
                out.write_all(b"\n")?;
                out.flush()?;
            }
        } else if let Ok(Missed { missed }) = serde_json::from_slice(&line) {
            writeln!(errors, "postern: {missed} events were missed: this reader is too slow")?;
        } else {
            writeln!(errors, "postern: a line is no event")?;
        }
    }
    Ok(())
}

fn shown(seen: &Seen, style: Style) -> String {
    let session = &seen.postern.session;
    let who = match (&*session.id, &*session.user) {
        ("", _) => &seen.user.name,
        (_, user) => called(user),
    };
    let place = seen.place();
    let first = seen.event.action.first();
    let what = match first {
        _ if !seen.message.is_empty() => &seen.message,
        "end" => "",
        _ if seen.process.command_line.is_empty() => &seen.process.executable,
        _ => &seen.process.command_line,
    };
    let action = if seen.is_alert() { "ALERT" } else { first };
    let code = seen.process.exit_code.map_or("?".to_owned(), |code| code.to_string());
    let exit = match first {
        "end" => format!("{} exit {code}", Foreign(&seen.process.executable)),
        _ if seen.event.action.has("end") => format!("  exit {code}"),
        _ => String::new(),
    };
    let text = format!(
        "{} {:<16} {:<12} {:<20} {}{exit}",
        seen.time.to_zoned(TimeZone::UTC).strftime("%H:%M:%S%.3f"),
        Foreign(action).to_string(),
        Foreign(who).to_string(),
        Foreign(if place.is_empty() { "host" } else { &place }).to_string(),
        Foreign(what),
    );
    let text = cut(text.trim_end(), style.width);
    let colour = match (style.colour, action) {
        (false, _) => "",
        (_, "ALERT") => "\x1b[1;31m",
        (_, "session-opened" | "session-closed") => "\x1b[32m",
        (_, "user-changed" | "login-failed") => "\x1b[33m",
        (_, "end") => "\x1b[2m",
        _ => "",
    };
    if colour.is_empty() { text } else { format!("{colour}{text}\x1b[0m") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::encode::{Encoder, samples};

    fn wanted() -> Watch {
        Watch {
            source: SourceOptions::default(),
            output: Output::Pretty,
            user: None,
            session: None,
            door: None,
            pod: None,
            people: false,
            alerts: false,
        }
    }

    fn copied(wanted: &Watch) -> (String, String) {
        let mut encoder = Encoder::new(samples::node());
        let mut lines = b"{\"missed\":7}\nnonsense\n".to_vec();
        for event in samples::all() {
            encoder.encode(&event, &mut lines);
            lines.push(b'\n');
        }
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        copy(wanted, &mut &*lines, &mut out, &mut errors).expect("copied");
        (String::from_utf8(out).expect("text"), String::from_utf8(errors).expect("text"))
    }

    #[test]
    fn every_event_is_a_line_and_filters_take_what_matches() {
        let (out, errors) = copied(&wanted());
        assert_eq!(out.lines().count(), samples::all().len());
        assert!(!out.contains('\x1b'), "{out}");
        assert_eq!(errors.lines().count(), 2, "{errors}");
        assert!(errors.contains("7 events were missed"));
        let alerts = copied(&Watch { alerts: true, ..wanted() }).0;
        assert!(!alerts.is_empty() && alerts.lines().all(|line| line.contains("ALERT")));
        let people = copied(&Watch { people: true, ..wanted() }).0.lines().count();
        assert!((1..out.lines().count()).contains(&people));
        assert_eq!(copied(&Watch { user: Some("nobody".into()), ..wanted() }).0, "");
        let json = copied(&Watch { output: Output::Json, ..wanted() }).0;
        assert!(json.lines().all(|line| Seen::parse(line.as_bytes()).is_some()));
    }
}
