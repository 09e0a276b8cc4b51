//! Runs a program to its end, within a deadline.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, ExitStatus, Stdio},
    sync::LazyLock,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

/// The variable that says how many times longer than on an ordinary machine everything may take: an emulated one is slow.
pub const PATIENCE: &str = "POSTERN_PATIENCE";

/// A deadline as this machine needs it.
pub fn patient(deadline: Duration) -> Duration {
    static FACTOR: LazyLock<u32> = LazyLock::new(|| {
        let factor = std::env::var(PATIENCE).ok();
        factor.map_or(1, |text| text.parse().unwrap_or_else(|_| panic!("{PATIENCE}={text} is no whole number")))
    });
    deadline * *FACTOR
}

/// What a program left when it ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// What it wrote to its standard error, likewise.
    pub stderr: String,
}

impl Outcome {
    /// The same outcome, if the program succeeded; else a panic that shows what it wrote.
    #[expect(clippy::return_self_not_must_use, reason = "that it succeeded is often all there is to know")]
    pub fn succeeded(self) -> Self {
        assert!(self.status.success(), "{}\n{}{}", self.status, self.stdout, self.stderr);
        self
    }
}

/// Runs `command` with `input` on its standard input. A program that outlives the deadline is killed, and the test fails.
pub fn run(command: &mut Command, input: &[u8], deadline: Duration) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    if let Some(mut stdin) = child.stdin.take() {
        // A program may end without reading its input.
        let _ = stdin.write_all(input);
    }
    let ended = wait(&mut child, deadline);
    if ended.is_none() {
        child.kill().and_then(|()| child.wait()).expect("a child of this process can be killed");
    }
    let (stdout, stderr) = (text(stdout), text(stderr));
    match ended {
        Some(status) => Outcome { status, stdout, stderr },
        None => panic!("{command:?} still ran after {:?}\n{stdout}{stderr}", patient(deadline)),
    }
}

/// Waits for a child's end; `None` if it still runs at the deadline.
pub fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let pid = Pid::from_child(child);
    let handle = pidfd_open(pid, PidfdFlags::empty()).expect("a child that nobody has waited for has a pid");
    let timeout = Timespec::try_from(patient(deadline)).expect("deadlines of tests are short");
    let ready = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout)).unwrap_or(0);
    (ready > 0).then(|| child.wait().expect("it has ended"))
}

/// Ends a child that does so when it is asked to, and makes it at the deadline.
pub fn end(child: &mut Child, deadline: Duration) {
    // Either fails if it has ended already.
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    if wait(child, deadline).is_none() {
        let _ = child.kill().and_then(|()| child.wait());
    }
}

/// An address of the loopback with a port that was free a moment ago, for a server that starts later.
pub fn free_address() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|it| it.local_addr()).expect("a free port")
}

/// Asks again until `answer` gives a value, and fails the test at the deadline. For facts that nothing announces.
pub fn until<T>(what: &str, deadline: Duration, mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = patient(deadline);
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = answer() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {deadline:?}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

fn drain(stream: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What came before an error is still worth showing.
            let _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn text(stream: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&stream.join().expect("reading does not panic")).into_owned()
}
