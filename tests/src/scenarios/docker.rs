//! Into Docker's containers, by those who typed it in a session and by others. No lineage leads from `docker` to what dockerd has
//! its containerd run. Played where Docker is.

use serde_json::Value;

use super::{BY_KEY, Expected, NOBODY, Scenario, stage::Stage};
use crate::harness::{
    agent::{is_exec_of, text},
    docker::{Docker, SLEEPER},
};

/// Why these cannot be shown, if they cannot.
pub(super) fn unavailable() -> Option<String> {
    Docker::unavailable()
}

/// What Docker runs for somebody in a session who is root there.
const ASKED: Expected = Expected { entry: Some("runtime-exec"), chain: &["root"], confidence: "likely", ..BY_KEY };

/// Waits for the echo in that container of Docker's; in any of them, where none is named.
fn awaits(stage: &mut Stage, marker: &str, container: Option<&str>) {
    stage.agent.wait_for("the echo in its container", |event: &Value| {
        let id = text(event, "/container/id");
        is_exec_of(event, marker)
            && text(event, "/process/args/0") == "/bin/echo"
            && text(event, "/container/runtime") == "docker"
            && container.map_or(id.len() == 64, |container| container == id)
    });
}

/// Types that in a session, as root.
fn types(stage: &mut Stage, line: &str) {
    stage.sshd.by_key(&format!("sudo -n {line}")).succeeded();
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "docker exec, typed in a session",
        act: |s, m| {
            let id = s.docker().sleeper();
            let line = s.docker().line(&format!("exec {SLEEPER} /bin/echo {m}"));
            types(s, &line);
            awaits(s, m, Some(&id));
        },
        expected: ASKED,
    },
    Scenario {
        name: "docker exec by the beginning of the container's id, typed in a session",
        act: |s, m| {
            let id = s.docker().sleeper();
            let line = s.docker().line(&format!("exec {} /bin/echo {m}", &id[..12]));
            types(s, &line);
            awaits(s, m, Some(&id));
        },
        expected: Expected { confidence: "linked", ..ASKED },
    },
    Scenario {
        name: "docker exec in a terminal, a shell that runs more",
        act: |s, m| {
            let id = s.docker().sleeper();
            let line = s.docker().line(&format!("exec --interactive --tty {SLEEPER} /bin/sh"));
            let mut terminal = s.sshd.terminal(&format!("sudo -n {line}"));
            terminal.wait_for("# ");
            terminal.types(&format!("/bin/echo {m}\nexit\n"));
            terminal.ends();
            awaits(s, m, Some(&id));
        },
        expected: ASKED,
    },
    Scenario {
        name: "docker run, typed in a session",
        act: |s, m| {
            let line = s.docker().run_line("", None, &format!("/bin/echo {m}"));
            types(s, &line);
            awaits(s, m, None);
        },
        expected: ASKED,
    },
    Scenario {
        name: "docker run of what an image has by itself, typed in a session",
        act: |s, m| {
            s.docker().import("echoes", &format!("[\"/bin/echo\", \"{m}\"]"));
            let line = s.docker().run_line("", Some("echoes"), "");
            types(s, &line);
            awaits(s, m, None);
        },
        expected: ASKED,
    },
    Scenario {
        name: "docker start of a container that was there, typed in a session",
        act: |s, m| {
            let id = s.docker().create("start-1", &["/bin/echo", m]);
            let line = s.docker().line("start --attach start-1");
            types(s, &line);
            awaits(s, m, Some(&id));
        },
        expected: ASKED,
    },
    Scenario {
        name: "docker run of a privileged container, and chroot into the node",
        act: |s, m| {
            let command = format!("/bin/busybox chroot /host /bin/echo {m}");
            let line = s.docker().run_line("--privileged --pid host --volume /:/host", None, &command);
            types(s, &line);
            awaits(s, m, None);
        },
        expected: Expected { alerts: &["postern-privileged-container-started"], ..ASKED },
    },
    Scenario {
        name: "docker exec by a service",
        act: |s, m| {
            let id = s.docker().sleeper();
            s.docker().docker(&["exec", SLEEPER, "/bin/echo", m]).succeeded();
            awaits(s, m, Some(&id));
        },
        expected: Expected { entry: Some("runtime-exec"), ..NOBODY },
    },
    Scenario { name: "docker run by a service while somebody is in", act: beside_a_service, expected: BY_KEY },
];

/// Is in a session while a service, which is nobody's, runs a container.
fn beside_a_service(stage: &mut Stage, marker: &str) {
    const OF_SERVICE: &str = "of-a-service";
    let mut session = stage.sshd.open();
    stage.docker().docker(&["run", "--rm", "--network", "none", "busybox", "/bin/echo", OF_SERVICE]).succeeded();
    let of_service = stage.agent.wait_for("what the service ran", |event| {
        is_exec_of(event, OF_SERVICE) && text(event, "/process/args/0") == "/bin/echo"
    });
    assert_eq!(text(&of_service, "/postern/session/id"), "", "{of_service}");
    session.run(&format!("/bin/echo {marker}"));
    session.log_out();
}
