//! Accounting: `seen = submitted + filtered + rate_limited + lost`, for each hook.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Each attach point that yields records, in the order of [`CpuAccount::hooks`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HookId {
    /// Raw tracepoint `sched_process_exec`.
    Exec = 0,
    /// Raw tracepoint `sched_process_fork`; yields no records, so all it sees is filtered.
    Fork = 1,
    /// Raw tracepoint `sched_process_exit`.
    Exit = 2,
    /// Uprobes on libpam.
    Pam = 3,
    /// Uprobes on `syslog(3)` in libc.
    Syslog = 4,
}

impl HookId {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::Exec, Self::Fork, Self::Exit, Self::Pam, Self::Syslog];

    /// The name under which users see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Fork => "fork",
            Self::Exit => "exit",
            Self::Pam => "pam",
            Self::Syslog => "syslog",
        }
    }
}

/// What one CPU counts. What every exec touches stands together: a map for each CPU's values would take one line of cache more for
/// the way to each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CpuAccount {
    /// Always zero. On Linux 6.18 a map's values begin eight bytes before a line of cache (`struct bpf_array`): with this in front, what
    /// an exec counts is in one line, and it would be where they begin with one.
    pub reserved: u64,
    /// The sequence number of its next record.
    pub next_sequence: u64,
    /// At each hook, by [`HookId`].
    pub hooks: [HookCounters; HookId::ALL.len()],
    /// Always zero: no line of cache is two CPUs'.
    pub apart: [u64; 8],
}

/// What one CPU counted at one hook.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HookCounters {
    /// Times that the hook ran.
    pub seen: u64,
    /// Records handed to the ring.
    pub submitted: u64,
    /// Not of interest, and known so in the kernel.
    pub filtered: u64,
    /// Held back by a rate limit.
    pub rate_limited: u64,
    /// The ring had no room, or the scratch space was missing.
    pub lost: u64,
    /// Processes that the `TASKS` map had no room for: their lineage is guessed in user space. Not part of the sum.
    pub untracked: u64,
}
