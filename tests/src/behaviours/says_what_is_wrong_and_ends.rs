//! Wrong arguments, a wrong configuration, missing privileges and an upgrade under the agent: each with its own exit code and
//! words that name the place.

use std::{fs, path::Path, process::Command, time::Duration};

use tempfile::TempDir;

use super::{Behaviour, no_kernel};
use crate::harness::{
    agent::{self, Agent, action, text, texts},
    program,
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour {
        name: "check lists every problem with its line and exits 64",
        unavailable: || None,
        run: configuration,
    },
    Behaviour { name: "wrong arguments exit 64", unavailable: || None, run: arguments },
    Behaviour { name: "missing privileges are named and exit 77", unavailable: no_setpriv, run: privileges },
    Behaviour {
        name: "a libpam that is replaced ends the agent with 75, and the next one watches the new one",
        unavailable: no_libpam,
        run: replaced,
    },
    Behaviour { name: "doctor says what each sensor takes", unavailable: no_kernel, run: doctor },
];

const DEADLINE: Duration = Duration::from_secs(20);

fn no_setpriv() -> Option<String> {
    no_kernel().or_else(|| (!fs::exists("/usr/bin/setpriv").unwrap_or(false)).then(|| "there is no setpriv".into()))
}

/// Where Debian and others keep it.
const LIBPAM: [&str; 3] =
    ["/usr/lib/x86_64-linux-gnu/libpam.so.0", "/usr/lib/aarch64-linux-gnu/libpam.so.0", "/usr/lib64/libpam.so.0"];

fn no_libpam() -> Option<String> {
    no_kernel().or_else(|| LIBPAM.iter().all(|path| !Path::new(path).exists()).then(|| "there is no libpam".into()))
}

fn configuration() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(
        file.path(),
        "nodee: {name: x}\nprobe: {ring_bytes: 3}\nadmin: {}\nadmin: {}\nsinks:\n- {type: carrier-pigeon}\n",
    )
    .expect("written");
    for command in ["check", "run"] {
        let outcome =
            program::run(Command::new(agent::program()).arg(command).arg("--config").arg(file.path()), b"", DEADLINE);
        assert_eq!(outcome.status.code(), Some(64), "{command}: {}", outcome.stderr);
        for line in [1, 2, 4, 6] {
            assert!(outcome.stderr.contains(&format!("{}:{line}:", file.path().display())), "{}", outcome.stderr);
        }
    }
}

fn arguments() {
    let outcome = program::run(Command::new(agent::program()).arg("runn"), b"", DEADLINE);
    assert_eq!(outcome.status.code(), Some(64));
}

fn privileges() {
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--bounding-set", "-bpf,-sys_admin", "--inh-caps", "-all"]).arg(agent::program()).arg("run");
    let outcome = program::run(&mut command, b"", DEADLINE);
    assert_eq!(outcome.status.code(), Some(77), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("CAP_BPF"), "{}", outcome.stderr);
}

/// As `dpkg` puts a file in the place of another.
fn replaced() {
    let root = TempDir::with_prefix("postern-root-").expect("a folder");
    let place = root.path().join("usr/lib/libpam.so.0");
    let put = || {
        let own = LIBPAM.iter().find(|path| Path::new(path).exists()).expect("one is there");
        fs::copy(own, root.path().join("new")).expect("copied");
        fs::rename(root.path().join("new"), &place).expect("in its place");
    };
    fs::create_dir_all(place.parent().expect("a folder")).expect("made");
    put();
    let configuration = format!("host_root: '{}'", root.path().display());
    let agent = Agent::start_with(&configuration);
    put();
    let ended = agent.ended();
    assert_eq!(ended.status.code(), Some(75), "{}", ended.log);
    let last = ended.events.last().expect("events");
    assert_eq!(action(last), "agent-stopped");
    assert!(text(last, "/event/reason").contains("usr/lib/libpam.so.0 was replaced"), "{last}");
    let mut next = Agent::start_with(&configuration);
    let started = next.wait_for("the agent to start", |event| action(event) == "agent-started");
    assert!(texts(&started, "/postern/sensors").contains(&"logins: uprobes"), "{started}");
    next.stop();
}

fn doctor() {
    let outcome = program::run(Command::new(agent::program()).arg("doctor"), b"", DEADLINE).succeeded();
    for sensor in ["processes", "logins", "login-details"] {
        assert!(outcome.stdout.contains(sensor), "{}", outcome.stdout);
    }
}
