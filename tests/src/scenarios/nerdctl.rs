//! Into containers with `nerdctl`, which asks containerd as `docker` does dockerd. Played where it is: no package of Debian's has it.

use serde_json::Value;

use super::{BY_KEY, Expected, NOBODY, Scenario, stage::Stage};
use crate::harness::{
    agent::{is_exec_of, text},
    nerdctl::{Nerdctl, SLEEPER},
};

/// Why these cannot be shown, if they cannot.
pub(super) fn unavailable() -> Option<String> {
    Nerdctl::unavailable()
}

/// What it runs for somebody in a session who is root there.
const ASKED: Expected = Expected { entry: Some("runtime-exec"), chain: &["root"], confidence: "likely", ..BY_KEY };

/// Waits for the echo in that container; in any, where none is named.
fn awaits(stage: &mut Stage, marker: &str, container: Option<&str>) {
    stage.agent.wait_for("the echo in its container", |event: &Value| {
        let id = text(event, "/container/id");
        is_exec_of(event, marker)
            && text(event, "/process/args/0") == "/bin/echo"
            && container.map_or(id.len() == 64, |container| container == id)
    });
}

/// Types that in a session, as root.
fn types(stage: &mut Stage, line: &str) {
    stage.sshd.by_key(&format!("sudo -n {line}")).succeeded();
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "nerdctl exec, typed in a session",
        act: |s, m| {
            let id = s.nerdctl().sleeper();
            let line = s.nerdctl().line(&format!("exec {SLEEPER} /bin/echo {m}"));
            types(s, &line);
            awaits(s, m, Some(&id));
        },
        expected: ASKED,
    },
    Scenario {
        name: "nerdctl exec by the beginning of the container's id, typed in a session",
        act: |s, m| {
            let id = s.nerdctl().sleeper();
            let line = s.nerdctl().line(&format!("exec {} /bin/echo {m}", &id[..12]));
            types(s, &line);
            awaits(s, m, Some(&id));
        },
        expected: Expected { confidence: "linked", ..ASKED },
    },
    Scenario {
        name: "nerdctl exec in a terminal, a shell that runs more",
        act: |s, m| {
            let id = s.nerdctl().sleeper();
            let line = s.nerdctl().line(&format!("exec --interactive --tty {SLEEPER} /bin/sh"));
            let mut terminal = s.sshd.terminal(&format!("sudo -n {line}"));
            terminal.wait_for("# ");
            terminal.types(&format!("/bin/echo {m}\nexit\n"));
            terminal.ends();
            awaits(s, m, Some(&id));
        },
        expected: ASKED,
    },
    Scenario {
        name: "nerdctl exec into a pod, typed in a session",
        act: |s, m| {
            let pod = s.container("web-1");
            let line = s.nerdctl().line(&format!("--namespace k8s.io exec {pod} /bin/echo {m}"));
            types(s, &line);
            awaits(s, m, Some(&pod));
        },
        expected: Expected { confidence: "linked", ..ASKED },
    },
    Scenario {
        name: "nerdctl run, typed in a session",
        act: |s, m| {
            let line = s.nerdctl().run_line("", &format!("/bin/echo {m}"));
            types(s, &line);
            awaits(s, m, None);
        },
        expected: ASKED,
    },
    Scenario {
        name: "nerdctl start of a container that was there, typed in a session",
        act: |s, m| {
            let id = s.nerdctl().create("nerdctl-start-1", &["/bin/echo", m]);
            let line = s.nerdctl().line("start --attach nerdctl-start-1");
            types(s, &line);
            awaits(s, m, Some(&id));
        },
        expected: ASKED,
    },
    Scenario {
        name: "nerdctl run of a privileged container, and chroot into the node",
        act: |s, m| {
            let command = format!("/bin/busybox chroot /host /bin/echo {m}");
            let line = s.nerdctl().run_line("--privileged --pid host --volume /:/host", &command);
            types(s, &line);
            awaits(s, m, None);
        },
        expected: Expected { alerts: &["postern-privileged-container-started"], ..ASKED },
    },
    Scenario {
        name: "nerdctl exec by a service",
        act: |s, m| {
            let id = s.nerdctl().sleeper();
            s.nerdctl().nerdctl(&["exec", SLEEPER, "/bin/echo", m]).succeeded();
            awaits(s, m, Some(&id));
        },
        expected: Expected { entry: Some("runtime-exec"), ..NOBODY },
    },
];
