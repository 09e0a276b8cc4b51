//! A private dockerd with its own root, state and socket in a temporary folder, upon a containerd that is there already. Its
//! images are made of that one's files: there is no network.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{
    containerd::{Containerd, SLEEP, tar},
    program::{self, Outcome, run},
};

const DEADLINE: Duration = Duration::from_secs(30);
const DOCKERD: &str = "/usr/sbin/dockerd";
const DOCKER: &str = "/usr/bin/docker";
/// The image that containers run which have been told what to run.
const IMAGE: &str = "busybox";

/// The container that sleeps.
pub const SLEEPER: &str = "sleeper";

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
        program::until("dockerd to answer", DEADLINE, || {
            Some(docker.docker(&["version"])).filter(|outcome| outcome.status.success())
        });
        tar(&containerd.image_root(), &docker.folder.path().join("image.tar"), ".");
        docker.import(IMAGE, &SLEEP.join(" "));
        docker.sleeper = docker.create(SLEEPER, SLEEP);
        docker.docker(&["start", SLEEPER]).succeeded();
        docker
    }

    /// The id of the container that sleeps.
    pub fn sleeper(&self) -> String {
        self.sleeper.clone()
    }

    /// Makes an image that runs that where nothing else is asked for.
    pub fn import(&self, image: &str, command: &str) {
        let change = format!("CMD {command}");
        let archive = self.folder.path().join("image.tar");
        self.docker(&["import", "--change", &change, &archive.display().to_string(), image]).succeeded();
    }

    /// Makes a container that runs that when it is started. Returns its id.
    pub fn create(&self, name: &str, command: &[&str]) -> String {
        let made = self.docker(&[&["create", "--name", name, "--network", "none", IMAGE], command].concat());
        made.succeeded().stdout.trim().to_owned()
    }

    /// Runs `docker` to its end.
    pub fn docker(&self, arguments: &[&str]) -> Outcome {
        run(Command::new(DOCKER).arg("--host").arg(self.address()).args(arguments), b"", DEADLINE)
    }

    /// `docker`, as somebody who may types it.
    pub fn line(&self, arguments: &str) -> String {
        format!("{DOCKER} --host {} {arguments}", self.address())
    }

    /// The beginning of a line that runs a container, which ends with the command.
    pub fn run_line(&self, options: &str, image: Option<&str>, command: &str) -> String {
        self.line(&format!("run --rm --network none {options} {} {command}", image.unwrap_or(IMAGE)))
    }

    fn address(&self) -> String {
        format!("unix://{}", self.folder.path().join("sock").display())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let listed = self.docker(&["ps", "--all", "--quiet"]).stdout;
        for id in listed.lines() {
            // Ended already, perhaps.
            self.docker(&["rm", "--force", id]);
        }
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if program::wait(&mut self.child, DEADLINE).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
