//! The record of a process's end.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{EntryMark, ProcessKey};

/// What an exit record carries.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ExitBody {
    /// The process that ended.
    pub process: ProcessKey,
    /// How its process tree came to be here.
    pub entry: EntryMark,
    /// As `wait(2)` gives it: the low 7 bits name the signal that ended it, bits 8 to 15 its exit code.
    pub status: u32,
    /// [`super::TaskState::forked`].
    pub forked: u32,
}
