//! What is known of the processes on this node, and of the users they act as.

pub mod proc_text;
pub mod seed;
pub mod users;
