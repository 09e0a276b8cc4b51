//! One file for each attach point, and one for what runs already.

mod exec;
mod exit;
mod fork;
mod pam;
mod seed;
mod servers;
mod syslog;
mod tail;

pub use exec::ExecRecord;
