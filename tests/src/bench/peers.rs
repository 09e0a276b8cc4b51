//! Other monitors, as Debian packages them, under the same load in the same run.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};

use crate::watched::DEADLINE;

/// A monitor to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// The least that tells of an exec and its arguments ([`crate::floor`]): always there.
    #[value(skip)]
    Floor,
    /// execsnoop of bcc's libbpf tools.
    Execsnoop,
    /// execsnoop of bpftrace.
    Bpftrace,
    /// auditd with a rule for execve.
    Auditd,
}

/// What it cost.
pub(crate) struct Cost {
    pub(crate) cpu: Duration,
    pub(crate) lost: u64,
    pub(crate) resident: u64,
}

/// One that runs.
pub(crate) struct Running {
    peer: Peer,
    child: Child,
    output: PathBuf,
    before: Duration,
}

const TRACE: &str = "tracepoint:syscalls:sys_enter_exec* { printf(\"%d \", pid); join(args->argv); }";

impl Peer {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Execsnoop => "execsnoop",
            Self::Bpftrace => "bpftrace",
            Self::Auditd => "auditd",
        }
    }

    /// Whether it is so close to none, and to Postern, that it takes part in every round.
    pub(crate) const fn is_close(self) -> bool {
        matches!(self, Self::Floor)
    }

    /// Why it cannot be had here, if it cannot.
    pub(crate) fn unavailable(self) -> Option<String> {
        let program = self.program();
        (!Path::new(program).exists()).then(|| format!("there is no {program}"))
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Floor => "/proc/self/exe",
            Self::Execsnoop => "/usr/sbin/execsnoop",
            Self::Bpftrace => "/usr/bin/bpftrace",
            Self::Auditd => "/usr/sbin/auditd",
        }
    }

    /// Starts it, and waits until it tells of execs.
    pub(crate) fn start(self, folder: &Path) -> Result<Running> {
        let output = folder.join(self.name());
        let mut command = Command::new(self.program());
        match self {
            Self::Floor => {
                command.arg("floor");
            }
            Self::Execsnoop => {}
            Self::Bpftrace => {
                command.args(["-e", TRACE]);
            }
            Self::Auditd => {
                fs::write(folder.join("auditd.conf"), auditd_conf(&output))?;
                command.arg("-n").arg("-c").arg(folder);
            }
        }
        let stdout = fs::File::create(&output)?;
        let errors = fs::File::create(folder.join("peer.log"))?;
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(errors).spawn()?;
        let mut running = Running { peer: self, child, output, before: Duration::ZERO };
        if self == Self::Auditd {
            audit_rule("-a")?;
        }
        running.wait_for_first()?;
        Ok(running)
    }
}

impl Running {
    /// Makes execs until one is told of: nothing else says that it watches.
    fn wait_for_first(&mut self) -> Result<()> {
        let end = Instant::now() + DEADLINE;
        while self.told("are-you-there")? == 0 {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}", self.peer.name());
            }
            ensure!(Instant::now() < end, "{} tells of nothing", self.peer.name());
            Command::new("/bin/true").arg("are-you-there").status()?;
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Waits until it has nothing to do; what it takes counts from then on.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let end = Instant::now() + DEADLINE;
        loop {
            thread::sleep(Duration::from_millis(250));
            let now = self.cpu()?;
            // Less than a tick says nothing.
            if now == self.before {
                return Ok(());
            }
            self.before = now;
            ensure!(Instant::now() < end, "{} is still busy after {DEADLINE:?}", self.peer.name());
        }
    }

    fn told(&self, marker: &str) -> Result<u64> {
        let file = BufReader::new(fs::File::open(&self.output)?);
        let mut count = 0;
        for line in file.split(b'\n') {
            let line = line?;
            count += u64::from(line.windows(marker.len()).any(|part| part == marker.as_bytes()));
        }
        Ok(count)
    }

    fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("a name")?.1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Waits until it has told all, or tells no more, and ends it.
    pub(crate) fn stop(mut self, marker: &str, execs: u64) -> Result<Cost> {
        let end = Instant::now() + 3 * DEADLINE;
        let mut seen = (self.told(marker)?, Instant::now());
        while seen.0 < execs && seen.1.elapsed() < Duration::from_secs(5) && Instant::now() < end {
            thread::sleep(Duration::from_millis(500));
            let told = self.told(marker)?;
            if told != seen.0 {
                seen = (told, Instant::now());
            }
        }
        let cpu = self.cpu()?.saturating_sub(self.before);
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a figure")?;
        let resident = resident.trim().trim_end_matches(" kB").parse::<u64>()? << 10;
        self.end()?;
        // At its end it writes what it still held.
        Ok(Cost { cpu, lost: execs.saturating_sub(self.told(marker)?), resident })
    }

    fn end(&mut self) -> Result<()> {
        if self.peer == Peer::Auditd {
            audit_rule("-d")?;
        }
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        let end = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > end {
                self.child.kill()?;
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.end();
        }
    }
}

fn audit_rule(action: &str) -> Result<()> {
    let mut command = Command::new("/usr/sbin/auditctl");
    let status =
        command.args([action, "always,exit", "-F", "arch=b64", "-S", "execve"]).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

fn auditd_conf(log: &Path) -> String {
    format!(
        "local_events = yes\nwrite_logs = yes\nlog_file = {}\nlog_group = root\nlog_format = RAW\nflush = INCREMENTAL_ASYNC\n\
         freq = 50\nmax_log_file = 8000\nnum_logs = 0\nmax_log_file_action = IGNORE\nspace_left = 75\nspace_left_action = IGNORE\n\
         admin_space_left = 50\nadmin_space_left_action = IGNORE\ndisk_full_action = IGNORE\ndisk_error_action = IGNORE\n",
        log.display()
    )
}
