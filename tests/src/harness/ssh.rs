//! What people do with an sshd: the real `ssh` client, and connections that never get as far as a login.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use super::{
    program::{Outcome, run, wait},
    sshd::Sshd,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// How far a connection gets before the client leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It says nothing at all.
    Connected,
    /// It says what version of SSH it speaks.
    Greeted,
    /// It speaks another protocol.
    OtherProtocol,
}

/// A shell that stays open. Dropping it kills the client, which ends the session.
pub struct Session {
    client: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
    /// Numbers the marks that tell when a command is done.
    commands: u32,
}

impl Sshd {
    /// Logs in by key and runs a command.
    pub fn by_key(&self, command: &str) -> Outcome {
        run(self.client_by_key().arg(command), b"", DEADLINE)
    }

    /// Logs in by password and runs a command.
    pub fn by_password(&self, command: &str) -> Outcome {
        let user = self.user();
        run(self.client_by_password(&user.name, &user.password).arg(command), b"", DEADLINE)
    }

    /// Tries to log in with a password that is wrong, once.
    pub fn with_wrong_password(&self) -> Outcome {
        run(self.client_by_password(&self.user().name, "wrong").arg("true"), b"", DEADLINE)
    }

    /// Tries to log in by password as somebody whom this machine does not know, once.
    pub fn as_unknown(&self, name: &str) -> Outcome {
        run(self.client_by_password(name, "wrong").arg("true"), b"", DEADLINE)
    }

    /// Tries to log in with a key that nobody has allowed.
    pub fn with_key(&self, key: &Path) -> Outcome {
        run(
            self.client("publickey", &self.user().name).arg("-i").arg(key).args(["-T", "127.0.0.1", "true"]),
            b"",
            DEADLINE,
        )
    }

    /// Logs in by key to a terminal, types the lines, and logs out.
    pub fn in_terminal(&self, lines: &[&str]) -> Outcome {
        let typed = lines.iter().chain(&["exit"]).fold(String::new(), |typed, line| typed + line + "\n");
        let mut client = self.client("publickey", &self.user().name);
        run(client.arg("-i").arg(&self.user().key).args(["-tt", "127.0.0.1"]), typed.as_bytes(), DEADLINE)
    }

    /// Logs in by key to a shell without a terminal, and leaves it open.
    pub fn open(&self) -> Session {
        let mut client = self.client_by_key();
        let mut client =
            client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("ssh starts");
        let (send, output) = channel();
        let stdout = BufReader::new(client.stdout.take().expect("it is piped"));
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let input = client.stdin.take();
        let mut session = Session { client, input, output, commands: 0 };
        // The login is over once the shell answers.
        session.run(":");
        session
    }

    /// Connects, gets as far as `stage`, and leaves. Gives the address that sshd saw.
    pub fn leave_at(&self, stage: Stage) -> SocketAddr {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port())).expect("sshd listens");
        connection.set_read_timeout(Some(DEADLINE)).expect("a deadline is allowed");
        let own = connection.local_addr().expect("it is connected");
        let said: &[u8] = match stage {
            Stage::Connected => return own,
            Stage::Greeted => b"SSH-2.0-leaves\r\n",
            Stage::OtherProtocol => b"GET / HTTP/1.0\r\n\r\n",
        };
        let mut greeting = [0; 4];
        connection.read_exact(&mut greeting).expect("sshd greets");
        assert_eq!(&greeting, b"SSH-");
        connection.write_all(said).expect("sshd reads");
        // sshd may have read what is no SSH and closed the connection by now: then there is nothing left to shut.
        let _ = connection.shutdown(Shutdown::Write);
        // Closing with unread bytes would reset the connection; sshd closes it once it has seen the end.
        let _ = connection.read_to_end(&mut Vec::new());
        own
    }

    fn client_by_key(&self) -> Command {
        let mut client = self.client("publickey", &self.user().name);
        client.arg("-i").arg(&self.user().key).args(["-T", "127.0.0.1"]);
        client
    }

    fn client_by_password(&self, name: &str, password: &str) -> Command {
        let client = self.client("password", name);
        let mut by_password = Command::new("/usr/bin/sshpass");
        by_password
            .arg("-e")
            .env("SSHPASS", password)
            .arg("/usr/bin/ssh")
            .args(client.get_args())
            .args(["-T", "127.0.0.1"]);
        by_password
    }

    /// The client with everything but the key and the host. The user's name goes in through a file, since the command
    /// line of `ssh` refuses the names that an attacker would choose.
    fn client(&self, method: &str, name: &str) -> Command {
        let config = self.directory().join(format!("ssh_config-{:016x}", name_number(name)));
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        fs::write(&config, format!("User \"{quoted}\"\n")).expect("the directory is ours");
        let mut client = Command::new("/usr/bin/ssh");
        client.arg("-F").arg(config).arg("-p").arg(self.port().to_string()).args([
            "-oStrictHostKeyChecking=no",
            "-oUserKnownHostsFile=/dev/null",
            "-oLogLevel=ERROR",
            "-oIdentitiesOnly=yes",
            "-oIdentityAgent=none",
            "-oNumberOfPasswordPrompts=1",
            "-oConnectTimeout=20",
        ]);
        client.arg(format!("-oPreferredAuthentications={method}"));
        client
    }
}

impl Session {
    /// Types a command, waits for its end and gives what it wrote to its standard output.
    pub fn run(&mut self, command: &str) -> String {
        self.commands += 1;
        let mark = format!("done-{}-{}", std::process::id(), self.commands);
        let input = self.input.as_mut().expect("the session is open");
        writeln!(input, "{command}\necho {mark}").expect("the shell reads");
        let end = Instant::now() + DEADLINE;
        let mut output = String::new();
        loop {
            match self.output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line == mark => return output,
                Ok(line) => output = output + &line + "\n",
                Err(RecvTimeoutError::Timeout) => panic!("{command:?} is not done after {DEADLINE:?}: {output}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the session ended during {command:?}: {output}"),
            }
        }
    }

    /// Logs out, and waits until the client has ended.
    pub fn log_out(mut self) {
        drop(self.input.take());
        let status = wait(&mut self.client, DEADLINE).expect("the shell ends with its input");
        assert!(status.success(), "ssh: {status}");
    }

    /// Kills the client, as a machine does that loses power: sshd is told by nothing but the connection's end.
    pub fn cut(self) {
        drop(self);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Either fails if it has ended already.
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// A file name for any user name.
fn name_number(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
