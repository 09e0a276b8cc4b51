//! The agent under test: what it costs, and whether it told the truth.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use postern_tests::harness::program;
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take that the agent does.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
/// An agent that uses less than this of a processor in [`QUIET`] has nothing to do.
const IDLE: Duration = Duration::from_millis(1);
/// See `IDLE`.
pub(crate) const QUIET: Duration = Duration::from_millis(250);

/// A running agent that writes its events to a file.
pub(crate) struct Watched {
    child: Child,
    admin: String,
    events: PathBuf,
}

/// Bytes of resident memory.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Memory {
    /// All of it, the program's own file and the kernel's ring included.
    pub(crate) resident: u64,
    /// What nothing else shares.
    pub(crate) anonymous: u64,
}

impl Watched {
    /// Starts it, and waits until every sensor is armed.
    pub(crate) fn start(agent: &Path, folder: &Path, more: &str) -> Result<Self> {
        Self::start_rotating(agent, folder, more, "64GiB")
    }

    /// The same, with a new file whenever the file has grown to `size`.
    pub(crate) fn start_rotating(agent: &Path, folder: &Path, more: &str, size: &str) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let admin = format!("127.0.0.1:{port}");
        let events = folder.join("events.json");
        if events.exists() {
            fs::remove_file(&events)?;
        }
        let file = folder.join("postern.yaml");
        let sink = format!("{{type: file, path: {}, max_size: {size}, keep: 1}}", events.display());
        fs::write(&file, format!("{more}\nsinks: [{sink}]\nadmin: {{address: '{admin}'}}\n"))?;
        let mut command = Command::new(agent);
        command.args(["run", "--config"]).arg(&file).env_remove("KUBERNETES_SERVICE_HOST");
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().context("the agent does not start")?;
        let mut watched = Self { child, admin, events };
        let end = Instant::now() + DEADLINE;
        while !watched.ask("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            ensure!(watched.child.try_wait()?.is_none(), "the agent ended at its start");
            ensure!(Instant::now() < end, "the agent is not ready after {DEADLINE:?}");
            thread::park_timeout(Duration::from_millis(2));
        }
        Ok(watched)
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Time on processors of all its threads that live. Those of the pool for blocking calls live for ten idle seconds.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            // A thread that has just ended.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            sum += text.split(' ').next().context("a figure")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(sum))
    }

    /// Waits until the agent has nothing to do any more; returns what it has used so far.
    pub(crate) fn settled(&self) -> Result<Duration> {
        let end = Instant::now() + DEADLINE;
        let mut before = self.cpu()?;
        loop {
            thread::sleep(QUIET);
            let now = self.cpu()?;
            if now.saturating_sub(before) < IDLE {
                return Ok(now);
            }
            ensure!(Instant::now() < end, "the agent is still busy after {DEADLINE:?}");
            before = now;
        }
    }

    /// What it holds in memory now.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let figure = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("a figure")?;
            Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
        };
        Ok(Memory { resident: figure("VmRSS:")?, anonymous: figure("RssAnon:")? })
    }

    /// The sum of a metric over its labels. Fails where there is no such metric.
    pub(crate) fn metric(&self, name: &str) -> Result<u64> {
        let page = self.ask("/metrics")?;
        let mut values = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name)).peekable();
        ensure!(values.peek().is_some(), "no metric is named {name}");
        values.map(|line| line.rsplit(' ').next().unwrap_or("").parse::<u64>().map_err(Into::into)).sum()
    }

    fn ask(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.admin)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: postern\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Stops it; returns how it says that it all adds up.
    pub(crate) fn account(mut self) -> Result<Account> {
        let dropped = self.end()?;
        let last = BufReader::new(fs::File::open(&self.events)?).lines().last().context("a line")??;
        Account::read(&last, dropped)
    }

    /// Stops it; returns how many events its sink had no room for.
    fn end(&mut self) -> Result<u64> {
        let dropped = self.metric("postern_sink_dropped_events_total")?;
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = program::wait(&mut self.child, DEADLINE).context("the agent does not stop")?;
        ensure!(status.success(), "the agent ended with {status}");
        Ok(dropped)
    }

    /// Stops it, and looks that nothing is lost, where there were no execs to tell of.
    pub(crate) fn check_stream(self) -> Result<()> {
        self.check("nobody passes this", 0)
    }

    /// Stops it, and holds what it wrote against what happened: each exec once, nothing lost, every record accounted for.
    pub(crate) fn check(mut self, marker: &str, execs: u64) -> Result<()> {
        let dropped = self.end()?;
        let mut seen = vec![0_u32; usize::try_from(execs)?];
        let wanted = format!(",\"{marker}\",\"");
        let mut last = String::new();
        for (position, line) in (0..).zip(BufReader::new(fs::File::open(&self.events)?).lines()) {
            last = line?;
            ensure!(sequence(&last) == Some(position), "the stream has a gap before {last}");
            let Some((_, rest)) = last.split_once(&wanted).filter(|_| is_exec(&last)) else { continue };
            let number: usize = rest.split('"').next().unwrap_or("").parse().context("a number behind the marker")?;
            *seen.get_mut(number).context("a number that nobody passed")? += 1;
        }
        let lost = Account::read(&last, dropped)?.lost;
        let missing = seen.iter().filter(|&&times| times == 0).count();
        let doubled = seen.iter().filter(|&&times| times > 1).count();
        if lost > 0 || missing > 0 || doubled > 0 {
            bail!(
                "of {execs} execs {missing} are missing and {doubled} are there twice; {lost} records are told to be lost"
            );
        }
        Ok(())
    }
}

/// What became of the kernel's records, to the last one. The metrics are no such account: they are up to a second old.
pub(crate) struct Account {
    pub(crate) received: u64,
    /// On their way to the agent, or to its sink.
    pub(crate) lost: u64,
}

impl Account {
    /// From the last line that an agent writes, and how many events its sink had no room for.
    fn read(last: &str, dropped: u64) -> Result<Self> {
        let line: serde_json::Value = serde_json::from_str(last).with_context(|| last.to_owned())?;
        ensure!(line["event"]["action"] == "agent-stopped", "the last line is {last}");
        let counters = line["postern"]["counters"].as_array().context("the counters of each hook")?;
        let sum = |name: &str| counters.iter().map(|hook| hook[name].as_u64().context("a count")).sum::<Result<u64>>();
        Ok(Self { received: sum("received")?, lost: sum("lost")? + dropped })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Already ended, after `end`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a line tells of an execution, and of the process's end or not.
pub(crate) fn is_exec(line: &str) -> bool {
    let action = line.split_once("\"kind\":\"event\",\"action\":").map_or("", |(_, rest)| rest);
    action.strip_prefix('[').unwrap_or(action).starts_with("\"exec\"")
}

fn sequence(line: &str) -> Option<u64> {
    line.split_once("\"sequence\":")?.1.split(',').next()?.parse().ok()
}
