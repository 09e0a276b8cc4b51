//! What `docker` and `nerdctl` have in common: they are used in the same way.

use std::{process::Command, time::Duration};

use super::{
    containerd::SLEEP,
    program::{Outcome, run},
};

/// For one of their commands.
const DEADLINE: Duration = Duration::from_secs(30);

/// One of them, with a container that sleeps.
pub trait Engine {
    /// The runtime that is told of its containers.
    const RUNTIME: &'static str;
    /// The image that containers run which have been told what to run.
    const IMAGE: &'static str;
    /// The name of the container that sleeps.
    const SLEEPER: &'static str;

    /// As somebody who may types it.
    fn line(&self, arguments: &str) -> String;

    /// The id of the container that sleeps.
    fn sleeper(&self) -> String;

    /// Runs it to its end.
    fn run(&self, arguments: &[&str]) -> Outcome {
        let line = self.line("");
        let mut words = line.split_whitespace();
        run(Command::new(words.next().expect("a program")).args(words).args(arguments), b"", DEADLINE)
    }

    /// Makes a container that runs that when it is started. Returns its id.
    fn create(&self, name: &str, command: &[&str]) -> String {
        let made = self.run(&[&["create", "--name", name, "--network", "none", Self::IMAGE], command].concat());
        made.succeeded().stdout.trim().to_owned()
    }

    /// The beginning of a line that runs a container, which ends with the command.
    fn run_line(&self, options: &str, command: &str) -> String {
        self.line(&format!("run --rm --network none {options} {} {command}", Self::IMAGE))
    }

    /// Starts the container that sleeps. Returns its id.
    fn start_sleeper(&self) -> String {
        let id = self.create(Self::SLEEPER, SLEEP);
        self.run(&["start", Self::SLEEPER]).succeeded();
        id
    }

    /// Ends all containers.
    fn remove_all(&self) {
        for id in self.run(&["ps", "--all", "--quiet"]).stdout.lines() {
            // Ended already, perhaps.
            self.run(&["rm", "--force", id]);
        }
    }
}
