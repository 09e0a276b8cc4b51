//! `process.*`: a process, its parent and its leaders. Kibana's Session View draws its tree from these fields.

use super::capabilities::Sets;
use crate::{
    event::{Argument, Body, Entry, Event, Executable, InMemory, Lineage, Process, Terminal, User},
    sink::encode::{
        command_line::{self, Quoting},
        json::Object,
    },
};

/// How many bytes of arguments a parent or leader brings along. A process with a whole 128 KiB of arguments would
/// otherwise make every event of its descendants many times as long; its own event has them all.
const RELATIVE_ARGS_BYTES: usize = 4096;

/// `process`, whole.
pub(super) fn lineage(event: &Event, lineage: &Lineage, sets: &mut Sets, fields: &mut Object<'_>) {
    let process = &*lineage.process;
    common(process, &process.args, fields);
    command_line(&process.args, fields);
    fields.object("thread", |thread| {
        thread.text("name", &process.name);
        thread.object("capabilities", |capabilities| {
            sets.write("effective", process.credentials.effective, capabilities);
            sets.write("permitted", process.credentials.permitted, capabilities);
        });
    });
    if let Body::End { exit_code } = event.body {
        fields.signed("exit_code", i64::from(exit_code));
        fields.time("end", event.time);
    }
    if let Some(parent) = &lineage.parent {
        let args = within_limit(parent);
        fields.object("parent", |fields| {
            common(parent, args, fields);
            command_line(args, fields);
        });
    }
    for (key, leader) in [("group_leader", &lineage.group_leader), ("session_leader", &lineage.session_leader)] {
        if let Some(leader) = leader {
            fields.object(key, |fields| self::leader(leader, process, fields));
        }
    }
    fields.object("entry_leader", |fields| {
        match (&lineage.entry_leader, &lineage.entry) {
            (Some(leader), _) => self::leader(leader, process, fields),
            (None, Some(entry)) => fields.number("pid", u64::from(entry.leader.tgid)),
            (None, None) => {}
        }
        if let Some(entry) = &lineage.entry {
            fields.object("entry_meta", |fields| meta(entry, fields));
        }
    });
}

/// `postern.process`.
pub(super) fn own(lineage: &Lineage, fields: &mut Object<'_>) {
    let process = &*lineage.process;
    let Executable { path_cut, inode, device: (major, minor), script, in_memory, deleted, .. } = &process.executable;
    fields.flag("args_cut", process.args_cut);
    fields.flag("args_unreadable", process.args_unreadable);
    fields.flag("args_redacted", process.args_redacted);
    fields.flag(
        "relative_args_cut",
        relatives(lineage).any(|relative| within_limit(relative).len() < relative.args.len()),
    );
    fields.flag("path_cut", *path_cut);
    fields.flag("deleted", *deleted);
    fields.flag("seeded", process.seeded);
    fields.maybe_text("in_memory", in_memory.map(InMemory::as_str));
    fields.maybe_text("script", script.as_deref());
    if *inode != 0 {
        fields.identifier("inode", *inode);
        fields.display("device", format_args!("{major}:{minor}"));
    }
    if let Some(user) = &process.credentials.login_user {
        fields.object("login_user", |fields| self::user(user, fields));
    }
    if let Some(session) = process.credentials.audit_session {
        fields.number("audit_session", u64::from(session));
    }
}

/// `event.duration` of an end: how long the process lived.
pub(super) fn lifetime(event: &Event, fields: &mut Object<'_>) {
    let Some(lineage) = &event.lineage else { return };
    // The node's clock may have been set back meanwhile, so the difference may be less than nothing.
    if let Ok(lived) = u64::try_from(event.time.duration_since(lineage.process.start).as_nanos()) {
        fields.number("duration", lived);
    }
}

/// A user's or group's `id` and `name`.
pub(super) fn user(user: &User, fields: &mut Object<'_>) {
    fields.identifier("id", u64::from(user.id));
    fields.maybe_text("name", user.name.as_deref());
}

fn leader(leader: &Process, process: &Process, fields: &mut Object<'_>) {
    common(leader, within_limit(leader), fields);
    fields.boolean("same_as_process", leader.key == process.key);
}

/// What ECS has for a process, a parent and every leader alike.
fn common(process: &Process, args: &[Argument], fields: &mut Object<'_>) {
    fields.number("pid", u64::from(process.key.tgid));
    if let Some(inner) = process.inner_pid {
        fields.number("vpid", u64::from(inner));
    }
    fields.text("entity_id", &process.entity_id);
    fields.time("start", process.start);
    fields.text("executable", &process.executable.path);
    let name = process.executable_name();
    fields.text("name", if name.is_empty() { &process.name } else { name });
    fields.texts("args", args);
    if let Some(count) = process.args_count {
        fields.number("args_count", count);
    }
    fields.text("working_directory", &process.working_directory);
    fields.boolean("interactive", process.terminal.is_some());
    if let Some(Terminal { major, minor }) = process.terminal {
        fields.object("tty", |tty| {
            tty.object("char_device", |device| {
                device.number("major", u64::from(major));
                device.number("minor", u64::from(minor));
            });
        });
    }
    let who = &process.credentials;
    for (key, one) in [
        ("user", &who.user),
        ("group", &who.group),
        ("real_user", &who.real_user),
        ("real_group", &who.real_group),
        ("saved_user", &who.saved_user),
        ("saved_group", &who.saved_group),
    ] {
        fields.object(key, |fields| user(one, fields));
    }
}

fn command_line(args: &[Argument], fields: &mut Object<'_>) {
    if !args.is_empty() {
        fields.written("command_line", |out| {
            // The writer escapes into a String, which takes everything.
            let _ = command_line::write(args, Quoting::Plain, out);
        });
    }
}

fn meta(entry: &Entry, fields: &mut Object<'_>) {
    fields.text("type", entry.entry_type.as_str());
    fields.object("source", |source| source.ip("ip", entry.source_ip));
}

fn relatives(lineage: &Lineage) -> impl Iterator<Item = &Process> {
    [&lineage.parent, &lineage.group_leader, &lineage.session_leader, &lineage.entry_leader]
        .into_iter()
        .filter_map(Option::as_deref)
}

/// The arguments that fit into [`RELATIVE_ARGS_BYTES`], whole ones only.
fn within_limit(process: &Process) -> &[Argument] {
    let mut left = RELATIVE_ARGS_BYTES;
    let fits = process.args.iter().take_while(|arg| {
        // An empty argument takes room too: its quotes and its comma.
        let fits = arg.len() + 3 <= left;
        left = left.saturating_sub(arg.len() + 3);
        fits
    });
    &process.args[..fits.count()]
}
