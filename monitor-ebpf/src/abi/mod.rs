//! The ABI between the kernel programs and user space: one struct per record kind, and the table of kernel
//! fields that the programs read.
//!
//! A record is a [`Header`], a fixed body that its `kind` names, and for some kinds a variable tail. All integers
//! are in the machine's own byte order, since both sides run on one machine. Every struct derives zerocopy's
//! traits, so user space decodes without `unsafe` and padding does not compile.

mod caller;
mod counters;
mod exec;
mod exit;
mod fields;
mod log;
mod login;
mod settings;
mod task;

pub use caller::Caller;
pub use counters::{CpuAccount, HookCounters, HookId};
pub use exec::{Credentials, ExecBody, ExecFlags, FileIdentity, Namespaces, TailLengths, Tty};
pub use exit::ExitBody;
pub use fields::{ABSENT, FIELDS, Field, KernelFields};
pub use log::{LOG_TEXT, LogBody};
pub use login::{LOGIN_TEXT, LoginBody, LoginCall};
pub use settings::{CgroupHierarchy, Settings};
pub use task::{EntryMark, Inheritance, LoginClass, SSH_SERVERS, TaskState};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Identifies a process for the life of this boot: pids are reused, a pid and its start time are not.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ProcessKey {
    /// When the process started, in nanoseconds since boot (`task_struct.start_boottime`).
    pub start_ns: u64,
    /// The thread group id: what user space calls the pid.
    pub tgid: u32,
    /// Always zero; keeps the layout free of padding.
    pub reserved: u32,
}

impl ProcessKey {
    /// The key of no process.
    pub const NONE: Self = Self { start_ns: 0, tgid: 0, reserved: 0 };

    /// A key from its two parts.
    pub const fn new(tgid: u32, start_ns: u64) -> Self {
        Self { start_ns, tgid, reserved: 0 }
    }

    /// Whether this is the key of no process.
    pub const fn is_none(&self) -> bool {
        self.tgid == 0
    }
}

/// What a record's body is.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A process replaced its program: [`ExecBody`] and its tail.
    Exec = 1,
    /// A process whose exec was recorded has ended: [`ExitBody`].
    Exit = 2,
    /// A login program called into libpam: [`LoginBody`].
    Login = 3,
    /// A login program logged a line: [`LogBody`].
    Log = 4,
}

/// Stands at the start of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Header {
    /// When it happened, in nanoseconds since boot, sleep included (`CLOCK_BOOTTIME`).
    pub time_ns: u64,
    /// Counts the records of this CPU, and is taken before room in the ring is asked for: a record that found no
    /// room leaves a hole.
    pub sequence: u64,
    /// The length of the whole record in bytes, header included.
    pub length: u32,
    /// The CPU whose `sequence` this is.
    pub cpu: u16,
    /// A [`RecordKind`].
    pub kind: u16,
}
