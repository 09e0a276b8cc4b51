//! The process's exit codes: what a service manager, or whoever typed the command, can act on.

use std::process::ExitCode;

/// How the process ends. From 64 on, the numbers are those of `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or drained and stopped as asked.
    Success = 0,
    /// The answer is no: the agent that was asked about is not well, or no rule covers the login.
    No = 1,
    /// Wrong arguments, or a wrong configuration (`EX_USAGE`).
    Usage = 64,
    /// The kernel lacks what the agent needs (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// A part of the agent died (`EX_SOFTWARE`).
    Software = 70,
    /// What the agent watches was replaced: it is to be started again (`EX_TEMPFAIL`).
    Again = 75,
    /// Privileges are missing (`EX_NOPERM`).
    NoPermission = 77,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
