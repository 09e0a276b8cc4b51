//! Raw facts of a process, from its exec record or from /proc, as the public [`Process`] and what the pipeline needs
//! beyond it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use postern_ebpf::abi::{Credentials as RawCredentials, ExecFlags, FileIdentity, Namespaces, ProcessKey, Tty};

use super::{
    intern::Texts,
    key::{Identity, to_tick},
    programs::Programs,
    redact::redact,
    seed::SeedProcess,
    text::printable,
    users::Passwd,
};
use crate::{
    event::{Arguments, Capabilities, Credentials, Executable, InMemory, Process, Program, Terminal, User},
    record::Exec,
};

/// What the kernel says of a process and the public model does not carry.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelFacts {
    /// Capabilities it can ever have.
    pub bounding: u64,
    /// Capabilities it has now.
    pub effective: u64,
    /// `seccomp(2)` mode; `u32::MAX` where unknown.
    pub seccomp_mode: u32,
    /// Whether an exec can raise its privileges.
    pub no_new_privileges: bool,
    /// Effective user id.
    pub user_id: u32,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// The pid in its own pid namespace.
    pub inner_pid: u32,
}

/// Knows what turns raw facts into public ones: which boot this is, when it began, and the node's users.
pub struct Decoder {
    boot_id: Arc<str>,
    identity: Identity,
    boot_time: Timestamp,
    users: Passwd,
    host: Namespaces,
    texts: Texts,
    programs: Programs,
    /// Of the last few processes that acted as different users, whether the node's users are theirs, and what came of it.
    credentials: VecDeque<(RawCredentials, bool, Arc<Credentials>)>,
}

/// How many credentials are remembered: most of what a node runs acts as one of a few users.
const CREDENTIALS: usize = 8;

impl Decoder {
    /// `boot_time_ns` is the node's clock at boot, in nanoseconds since 1970; `host` the namespaces of the node's init.
    pub fn new(boot_id: &str, boot_time_ns: i128, users: Passwd, host: Namespaces) -> Self {
        let boot_time = Timestamp::from_nanosecond(boot_time_ns).unwrap_or(Timestamp::UNIX_EPOCH);
        let identity = Identity::of_boot(boot_id);
        Self {
            boot_id: boot_id.into(),
            identity,
            boot_time,
            users,
            host,
            texts: Texts::default(),
            programs: Programs::default(),
            credentials: VecDeque::new(),
        }
    }

    /// The boot began then, by the node's clock as it is set now. Yields by how much that is ahead of what is known here, if it
    /// was set at all: what chronyd and its like do all the time is to make it go faster or slower, and the clock since boot with it.
    pub fn follow_clock(&mut self, boot_time_ns: i128) -> Option<SignedDuration> {
        const STEP: Duration = Duration::from_millis(10);
        let boot_time = Timestamp::from_nanosecond(boot_time_ns).unwrap_or(Timestamp::UNIX_EPOCH);
        let by = boot_time.duration_since(self.boot_time);
        (by.unsigned_abs() >= STEP).then(|| {
            self.boot_time = boot_time;
            by
        })
    }

    /// The node's users are these from now on.
    pub fn set_users(&mut self, users: Passwd) {
        self.users = users;
        self.credentials.clear();
        self.programs = Programs::default();
    }

    /// The node's clock at `since_boot_ns` nanoseconds after boot.
    pub fn time(&self, since_boot_ns: u64) -> Timestamp {
        const SECOND: i64 = 1_000_000_000;
        // Not by way of all nanoseconds since 1970, which take 128 bits to divide.
        let since_boot_ns = i64::try_from(since_boot_ns).unwrap_or(i64::MAX);
        let nanosecond = i64::from(self.boot_time.subsec_nanosecond()) + since_boot_ns % SECOND;
        let second = self.boot_time.as_second() + since_boot_ns / SECOND + nanosecond / SECOND;
        Timestamp::new(second, (nanosecond % SECOND) as i32).unwrap_or(Timestamp::MAX)
    }

    /// How long after boot the node's clock showed that, in nanoseconds; nothing where it showed an earlier time.
    pub fn since_boot_ns(&self, time: Timestamp) -> u64 {
        u64::try_from(time.duration_since(self.boot_time).as_nanos()).unwrap_or(0)
    }

    /// The groups of the node that a user is in.
    pub fn groups(&self, user: &str) -> Vec<Arc<str>> {
        self.users.groups(user)
    }

    /// The node's boot id.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// The id of the session that this process opened.
    pub fn session_id(&self, process: ProcessKey) -> Arc<str> {
        self.identity.session(process)
    }

    /// A process after its exec, in a container's cgroup or in none.
    pub fn exec(&mut self, exec: &Exec<'_>, of_container: bool) -> (Arc<Process>, KernelFacts) {
        let body = exec.body;
        let flags = body.flags;
        let is = |flag: u32| flags & flag != 0;
        let facts = facts(&body.credentials, body.namespaces, body.inner_pid);
        let is_of_node = self.is_of_node(&facts, of_container);
        let program = self.programs.get(exec, is_of_node).unwrap_or_else(|| {
            let mut executable = executable(self.texts.path(exec.executable), &body.file);
            executable.path_cut = is(ExecFlags::PATH_CUT);
            executable.script = is(ExecFlags::SCRIPT).then(|| printable(exec.filename));
            executable.in_memory = if is(ExecFlags::MEMFD) {
                Some(InMemory::Program)
            } else {
                is(ExecFlags::SCRIPT_MEMFD).then_some(InMemory::Script)
            };
            executable.deleted = body.file.links == 0 && !is(ExecFlags::MEMFD);
            let program = Arc::new(Program {
                executable,
                name: self.texts.get(crate::record::until_zero(&body.comm)),
                working_directory: self.texts.path(exec.cwd),
                credentials: self.credentials(&body.credentials, is_of_node),
                terminal: terminal(body.tty),
            });
            self.programs.put(exec, is_of_node, &program);
            program
        });
        let raw = Raw {
            key: body.process,
            argv: exec.argv,
            args_cut: is(ExecFlags::ARGV_CUT),
            args_unreadable: is(ExecFlags::ARGV_UNREADABLE),
            seeded: is(ExecFlags::FOUND),
        };
        (self.process(raw, &facts, program), facts)
    }

    /// A process that was there before the agent, in a container's cgroup or in none.
    pub fn seeded(&mut self, seed: &SeedProcess, of_container: bool) -> (Arc<Process>, KernelFacts) {
        let mut executable = executable(self.texts.get(&seed.executable), &seed.file);
        let memfd = seed.deleted && seed.executable.starts_with(b"/memfd:");
        executable.in_memory = memfd.then_some(InMemory::Program);
        executable.deleted = seed.deleted && !memfd;
        let facts = facts(&seed.credentials, seed.namespaces, seed.inner_pid);
        let is_of_node = self.is_of_node(&facts, of_container);
        let program = Program {
            executable,
            name: self.texts.get(&seed.comm),
            working_directory: self.texts.get(&seed.cwd),
            credentials: self.credentials(&seed.credentials, is_of_node),
            terminal: terminal(seed.tty),
        };
        let raw =
            Raw { key: seed.key, argv: &seed.argv, args_cut: seed.argv_cut, args_unreadable: false, seeded: true };
        (self.process(raw, &facts, Arc::new(program)), facts)
    }

    /// A process that was forked from `image` and has not executed: it runs the same program under its own key.
    pub fn forked(&self, image: &Process, key: ProcessKey, comm: &[u8]) -> Process {
        let key = to_tick(key);
        Process {
            key,
            entity_id: self.identity.process(key),
            start: self.time(key.start_ns),
            start_ns: key.start_ns,
            inner_pid: None,
            program: Arc::new(Program { name: printable(crate::record::until_zero(comm)), ..Program::clone(image) }),
            forked: true,
            ..image.clone()
        }
    }

    /// A process of which only this is known.
    pub fn unknown(&self, key: ProcessKey, comm: &[u8]) -> Process {
        let key = to_tick(key);
        Process {
            key,
            entity_id: self.identity.process(key),
            inner_pid: None,
            start: self.time(key.start_ns),
            start_ns: key.start_ns,
            program: Arc::new(Program { name: printable(crate::record::until_zero(comm)), ..Program::default() }),
            args: Arguments::of_text("".into()),
            args_count: None,
            args_cut: false,
            args_unreadable: false,
            args_redacted: false,
            seeded: true,
            forked: false,
        }
    }

    fn process(&mut self, raw: Raw<'_>, facts: &KernelFacts, program: Arc<Program>) -> Arc<Process> {
        let key = to_tick(raw.key);
        let args = Arguments::of_text(printable(raw.argv));
        let redacted = redact(&args);
        let args_redacted = redacted.is_some();
        let args = redacted.unwrap_or(args);
        Arc::new(Process {
            key,
            entity_id: self.identity.process(key),
            inner_pid: (facts.inner_pid != 0 && facts.inner_pid != key.tgid).then_some(facts.inner_pid),
            // To the nanosecond where the kernel said so; the key is brought down to the tick.
            start: self.time(raw.key.start_ns),
            start_ns: raw.key.start_ns,
            program,
            args_count: (!raw.args_cut && !raw.args_unreadable).then_some(args.count() as u64),
            args,
            args_cut: raw.args_cut,
            args_unreadable: raw.args_unreadable,
            args_redacted,
            seeded: raw.seeded,
            forked: false,
        })
    }

    /// Whether the node's users are its users: it is on the node, or one of the node's services that sees other mounts.
    fn is_of_node(&self, facts: &KernelFacts, of_container: bool) -> bool {
        let own = facts.namespaces;
        own.mnt == self.host.mnt || !of_container && own.pid == self.host.pid
    }

    /// Shared by those who act as the same.
    fn credentials(&mut self, raw: &RawCredentials, is_of_node: bool) -> Arc<Credentials> {
        let mut known = self.credentials.iter();
        if let Some((_, _, known)) = known.find(|(of, of_node, _)| of == raw && *of_node == is_of_node) {
            return Arc::clone(known);
        }
        let user = |id: u32| User { id, name: if is_of_node { self.users.name(id) } else { None } };
        let group = |id: u32| User { id, name: None };
        let set = |value: u32| (value != u32::MAX).then_some(value);
        let credentials = Arc::new(Credentials {
            user: user(raw.euid),
            group: group(raw.egid),
            real_user: user(raw.uid),
            real_group: group(raw.gid),
            saved_user: user(raw.suid),
            saved_group: group(raw.sgid),
            login_user: set(raw.login_uid).map(|id| User { id, name: self.users.name(id) }),
            audit_session: set(raw.audit_session),
            effective: Capabilities(raw.cap_effective),
            permitted: Capabilities(raw.cap_permitted),
        });
        self.credentials.truncate(CREDENTIALS - 1);
        self.credentials.push_front((*raw, is_of_node, Arc::clone(&credentials)));
        credentials
    }
}

#[derive(Clone, Copy)]
struct Raw<'a> {
    key: ProcessKey,
    argv: &'a [u8],
    args_cut: bool,
    args_unreadable: bool,
    seeded: bool,
}

fn terminal(Tty { major, minor }: Tty) -> Option<Terminal> {
    (major != 0).then_some(Terminal { major, minor })
}

fn executable(path: Arc<str>, file: &FileIdentity) -> Executable {
    Executable { path: path.into(), inode: file.inode, device: file.device_numbers(), ..Executable::default() }
}

fn facts(credentials: &RawCredentials, namespaces: Namespaces, inner_pid: u32) -> KernelFacts {
    KernelFacts {
        bounding: credentials.cap_bounding,
        effective: credentials.cap_effective,
        seccomp_mode: credentials.seccomp_mode,
        no_new_privileges: credentials.no_new_privs != 0,
        user_id: credentials.euid,
        namespaces,
        inner_pid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_with_mounts_of_its_own_has_the_nodes_users_and_a_container_has_not() {
        let host = Namespaces { mnt: 1, pid: 1, ..Namespaces::default() };
        let decoder = Decoder::new("boot", 0, Passwd::default(), host);
        let is_of_node = |mnt: u32, pid: u32, of_container: bool| {
            let namespaces = Namespaces { mnt, pid, ..Namespaces::default() };
            decoder.is_of_node(&KernelFacts { namespaces, ..KernelFacts::default() }, of_container)
        };
        assert!(is_of_node(1, 1, false), "the node itself");
        assert!(is_of_node(2, 1, false), "a service, as with PrivateTmp= of its unit");
        assert!(is_of_node(1, 1, true), "a runtime, before it enters a container");
        assert!(!is_of_node(2, 1, true), "a pod with hostPID");
        assert!(!is_of_node(2, 2, false), "a container that no runtime is known to have made");
    }
}
