//! Wrong arguments, a wrong configuration and missing privileges: each with its own exit code and words that name the place.

use std::{fs, process::Command, time::Duration};

use super::{Behaviour, no_kernel};
use crate::harness::{agent, program};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour {
        name: "check lists every problem with its line and exits 64",
        unavailable: || None,
        run: configuration,
    },
    Behaviour { name: "wrong arguments exit 64", unavailable: || None, run: arguments },
    Behaviour { name: "missing privileges are named and exit 77", unavailable: no_setpriv, run: privileges },
    Behaviour { name: "doctor says what each sensor takes", unavailable: no_kernel, run: doctor },
];

const DEADLINE: Duration = Duration::from_secs(20);

fn no_setpriv() -> Option<String> {
    no_kernel().or_else(|| (!fs::exists("/usr/bin/setpriv").unwrap_or(false)).then(|| "there is no setpriv".into()))
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

fn doctor() {
    let outcome = program::run(Command::new(agent::program()).arg("doctor"), b"", DEADLINE).succeeded();
    for sensor in ["processes", "logins", "login-details"] {
        assert!(outcome.stdout.contains(sensor), "{}", outcome.stdout);
    }
}
