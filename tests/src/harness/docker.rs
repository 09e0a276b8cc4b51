//! A private dockerd with its own root, state and socket in a temporary folder, upon a containerd that is there already. Its
//! images are made of that one's files: there is no network.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    containerd::{Containerd, SLEEP, tar},
    engine::Engine,
    program::{end, until},
};

const DEADLINE: Duration = Duration::from_secs(30);
const DOCKERD: &str = "/usr/sbin/dockerd";
const DOCKER: &str = "/usr/bin/docker";

/// A running dockerd. Dropping it ends its containers.
pub struct Docker {
    child: Child,
    folder: TempDir,
    sleeper: String,
}

impl Docker {
    /// Why none can run here, if none can.
    pub fn unavailable() -> Option<String> {
        [DOCKERD, DOCKER].into_iter().find(|path| !Path::new(path).exists()).map(|path| format!("there is no {path}"))
    }

    /// Starts it, gives it an image, and has it run a container that sleeps.
    pub fn start(containerd: &Containerd) -> Self {
        let folder = TempDir::with_prefix("dkr-").expect("a temporary folder");
        let path = folder.path();
        let log = File::create(path.join("log")).expect("a log");
        let mut command = Command::new(DOCKERD);
        command.arg("--host").arg(format!("unix://{}", path.join("sock").display()));
        command.arg("--containerd").arg(containerd.socket());
        for (option, name) in [("--data-root", "data"), ("--exec-root", "run"), ("--pidfile", "pid")] {
            command.arg(option).arg(path.join(name));
        }
        // Containers have the node's network or none, so that the node's rules stay as they are.
        command.args(["--bridge", "none", "--iptables=false"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("dockerd starts");
        let mut docker = Self { child, folder, sleeper: String::new() };
        until("dockerd to answer", DEADLINE, || {
            Some(docker.run(&["version"])).filter(|outcome| outcome.status.success())
        });
        tar(&containerd.image_root(), &docker.folder.path().join("image.tar"), ".");
        docker.import(Self::IMAGE, &SLEEP.join(" "));
        docker.sleeper = docker.start_sleeper();
        docker
    }

    /// Makes an image that runs that where nothing else is asked for.
    pub fn import(&self, image: &str, command: &str) {
        let change = format!("CMD {command}");
        let archive = self.folder.path().join("image.tar");
        self.run(&["import", "--change", &change, &archive.display().to_string(), image]).succeeded();
    }
}

impl Engine for Docker {
    const RUNTIME: &'static str = "docker";
    const IMAGE: &'static str = "busybox";
    const SLEEPER: &'static str = "sleeper";

    fn line(&self, arguments: &str) -> String {
        format!("{DOCKER} --host unix://{} {arguments}", self.folder.path().join("sock").display())
    }

    fn sleeper(&self) -> String {
        self.sleeper.clone()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.remove_all();
        end(&mut self.child, DEADLINE);
    }
}
