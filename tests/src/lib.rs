//! What the behaviour tests stand on: stand-ins for the systems around a node's agent, with faults that can be scripted.

pub mod harness;

#[cfg(test)]
mod pods;
