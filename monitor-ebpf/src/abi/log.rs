//! The record of a line that a login program logged with `syslog(3)`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Caller;

/// The most of one line that a record holds, in bytes, its closing zero included. sshd cuts its own lines at 500.
pub const LOG_TEXT: usize = 768;

/// What a log record carries.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct LogBody {
    /// Who logged: known to the kernel, so a forged line names its forger.
    pub caller: Caller,
    /// `syslog(3)` priority: facility and level.
    pub priority: u32,
    /// How many bytes of `text` are used.
    pub length: u32,
    /// The first argument of the format `"%.500s"`, with which sshd logs each line.
    pub text: [u8; LOG_TEXT],
}
