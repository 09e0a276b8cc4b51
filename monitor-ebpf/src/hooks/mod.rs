//! One file for each attach point.

mod exec;
mod exit;
mod fork;
mod pam;
mod syslog;
mod tail;

pub use exec::ExecRecord;
