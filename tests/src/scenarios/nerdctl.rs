//! Into containers with `nerdctl`, by those who typed it in a session and by others. Played where it is: no package of Debian's has it.

use super::{
    Expected, NOBODY, Scenario,
    engines::{ASKED, BY_ID, PRIVILEGED, exec, exec_by_id, exec_by_service, run, run_privileged, shell, start, types},
};
use crate::harness::{engine::Engine as _, nerdctl::Nerdctl};

/// Why these cannot be shown, if they cannot.
pub(super) fn unavailable() -> Option<String> {
    Nerdctl::unavailable()
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "nerdctl exec, typed in a session", act: exec::<Nerdctl>, expected: ASKED },
    Scenario {
        name: "nerdctl exec by the beginning of the container's id, typed in a session",
        act: exec_by_id::<Nerdctl>,
        expected: BY_ID,
    },
    Scenario { name: "nerdctl exec in a terminal, a shell that runs more", act: shell::<Nerdctl>, expected: ASKED },
    Scenario { name: "nerdctl run, typed in a session", act: run::<Nerdctl>, expected: ASKED },
    Scenario {
        name: "nerdctl exec into a pod, typed in a session",
        act: |s, m| {
            let pod = s.container("web-1");
            let line = s.nerdctl().line(&format!("--namespace k8s.io exec {pod} /bin/echo {m}"));
            types(s, &line);
        },
        expected: BY_ID,
    },
    Scenario {
        name: "nerdctl start of a container that was there, typed in a session",
        act: start::<Nerdctl>,
        expected: ASKED,
    },
    Scenario {
        name: "nerdctl run of a privileged container, and chroot into the node",
        act: run_privileged::<Nerdctl>,
        expected: PRIVILEGED,
    },
    Scenario {
        name: "nerdctl exec by a service",
        act: exec_by_service::<Nerdctl>,
        expected: Expected { entry: Some("runtime-exec"), ..NOBODY },
    },
];
