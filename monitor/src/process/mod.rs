//! The process tree: who runs, who they hang from, and how each tree came to be on the node. Pure but for `seed`, which
//! reads /proc: no clock but the times handed in.

mod decode;
mod intern;
mod key;
pub mod login;
mod numbers;
pub mod proc_text;
mod programs;
mod redact;
pub mod seed;
pub mod sshd_log;
mod table;
pub mod text;
pub mod users;

pub use decode::{Decoder, KernelFacts};
pub use key::to_tick;
pub use redact::redact;
pub use table::{Known, ProcessTable};
