//! By Teleport, which lets people in by itself, and tells PAM of it where it is told to. Played where it is: no package of Debian's
//! has it.

use super::{BY_SHAPE, Expected, Scenario, stage::Stage};
use crate::harness::teleport::Teleport;

/// Why these cannot be shown, if they cannot.
pub(super) fn unavailable() -> Option<String> {
    Teleport::unavailable()
}

/// Does something with it, without PAM or with it.
fn at(stage: &mut Stage, pam: Option<&str>, act: impl FnOnce(&mut Stage, &Teleport)) {
    let teleport = Teleport::start(&stage.sshd.user().name, pam);
    act(stage, &teleport);
}

/// Logs in to a terminal, and becomes root for a command.
fn sudo(teleport: &Teleport, marker: &str) {
    let mut terminal = teleport.terminal();
    terminal.wait_for("$ ");
    terminal.types(&format!("sudo -n /bin/echo {marker}; exit\n"));
    terminal.ends();
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "Teleport, a command",
        act: |s, m| {
            at(s, None, |_, teleport| {
                teleport.command(&format!("/bin/echo {m}; :")).succeeded();
            });
        },
        expected: BY_SHAPE,
    },
    Scenario {
        name: "Teleport, a shell on a terminal, and sudo",
        act: |s, m| {
            at(s, None, |_, teleport| sudo(teleport, m));
        },
        expected: Expected { chain: &["root"], ..BY_SHAPE },
    },
    Scenario {
        name: "Teleport, a file is copied",
        act: |s, m| {
            at(s, None, |s, teleport| {
                let file = s.sshd.user().key.with_extension("pub");
                let to = s.sshd.directory().join("home").join(m);
                teleport.scp(&file, &to.display().to_string()).succeeded();
            });
        },
        expected: Expected { program: "teleport", ..BY_SHAPE },
    },
    Scenario {
        name: "Teleport with PAM, a command",
        act: |s, m| {
            at(s, Some("sshd"), |_, teleport| {
                teleport.command(&format!("/bin/echo {m}; :")).succeeded();
            });
        },
        expected: Expected { confidence: "certain", ..BY_SHAPE },
    },
    Scenario {
        name: "Teleport with PAM, a shell on a terminal, and sudo",
        act: |s, m| {
            at(s, Some("sshd"), |_, teleport| sudo(teleport, m));
        },
        expected: Expected { confidence: "certain", chain: &["root"], ..BY_SHAPE },
    },
    Scenario {
        name: "Teleport with PAM, a forwarded port alone",
        act: |s, _| at(s, Some("sshd"), |_, teleport| teleport.tunnel()),
        // What it forwards by executes nothing: nobody says from where.
        expected: Expected { entry: None, remote: false, ..BY_SHAPE },
    },
];
