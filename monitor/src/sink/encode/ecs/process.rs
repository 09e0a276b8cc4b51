//! `process.*`: a process, its parent and its leaders. Kibana's Session View draws its tree from these fields.

use std::sync::Arc;

use super::{capabilities::Sets, memo::Memo};
use crate::{
    event::{
        Body, Capabilities, Credentials, End, Entry, Event, Executable, InMemory, Lineage, Process, Program, Terminal,
        User,
    },
    sink::encode::{
        command_line::{self, Quoting},
        json::{Fields, Object},
    },
};

/// How many bytes of arguments a parent or leader brings along. A process with a whole 128 KiB of arguments would
/// otherwise make every event of its descendants many times as long; its own event has them all.
const RELATIVE_ARGS_BYTES: usize = 1_024;
/// How many parents and leaders are remembered as they were encoded.
const REMEMBERED: usize = 16_384;
/// How many credentials are: processes of one user share theirs.
const ACTORS: usize = 64;
/// How many programs are, on the node and in containers.
const PROGRAMS: usize = 256;

/// What is reused from one process to the next.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    relatives: Relatives,
    /// The fields of `user`.
    actors: Memo<Credentials, Fields>,
    programs: Programs,
    pub(super) sets: Sets,
    /// What the node's init can be allowed.
    all_capabilities: Capabilities,
}

/// What is said of programs: on the node, and in containers, where capabilities are named that nobody names on the node.
#[derive(Clone, Debug)]
pub(super) struct Programs([Memo<Program, Fields>; 2]);

/// Processes as others name them.
#[derive(Clone, Debug)]
struct Relatives {
    parents: Memo<Process, Fields>,
    leaders: Memo<Process, Fields>,
    /// The leaders of processes that end: of those which it is, and of what file.
    identities: Memo<Process, Fields>,
}

impl Shared {
    pub(super) fn new(all_capabilities: Capabilities) -> Self {
        let relatives = || Memo::new(REMEMBERED);
        let relatives = Relatives { parents: relatives(), leaders: relatives(), identities: relatives() };
        let (actors, programs) = (Memo::new(ACTORS), Programs::default());
        Self { relatives, actors, programs, sets: Sets::default(), all_capabilities }
    }

    /// The fields of the user as whom a process acts.
    pub(super) fn user(&mut self, who: &Arc<Credentials>, fields: &mut Object<'_>) {
        fields.splice(self.actors.fields(who, |who, fields| user(&who.user, fields)));
    }

    /// What a process runs.
    fn program(&mut self, program: &Arc<Program>, in_container: bool, fields: &mut Object<'_>) {
        let has_all = has_all_capabilities(&program.credentials, in_container, self.all_capabilities);
        let sets = &mut self.sets;
        if is_shared(program) {
            let write = |fields: &mut Object<'_>| self::program(program, has_all, sets, fields);
            fields.splice(self.programs.get(program, in_container, write));
        } else {
            self::program(program, has_all, sets, fields);
        }
    }
}

impl Default for Programs {
    fn default() -> Self {
        Self([Memo::new(PROGRAMS), Memo::new(PROGRAMS)])
    }
}

impl Programs {
    /// What `write` writes, or wrote the first time.
    pub(super) fn get(
        &mut self,
        program: &Arc<Program>,
        in_container: bool,
        write: impl FnOnce(&mut Object<'_>),
    ) -> &Fields {
        self.0[usize::from(in_container)].fields(program, |_, fields| write(fields))
    }
}

/// Whether others run the same, or did a moment ago, so that it is worth while to remember what is said of it: one process holds it,
/// and whoever finds it for the next one.
pub(super) fn is_shared(program: &Arc<Program>) -> bool {
    Arc::strong_count(program) > 2
}

/// `process`, but for its relatives. Of one that has ended: who it was, and how it ended. All else was said at its execution.
pub(super) fn own(event: &Event, lineage: &Lineage, shared: &mut Shared, fields: &mut Object<'_>) {
    let process = &*lineage.process;
    if let Body::End(end) = event.body {
        identity(process, fields);
        command_line(process, usize::MAX, fields);
        fields.object("user", |fields| shared.user(&process.credentials, fields));
        return self::end(end, fields);
    }
    number(process, fields);
    arguments(process, usize::MAX, fields);
    if let Some(end) = event.end() {
        self::end(end, fields);
    }
    shared.program(&process.program, event.container.is_some(), fields);
}

/// How it ended.
fn end(End { exit_code, time, .. }: End, fields: &mut Object<'_>) {
    if let Some(exit_code) = exit_code {
        fields.signed("exit_code", i64::from(exit_code));
    }
    fields.time("end", time);
}

/// Whom it hangs from.
pub(super) fn relatives(event: &Event, lineage: &Lineage, shared: &mut Shared, fields: &mut Object<'_>) {
    let process = &*lineage.process;
    let Relatives { parents, leaders, identities } = &mut shared.relatives;
    if let Body::End(_) = event.body {
        return entry_leader(lineage, fields, |leader, fields| {
            fields.splice(identities.fields(leader, identity));
        });
    }
    if let Some(parent) = &lineage.parent {
        fields.object("parent", |fields| fields.splice(parents.fields(parent, self::parent)));
    }
    for (key, leader) in [("group_leader", &lineage.group_leader), ("session_leader", &lineage.session_leader)] {
        if let Some(leader) = leader {
            fields.object(key, |fields| leader_of(process, leader, leaders, fields));
        }
    }
    entry_leader(lineage, fields, |leader, fields| leader_of(process, leader, leaders, fields));
}

/// `process.entry_leader`. `write` writes the leader itself, where it is known.
fn entry_leader(lineage: &Lineage, fields: &mut Object<'_>, write: impl FnOnce(&Arc<Process>, &mut Object<'_>)) {
    fields.object("entry_leader", |fields| {
        match (&lineage.entry_leader, &lineage.entry) {
            (Some(leader), _) => write(leader, fields),
            (None, Some(entry)) => fields.number("pid", u64::from(entry.leader.tgid)),
            (None, None) => {}
        }
        if let Some(entry) = &lineage.entry {
            fields.object("entry_meta", |fields| meta(entry, fields));
        }
    });
}

/// Root's own processes on the node, whose two lists of forty would be the greater part of every line. In a container they
/// say that it is privileged, and stay.
fn has_all_capabilities(who: &Credentials, in_container: bool, all: Capabilities) -> bool {
    !in_container && who.effective == all && who.permitted == all
}

/// Whether nothing in `postern.process` is of the process and not of its program.
pub(super) fn is_as_its_program(lineage: &Lineage) -> bool {
    let process = &*lineage.process;
    let cut = process.args_cut || process.args_unreadable || process.args_redacted;
    !cut && !process.seeded && !relative_args_cut(lineage)
}

fn relative_args_cut(lineage: &Lineage) -> bool {
    lineage.parent.as_ref().is_some_and(|parent| within_limit(parent).1)
}

/// `postern.process`.
pub(super) fn postern(event: &Event, lineage: &Lineage, shared: &Shared, fields: &mut Object<'_>) {
    let process = &*lineage.process;
    let Executable { path_cut, inode, device, script, in_memory, deleted, .. } = &process.executable;
    fields.flag("args_cut", process.args_cut);
    fields.flag("args_unreadable", process.args_unreadable);
    fields.flag("args_redacted", process.args_redacted);
    fields.flag("path_cut", *path_cut);
    fields.flag("seeded", process.seeded);
    if !matches!(event.body, Body::End(_)) {
        fields.flag("relative_args_cut", relative_args_cut(lineage));
        let in_container = event.container.is_some();
        let has_all = has_all_capabilities(&process.credentials, in_container, shared.all_capabilities);
        fields.flag("all_capabilities", has_all);
        fields.flag("deleted", *deleted);
        fields.maybe_text("in_memory", in_memory.map(InMemory::as_str));
        fields.maybe_text("script", script.as_deref());
        if *inode != 0 {
            fields.identifier("inode", *inode);
            fields.numbers("device", *device);
        }
    }
    if let Some(user) = &process.credentials.login_user {
        fields.object("login_user", |fields| self::user(user, fields));
    }
    if let Some(session) = process.credentials.audit_session {
        fields.number("audit_session", u64::from(session));
    }
}

/// A user's or group's `id` and `name`.
pub(super) fn user(user: &User, fields: &mut Object<'_>) {
    fields.identifier("id", u64::from(user.id));
    fields.maybe_text("name", user.name.as_deref());
}

fn leader_of(process: &Process, leader: &Arc<Process>, leaders: &mut Memo<Process, Fields>, fields: &mut Object<'_>) {
    let is_process = leader.key == process.key;
    if is_process {
        // It is another one for each process that leads itself: nothing to remember.
        self::leader(leader, fields);
    } else {
        fields.splice(leaders.fields(leader, self::leader));
    }
    fields.boolean("same_as_process", is_process);
}

/// What is said of a parent: all but its capabilities, and not all of its arguments if they are many.
fn parent(process: &Process, fields: &mut Object<'_>) {
    identity(process, fields);
    arguments(process, within_limit(process).0, fields);
    fields.text("working_directory", &process.working_directory);
    terminal(process, fields);
    actor(&process.credentials, fields);
}

/// What is said of a leader: who it is, as whom it runs and at which terminal. There are three on every line, and what else there
/// is to know of them is in their own events.
fn leader(process: &Process, fields: &mut Object<'_>) {
    identity(process, fields);
    terminal(process, fields);
    fields.object("user", |fields| user(&process.credentials.user, fields));
}

/// What a process was told to do. `most` is how many arguments are named.
fn arguments(process: &Process, most: usize, fields: &mut Object<'_>) {
    fields.texts("args", process.args.iter().take(most));
    if let Some(count) = process.args_count {
        fields.number("args_count", count);
    }
    command_line(process, most, fields);
}

/// What a process runs, where and as whom: the same for all who run it.
fn program(program: &Program, has_all_capabilities: bool, sets: &mut Sets, fields: &mut Object<'_>) {
    executable(program, fields);
    fields.text("working_directory", &program.working_directory);
    terminal(program, fields);
    actor(&program.credentials, fields);
    fields.object("thread", |thread| {
        thread.text("name", &program.name);
        if has_all_capabilities {
            return;
        }
        thread.object("capabilities", |capabilities| {
            sets.write("effective", program.credentials.effective, capabilities);
            sets.write("permitted", program.credentials.permitted, capabilities);
        });
    });
}

/// As whom a process acts. Real and saved ids are named where they differ from the effective ones, as they do under setuid.
fn actor(who: &Credentials, fields: &mut Object<'_>) {
    fields.object("user", |fields| user(&who.user, fields));
    fields.object("group", |fields| user(&who.group, fields));
    for (key, one, effective) in [
        ("real_user", &who.real_user, &who.user),
        ("real_group", &who.real_group, &who.group),
        ("saved_user", &who.saved_user, &who.user),
        ("saved_group", &who.saved_group, &who.group),
    ] {
        if one.id != effective.id {
            fields.object(key, |fields| user(one, fields));
        }
    }
}

fn terminal(program: &Program, fields: &mut Object<'_>) {
    fields.boolean("interactive", program.terminal.is_some());
    if let Some(Terminal { major, minor }) = program.terminal {
        fields.object("tty", |tty| {
            tty.object("char_device", |device| {
                device.number("major", u64::from(major));
                device.number("minor", u64::from(minor));
            });
        });
    }
}

/// Which process it is, and of what file.
fn identity(process: &Process, fields: &mut Object<'_>) {
    number(process, fields);
    executable(process, fields);
}

/// Which process it is.
fn number(process: &Process, fields: &mut Object<'_>) {
    fields.number("pid", u64::from(process.key.tgid));
    if let Some(inner) = process.inner_pid {
        fields.number("vpid", u64::from(inner));
    }
    fields.hexadecimal("entity_id", &process.entity_id.0);
    fields.time("start", process.start);
}

fn executable(program: &Program, fields: &mut Object<'_>) {
    fields.text("executable", &program.executable.path);
    let name = program.executable_name();
    fields.text("name", if name.is_empty() { &program.name } else { name });
}

fn command_line(process: &Process, most: usize, fields: &mut Object<'_>) {
    if most > 0 && !process.args.is_empty() {
        fields.written("command_line", |out| match command_line::plain(&process.args).filter(|_| most == usize::MAX) {
            Some(text) => out.plain(text),
            None => {
                // The writer escapes into memory, which takes everything.
                let _ = command_line::write(process.args.iter().take(most), Quoting::Plain, out);
            }
        });
    }
}

fn meta(entry: &Entry, fields: &mut Object<'_>) {
    fields.text("type", entry.entry_type().as_str());
    fields.object("source", |source| source.ip("ip", entry.source_ip));
}

/// How many arguments fit into [`RELATIVE_ARGS_BYTES`], whole ones only, and whether that leaves any out.
fn within_limit(process: &Process) -> (usize, bool) {
    if process.args.size() <= RELATIVE_ARGS_BYTES {
        return (usize::MAX, false);
    }
    let mut left = RELATIVE_ARGS_BYTES;
    let fits = process.args.iter().take_while(|arg| {
        let fits = arg.len() < left;
        left = left.saturating_sub(arg.len() + 1);
        fits
    });
    let count = fits.count();
    (count, count < process.args.count())
}
