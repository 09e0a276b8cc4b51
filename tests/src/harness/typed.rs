//! A program at a terminal, that is typed to as a person does: once it has asked, and not before.

use std::{
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use super::program::wait;

const DEADLINE: Duration = Duration::from_secs(30);

/// It runs until it ends or is dropped.
pub struct Typed {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<Vec<u8>>,
    said: String,
}

impl Typed {
    /// Starts a program whose own terminal is elsewhere, such as `ssh -tt` or `script`.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let mut stdout = child.stdout.take().expect("it is piped");
        let (send, output) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                if send.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take();
        Self { child, input, output, said: String::new() }
    }

    /// Waits until it has said that, from what was not waited for yet.
    pub fn wait_for(&mut self, wanted: &str) {
        let end = Instant::now() + DEADLINE;
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
