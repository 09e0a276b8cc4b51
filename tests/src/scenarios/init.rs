//! What somebody in a session has the node's init and its services run: no lineage leads back to them. Played where systemd is
//! process 1.

use std::{fs, process::Command, time::Duration};

use serde_json::Value;

use super::{BY_KEY, Expected, Scenario, stage::Stage};
use crate::harness::{
    agent::{DEADLINE, is_exec_of, text},
    program::run,
};

/// cron looks at its tables at the beginning of each minute.
const TO_NEXT_MINUTE: Duration = Duration::from_secs(90);

/// Why these cannot be shown, if they cannot.
pub(super) fn unavailable() -> Option<String> {
    let init = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    (init.trim() != "systemd").then(|| format!("process 1 is {} and not systemd", init.trim()))
}

/// What init runs because somebody in a session asked for it.
const ASKED: Expected = Expected { entry: Some("init"), chain: &["root"], confidence: "likely", ..BY_KEY };

/// Runs a command by an allowed key, and waits for what init runs of it.
fn asks(stage: &mut Stage, command: &str, marker: &str) {
    stage.sshd.by_key(command).succeeded();
    awaits(stage, marker, "init");
}

/// Waits for what is executed under an entry of another type than the session's.
fn awaits(stage: &mut Stage, marker: &str, entry: &str) {
    stage.agent.wait_for("what init was asked for", |event| {
        is_exec_of(event, marker) && text(event, "/process/entry_leader/entry_meta/type") == entry
    });
}

/// Writes a unit file whose service echoes the marker, and has it started in one of the ways that there are.
fn unit(stage: &mut Stage, marker: &str, start: &str) {
    let unit = format!("/run/systemd/system/{marker}.service");
    let text =
        format!("[Service]\\nType=oneshot\\nExecStart=/bin/echo {marker}\\n[Install]\\nWantedBy=default.target\\n");
    let write = format!("printf '{text}' | sudo -n tee {unit} >/dev/null");
    asks(stage, &format!("{write} && {start}"), marker);
    fs::remove_file(unit).expect("it was written");
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "systemd-run, typed in a session",
        act: |s, m| asks(s, &format!("sudo -n systemd-run --quiet --wait /bin/echo {m}"), m),
        expected: ASKED,
    },
    Scenario {
        name: "systemd-run, and a program by its name alone",
        act: |s, m| asks(s, &format!("sudo -n systemd-run --quiet echo {m}"), m),
        expected: ASKED,
    },
    Scenario {
        name: "systemd-run in a terminal",
        act: |s, m| {
            s.sshd.in_terminal(&[&format!("sudo -n systemd-run --quiet --pty /bin/echo {m}; exit")]).succeeded();
            awaits(s, m, "init");
        },
        expected: ASKED,
    },
    Scenario {
        name: "systemd-run --scope: a child of its own",
        act: |s, m| drop(s.sshd.by_key(&format!("sudo -n systemd-run --quiet --scope /bin/echo {m}")).succeeded()),
        expected: Expected { chain: &["root"], ..BY_KEY },
    },
    Scenario {
        name: "systemd-run --user: asked of one's own manager",
        act: |s, m| asks(s, &format!("systemd-run --user --quiet /bin/echo {m}"), m),
        expected: Expected { chain: &[], ..ASKED },
    },
    Scenario {
        name: "a unit file that was written and started in a session",
        act: |s, m| unit(s, m, &format!("sudo -n systemctl start {m}.service")),
        expected: Expected { chain: &["root", "root"], ..ASKED },
    },
    Scenario {
        name: "a unit file that was written and restarted in a session, by its short name",
        act: |s, m| unit(s, m, &format!("sudo -n systemctl --quiet restart {m}")),
        expected: Expected { chain: &["root", "root"], ..ASKED },
    },
    Scenario {
        name: "a unit file that was written, enabled and started in a session",
        act: |s, m| unit(s, m, &format!("sudo -n systemctl --quiet --runtime enable --now {m}.service")),
        expected: Expected { chain: &["root", "root"], ..ASKED },
    },
    Scenario {
        name: "a timer that was written in a session, and fires when its person has gone",
        act: |s, m| {
            let [service, timer] = ["service", "timer"].map(|kind| format!("/etc/systemd/system/{m}.{kind}"));
            // Later than a tool is remembered that asked for something.
            let script = format!(
                "printf \"[Service]\\nType=oneshot\\nExecStart=/bin/echo {m}\\n\" >{service}; \
                 printf \"[Timer]\\nOnActiveSec=4s\\nAccuracySec=100ms\\n\" >{timer}; \
                 systemctl --quiet start {m}.timer"
            );
            asks(s, &format!("sudo -n sh -c '{script}'"), m);
            for file in [service, timer] {
                fs::remove_file(file).expect("it was written");
            }
        },
        expected: Expected { chain: &["root"], ..ASKED },
    },
    Scenario {
        name: "machinectl shell on the node itself, from a session",
        act: |s, m| {
            s.sshd
                .in_terminal(&[&format!("sudo -n machinectl --quiet shell root@.host /bin/echo {m}; exit")])
                .succeeded();
            awaits(s, m, "console");
        },
        // init logs root in by the rules of `login`: that is no session of its own.
        expected: Expected { entry: Some("console"), ..ASKED },
    },
    Scenario {
        name: "jobs in one's own crontab and among the node's, added in a session, and cron runs them",
        act: |s, m| {
            let table = format!("/etc/cron.d/{m}");
            let own = format!("echo '* * * * * /bin/echo {m}' | crontab -");
            let nodes = format!("echo '* * * * * root /bin/echo {m}' | sudo -n tee {table} >/dev/null");
            s.sshd.by_key(&format!("{own} && {nodes}")).succeeded();
            let user = s.sshd.user().name.clone();
            for runs_as in [&*user, "root"] {
                let is_job = |event: &Value| {
                    is_exec_of(event, m)
                        && text(event, "/process/args/0") == "/bin/echo"
                        && text(event, "/process/user/name") == runs_as
                        && text(event, "/postern/session/confidence") == "likely"
                };
                s.agent.wait_within(TO_NEXT_MINUTE, "the job", is_job);
            }
            fs::remove_file(table).expect("it was written");
            run(Command::new("/usr/bin/crontab").args(["-u", &user, "-r"]), b"", DEADLINE).succeeded();
        },
        expected: Expected { entry: Some("cron"), chain: &["root"], confidence: "likely", ..BY_KEY },
    },
];
