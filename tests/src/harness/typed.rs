//! A program at a terminal, that is typed to as a person does: once it has asked, and not before.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

use super::program::{patient, wait};

const DEADLINE: Duration = Duration::from_secs(30);

/// It runs until it ends or is dropped.
pub struct Typed {
    child: Child,
    input: Option<Box<dyn Write>>,
    output: Receiver<Vec<u8>>,
    said: String,
    /// The terminal's other end, where it is this program's. `login` hangs the terminal up before it begins: were nobody else
    /// to hold it then, that would be its end.
    _terminal: Option<OwnedFd>,
}

impl Typed {
    /// Starts a program whose own terminal is elsewhere, such as `ssh -tt` or `script`.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let output = read(child.stdout.take().expect("it is piped"));
        let input = child.stdin.take().map(|it| Box::new(it) as Box<dyn Write>);
        Self { child, input, output, said: String::new(), _terminal: None }
    }

    /// Starts a program at a terminal of its own, which it leads a session on, as getty has `login` do.
    pub fn at_terminal(program: &str, arguments: &[&str]) -> Self {
        let own = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pseudo terminal");
        grantpt(&own).and_then(|()| unlockpt(&own)).expect("it is ours");
        let name = ptsname(&own, Vec::new()).expect("it has a name");
        let terminal =
            open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).expect("it is there");
        let end = || Stdio::from(terminal.try_clone().expect("one more descriptor"));
        let mut command = Command::new("/usr/bin/setsid");
        command.args(["--ctty", program]).args(arguments).stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let own = File::from(own);
        let output = read(own.try_clone().expect("one more descriptor"));
        Self { child, input: Some(Box::new(own)), output, said: String::new(), _terminal: Some(terminal) }
    }

    /// Waits until it has said that, from what was not waited for yet.
    pub fn wait_for(&mut self, wanted: &str) {
        let end = Instant::now() + patient(DEADLINE);
        loop {
            if let Some(at) = self.said.find(wanted) {
                self.said.drain(..at + wanted.len());
                return;
            }
            match self.output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.said.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{wanted:?} was not said within {DEADLINE:?}: {:?}", self.said)
                }
                Err(RecvTimeoutError::Disconnected) => panic!("it ended before {wanted:?}: {:?}", self.said),
            }
        }
    }

    /// Types.
    pub fn types(&mut self, text: &str) {
        let input = self.input.as_mut().expect("it is not closed");
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).expect("it reads");
    }

    /// Types nothing more, and waits for its end.
    pub fn ends(mut self) -> ExitStatus {
        drop(self.input.take());
        wait(&mut self.child, DEADLINE).unwrap_or_else(|| panic!("it runs still: {:?}", self.said))
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        // Either fails if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What it says, as it says it.
fn read(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, output) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 4_096];
        loop {
            match from.read(&mut buffer) {
                Ok(length @ 1..) if send.send(buffer[..length].to_vec()).is_ok() => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => break,
            }
        }
    });
    output
}
