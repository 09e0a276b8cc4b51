//! Who came in, and everything they did: all access scenarios, before one agent.

use super::Behaviour;
use crate::scenarios;

pub(super) const BEHAVIOURS: &[Behaviour] = &[Behaviour {
    name: "every access scenario has the door, the owner, the chain and the alerts that it must have",
    unavailable: || super::no_kernel().or_else(scenarios::unavailable),
    run: all,
}];

#[expect(clippy::print_stdout, reason = "each scenario is a line of the report")]
fn all() {
    let score = scenarios::play(&[], |line| println!("  {line}"));
    println!("  {score}");
    assert!(score.is_perfect(), "{score}");
}
