//! `postern sessions`: who is in, who was, and what they did.

use std::{
    fmt::Write as _,
    io::{self, Write},
    net::IpAddr,
};

use clap::{Args, Subcommand};
use ipnet::IpNet;
use jiff::{SignedDuration, tz::TimeZone};

use super::{
    Output,
    source::{SourceOptions, style},
};
use crate::{
    control::Request,
    event::Timestamp,
    exit::Exit,
    sink::encode::Foreign,
    story::{Filter, Story, StorySession, Style, collect, cut, write_tree},
};

/// Arguments of `sessions`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Sessions {
    /// One session, or the list of them.
    #[command(subcommand)]
    pub show: Option<Show>,
    /// Which sessions.
    #[command(flatten)]
    pub list: List,
}

/// One session.
#[derive(Debug, Subcommand)]
pub enum Show {
    /// Print the whole story of one session, as a tree of what was run.
    Show(ShowOne),
}

/// Arguments of `sessions show`.
#[derive(Debug, Args)]
pub struct ShowOne {
    /// Its id, or enough of its beginning.
    pub id: String,
    /// Where to read from.
    #[command(flatten)]
    pub source: SourceOptions,
    /// In which form.
    #[arg(long, value_enum, value_name = "FORM", default_value = "pretty")]
    pub output: Output,
}

/// Arguments of the list.
#[derive(Debug, Args)]
pub struct List {
    /// Where to read from.
    #[command(flatten)]
    pub source: SourceOptions,
    /// In which form.
    #[arg(long, value_enum, value_name = "FORM", default_value = "pretty")]
    pub output: Output,
    /// Only of this user.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Only from this address or network.
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    pub from: Option<IpNet>,
    /// Only by this door.
    #[arg(long, value_name = "DOOR")]
    pub door: Option<String>,
    /// Only those that were in this pod.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub pod: Option<String>,
    /// Only those that were open after this: a time, or so long ago (`2h`).
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Timestamp>,
    /// Only those that are open.
    #[arg(long, conflicts_with = "closed")]
    pub open: bool,
    /// Only those that are closed.
    #[arg(long)]
    pub closed: bool,
    /// Only those that no access rule allows.
    #[arg(long)]
    pub not_allowed: bool,
}

impl List {
    fn filter(&self) -> Filter {
        Filter {
            user: self.user.clone(),
            from: self.from,
            door: self.door.clone(),
            pod: self.pod.clone(),
            since: self.since,
            open: (self.open || self.closed).then_some(self.open),
            not_allowed: self.not_allowed,
        }
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from).ok();
    text.parse().ok().or_else(address).ok_or_else(|| "expected an address or a network".to_owned())
}

fn since(text: &str) -> Result<Timestamp, String> {
    let ago = |text: &str| Timestamp::now().checked_sub(text.parse::<SignedDuration>().ok()?).ok();
    text.parse()
        .ok()
        .or_else(|| ago(text))
        .ok_or_else(|| "expected a time such as `2026-11-23T08:00:00Z`, or `2h`".to_owned())
}

/// `postern sessions`.
pub fn sessions(wanted: &Sessions, out: &mut impl Write, errors: &mut impl Write) -> Exit {
    let source = match &wanted.show {
        Some(Show::Show(one)) => &one.source,
        None => &wanted.list.source,
    };
    let lines = match source.open(Request { history: true, follow: false }, errors) {
        Ok(lines) => lines,
        Err(exit) => return exit,
    };
    let collected = match collect(lines) {
        Ok(collected) => collected,
        Err(error) => {
            let _ = writeln!(errors, "postern: {error}");
            return Exit::No;
        }
    };
    if collected.skipped > 0 {
        let _ = writeln!(errors, "postern: {} lines are no events", collected.skipped);
    }
    let written = match &wanted.show {
        Some(Show::Show(one)) => match find(&collected.stories, &one.id) {
            Ok(story) => show(story, one.output, style(), out),
            Err(message) => {
                let _ = writeln!(errors, "postern: {message}");
                return Exit::No;
            }
        },
        None => {
            let filter = wanted.list.filter();
            let found = collected.stories.iter().map(|story| &story.session).filter(|session| filter.takes(session));
            list(found, wanted.list.output, style(), out)
        }
    };
    // Whoever has read enough of it closes the pipe.
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Software,
        _ => Exit::Success,
    }
}

fn find<'a>(stories: &'a [Story], id: &str) -> Result<&'a Story, String> {
    let mut found = stories.iter().filter(|story| story.session.id.starts_with(id));
    match (found.next(), found.next()) {
        (Some(story), None) => Ok(story),
        (None, _) => Err(format!("no session {} is known", Foreign(id))),
        (Some(_), Some(_)) => Err(format!("more than one session begins with {}", Foreign(id))),
    }
}

fn show(story: &Story, output: Output, style: Style, out: &mut impl Write) -> io::Result<()> {
    match output {
        Output::Json => {
            serde_json::to_writer(&mut *out, story)?;
            writeln!(out)
        }
        Output::Pretty => {
            let mut text = String::new();
            write_tree(story, style, &mut text).map_err(io::Error::other)?;
            out.write_all(text.as_bytes())
        }
    }
}

const HEADS: [&str; 9] = ["SESSION", "DOOR", "WHO", "FROM", "TO", "OPENED", "LASTED", "COMMANDS", "ALERTS"];

fn list<'a>(
    sessions: impl Iterator<Item = &'a StorySession>,
    output: Output,
    style: Style,
    out: &mut impl Write,
) -> io::Result<()> {
    if output == Output::Json {
        for session in sessions {
            serde_json::to_writer(&mut *out, session)?;
            writeln!(out)?;
        }
        return Ok(());
    }
    let rows: Vec<([String; 9], bool)> = sessions.map(|session| (row(session), session.allowed)).collect();
    let widths: Vec<usize> = HEADS
        .iter()
        .enumerate()
        .map(|(at, head)| rows.iter().map(|(row, _)| row[at].chars().count()).max().unwrap_or(0).max(head.len()))
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            // Writing to memory cannot fail.
            let _ = write!(text, "{cell:<width$}  ");
        }
        cut(text.trim_end(), style.width)
    };
    writeln!(out, "{}", line(&mut HEADS.into_iter()))?;
    for (row, allowed) in &rows {
        let text = line(&mut row.iter().map(|cell| &**cell));
        match (allowed, style.colour) {
            (false, true) => writeln!(out, "\x1b[33m{text}\x1b[0m")?,
            _ => writeln!(out, "{text}")?,
        }
    }
    Ok(())
}

fn row(session: &StorySession) -> [String; 9] {
    let shown = |text: &str| if text.is_empty() { "-".to_owned() } else { Foreign(text).to_string() };
    let lasted = match session.closed {
        Some(closed) => span(closed.duration_since(session.opened)),
        None => "open".to_owned(),
    };
    let not_allowed = if session.allowed { "" } else { " (not allowed)" };
    [
        shown(&session.id),
        shown(&session.door),
        shown(&session.user),
        session.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_canonical().to_string()),
        shown(&session.place),
        session.opened.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        lasted,
        session.commands.to_string(),
        format!("{}{not_allowed}", session.alerts),
    ]
}

fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, minutes, _) => format!("{hours}h {minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::{Arguments, Command},
        sink::encode::{Encoder, samples},
    };

    fn run(arguments: &[&str]) -> (Exit, String, String) {
        let mut encoder = Encoder::new(samples::node());
        let mut lines = Vec::new();
        for event in samples::all() {
            encoder.encode(&event, &mut lines);
            lines.push(b'\n');
        }
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), lines).expect("written");
        let path = file.path().display().to_string();
        let file_option = ["--file", &path];
        let all = ["postern", "sessions"].iter().chain(arguments).chain(&file_option).copied();
        let Command::Sessions(wanted) = Arguments::try_parse_from(all).expect("valid arguments").command else {
            panic!("sessions")
        };
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let exit = sessions(&wanted, &mut out, &mut errors);
        (exit, String::from_utf8(out).expect("text"), String::from_utf8(errors).expect("text"))
    }

    #[test]
    fn the_list_is_filtered_and_one_is_shown_whole() {
        let (exit, out, errors) = run(&["--user", "ops", "--closed"]);
        assert_eq!((exit, &*errors), (Exit::Success, ""));
        assert!(out.starts_with("SESSION") && out.contains("192.0.2.7"), "{out}");
        assert_eq!(run(&["--user", "nobody"]).1.lines().count(), 1);
        let (_, json, _) = run(&["--output", "json", "--user", "ops"]);
        let session: serde_json::Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
        let id = session["id"].as_str().expect("an id");
        let (exit, story, _) = run(&["show", id]);
        assert_eq!(exit, Exit::Success);
        assert!(story.starts_with(&format!("session {id}: ops by sshd")), "{story}");
        let (exit, _, errors) = run(&["show", "nope"]);
        assert_eq!((exit, &*errors), (Exit::No, "postern: no session nope is known\n"));
        assert_eq!(run(&["show", "01JD0Z"]).0, Exit::No, "there are several");
    }

    #[test]
    fn times_are_points_or_so_long_ago() {
        assert!(since("2026-11-23T08:00:00Z").is_ok() && since("2h").is_ok() && since("90m").is_ok());
        assert!(since("yesterday").is_err() && network("x").is_err() && network("192.0.2.1").is_ok());
        assert_eq!(span(SignedDuration::from_secs(3_725)), "1h 2m");
    }
}
