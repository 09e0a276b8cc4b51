//! What the agent does, shown on the running kernel with real programs: `behaviours` has one file for each thing it does,
//! `harness` what they stand on.

pub mod behaviours;
pub mod harness;
pub mod quiet;
pub mod scenarios;

#[cfg(test)]
mod manifests;
#[cfg(test)]
mod pods;
#[cfg(test)]
mod private_sshd;
#[cfg(test)]
mod seed_from_proc;
