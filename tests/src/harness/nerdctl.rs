//! `nerdctl` upon a containerd that is there already, with its own state in a temporary folder.

use std::path::Path;

use tempfile::TempDir;

use super::{
    containerd::{self, Containerd},
    engine::Engine,
};

/// Where its archive is unpacked.
const NERDCTL: &str = "/usr/local/bin/nerdctl";

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
        nerdctl.sleeper = nerdctl.start_sleeper();
        nerdctl
    }
}

impl Engine for Nerdctl {
    const RUNTIME: &'static str = "containerd";
    const IMAGE: &'static str = containerd::IMAGE;
    const SLEEPER: &'static str = "nerdctl-sleeper";

    fn line(&self, arguments: &str) -> String {
        let folder = self.folder.path().display();
        let cni = format!("--cni-path {folder}/bin --cni-netconfpath {folder}/net");
        format!("{NERDCTL} --address {} --data-root {folder}/data {cni} {arguments}", self.socket)
    }

    fn sleeper(&self) -> String {
        self.sleeper.clone()
    }
}

impl Drop for Nerdctl {
    fn drop(&mut self) {
        self.remove_all();
    }
}
