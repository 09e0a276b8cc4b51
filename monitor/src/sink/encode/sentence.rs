//! One plain sentence about an event, for the ECS field `message` and for the terminal.

use std::{
    fmt::{self, Display, Formatter},
    sync::Arc,
};

use super::escape::Foreign;
use crate::event::{
    AgentEvent, Attachment, AuditChange, Body, Container, Counters, Event, FileAction, FileChange, Login, Loss,
    LossCause, Maintenance, MaintenanceStep, SecurityContext, Session, Source, Termination, User, UserChange, called,
};

/// The sentence; `None` where the fields say it all (executions and ends).
pub(super) fn of(event: &Event) -> Option<Sentence<'_>> {
    match &event.body {
        _ if event.alert.is_some() => Some(Sentence(event)),
        Body::Exec { .. } | Body::End(_) => None,
        _ => Some(Sentence(event)),
    }
}

/// An event as a sentence: one line, control characters spelled out.
pub(super) struct Sentence<'a>(&'a Event);

impl Display for Sentence<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(alert) = &self.0.alert {
            return Foreign(&alert.message).fmt(f);
        }
        match &self.0.body {
            Body::Exec { .. } | Body::End(_) => Ok(()),
            Body::SessionOpened(login) => opened(login, self.0.container.as_deref(), f),
            Body::SessionClosed(login) => closed(login, self.0.container.as_deref(), f),
            Body::LoginFailed(login) => failed(login, f),
            Body::UserChanged(change) => changed(change, f),
            Body::SessionDisputed(change) => disputed(*change, f),
            Body::SessionAttached(attachment) => attached(attachment, self.0.session(), f),
            Body::Terminated(termination) => terminated(termination, f),
            Body::ContainerStarted(context) => container("started", self.0.container.as_deref(), context, f),
            Body::ContainerEntered(context) => {
                container("was entered from outside", self.0.container.as_deref(), context, f)
            }
            Body::ContainerEscaped => escaped(self.0.container.as_deref(), f),
            Body::File(file) => touched(file, f),
            Body::Maintenance(step) => maintenance(*step, self.0.maintenance.as_deref(), f),
            Body::Agent(agent) => about_agent(agent, f),
        }
    }
}

fn opened(login: &Login, container: Option<&Container>, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "{} came in by {}", Person(login), login.door.as_str())?;
    if let Some(container) = container {
        write!(f, " to {}", Whole(container))?;
    }
    from(&login.source, f)?;
    if let Some(method) = &login.method {
        write!(f, " with {}", Foreign(method.as_str()))?;
    }
    if let Some(key) = &login.key_fingerprint {
        write!(f, " {}", Foreign(key))?;
    }
    match login.session.as_ref().and_then(|session| session.from.get()) {
        Some(from) => write!(f, ", in session {} of {}", Foreign(&from.id), Foreign(called(&from.user))),
        None => Ok(()),
    }
}

/// Who came in, where anybody on the node knows.
struct Person<'a>(&'a Login);

impl Display for Person<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.user.is_empty() { f.write_str("Somebody") } else { Foreign(&self.0.user).fmt(f) }
    }
}

/// A container with its pod.
struct Whole<'a>(&'a Container);

impl Display for Whole<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(pod) = &self.0.pod {
            write!(f, "{}/{}/", Foreign(&pod.namespace), Foreign(&pod.name))?;
        }
        Foreign(self.0.name.as_ref().unwrap_or(&self.0.id)).fmt(f)
    }
}

fn closed(login: &Login, container: Option<&Container>, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "{} left", Person(login))?;
    if let Some(container) = container {
        write!(f, " {}", Whole(container))?;
    }
    from(&login.source, f)?;
    match &login.summary {
        Some(summary) => {
            write!(f, " after {} and {} commands", Span(summary.duration_ns), summary.commands)?;
            match summary.files {
                0 => Ok(()),
                1 => f.write_str(", which changed 1 file"),
                files => write!(f, ", which changed {files} files"),
            }
        }
        None => Ok(()),
    }
}

fn failed(login: &Login, f: &mut Formatter<'_>) -> fmt::Result {
    match &login.refused {
        Some(refused) => {
            write!(f, "{} users or more were refused by {}", refused.users, login.door.as_str())?;
            if refused.sources > 1 {
                write!(f, " from {} sources or more", refused.sources)?;
            }
        }
        None => write!(f, "{} was refused by {}", Person(login), login.door.as_str())?,
    }
    from(&login.source, f)?;
    if let Some(method) = &login.method {
        write!(f, " with {}", Foreign(method.as_str()))?;
    }
    if login.attempts > 1 {
        write!(f, ", {} times so far", login.attempts)?;
    }
    if login.user_known == Some(false) {
        f.write_str("; the node knows no such user")?;
    }
    match &login.reason {
        Some(reason) => write!(f, ": {}", Foreign(reason)),
        None => Ok(()),
    }
}

fn changed(change: &UserChange, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "{} went on as {} by {}", Named(&change.from), Named(&change.to), Foreign(&change.program))
}

fn disputed(change: AuditChange, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "A process left the kernel's audit session {}", change.from)?;
    match change.to {
        Some(to) => write!(f, " for {to}"),
        None => f.write_str(" for none"),
    }
}

/// What was done to which file.
pub(super) fn touched(file: &FileChange, f: &mut Formatter<'_>) -> fmt::Result {
    let what = match file.action {
        FileAction::Created => "Created",
        FileAction::Changed => "Changed",
        FileAction::AttributesChanged => "Changed attributes of",
        FileAction::Renamed => "Renamed",
        FileAction::Deleted => "Deleted",
        FileAction::Passed => "Created and deleted",
    };
    write!(f, "{what} ")?;
    if let Some(from) = &file.from {
        write!(f, "{} to ", Foreign(from))?;
    }
    match &file.path {
        Some(path) => Foreign(path).fmt(f),
        None => write!(f, "{} in a directory that is gone", Foreign(&file.name)),
    }
}

fn attached(attachment: &Attachment, by: Option<&Session>, f: &mut Formatter<'_>) -> fmt::Result {
    let Attachment { to, program, server, .. } = attachment;
    let who = by.map(|it| &*it.user).filter(|user| !user.is_empty()).unwrap_or("Somebody");
    write!(f, "{} attaches to the {} server {server}", Foreign(who), Foreign(program))?;
    match to {
        Some(owner) => write!(f, " of {} (session {})", Foreign(called(&owner.user)), owner.id),
        None => f.write_str(", which was started in no session"),
    }
}

fn terminated(termination: &Termination, f: &mut Formatter<'_>) -> fmt::Result {
    let Termination { session, failure } = termination;
    write!(f, "A process of session {}, which no rule allows, ", session.id)?;
    match failure {
        None => f.write_str("was killed"),
        Some(reason) => write!(f, "could not be killed: {}", Foreign(reason)),
    }
}

/// A user's name, or the id where there is none.
pub(super) struct Named<'a>(pub(super) &'a User);

impl Display for Named<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0.name {
            Some(name) => Foreign(name).fmt(f),
            None => write!(f, "user {}", self.0.id),
        }
    }
}

fn from(source: &Source, f: &mut Formatter<'_>) -> fmt::Result {
    match (&source.ip, &source.address) {
        (Some(ip), _) => write!(f, " from {}", ip.to_canonical())?,
        (None, Some(address)) => write!(f, " from {}", Foreign(address))?,
        (None, None) => return Ok(()),
    }
    match source.port {
        Some(port) => write!(f, " port {port}"),
        None => Ok(()),
    }
}

fn escaped(container: Option<&Container>, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("A process left container")?;
    match container {
        Some(container) => {
            write!(f, " {} for the node itself", Foreign(container.name.as_ref().unwrap_or(&container.id)))
        }
        None => f.write_str(" for the node itself"),
    }
}

fn container(
    what: &str,
    container: Option<&Container>,
    context: &SecurityContext,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    f.write_str(if context.privileged { "Privileged container" } else { "Container" })?;
    if let Some(container) = container {
        write!(f, " {}", Foreign(container.name.as_ref().unwrap_or(&container.id)))?;
        if let Some(pod) = &container.pod {
            write!(f, " of pod {}/{}", Foreign(&pod.namespace), Foreign(&pod.name))?;
        }
    }
    write!(f, " {what}")
}

fn maintenance(step: MaintenanceStep, maintenance: Option<&Maintenance>, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("The node's maintenance")?;
    if let Some(maintenance) = maintenance {
        write!(f, " {}", Foreign(&maintenance.ticket))?;
    }
    match (step, maintenance) {
        (MaintenanceStep::Begun, Some(it)) => write!(f, " is on, until {}", it.until),
        (MaintenanceStep::Changed, Some(it)) => write!(f, " was changed, and is on until {}", it.until),
        (MaintenanceStep::Begun | MaintenanceStep::Changed, None) => f.write_str(" is on"),
        (MaintenanceStep::Ended, _) => f.write_str(" is over"),
    }
}

fn about_agent(agent: &AgentEvent, f: &mut Formatter<'_>) -> fmt::Result {
    match agent {
        AgentEvent::Started { sensors, missing } => {
            write!(f, "Postern watches, {} sensors armed", sensors.len())?;
            if missing.is_empty() { Ok(()) } else { write!(f, "; missing from the output: {}", Listed(missing)) }
        }
        AgentEvent::Stopped { reason, counters } => {
            write!(f, "Postern stops watching: {}; ", Foreign(reason))?;
            figures(counters, f)
        }
        AgentEvent::Counted(counters) => figures(counters, f),
        AgentEvent::Lost(loss) => lost(loss, f),
        AgentEvent::Changed { message } => Foreign(message).fmt(f),
    }
}

fn figures(counters: &[Counters], f: &mut Formatter<'_>) -> fmt::Result {
    let sum = |of: fn(&Counters) -> u64| counters.iter().map(of).fold(0, u64::saturating_add);
    write!(
        f,
        "{} seen, {} submitted, {} received, {} lost, {} held back, {} filtered",
        sum(|c| c.seen),
        sum(|c| c.submitted),
        sum(|c| c.received),
        sum(|c| c.lost),
        sum(|c| c.rate_limited),
        sum(|c| c.filtered),
    )
}

fn lost(loss: &Loss, f: &mut Formatter<'_>) -> fmt::Result {
    let noun = if loss.count == 1 { "event" } else { "events" };
    write!(f, "{} {noun} lost: ", loss.count)?;
    match &loss.cause {
        LossCause::Ring => f.write_str("the kernel's ring had no room"),
        LossCause::Malformed => f.write_str("the record could not be decoded"),
        LossCause::Files => f.write_str("the kernel's queue of file events was full, and nobody knows how often more"),
        LossCause::Sink { name, reason } => write!(f, "sink {} had no room: {}", Foreign(name), Foreign(reason)),
    }
}

/// Texts with commas between them.
struct Listed<'a>(&'a [Arc<str>]);

impl Display for Listed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (position, text) in self.0.iter().enumerate() {
            let before = if position > 0 { ", " } else { "" };
            write!(f, "{before}{}", Foreign(text))?;
        }
        Ok(())
    }
}

/// Nanoseconds, rounded to what a person cares about.
pub(super) struct Span(pub(super) u64);

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (ms, s) = (self.0 / 1_000_000, self.0 / 1_000_000_000);
        match s {
            0 if ms == 0 => write!(f, "{} us", self.0 / 1_000),
            0 => write!(f, "{ms} ms"),
            1..60 => write!(f, "{}.{} s", s, ms % 1_000 / 100),
            60..3_600 => write!(f, "{} min {} s", s / 60, s % 60),
            3_600..86_400 => write!(f, "{} h {} min", s / 3_600, s % 3_600 / 60),
            _ => write!(f, "{} d {} h", s / 86_400, s % 86_400 / 3_600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_keep_two_units() {
        let span = |ns| Span(ns).to_string();
        assert_eq!(span(7_000), "7 us");
        assert_eq!(span(7_900_000), "7 ms");
        assert_eq!(span(7_990_000_000), "7.9 s");
        assert_eq!(span(61_000_000_000), "1 min 1 s");
        assert_eq!(span(u64::MAX), "213503 d 23 h");
    }
}
