//! What user space tells the kernel programs before they are loaded.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Which cgroup hierarchy names a process's container.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupHierarchy {
    /// The unified one (cgroup v2).
    Unified = 0,
    /// The v1 hierarchy of the `pids` controller.
    Pids = 1,
    /// The v1 hierarchy of the `memory` controller.
    Memory = 2,
}

/// Read-only while the programs run.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Settings {
    /// After a wake-up, how long this CPU's ordinary records wait for the next one, in nanoseconds. User space goes
    /// on draining for at least this long after a wake-up, so that no record waits longer.
    pub quiet_ns: u64,
    /// How many bytes in the ring wake user space at once.
    pub wake_bytes: u64,
    /// A [`CgroupHierarchy`].
    pub cgroup_hierarchy: u32,
    /// Always zero.
    pub reserved: u32,
}
