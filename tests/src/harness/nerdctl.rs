//! `nerdctl` upon a containerd that is there already, with its own state in a temporary folder.

use std::{path::Path, process::Command, time::Duration};

use tempfile::TempDir;

use super::{
    containerd::{Containerd, IMAGE, SLEEP},
    program::{Outcome, run},
};

const DEADLINE: Duration = Duration::from_secs(30);
/// Where its archive is unpacked.
const NERDCTL: &str = "/usr/local/bin/nerdctl";

/// The container that sleeps.
pub const SLEEPER: &str = "nerdctl-sleeper";

/// Its containers end when it is dropped.
pub struct Nerdctl {
    socket: String,
    folder: TempDir,
    sleeper: String,
}

impl Nerdctl {
    /// Why there is none here, if there is none.
    pub fn unavailable() -> Option<String> {
        (!Path::new(NERDCTL).exists()).then(|| format!("there is no {NERDCTL}"))
    }

    /// Has it run a container that sleeps.
    pub fn start(containerd: &Containerd) -> Self {
        let folder = TempDir::with_prefix("nerd-").expect("a temporary folder");
        let mut nerdctl = Self { socket: containerd.socket().display().to_string(), folder, sleeper: String::new() };
        nerdctl.sleeper = nerdctl.create(SLEEPER, SLEEP);
        nerdctl.nerdctl(&["start", SLEEPER]).succeeded();
        nerdctl
    }

    /// The id of the container that sleeps.
    pub fn sleeper(&self) -> String {
        self.sleeper.clone()
    }

    /// Makes a container that runs that when it is started. Returns its id.
    pub fn create(&self, name: &str, command: &[&str]) -> String {
        let made = self.nerdctl(&[&["create", "--name", name, "--network", "none", IMAGE], command].concat());
        made.succeeded().stdout.trim().to_owned()
    }

    /// Runs it to its end.
    pub fn nerdctl(&self, arguments: &[&str]) -> Outcome {
        let line = self.line("");
        let own: Vec<&str> = line.split_whitespace().collect();
        run(Command::new(own[0]).args(&own[1..]).args(arguments), b"", DEADLINE)
    }

    /// `nerdctl`, as somebody who may types it.
    pub fn line(&self, arguments: &str) -> String {
        let folder = self.folder.path().display();
        let cni = format!("--cni-path {folder}/bin --cni-netconfpath {folder}/net");
        format!("{NERDCTL} --address {} --data-root {folder}/data {cni} {arguments}", self.socket)
    }

    /// The beginning of a line that runs a container, which ends with the command.
    pub fn run_line(&self, options: &str, command: &str) -> String {
        self.line(&format!("run --rm --network none {options} {IMAGE} {command}"))
    }
}

impl Drop for Nerdctl {
    fn drop(&mut self) {
        let listed = self.nerdctl(&["ps", "--all", "--quiet"]).stdout;
        for id in listed.lines() {
            // Ended already, perhaps.
            self.nerdctl(&["rm", "--force", id]);
        }
    }
}
