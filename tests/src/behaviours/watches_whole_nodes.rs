//! Whole Debian nodes, each with its own systemd, logind, PAM and OpenSSH: the access scenarios are as exact there as here, and
//! where nobody comes in, nothing looks as if somebody did. `cargo xtask nodes` has more of them, `cargo xtask quiet` more time.

use super::Behaviour;
use crate::harness::node::{Node, play_on};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour {
        name: "on Debian 11, 12 and 13 nodes (OpenSSH 8.4, 9.2 and 10.0, systemd) every way in is told exactly",
        unavailable: || SUITES.into_iter().find_map(|suite| Node::find(suite).err()),
        run: exact,
    },
    Behaviour {
        name: "in a minute of a node's ordinary life nothing is an alarm",
        unavailable: || Node::find("bookworm").err(),
        run: quiet,
    },
];

/// Those that take longest come first: two play at a time.
const SUITES: [&str; 3] = ["bookworm", "trixie", "bullseye"];

#[expect(clippy::print_stdout, reason = "each scenario is a line of the report")]
fn exact() {
    assert!(play_on(&SUITES, &[], |line| println!("  {line}")), "not all were exact");
}

#[expect(clippy::print_stdout, reason = "what was done is a line of the report")]
fn quiet() {
    let node = Node::find("bookworm").expect("it was there");
    assert!(node.live(1, |line| println!("  {line}")), "there was a false alarm, or something was not told");
}
