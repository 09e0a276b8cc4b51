//! The kernel side of the agent: it finds where this kernel keeps what the programs read, loads and attaches them, and
//! reads their records.

pub mod btf;
pub mod offsets;
