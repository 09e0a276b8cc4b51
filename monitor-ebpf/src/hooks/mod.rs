//! One file for each attach point, and two that are read: what runs already, and what those that run have from others.

mod exec;
mod exit;
mod fork;
mod inherited;
mod pam;
mod record;
mod seed;
mod servers;
mod syslog;

pub use record::ExecRecord;
