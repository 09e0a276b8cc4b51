//! From the exec to the line that tells of it, as its reader sees it: the time when a line arrives, less the time in it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use postern_tests::harness::program;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::{
    load::{Ground, Load},
    watched::{DEADLINE, is_exec},
};

/// How late lines are, in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) what: String,
    pub(crate) count: usize,
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) most: f64,
}

impl Latency {
    fn of(what: &str, mut late: Vec<f64>) -> Self {
        late.sort_by(f64::total_cmp);
        let at = |part: usize| late.get((late.len() * part / 100).min(late.len().saturating_sub(1))).copied();
        let [median, p99, most] = [50, 99, 100].map(|part| at(part).unwrap_or(f64::NAN));
        Self { what: what.into(), count: late.len(), median, p99, most }
    }
}

/// An agent whose lines are read as they come.
struct Streamed {
    child: Child,
    lines: Receiver<(Timestamp, String)>,
}

impl Streamed {
    fn start(agent: &Path, folder: &Path) -> Result<Self> {
        let file = folder.join("stream.yaml");
        fs::write(&file, "admin: {address: off}\n")?;
        let mut command = Command::new(agent);
        command.args(["run", "--output", "json", "--config"]).arg(file).env_remove("KUBERNETES_SERVICE_HOST");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = child.stdout.take().context("a pipe")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::with_capacity(1 << 20, stdout).lines() {
                let Ok(line) = line else { break };
                if sender.send((Timestamp::now(), line)).is_err() {
                    break;
                }
            }
        });
        let streamed = Self { child, lines };
        streamed.wait_for("the start", 1, |line| line.contains("\"agent-started\""))?;
        Ok(streamed)
    }

    /// How late each of the next `count` lines was that `wanted` is to be, in milliseconds.
    fn wait_for(&self, what: &str, count: usize, wanted: impl Fn(&str) -> bool) -> Result<Vec<f64>> {
        let end = Instant::now() + DEADLINE;
        let mut late = Vec::new();
        while late.len() < count {
            let left = end.saturating_duration_since(Instant::now());
            let (arrived, line) = self.lines.recv_timeout(left).with_context(|| format!("waited for {what}"))?;
            if wanted(&line) {
                let time = line.split_once("\"@timestamp\":\"").and_then(|(_, rest)| rest.split('"').next());
                let time: Timestamp = time.context("a time")?.parse()?;
                late.push(arrived.duration_since(time).as_secs_f64() * 1e3);
            }
        }
        Ok(late)
    }

    fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = program::wait(&mut self.child, DEADLINE).context("the agent does not stop")?;
        ensure!(status.success(), "the agent ended with {status}");
        Ok(())
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Quiet, under load, and alerts under load.
pub(crate) fn measure(agent: &Path, folder: &Path, ground: &Ground, short: bool) -> Result<Vec<Latency>> {
    let streamed = Streamed::start(agent, folder)?;
    let marker = |what: &str| format!("bench-{}-{what}", std::process::id());
    let quiet = alone(&streamed, &marker("quiet"), if short { 5 } else { 100 })?;
    let in_storm = marker("storm");
    let storm = ground.run(Load::Vfork, &in_storm)?;
    let of_storm = |line: &str| is_exec(line) && line.contains(&in_storm);
    let loaded = streamed.wait_for("the storm", usize::try_from(storm.execs)?, of_storm)?;
    let alerts = thread::scope(|scope| -> Result<Vec<f64>> {
        let storm = scope.spawn(|| ground.run(Load::Vfork, &marker("beside")));
        let mut late = Vec::new();
        while !storm.is_finished() {
            from_memory(&ground.tiny())?;
            late.extend(streamed.wait_for("an alert", 1, |line| line.contains("\"kind\":\"alert\""))?);
        }
        storm.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
        Ok(late)
    })?;
    streamed.stop()?;
    Ok(vec![
        Latency::of("an exec on a quiet machine", quiet),
        Latency::of("an exec in a storm", loaded),
        Latency::of("an alert in a storm", alerts),
    ])
}

/// Execs far apart from each other.
fn alone(streamed: &Streamed, marker: &str, count: usize) -> Result<Vec<f64>> {
    let mut late = Vec::new();
    for _ in 0..count {
        thread::sleep(Duration::from_millis(50));
        Command::new("/bin/true").arg(marker).status()?;
        late.extend(streamed.wait_for("an exec", 1, |line| is_exec(line) && line.contains(marker))?);
    }
    Ok(late)
}

/// Runs a program that is nowhere but in memory, which is an alert.
fn from_memory(program: &Path) -> Result<()> {
    let memory = rustix::fs::memfd_create("bench", rustix::fs::MemfdFlags::empty())?;
    rustix::io::write(&memory, &fs::read(program)?)?;
    Command::new(format!("/proc/self/fd/{}", memory.as_raw_fd())).arg0("bench").status()?;
    Ok(())
}
