//! What people do with `docker`, and with `nerdctl`, which is used in the same way. No lineage leads from either to what it has
//! containerd run.

use serde_json::Value;

use super::{BY_KEY, Expected, stage::Stage};
use crate::harness::{
    agent::{is_exec_of, text},
    docker::{self, Docker},
    nerdctl::{self, Nerdctl},
    program::Outcome,
};

/// One of them.
pub(super) trait Engine {
    /// The runtime that is told of its containers.
    const RUNTIME: &'static str;
    /// The name of the container that sleeps.
    const SLEEPER: &'static str;

    /// The stage's.
    fn of(stage: &mut Stage) -> &Self;
    /// The id of the container that sleeps.
    fn sleeper(&self) -> String;
    /// Makes a container that runs that when it is started. Returns its id.
    fn create(&self, name: &str, command: &[&str]) -> String;
    /// Runs it to its end, by nobody who came in.
    fn run(&self, arguments: &[&str]) -> Outcome;
    /// As somebody who may types it.
    fn line(&self, arguments: &str) -> String;
    /// The same, to run a container.
    fn run_line(&self, options: &str, command: &str) -> String;
}

impl Engine for Docker {
    const RUNTIME: &'static str = "docker";
    const SLEEPER: &'static str = docker::SLEEPER;

    fn of(stage: &mut Stage) -> &Self {
        stage.docker()
    }

    fn sleeper(&self) -> String {
        self.sleeper()
    }

    fn create(&self, name: &str, command: &[&str]) -> String {
        self.create(name, command)
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.docker(arguments)
    }

    fn line(&self, arguments: &str) -> String {
        self.line(arguments)
    }

    fn run_line(&self, options: &str, command: &str) -> String {
        self.run_line(options, None, command)
    }
}

impl Engine for Nerdctl {
    const RUNTIME: &'static str = "containerd";
    const SLEEPER: &'static str = nerdctl::SLEEPER;

    fn of(stage: &mut Stage) -> &Self {
        stage.nerdctl()
    }

    fn sleeper(&self) -> String {
        self.sleeper()
    }

    fn create(&self, name: &str, command: &[&str]) -> String {
        self.create(name, command)
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.nerdctl(arguments)
    }

    fn line(&self, arguments: &str) -> String {
        self.line(arguments)
    }

    fn run_line(&self, options: &str, command: &str) -> String {
        self.run_line(options, command)
    }
}

/// What it runs for somebody in a session who is root there.
pub(super) const ASKED: Expected =
    Expected { entry: Some("runtime-exec"), chain: &["root"], confidence: "likely", ..BY_KEY };
/// The same, where they named the container by its id.
pub(super) const BY_ID: Expected = Expected { confidence: "linked", ..ASKED };
/// The same, where the container is privileged.
pub(super) const PRIVILEGED: Expected = Expected { alerts: &["postern-privileged-container-started"], ..ASKED };

/// Waits for the echo in that container; in any of its, where none is named.
pub(super) fn awaits<E: Engine>(stage: &mut Stage, marker: &str, container: Option<&str>) {
    stage.agent.wait_for("the echo in its container", |event: &Value| {
        let id = text(event, "/container/id");
        is_exec_of(event, marker)
            && text(event, "/process/args/0") == "/bin/echo"
            && text(event, "/container/runtime") == E::RUNTIME
            && container.map_or(id.len() == 64, |container| container == id)
    });
}

/// Types that in a session, as root.
pub(super) fn types(stage: &Stage, line: &str) {
    stage.sshd.by_key(&format!("sudo -n {line}")).succeeded();
}

pub(super) fn exec<E: Engine>(stage: &mut Stage, marker: &str) {
    exec_in::<E>(stage, marker, E::SLEEPER);
}

pub(super) fn exec_by_id<E: Engine>(stage: &mut Stage, marker: &str) {
    let id = E::of(stage).sleeper();
    exec_in::<E>(stage, marker, &id[..12]);
}

fn exec_in<E: Engine>(stage: &mut Stage, marker: &str, container: &str) {
    let engine = E::of(stage);
    let (id, line) = (engine.sleeper(), engine.line(&format!("exec {container} /bin/echo {marker}")));
    types(stage, &line);
    awaits::<E>(stage, marker, Some(&id));
}

pub(super) fn shell<E: Engine>(stage: &mut Stage, marker: &str) {
    let engine = E::of(stage);
    let line = engine.line(&format!("exec --interactive --tty {} /bin/sh", E::SLEEPER));
    let id = engine.sleeper();
    let mut terminal = stage.sshd.terminal(&format!("sudo -n {line}"));
    terminal.wait_for("# ");
    terminal.types(&format!("/bin/echo {marker}\nexit\n"));
    terminal.ends();
    awaits::<E>(stage, marker, Some(&id));
}

pub(super) fn run<E: Engine>(stage: &mut Stage, marker: &str) {
    let line = E::of(stage).run_line("", &format!("/bin/echo {marker}"));
    types(stage, &line);
    awaits::<E>(stage, marker, None);
}

pub(super) fn start<E: Engine>(stage: &mut Stage, marker: &str) {
    let engine = E::of(stage);
    let (id, line) = (engine.create("start-1", &["/bin/echo", marker]), engine.line("start --attach start-1"));
    types(stage, &line);
    awaits::<E>(stage, marker, Some(&id));
}

pub(super) fn run_privileged<E: Engine>(stage: &mut Stage, marker: &str) {
    let command = format!("/bin/busybox chroot /host /bin/echo {marker}");
    let line = E::of(stage).run_line("--privileged --pid host --volume /:/host", &command);
    types(stage, &line);
    awaits::<E>(stage, marker, None);
}

pub(super) fn exec_by_service<E: Engine>(stage: &mut Stage, marker: &str) {
    let engine = E::of(stage);
    engine.run(&["exec", E::SLEEPER, "/bin/echo", marker]).succeeded();
    let id = engine.sleeper();
    awaits::<E>(stage, marker, Some(&id));
}
