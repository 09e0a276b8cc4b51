//! Into pods with `crictl`, which asks the runtime as kubelet does. Played where it is: no package of Debian's has it.

use std::{path::Path, process::Command};

use super::{BY_KEY, Expected, NOBODY, Scenario, engines, stage::Stage};

const CRICTL: &str = "/usr/local/bin/crictl";

/// Why these cannot be shown, if they cannot.
pub(super) fn unavailable() -> Option<String> {
    (!Path::new(CRICTL).exists()).then(|| format!("there is no {CRICTL}"))
}

/// `crictl`, as somebody types it.
fn line(stage: &Stage, arguments: &str) -> String {
    let socket = stage.containerd.socket();
    format!("{CRICTL} --runtime-endpoint unix://{} {arguments}", socket.display())
}

/// Types that in a session, as root.
fn types(stage: &Stage, arguments: &str) {
    engines::types(stage, &line(stage, arguments));
}

const ASKED: Expected = Expected { entry: Some("runtime-exec"), chain: &["root"], confidence: "linked", ..BY_KEY };

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "crictl exec, typed in a session",
        act: |s, m| types(s, &format!("exec {} /bin/echo {m}", s.container("web-1"))),
        expected: ASKED,
    },
    Scenario {
        name: "crictl exec by the beginning of the container's id, typed in a session",
        act: |s, m| types(s, &format!("exec {} /bin/echo {m}", &s.container("web-1")[..13])),
        expected: ASKED,
    },
    Scenario {
        name: "crictl exec that waits for the end, a shell that runs more",
        act: |s, m| types(s, &format!("exec --sync {} /bin/sh -c '/bin/true; /bin/echo {m}'", s.container("web-2"))),
        expected: ASKED,
    },
    Scenario {
        name: "crictl exec into a privileged pod, typed in a session",
        act: |s, m| types(s, &format!("exec {} /bin/echo {m}", s.container("agent-1"))),
        expected: Expected { alerts: &["postern-privileged-container-entered"], ..ASKED },
    },
    Scenario {
        name: "crictl exec by a service",
        act: |s, m| {
            let line = line(s, &format!("exec {} /bin/echo {m}", s.container("web-1")));
            assert!(Command::new("/bin/sh").args(["-c", &line]).status().expect("a shell").success());
        },
        // Into a pod, by a way past the API server: whoever has a service do that is somebody.
        expected: Expected {
            door: Some("runtime-exec"),
            entry: Some("runtime-exec"),
            confidence: "certain",
            alerts: &["postern-exec-not-allowed"],
            ..NOBODY
        },
    },
];
