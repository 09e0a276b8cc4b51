//! Who called into a library: the part that all records of uprobes have in common.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::ProcessKey;

/// The process that called, as the kernel knows it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Caller {
    /// The process.
    pub process: ProcessKey,
    /// Its parent: a login program may fork between its calls.
    pub parent: ProcessKey,
    /// Effective user id, in the initial user namespace.
    pub euid: u32,
    /// Mount namespace: a login inside a container is not one onto the node.
    pub mnt_namespace: u32,
    /// `task_struct.comm`.
    pub comm: [u8; 16],
}
