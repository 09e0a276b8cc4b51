//! What the behaviour tests stand on: stand-ins for the systems around a node's agent, with faults that can be scripted,
//! and real programs that people come in by.

pub mod harness;

#[cfg(test)]
mod pods;
#[cfg(test)]
mod private_sshd;
#[cfg(test)]
mod seed_from_proc;
