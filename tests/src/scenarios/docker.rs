//! Into Docker's containers, by those who typed it in a session and by others. Played where Docker is.

use super::{
    BY_KEY, Expected, NOBODY, Scenario,
    engines::{
        ASKED, BY_ID, PRIVILEGED, awaits, exec, exec_by_id, exec_by_service, run, run_privileged, shell, start, types,
    },
    stage::Stage,
};
use crate::harness::{
    agent::{is_exec_of, text},
    docker::Docker,
    engine::Engine as _,
};

/// Why these cannot be shown, if they cannot.
pub(super) fn unavailable() -> Option<String> {
    Docker::unavailable()
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "docker exec, typed in a session", act: exec::<Docker>, expected: ASKED },
    Scenario {
        name: "docker exec by the beginning of the container's id, typed in a session",
        act: exec_by_id::<Docker>,
        expected: BY_ID,
    },
    Scenario { name: "docker exec in a terminal, a shell that runs more", act: shell::<Docker>, expected: ASKED },
    Scenario { name: "docker run, typed in a session", act: run::<Docker>, expected: ASKED },
    Scenario {
        name: "docker run of what an image has by itself, typed in a session",
        act: |s, m| {
            s.docker().import("echoes", &format!("[\"/bin/echo\", \"{m}\"]"));
            let line = s.docker().line("run --rm --network none echoes");
            types(s, &line);
            awaits::<Docker>(s, m, None);
        },
        expected: ASKED,
    },
    Scenario {
        name: "docker start of a container that was there, typed in a session",
        act: start::<Docker>,
        expected: ASKED,
    },
    Scenario {
        name: "docker run of a privileged container, and chroot into the node",
        act: run_privileged::<Docker>,
        expected: PRIVILEGED,
    },
    Scenario {
        name: "docker exec by a service",
        act: exec_by_service::<Docker>,
        expected: Expected { entry: Some("runtime-exec"), ..NOBODY },
    },
    Scenario { name: "docker run by a service while somebody is in", act: beside_a_service, expected: BY_KEY },
];

/// Is in a session while a service, which is nobody's, runs a container.
fn beside_a_service(stage: &mut Stage, marker: &str) {
    const OF_SERVICE: &str = "of-a-service";
    let mut session = stage.sshd.open();
    stage.docker().run(&["run", "--rm", "--network", "none", "busybox", "/bin/echo", OF_SERVICE]).succeeded();
    let of_service = stage.agent.wait_for("what the service ran", |event| {
        is_exec_of(event, OF_SERVICE) && text(event, "/process/args/0") == "/bin/echo"
    });
    assert_eq!(text(&of_service, "/postern/session/id"), "", "{of_service}");
    session.run(&format!("/bin/echo {marker}"));
    session.log_out();
}
