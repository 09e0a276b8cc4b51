//! Processes, in the words of ECS.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

pub use postern_ebpf::abi::ProcessKey;

use super::{Arguments, Entry, Timestamp};

/// A process as it was after its last exec. Immutable, so that every event and every descendant shares it.
#[derive(Clone, Debug)]
pub struct Process {
    /// Identifies it for the life of this boot.
    pub key: ProcessKey,
    /// ECS `process.entity_id`: made of the boot id, the pid and the start time, the same in every run of the agent.
    pub entity_id: EntityId,
    /// The pid in its own pid namespace, if that differs.
    pub inner_pid: Option<u32>,
    /// When it started, by the node's clock as it was set then, or when the agent first saw it.
    pub start: Timestamp,
    /// The same in nanoseconds since boot: the node's clock may be set while it runs.
    pub start_ns: u64,
    /// What it runs.
    pub program: Arc<Program>,
    /// Its arguments, the program's own name first.
    pub args: Arguments,
    /// How many arguments were passed, those cut off included; `None` where nobody can say.
    pub args_count: Option<u64>,
    /// Whether arguments were cut off.
    pub args_cut: bool,
    /// Whether the arguments could not be read at all.
    pub args_unreadable: bool,
    /// Whether a value of an argument was replaced because it looks like a secret.
    pub args_redacted: bool,
    /// Whether it was found running, when the agent started or after a loss, instead of seen at its exec.
    pub seeded: bool,
    /// Whether it was forked from the program that it runs, and never executed one itself.
    pub forked: bool,
}

impl Deref for Process {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Process {
    /// For this process alone.
    fn deref_mut(&mut self) -> &mut Program {
        Arc::make_mut(&mut self.program)
    }
}

/// What a process runs, where, as whom and at which terminal: most often the same as the one before it, and then shared.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The file.
    pub executable: Executable,
    /// `task_struct.comm`; what `ps` shows in its short form.
    pub name: Arc<str>,
    /// Working directory at the exec.
    pub working_directory: Arc<str>,
    /// Who it acts as.
    pub credentials: Arc<Credentials>,
    /// Its controlling terminal.
    pub terminal: Option<Terminal>,
}

/// What identifies a process across events, runs and boots: 128 bits, shown in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntityId(pub [u8; 16]);

/// The file that a process runs.
#[derive(Clone, Debug, Default)]
pub struct Executable {
    /// Its path as the kernel resolved it, in the process's own mount namespace; empty where unknown.
    pub path: ProgramPath,
    /// Whether the path was cut.
    pub path_cut: bool,
    /// Inode number.
    pub inode: u64,
    /// Device, as `major:minor`.
    pub device: (u32, u32),
    /// If the file named at the exec was a script: its path as it was named.
    pub script: Option<Arc<str>>,
    /// Where the program is only in memory: how.
    pub in_memory: Option<InMemory>,
    /// Whether the file had no name left on any disk when it was executed (deleted, but not a memfd).
    pub deleted: bool,
}

/// The path of a program. It knows where its last name begins, which is asked many times of each process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramPath {
    text: Arc<str>,
    name_at: usize,
}

impl ProgramPath {
    /// The last name of it.
    pub fn name(&self) -> &str {
        &self.text[self.name_at..]
    }

    /// All of it.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }
}

impl From<Arc<str>> for ProgramPath {
    fn from(text: Arc<str>) -> Self {
        // Most names are short: the standard library's search is made for long ones.
        let name_at = text.bytes().rposition(|byte| byte == b'/').map_or(0, |at| at + 1);
        Self { text, name_at }
    }
}

impl From<&str> for ProgramPath {
    fn from(text: &str) -> Self {
        Arc::<str>::from(text).into()
    }
}

impl Deref for ProgramPath {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

/// How a program came to exist only in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InMemory {
    /// The program itself came from `memfd_create(2)`.
    Program,
    /// The script that the program interprets came from `memfd_create(2)`.
    Script,
}

impl InMemory {
    /// As `postern.process.in_memory` spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Script => "script",
        }
    }
}

/// A user or group id with its name in the node's own /etc/passwd, where it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Numeric id in the initial user namespace.
    pub id: u32,
    /// Its name on the node; `None` for processes in containers, whose names are their own.
    pub name: Option<Arc<str>>,
}

/// Who a process acts as.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Effective user: ECS `process.user`.
    pub user: User,
    /// Effective group.
    pub group: User,
    /// Real user.
    pub real_user: User,
    /// Real group.
    pub real_group: User,
    /// Saved user.
    pub saved_user: User,
    /// Saved group.
    pub saved_group: User,
    /// The user who once logged in, through every later change (`loginuid`); `None` where nobody did.
    pub login_user: Option<User>,
    /// The kernel's audit session id; `None` where there is none.
    pub audit_session: Option<u32>,
    /// Capabilities it can use now.
    pub effective: Capabilities,
    /// Capabilities it could raise.
    pub permitted: Capabilities,
}

/// A set of capabilities, a bit each (`capabilities(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

/// A controlling terminal, by its device numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Major device number (136 to 143 for a pseudo terminal).
    pub major: u32,
    /// Minor device number.
    pub minor: u32,
}

/// A process and those it hangs from.
#[derive(Clone, Debug)]
pub struct Lineage {
    /// The process.
    pub process: Arc<Process>,
    /// Those it hangs from. Its siblings share them, so that an event is small.
    pub relatives: Arc<Relatives>,
}

impl Deref for Lineage {
    type Target = Relatives;

    fn deref(&self) -> &Relatives {
        &self.relatives
    }
}

/// Those that a process hangs from.
#[derive(Clone, Debug, Default)]
pub struct Relatives {
    /// Its parent.
    pub parent: Option<Arc<Process>>,
    /// Its process group's leader.
    pub group_leader: Option<Arc<Process>>,
    /// Its session's leader (in the sense of `setsid(2)`).
    pub session_leader: Option<Arc<Process>>,
    /// The first process of its entry.
    pub entry_leader: Option<Arc<Process>>,
    /// How that entry was made.
    pub entry: Option<Arc<Entry>>,
}

impl Program {
    /// The file name of the executable.
    pub fn executable_name(&self) -> &str {
        self.executable.path.name()
    }
}

const CAPABILITY_NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What was a part of `CAP_SYS_ADMIN` before Linux 5.8 and 5.9 made it a capability of its own (`CAP_PERFMON`, `CAP_BPF`,
/// `CAP_CHECKPOINT_RESTORE`), and still is allowed to whoever has that one.
const OF_SYS_ADMIN: u64 = 1 << 38 | 1 << 39 | 1 << 40;
const SYS_ADMIN: u64 = 1 << 21;

impl Capabilities {
    /// Whether whoever has these may do everything that `node` allows. A runtime that is older than the newest capabilities
    /// (Debian 12's Docker) does not give those, and its privileged containers may do what they stand for all the same.
    pub const fn is_all_of(self, node: Self) -> bool {
        let implied = if self.0 & SYS_ADMIN == 0 { 0 } else { OF_SYS_ADMIN };
        Self(self.0 | implied).contains(node)
    }

    /// The names of the capabilities in the set, in their numeric order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        CAPABILITY_NAMES.into_iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| name)
    }

    /// Whether all of `other` is in the set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use super::Capabilities;

    #[test]
    fn who_has_sys_admin_needs_none_of_what_came_out_of_it() {
        let node = Capabilities((1 << 41) - 1);
        assert!(node.is_all_of(node));
        assert!(Capabilities((1 << 38) - 1).is_all_of(node), "as Debian 12's Docker gives them");
        assert!(!Capabilities(node.0 & !(1 << 21)).is_all_of(node), "without CAP_SYS_ADMIN");
        assert!(!Capabilities(node.0 & !(1 << 12)).is_all_of(node), "without CAP_NET_ADMIN");
        assert!(!Capabilities(0).is_all_of(node));
        assert!(!Capabilities((1 << 38) - 1).is_all_of(Capabilities((1 << 42) - 1)), "of a later kernel's");
    }
}
