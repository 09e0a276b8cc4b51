//! What people do with an sshd: the real `ssh` client, and connections that never get as far as a login.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    program::{Outcome, free_address, patient, run, until, wait},
    sshd::{SshUser, Sshd, make_key},
    typed::Typed,
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

    /// Logs in by the same key at another server, and runs a command.
    pub fn by_key_at(&self, port: u16, command: &str) -> Outcome {
        run(self.elsewhere(&self.client_by_key(), port).arg(command), b"", DEADLINE)
    }

    /// Logs in by password at another server, and runs a command.
    pub fn by_password_at(&self, port: u16, command: &str) -> Outcome {
        let user = self.user();
        let mut client = self.elsewhere(&self.client_by_password(&user.name, &user.password), port);
        run(client.env("SSHPASS", &user.password).arg(command), b"", DEADLINE)
    }

    /// The same client for another server.
    fn elsewhere(&self, client: &Command, port: u16) -> Command {
        let (own, port) = (self.port().to_string(), port.to_string());
        let mut other = Command::new(client.get_program());
        other.args(client.get_args().map(|argument| if argument == &*own { port.as_ref() } else { argument }));
        other
    }

    /// Logs in by password and runs a command.
    pub fn by_password(&self, command: &str) -> Outcome {
        let user = self.user();
        run(self.client_by_password(&user.name, &user.password).arg(command), b"", DEADLINE)
    }

    /// Logs in by answering PAM's questions, and runs a command.
    pub fn by_questions(&self, command: &str) -> Outcome {
        let user = self.user();
        let mut client = self.client_by_password(&user.name, &user.password);
        // The first one counts, and stands before the host.
        let mut asked = Command::new(client.get_program());
        asked.args(client.get_args().map(|argument| {
            if argument == "-oPreferredAuthentications=password" {
                "-oPreferredAuthentications=keyboard-interactive".as_ref()
            } else {
                argument
            }
        }));
        asked.env("SSHPASS", &user.password);
        client = asked;
        run(client.arg(command), b"", DEADLINE)
    }

    /// Logs in by a certificate with that id, and runs a command.
    pub fn by_certificate(&self, id: &str, command: &str) -> Outcome {
        let (authority, key) = (self.directory().join("authority"), self.directory().join(format!("signed-{id}")));
        if !authority.exists() {
            make_key(&authority);
            let public = fs::read_to_string(authority.with_extension("pub")).expect("it was made");
            let keys = self.directory().join("home/.ssh/authorized_keys");
            let known = fs::read_to_string(&keys).expect("the user has one");
            fs::write(&keys, format!("{known}cert-authority {public}")).expect("this is root");
        }
        make_key(&key);
        let mut sign = Command::new("/usr/bin/ssh-keygen");
        sign.arg("-q").arg("-s").arg(&authority).args(["-I", id, "-n", &self.user().name]);
        run(sign.arg(format!("{}.pub", key.display())), b"", DEADLINE).succeeded();
        self.with_own_key(&key, command)
    }

    /// Logs in by another key of the same user, and runs a command.
    pub fn by_other_key(&self, command: &str) -> Outcome {
        self.with_own_key(&self.other_key(), command)
    }

    fn with_own_key(&self, key: &Path, command: &str) -> Outcome {
        let mut client = self.client("publickey", &self.user().name);
        run(client.arg("-i").arg(key).args(["-T", "127.0.0.1", command]), b"", DEADLINE)
    }

    /// Logs in by key for files, and types the lines.
    pub fn sftp(&self, lines: &str) -> Outcome {
        run(self.by_key_with("/usr/bin/sftp", "-P").args(["-b", "-", "127.0.0.1"]), lines.as_bytes(), DEADLINE)
    }

    /// Copies a file to that name in the user's home, by the protocol before OpenSSH 9.0.
    pub fn scp(&self, name: &str) -> Outcome {
        let file = self.user().key.with_extension("pub");
        let mut client = self.by_key_with("/usr/bin/scp", "-P");
        run(old_protocol(&mut client).arg(file).arg(format!("127.0.0.1:{name}")), b"", DEADLINE)
    }

    /// Logs in by key for a forwarded port only, and goes.
    pub fn tunnel(&self) {
        forward_only(&mut self.client_by_key());
    }

    /// Logs in by key for a port that leads to this server, by which another user logs in and runs a command.
    pub fn through_tunnel(&self, user: &SshUser, command: &str) -> Outcome {
        let mut client = self.client_by_key();
        let to = format!("127.0.0.1:{}", self.port());
        let (mut client, port) = forward(&mut client, &to);
        let mut other = self.client("publickey", &user.name);
        other.arg("-i").arg(&user.key).args(["-T", "127.0.0.1", command]);
        let outcome = run(&mut self.elsewhere(&other, port), b"", DEADLINE);
        client.kill().and_then(|()| client.wait()).expect("it runs");
        outcome
    }

    /// Logs in by key, asks for nothing, and stays until the client is ended.
    pub fn stay(&self) -> io::Result<Child> {
        self.client_by_key().arg("-N").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    }

    /// Logs in by key once, and runs commands over the one connection.
    pub fn shared(&self, commands: &[&str]) {
        let socket = self.directory().join("control");
        let own = |client: &mut Command| {
            client.arg("-S").arg(&socket);
        };
        let mut master = self.client("publickey", &self.user().name);
        own(&mut master);
        master.arg("-i").arg(&self.user().key).args(["-M", "-N", "-f", "-oControlPersist=yes", "127.0.0.1"]);
        // In the background OpenSSH 8.4 goes on to hold what it was given for output: nobody would see the end of that.
        let mut master =
            master.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ssh starts");
        let gone = wait(&mut master, DEADLINE).expect("the master goes to the background");
        assert!(gone.success(), "{gone}");
        for command in commands {
            let mut client = self.client("none", &self.user().name);
            own(&mut client);
            run(client.args(["127.0.0.1", command]), b"", DEADLINE).succeeded();
        }
        let mut end = self.client("none", &self.user().name);
        own(&mut end);
        run(end.args(["-O", "exit", "127.0.0.1"]), b"", DEADLINE).succeeded();
    }

    /// Another client with the options that `ssh` gets, but for the port's.
    fn by_key_with(&self, program: &str, port: &str) -> Command {
        let client = self.client("publickey", &self.user().name);
        let mut other = Command::new(program);
        other.args(client.get_args().map(|argument| if argument == "-p" { port.as_ref() } else { argument }));
        other.arg("-i").arg(&self.user().key);
        other
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

    /// Logs in by key to a terminal, runs a command there, and leaves it to be typed to.
    pub fn terminal(&self, command: &str) -> Typed {
        let mut client = self.client("publickey", &self.user().name);
        Typed::start(client.arg("-i").arg(&self.user().key).args(["-q", "-tt", "127.0.0.1", command]))
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
        connection.set_read_timeout(Some(patient(DEADLINE))).expect("a deadline is allowed");
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
    pub(super) fn client(&self, method: &str, name: &str) -> Command {
        let config = self.directory().join(format!("ssh_config-{:016x}", name_number(name)));
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        let content = format!("User \"{quoted}\"\n");
        // Another client may be reading it.
        if fs::read_to_string(&config).ok().as_ref() != Some(&content) {
            fs::write(&config, content).expect("the directory is ours");
        }
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
        let end = Instant::now() + patient(DEADLINE);
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

/// Has `scp` speak the protocol before OpenSSH 9.0. Before 8.7 there is no other.
pub(super) fn old_protocol(scp: &mut Command) -> &mut Command {
    let usage = run(&mut Command::new("/usr/bin/scp"), b"", DEADLINE).stderr;
    if usage.split(']').next().is_some_and(|flags| flags.contains('O')) {
        scp.arg("-O");
    }
    scp
}

/// Has a client, that has been told where to log in, forward a port and nothing else; connects to that, and ends the client once the
/// other end has been tried.
pub(super) fn forward_only(client: &mut Command) {
    let (mut client, port) = forward(client, "127.0.0.1:9");
    let mut forwarded = TcpStream::connect(("127.0.0.1", port)).expect("it is forwarded");
    forwarded.set_read_timeout(Some(patient(DEADLINE))).expect("a deadline is allowed");
    // Nobody listens at the other end.
    forwarded.read_to_end(&mut Vec::new()).expect("the client closes it");
    client.kill().and_then(|()| client.wait()).expect("it runs");
}

/// Has a client forward a port and nothing else. Returns it, and which port that is, once the login is over.
fn forward(client: &mut Command, to: &str) -> (Child, u16) {
    let free = free_address();
    // Another socket says that it is ready, so that nothing is forwarded for that alone.
    let ready = TempDir::new().expect("a folder");
    let socket = ready.path().join("ready");
    let client = client
        .args(["-N", "-oExitOnForwardFailure=yes", "-oControlMaster=yes", "-S"])
        .arg(&socket)
        .args(["-L", &format!("127.0.0.1:{}:{to}", free.port())])
        .spawn()
        .expect("ssh starts");
    until("the port is forwarded", DEADLINE, || socket.exists().then_some(()));
    (client, free.port())
}

/// A file name for any user name.
fn name_number(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
