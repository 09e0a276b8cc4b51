//! By other doors than sshd, and by those who run later what somebody in a session asked for.

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use super::{BY_KEY, BY_SHAPE, Expected, NOBODY, Scenario, stage::Stage};
use crate::harness::{
    agent::{DEADLINE, is_exec_of},
    program::{free_address, run, until},
    sshd::Sshd,
    typed::Typed,
};

const DROPBEAR: &str = "/usr/sbin/dropbear";
const ATD: &str = "/usr/sbin/atd";

/// Why these doors cannot be shown, if they cannot.
pub(super) fn unavailable() -> Option<String> {
    let programs = [DROPBEAR, ATD, "/usr/bin/at", "/usr/bin/setsid", "/bin/login"];
    programs.iter().find(|path| !fs::exists(path).unwrap_or(false)).map(|path| format!("there is no {path}"))
}

/// A program that ends with the scenario.
struct Service(Child);

impl Service {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Either fails if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const CONSOLE: Expected = Expected {
    door: Some("console"),
    entry: Some("console"),
    user: "USER",
    remote: false,
    method: "",
    confidence: "certain",
    alerts: &["postern-access-not-allowed"],
    ..BY_KEY
};

/// A program named like sshd that has somebody's login logged in sshd's name, and executes a program as sshd does.
const IMPOSTOR: &str = r#"
    my ($line, $marker) = @ARGV;
    system("/usr/bin/logger", "-t", "sshd", $line);
    if (!fork) {
        setsid;
        $ENV{SSH_CONNECTION} = "127.0.0.1 4242 127.0.0.1 22";
        exec "/bin/echo", $marker;
    }
    wait;
"#;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "login on a terminal", act: |s, m| console(s, &format!("/bin/echo {m}")), expected: CONSOLE },
    Scenario {
        name: "login on a terminal, and sudo",
        act: |s, m| console(s, &format!("sudo -n /bin/echo {m}")),
        expected: Expected { chain: &["root"], ..CONSOLE },
    },
    Scenario {
        name: "login on a terminal, by a password",
        act: |s, m| {
            let password = s.sshd.user().password.clone();
            console_by_password(s, &password, Some(&format!("/bin/echo {m}")));
        },
        expected: CONSOLE,
    },
    Scenario {
        name: "login on a terminal, a wrong password",
        act: |s, _| console_by_password(s, "wrong", None),
        expected: Expected { refused: &[("console", "USER")], ..NOBODY },
    },
    Scenario {
        name: "dropbear: an SSH server without PAM",
        act: |s, m| dropbear(s, &format!("/bin/echo {m}; :")),
        expected: BY_SHAPE,
    },
    Scenario {
        name: "a program named like an SSH server without PAM",
        act: |s, m| {
            let script = "SSH_CONNECTION='127.0.0.1 4242 127.0.0.1 22' /bin/echo $0; :";
            named_like(s, "dropbear", "/bin/sh", &["-c", script, m]);
        },
        expected: Expected { user: "root", ..BY_SHAPE },
    },
    Scenario {
        name: "sshd that does without PAM",
        act: |s, m| {
            let other = Sshd::start_with("UsePAM no");
            s.sshd.by_key_at(other.port(), &format!("/bin/echo {m}; :")).succeeded();
        },
        expected: BY_KEY,
    },
    Scenario {
        name: "sshd that does without PAM, a password",
        act: |s, m| {
            let other = Sshd::start_with("UsePAM no");
            s.sshd.by_password_at(other.port(), &format!("/bin/echo {m}; :")).succeeded();
        },
        expected: Expected { method: "password", alerts: &["postern-access-not-allowed"], ..BY_KEY },
    },
    Scenario {
        name: "a program named like sshd that has a login logged in sshd's name",
        act: |s, m| {
            let user = s.sshd.user();
            let (name, key) = (&user.name, &user.fingerprint);
            let line = format!("Accepted publickey for {name} from 127.0.0.1 port 4242 ssh2: ED25519 {key}");
            named_like(s, "sshd-session", "/usr/bin/perl", &["-MPOSIX=setsid", "-e", IMPOSTOR, &line, m]);
        },
        expected: Expected { user: "root", ..BY_SHAPE },
    },
    Scenario {
        name: "at, typed in a session",
        act: |s, m| {
            let _atd = Service::start(Command::new(ATD).arg("-f"));
            s.sshd.by_key(&format!("echo /bin/echo {m} | at now")).succeeded();
            s.agent.wait_for("the job", |event| is_exec_of(event, m));
        },
        expected: Expected { entry: Some("at"), confidence: "likely", ..BY_KEY },
    },
    Scenario {
        name: "at, typed by nobody who came in",
        act: |s, m| {
            let _atd = Service::start(Command::new(ATD).arg("-f"));
            let job = format!("/bin/echo {m}\n");
            run(Command::new("/usr/bin/at").arg("now"), job.as_bytes(), DEADLINE).succeeded();
            s.agent.wait_for("the job", |event| is_exec_of(event, m));
        },
        expected: Expected { entry: Some("at"), ..NOBODY },
    },
];

/// Logs in on a terminal without being asked, as getty has `login` do it, and types a line.
fn console(stage: &mut Stage, line: &str) {
    let mut login = Typed::at_terminal("/bin/login", &["-f", &stage.sshd.user().name]);
    login.wait_for("$ ");
    login.types(&format!("{line}; exit\n"));
    login.ends();
}

/// Logs in on a terminal by a password, and types a line; where the password is wrong, gives up.
fn console_by_password(stage: &mut Stage, password: &str, line: Option<&str>) {
    let mut login = Typed::at_terminal("/bin/login", &[&stage.sshd.user().name]);
    login.wait_for("Password: ");
    login.types(&format!("{password}\n"));
    let Some(line) = line else { return login.wait_for("Login incorrect") };
    login.wait_for("$ ");
    login.types(&format!("{line}; exit\n"));
    login.ends();
}

/// Runs a program under the name of another, below nobody who came in.
fn named_like(stage: &Stage, name: &str, program: &str, arguments: &[&str]) {
    let copy = stage.sshd.directory().join(name);
    fs::copy(program, &copy).expect("the directory is ours");
    run(Command::new(copy).args(arguments), b"", DEADLINE).succeeded();
}

/// Logs in by key at a dropbear, and runs a command.
fn dropbear(stage: &mut Stage, command: &str) {
    let key = stage.sshd.directory().join("dropbear_key");
    run(Command::new("/usr/bin/dropbearkey").args(["-t", "ed25519", "-f"]).arg(&key), b"", DEADLINE).succeeded();
    let free = free_address();
    let mut server = Command::new(DROPBEAR);
    server.args(["-F", "-E", "-m", "-p", &free.to_string(), "-P", "/dev/null", "-r"]).arg(&key);
    let _server = Service::start(&mut server);
    until("dropbear listens", DEADLINE, || {
        // It waits for a greeting of those that only look.
        TcpStream::connect(free).ok().map(|mut stream| stream.write_all(b"SSH-2.0-looks\r\n"))
    })
    .expect("it reads");
    stage.sshd.by_key_at(free.port(), command).succeeded();
}
