//! Runs the behaviour tests. With arguments, only those whose name contains one of them. Prints a line for each, and how many
//! passed, failed and were skipped.
//!
//! `postern-tests play` plays the access scenarios alone, as a node in a virtual machine does; with more arguments, only those
//! whose name contains one of them. `postern-tests nodes SUITE...` plays them on such nodes; behind `--`, parts of names again.
//!
//! `postern-tests quiet MINUTES` lives an ordinary node's life before the agent, as a node in a virtual machine does;
//! `postern-tests live SUITE MINUTES` has such a node do so.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};

use postern_tests::{
    behaviours::{self, Behaviour},
    harness::node::{self, Node},
    quiet, scenarios,
};

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    match wanted.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some(("play", parts)) => return play(parts),
        Some(("nodes", suites)) => return nodes(suites),
        Some(("quiet", [minutes])) => return quiet(minutes),
        Some(("live", [suite, minutes])) => return live(suite, minutes),
        _ => {}
    }
    let is_wanted = |it: &Behaviour| wanted.is_empty() || wanted.iter().any(|part| it.name.contains(&**part));
    let wanted_of = |all: Vec<Behaviour>| all.into_iter().filter(is_wanted).collect::<Vec<_>>();
    let mut outcomes: Vec<Outcome> = wanted_of(behaviours::here()).iter().map(show).collect();
    outcomes.extend(node::on_each(&wanted_of(behaviours::on_nodes()), show));
    let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    let (passed, failed, skipped) = (count(Outcome::Passed), count(Outcome::Failed), count(Outcome::Skipped));
    say(&format!("{passed} passed, {failed} failed, {skipped} skipped"));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// Runs one, and says what came of it.
fn show(behaviour: &Behaviour) -> Outcome {
    let started = Instant::now();
    if let Some(reason) = (behaviour.unavailable)() {
        say(&format!("skipped {}: {reason}", behaviour.name));
        Outcome::Skipped
    } else if catch_unwind(AssertUnwindSafe(behaviour.run)).is_ok() {
        say(&format!("ok {} ({:.1} s)", behaviour.name, started.elapsed().as_secs_f32()));
        Outcome::Passed
    } else {
        say(&format!("FAILED {}", behaviour.name));
        Outcome::Failed
    }
}

fn play(parts: &[String]) -> ExitCode {
    if let Some(reason) = scenarios::unavailable() {
        say(&format!("nothing can be played: {reason}"));
        return ExitCode::FAILURE;
    }
    let score = scenarios::play(parts, say);
    say(&score.to_string());
    if score.is_perfect() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn nodes(words: &[String]) -> ExitCode {
    let suites: Vec<&str> = words.iter().map(String::as_str).take_while(|word| *word != "--").collect();
    let parts: Vec<String> = words.iter().skip(suites.len() + 1).cloned().collect();
    if node::play_on(&suites, &parts, say) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn quiet(minutes: &str) -> ExitCode {
    if let Some(reason) = quiet::unavailable() {
        say(&format!("no node's life can be lived here: {reason}"));
        return ExitCode::FAILURE;
    }
    let is_quiet = quiet::live(minutes.parse().expect("whole minutes"), say);
    if is_quiet { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn live(suite: &str, minutes: &str) -> ExitCode {
    let node = Node::find(suite).unwrap_or_else(|missing| panic!("{missing}"));
    let is_quiet = node.live(minutes.parse().expect("whole minutes"), say);
    if is_quiet { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn say(line: &str) {
    println!("{line}");
}
