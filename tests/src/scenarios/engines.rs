//! What people do with `docker`, and with `nerdctl`, which is used in the same way. No lineage leads from either to what it has
//! containerd run.

use serde_json::Value;

use super::{BY_KEY, Expected, stage::Stage};
use crate::harness::{
    agent::{is_exec_of, text},
    docker::Docker,
    engine::Engine,
    nerdctl::Nerdctl,
};

/// One of them on the stage.
pub(super) trait Staged: Engine {
    fn of(stage: &mut Stage) -> &Self;
}

impl Staged for Docker {
    fn of(stage: &mut Stage) -> &Self {
        stage.docker()
    }
}

impl Staged for Nerdctl {
    fn of(stage: &mut Stage) -> &Self {
        stage.nerdctl()
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
pub(super) fn awaits<E: Staged>(stage: &mut Stage, marker: &str, container: Option<&str>) {
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

pub(super) fn exec<E: Staged>(stage: &mut Stage, marker: &str) {
    exec_in::<E>(stage, marker, E::SLEEPER);
}

pub(super) fn exec_by_id<E: Staged>(stage: &mut Stage, marker: &str) {
    let id = E::of(stage).sleeper();
    exec_in::<E>(stage, marker, &id[..12]);
}

fn exec_in<E: Staged>(stage: &mut Stage, marker: &str, container: &str) {
    let engine = E::of(stage);
    let (id, line) = (engine.sleeper(), engine.line(&format!("exec {container} /bin/echo {marker}")));
    types(stage, &line);
    awaits::<E>(stage, marker, Some(&id));
}

pub(super) fn shell<E: Staged>(stage: &mut Stage, marker: &str) {
    let engine = E::of(stage);
    let line = engine.line(&format!("exec --interactive --tty {} /bin/sh", E::SLEEPER));
    let id = engine.sleeper();
    let mut terminal = stage.sshd.terminal(&format!("sudo -n {line}"));
    terminal.wait_for("# ");
    terminal.types(&format!("/bin/echo {marker}\nexit\n"));
    terminal.ends();
    awaits::<E>(stage, marker, Some(&id));
}

pub(super) fn run<E: Staged>(stage: &mut Stage, marker: &str) {
    let line = E::of(stage).run_line("", &format!("/bin/echo {marker}"));
    types(stage, &line);
    awaits::<E>(stage, marker, None);
}

pub(super) fn start<E: Staged>(stage: &mut Stage, marker: &str) {
    let engine = E::of(stage);
    let (id, line) = (engine.create("start-1", &["/bin/echo", marker]), engine.line("start --attach start-1"));
    types(stage, &line);
    awaits::<E>(stage, marker, Some(&id));
}

pub(super) fn run_privileged<E: Staged>(stage: &mut Stage, marker: &str) {
    let command = format!("/bin/busybox chroot /host /bin/echo {marker}");
    let line = E::of(stage).run_line("--privileged --pid host --volume /:/host", &command);
    types(stage, &line);
    awaits::<E>(stage, marker, None);
}

pub(super) fn exec_by_service<E: Staged>(stage: &mut Stage, marker: &str) {
    let engine = E::of(stage);
    engine.run(&["exec", E::SLEEPER, "/bin/echo", marker]).succeeded();
    let id = engine.sleeper();
    awaits::<E>(stage, marker, Some(&id));
}
