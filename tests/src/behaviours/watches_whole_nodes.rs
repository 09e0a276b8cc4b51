//! Whole Debian nodes, each with its own systemd, logind, PAM and OpenSSH: the access scenarios are as exact there as here, and
//! where nobody comes in, nothing looks as if somebody did. `cargo xtask nodes` has more of them, `cargo xtask quiet` more time.

use super::Behaviour;
use crate::harness::node::{Node, play_on};

/// Those that take longest come first.
pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour {
        name: "on a Debian 12 node (OpenSSH 9.2, systemd) every way in is told exactly",
        unavailable: || Node::find("bookworm").err(),
        run: || exact("bookworm"),
    },
    Behaviour {
        name: "on a Debian 13 node (OpenSSH 10.0, systemd) every way in is told exactly",
        unavailable: || Node::find("trixie").err(),
        run: || exact("trixie"),
    },
    Behaviour {
        name: "on a Debian 11 node (OpenSSH 8.4, systemd) every way in is told exactly",
        unavailable: || Node::find("bullseye").err(),
        run: || exact("bullseye"),
    },
    Behaviour {
        name: "in a minute of a node's ordinary life nothing is an alarm",
        unavailable: || Node::find("bookworm").err(),
        run: quiet,
    },
];

#[expect(clippy::print_stdout, reason = "each scenario is a line of the report")]
fn exact(suite: &str) {
    assert!(play_on(&[suite], &[], |line| println!("  {line}")), "not all were exact");
}

#[expect(clippy::print_stdout, reason = "what was done is a line of the report")]
fn quiet() {
    let node = Node::find("bookworm").expect("it was there");
    assert!(
        node.live(1, |line| println!("  a node's life: {line}")),
        "there was a false alarm, or something was not told"
    );
}
