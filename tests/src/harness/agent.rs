//! The real agent as a child process, and the stream that it writes. Every line is checked against the documented fields,
//! sequence numbers for gaps, and the accounts at the end: a test that looks at one event has all the others checked.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use postern::sink::encode::check_line;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::program;

/// How long anything may take that the agent does.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A running agent.
pub struct Agent {
    child: Child,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    errors: Option<JoinHandle<String>>,
    directory: TempDir,
    admin: String,
    seen: Vec<Value>,
}

/// What an agent left.
pub struct Stopped {
    /// How it ended.
    pub status: ExitStatus,
    /// All events of the run.
    pub events: Vec<Value>,
    /// What it logged.
    pub log: String,
}

/// The program under test: beside this one, as cargo puts them.
pub fn program() -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its path");
    let beside = |folder: &Path| folder.join("postern");
    let folders = own.ancestors().skip(1).take(2);
    folders
        .map(beside)
        .find(|path| path.is_file())
        .expect("the agent is built before the tests: `cargo build -p postern`")
}

/// The configuration, and where the agent serves and keeps what no two agents may share.
fn text_of(configuration: &str, admin: &str, state: &Path) -> String {
    let state = if configuration.contains("state:") {
        String::new()
    } else {
        format!("state: {{file: '{}'}}", state.display())
    };
    format!("{configuration}\nadmin: {{address: '{admin}'}}\n{state}\n")
}

impl Agent {
    /// Starts with nothing configured but where metrics are served, and waits until it watches.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more configuration (YAML, without `admin`).
    pub fn start_with(configuration: &str) -> Self {
        let mut agent = Self::start_unready(configuration);
        agent.wait_for("the agent to start", |event| action(event) == "agent-started");
        agent
    }

    /// The same, without waiting.
    pub fn start_unready(configuration: &str) -> Self {
        let directory = TempDir::with_prefix("postern-test-").expect("a temporary folder");
        let admin = program::free_address().to_string();
        let file = directory.path().join("postern.yaml");
        let state = directory.path().join("sessions.json");
        fs::write(&file, text_of(configuration, &admin, &state)).expect("a configuration");
        let mut command = Command::new(program());
        command.args(["run", "--output", "json", "--config"]).arg(&file).env_remove("KUBERNETES_SERVICE_HOST");
        let mut agent = Self::of_command(command, directory);
        agent.admin = admin;
        agent
    }

    /// An agent that something else starts: the command's output is its stream, and a signal to it reaches the agent.
    pub fn of_command(mut command: Command, directory: TempDir) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the agent starts");
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("piped");
        let reader = thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut stderr = child.stderr.take().expect("piped");
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let admin = String::new();
        Self { child, lines, reader: Some(reader), errors: Some(errors), directory, admin, seen: Vec::new() }
    }

    /// Writes another configuration in the place of the one that it was started with.
    pub fn configure(&self, configuration: &str) {
        let (file, new) = (self.directory.path().join("postern.yaml"), self.directory.path().join("new.yaml"));
        let state = self.directory.path().join("sessions.json");
        fs::write(&new, text_of(configuration, &self.admin, &state)).expect("a configuration");
        // Never half of it.
        fs::rename(new, file).expect("in its place");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the agent runs");
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many file systems its fanotify group is told of, as the kernel shows it.
    pub fn marked(&self) -> usize {
        let folder = PathBuf::from(format!("/proc/{}/fd", self.pid()));
        let descriptors = fs::read_dir(folder).expect("the agent runs").flatten();
        let groups = descriptors.filter(|entry| {
            fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().contains("[fanotify]"))
        });
        let details = groups.map(|entry| {
            let details = format!("/proc/{}/fdinfo/{}", self.pid(), entry.file_name().display());
            fs::read_to_string(details).expect("it is open")
        });
        let details: Vec<String> = details.collect();
        assert_eq!(details.len(), 1, "one group");
        details[0].lines().filter(|line| line.starts_with("fanotify sdev:")).count()
    }

    /// A folder of its own that goes with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The first event for which `wanted` holds, among those seen and those to come.
    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_within(DEADLINE, what, wanted)
    }

    /// The same for what may take longer.
    pub fn wait_within(&mut self, deadline: Duration, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(found) = self.seen.iter().find(|event| wanted(event)) {
            return found.clone();
        }
        self.wait_for_new(deadline, what, wanted)
    }

    fn wait_for_new(&mut self, deadline: Duration, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + program::patient(deadline);
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let event = read(&line);
                    let found = wanted(&event);
                    self.seen.push(event.clone());
                    if found {
                        return event;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("waited in vain for {what}; seen: {}", self.summary()),
                Err(RecvTimeoutError::Disconnected) => {
                    let log = self.errors.take().map(|log| log.join().expect("reading does not panic"));
                    panic!("the agent ended while {what} was waited for: {}", log.unwrap_or_default())
                }
            }
        }
    }

    /// Hands over each event until then, and keeps none: a long run has more than fit into memory.
    pub fn follow(&mut self, until: Instant, mut each: impl FnMut(Value)) {
        self.seen.drain(..).for_each(&mut each);
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => each(read(&line)),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    let log = self.errors.take().map(|log| log.join().expect("reading does not panic"));
                    panic!("the agent ended: {}", log.unwrap_or_default())
                }
            }
        }
    }

    /// All events that were read so far.
    pub fn seen(&self) -> &[Value] {
        &self.seen
    }

    /// The same as [`Self::wait_for`], but for the first so many events.
    pub fn wait_for_after(&mut self, first: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(found) = self.seen.iter().skip(first).find(|event| wanted(event)) {
            return found.clone();
        }
        self.wait_for_new(DEADLINE, what, wanted)
    }

    /// What a path of the admin server answers: status and body.
    pub fn ask(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.admin).expect("the admin server listens");
        stream.set_read_timeout(Some(program::patient(DEADLINE))).expect("a time-out");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: postern\r\nConnection: close\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    /// Tells it to stop as kubelet does, and checks the whole run.
    pub fn stop(self) -> Stopped {
        let stopped = self.stop_unchecked();
        check_run(&stopped.events);
        stopped
    }

    /// Tells it to stop as kubelet does, and yields the events that nobody has taken.
    pub fn stop_unchecked(self) -> Stopped {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the agent runs");
        let stopped = self.ended();
        assert!(stopped.status.success(), "{}\n{}", stopped.status, stopped.log);
        stopped
    }

    /// Waits until it ends by itself.
    pub fn ended(mut self) -> Stopped {
        let status = program::wait(&mut self.child, DEADLINE).expect("the agent ends in time");
        self.reader.take().expect("read once").join().expect("reading does not panic");
        let log = self.errors.take().expect("read once").join().expect("reading does not panic");
        let mut events = std::mem::take(&mut self.seen);
        events.extend(self.lines.try_iter().map(|line| read(&line)));
        Stopped { status, events, log }
    }

    fn summary(&self) -> String {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for event in &self.seen {
            *counts.entry(action(event)).or_default() += 1;
        }
        format!("{counts:?}")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Already ended, after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `event.action`; the first where there are several.
pub fn action(event: &Value) -> &str {
    actions(event).first().copied().unwrap_or("")
}

/// Whether that is its `event.action`, or one of several.
pub fn tells_of(event: &Value, wanted: &str) -> bool {
    actions(event).contains(&wanted)
}

fn actions(event: &Value) -> Vec<&str> {
    match event.pointer("/event/action") {
        Some(Value::String(action)) => vec![action],
        _ => texts(event, "/event/action"),
    }
}

/// A text in an event, by its JSON pointer; empty where there is none.
pub fn text<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// A list of texts in an event.
pub fn texts<'a>(event: &'a Value, pointer: &str) -> Vec<&'a str> {
    let list = event.pointer(pointer).and_then(Value::as_array);
    list.map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// Whether it is an exec whose arguments contain `part`.
pub fn is_exec_of(event: &Value, part: &str) -> bool {
    action(event) == "exec"
        && text(event, "/event/kind") == "event"
        && texts(event, "/process/args").iter().any(|arg| arg.contains(part))
}

/// A line of the stream; panics where it breaks the documented form.
pub fn read(line: &str) -> Value {
    if let Err(problems) = check_line(line) {
        panic!("a line breaks the documented form: {problems:#?}\n{line}");
    }
    serde_json::from_str(line).expect("checked")
}

/// What holds for every run: no gap in the stream, every record accounted for, and a kernel that tells what runs.
pub fn check_run(events: &[Value]) {
    let fallback = events.iter().find(|event| text(event, "/message").contains("may be taken for new"));
    assert_eq!(fallback, None);
    for (expected, event) in events.iter().enumerate() {
        check_sequence(event, expected as u64);
    }
    check_last(events.last().expect("at least one event"));
}

/// What holds for every event of a run: that it is the next.
pub fn check_sequence(event: &Value, expected: u64) {
    let sequence = event.pointer("/event/sequence").and_then(Value::as_u64);
    assert_eq!(sequence, Some(expected), "the stream has a gap before {event}");
}

/// What holds for the last event of a run: every record is accounted for.
pub fn check_last(last: &Value) {
    assert_eq!(action(last), "agent-stopped");
    let counters = last.pointer("/postern/counters").and_then(Value::as_array).expect("figures");
    for counters in counters {
        let figure = |name: &str| counters.get(name).and_then(Value::as_u64).expect("a figure");
        let sum = figure("submitted") + figure("filtered") + figure("rate_limited") + figure("lost");
        assert_eq!(figure("seen"), sum, "{counters}");
        assert_eq!(figure("submitted"), figure("received"), "{counters}");
    }
}
