//! The end of a line: what happened, beyond the columns before it.

use std::sync::Arc;

use super::line::{BOLD, BOLD_RED, BOLD_YELLOW, DIM, Line, RED, TEXT_LIMIT, YELLOW};
use crate::{
    event::{
        AgentEvent, Body, Container, End, Event, InMemory, Login, Process, SecurityContext, Severity, UserChange,
        called,
    },
    sink::encode::{
        command_line::{self, Quoting},
        sentence::{self, Named, Span},
    },
};

/// Appends what happened.
pub(super) fn write(event: &Event, line: &mut Line<'_>) {
    if let Some(alert) = &event.alert {
        let style = if alert.rule.severity >= Severity::High { BOLD_RED } else { BOLD_YELLOW };
        line.styled(style, |line| line.put(format_args!("{}: {}", alert.rule.severity.as_str(), alert.rule.name)));
        line.put(" - ");
        line.limited(TEXT_LIMIT, |line| line.put(&alert.message));
        return;
    }
    match (&event.body, &event.lineage) {
        (Body::Exec { end }, Some(lineage)) => {
            command(&lineage.process, "", line);
            remarks(&lineage.process, line);
            if let Some(end) = end {
                if let Some(exit_code) = end.exit_code {
                    let style = if exit_code == 0 { DIM } else { RED };
                    line.styled(style, |line| line.put(format_args!("  exit {exit_code}")));
                }
                lifetime(*end, line);
            }
        }
        (Body::End(end), Some(lineage)) => {
            command(&lineage.process, DIM, line);
            lifetime(*end, line);
        }
        (Body::ContainerStarted(context) | Body::ContainerEntered(context), lineage) => {
            if let Some(lineage) = lineage {
                command(&lineage.process, BOLD, line);
            }
            powers(event.container.as_deref(), context, line);
        }
        (Body::SessionOpened(login), _) => {
            opened(login, line);
            if let Some(maintenance) = &event.maintenance {
                line.limited(TEXT_LIMIT, |line| line.put(format_args!("  [maintenance {}]", maintenance.ticket)));
            }
        }
        (Body::SessionClosed(login), _) => {
            if let Some(summary) = &login.summary {
                line.put(format_args!("after {}, {} commands", Span(summary.duration_ns), summary.commands));
            }
        }
        (Body::LoginFailed(login), _) => failed(login, line),
        (Body::UserChanged(change), _) => changed(change, line),
        (Body::Agent(agent), _) if let AgentEvent::Started { sensors, missing } = &**agent => {
            coverage(sensors, missing, line);
        }
        _ => {
            if let Some(sentence) = sentence::of(event) {
                line.limited(TEXT_LIMIT, |line| line.put(sentence));
            }
        }
    }
}

/// The command line, or, as `ps` does it, the name in brackets where there is none.
fn command(process: &Process, style: &str, line: &mut Line<'_>) {
    line.styled(style, |line| {
        line.limited(TEXT_LIMIT, |line| {
            if process.args.is_empty() {
                let name = if process.executable.path.is_empty() { &*process.name } else { &*process.executable.path };
                return line.put(format_args!("[{name}]"));
            }
            // Writing to a String cannot fail.
            let _ = command_line::write(process.args.iter(), Quoting::Visible, line.out);
        });
    });
}

/// How long a process lived.
fn lifetime(end: End, line: &mut Line<'_>) {
    line.styled(DIM, |line| line.put(format_args!("  {}", Span(end.lived_ns))));
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

/// How somebody came in, beyond the columns before.
fn opened(login: &Login, line: &mut Line<'_>) {
    line.limited(TEXT_LIMIT, |line| {
        means(login, line);
        if let Some(key) = &login.key_fingerprint {
            line.put(format_args!(" {key}"));
        }
        if let Some(kind) = &login.key_type {
            line.put(format_args!(" ({kind})"));
        }
    });
    let Some(session) = login.session.as_deref() else { return };
    if !session.allowed {
        line.styled(BOLD_YELLOW, |line| line.put("  [not allowed]"));
    }
    if let Some(from) = session.from.get() {
        line.limited(TEXT_LIMIT, |line| line.put(format_args!("  [in the session of {}]", called(&from.user))));
    }
}

fn failed(login: &Login, line: &mut Line<'_>) {
    line.limited(TEXT_LIMIT, |line| {
        means(login, line);
        if login.attempts > 1 {
            line.put(format_args!(", {} times so far", login.attempts));
        }
        if let Some(refused) = &login.refused {
            line.put(format_args!(", {} users and {} sources or more", refused.users, refused.sources));
        }
        if login.user_known == Some(false) {
            line.put(", no such user");
        }
        if let Some(reason) = &login.reason {
            line.put(format_args!(": {reason}"));
        }
    });
}

fn changed(change: &UserChange, line: &mut Line<'_>) {
    line.limited(TEXT_LIMIT, |line| {
        line.put(format_args!("{} -> {} by {}", Named(&change.from), Named(&change.to), change.program));
    });
}

fn means(login: &Login, line: &mut Line<'_>) {
    line.put(format_args!("by {}", login.door.as_str()));
    if let Some(port) = login.source.port {
        line.put(format_args!(" port {port}"));
    }
    if let Some(method) = &login.method {
        line.put(format_args!(" with {}", method.as_str()));
    }
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

/// What the agent sees from now on, and what not.
fn coverage(sensors: &[Arc<str>], missing: &[Arc<str>], line: &mut Line<'_>) {
    line.put("watching");
    for (position, sensor) in sensors.iter().enumerate() {
        line.put(if position == 0 { " - " } else { ", " });
        line.put(sensor);
    }
    for missing in missing {
        line.styled(YELLOW, |line| line.put(format_args!("  [missing: {missing}]")));
    }
}
