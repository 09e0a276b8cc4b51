//! The loads, each of which knows what it did. Processes that make execs are workers of their own: threads of one process
//! would wait for each other's memory.

use std::{
    ffi::CString,
    fmt::Write as _,
    fs,
    io::{Read as _, Seek as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use rustix::process::{WaitOptions, wait, waitpid};

use crate::{spawn::vfork, tiny::Program};

/// How many processes make execs at once.
const WORKERS: u64 = 2;
/// How a worker starts programs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Start {
    /// As the standard library does, with `posix_spawn(3)`, and one after the other.
    Spawn,
    /// As cheaply as Linux can, and one after the other.
    Vfork,
    /// As cheaply, and the next one as soon as the last one has started.
    Open,
}

/// As many execs a second as there can be.
const UNPACED: u32 = 0;
/// Execs in a second under `Paced`.
const PACE: u32 = 1_000;
/// Execs before whatever is measured, so that a monitor has its memory by then, and so that all begin on the same machine.
const WARM_UP: u64 = 5_000;
/// Bytes of memory that the machine is made to have before whatever is measured: more than any monitor writes. A virtual machine may
/// get each page from its host at the first touch only, which takes longer than to write a line to it; whose file happened to grow
/// into such pages would pay for that.
const TOUCHED: u64 = 512 << 20;

/// What the machine is made to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Load {
    /// Execs of a tiny static program by two workers that do nothing else, each with `posix_spawn(3)`.
    Storm,
    /// The same with `vfork(2)` and nothing beside it, so that what a monitor costs is the greatest part of it.
    Vfork,
    /// The same again in an open loop: nobody waits for the end of what was started.
    Open,
    /// A thousand execs a second.
    Paced,
    /// A shell's loop of builtins and subshells.
    Forks,
    /// A C compiler over generated files.
    Compile,
    /// getpid, openat, stat, read and connect in turn.
    Syscalls,
    /// tar, find and, where there is one, git over a tree of files.
    Files,
    /// Requests and answers over loopback.
    Network,
}

impl Load {
    /// Whether it is execs and nothing else, as many as there can be: where a monitor costs most.
    pub(crate) const fn is_of_execs(self) -> bool {
        matches!(self, Self::Storm | Self::Vfork | Self::Open)
    }
}

/// What a load did.
pub(crate) struct Done {
    /// How long it took; for `Paced`, how long the worker was busy.
    pub(crate) took: Duration,
    /// From its beginning to its end.
    pub(crate) elapsed: Duration,
    /// How many execs of the tiny program there must be, numbered from zero, with the marker before the number.
    pub(crate) execs: u64,
}

/// Where loads find what they need.
pub(crate) struct Ground {
    folder: PathBuf,
    /// A fraction of the whole load: for a run that only checks truth.
    short: bool,
}

impl Ground {
    /// Prepares a folder: the tiny program, a tree of files, C sources.
    pub(crate) fn prepare(folder: &Path, short: bool) -> Result<Self> {
        Program::Exit.write(&folder.join("tiny"))?;
        Program::Pause.write(&folder.join("pause"))?;
        let ground = Self { folder: folder.to_owned(), short };
        for directory in 0..ground.scale(40) {
            let path = ground.tree().join(directory.to_string());
            fs::create_dir_all(&path)?;
            for file in 0..50 {
                fs::write(path.join(format!("{file}.txt")), format!("{directory} {file}\n").repeat(50))?;
            }
        }
        let _ = Command::new("git").args(["init", "--quiet"]).arg(ground.tree()).status();
        for file in 0..ground.scale(8) {
            let mut source = String::from("#include <stdio.h>\n");
            for function in 0..100 {
                let _ = writeln!(source, "int f{function}(int x) {{ return printf(\"%d\", x * {function}); }}");
            }
            fs::write(folder.join(format!("{file}.c")), source)?;
        }
        Ok(ground)
    }

    /// The program that does nothing.
    pub(crate) fn tiny(&self) -> PathBuf {
        self.folder.join("tiny")
    }

    /// The program that waits to be killed.
    pub(crate) fn pause(&self) -> PathBuf {
        self.folder.join("pause")
    }

    /// Execs by one worker, so many a second.
    pub(crate) fn churn(&self, marker: &str, execs: u64, pace: u32) -> Result<()> {
        workers(&self.folder, marker, execs, 1, Start::Vfork, pace).map(drop)
    }

    /// What comes before whatever is measured.
    pub(crate) fn warm_up(&self) -> Result<()> {
        workers(&self.folder, "warm-up", self.scale(WARM_UP), WORKERS, Start::Vfork, UNPACED)?;
        // Written, so that each page is there.
        drop(std::hint::black_box(vec![1_u8; usize::try_from(self.scale(TOUCHED))?]));
        Ok(())
    }

    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    fn scale(&self, whole: u64) -> u64 {
        if self.short { (whole / 20).max(1) } else { whole }
    }

    /// Why a load cannot be had here, if it cannot.
    pub(crate) fn unavailable(load: Load) -> Option<&'static str> {
        let works = |name: &str| {
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        };
        match load {
            Load::Compile if !works("cc") => Some("there is no C compiler"),
            Load::Files if !works("tar") => Some("there is no tar"),
            _ => None,
        }
    }

    /// Runs a load to its end.
    pub(crate) fn run(&self, load: Load, marker: &str) -> Result<Done> {
        let execs = match load {
            Load::Storm | Load::Vfork | Load::Open => self.scale(40_000),
            Load::Paced => self.scale(u64::from(PACE) * 5),
            _ => 0,
        };
        let started = Instant::now();
        let mut busy = None;
        let storm = |start| workers(&self.folder, marker, execs, WORKERS, start, UNPACED).map(drop);
        match load {
            Load::Storm => storm(Start::Spawn)?,
            Load::Vfork => storm(Start::Vfork)?,
            Load::Open => storm(Start::Open)?,
            Load::Paced => busy = Some(workers(&self.folder, marker, execs, 1, Start::Vfork, PACE)?),
            Load::Forks => {
                let count = self.scale(10_000);
                let script = format!("i=0; while [ $i -lt {count} ]; do ( : ); i=$((i+1)); done");
                succeed(Command::new("/bin/sh").args(["-c", &script]))?;
            }
            Load::Compile => {
                for file in 0..self.scale(8) {
                    let source = self.folder.join(format!("{file}.c"));
                    succeed(Command::new("cc").args(["-O1", "-c", "-o", "/dev/null"]).arg(source))?;
                }
            }
            Load::Syscalls => system_calls(self.scale(200_000))?,
            Load::Files => {
                for _ in 0..self.scale(10) {
                    succeed(Command::new("tar").args(["-cf", "-", "."]).current_dir(self.tree()))?;
                    succeed(Command::new("find").args([".", "-size", "+1k"]).current_dir(self.tree()))?;
                    if self.tree().join(".git").exists() {
                        succeed(Command::new("git").args(["status", "--short"]).current_dir(self.tree()))?;
                    }
                }
            }
            Load::Network => network(self.scale(40_000))?,
        }
        let elapsed = started.elapsed();
        Ok(Done { took: busy.unwrap_or(elapsed), elapsed, execs })
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).stdin(Stdio::null()).status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// The variable that gives workers the marker: whoever had it among his arguments would be counted too.
const MARKER: &str = "POSTERN_BENCH_MARKER";
/// How long a number is that a worker reads.
const NUMBER_BYTES: usize = 8;

/// Shares the execs out among worker processes: each takes the next number when it is done with the last, so that all end
/// together, and the time is that of all processors and not of the slowest. Returns how long the busiest was busy.
fn workers(folder: &Path, marker: &str, execs: u64, count: u64, start: Start, pace: u32) -> Result<Duration> {
    let program = std::env::current_exe()?;
    let mut numbers = tempfile::tempfile_in(folder)?;
    let mut text = String::new();
    for number in 0..execs {
        write!(text, "{number:0NUMBER_BYTES$}")?;
    }
    numbers.write_all(text.as_bytes())?;
    numbers.rewind()?;
    let mut children = Vec::new();
    for _ in 0..count {
        let mut command = Command::new(&program);
        let start = start.to_possible_value().context("every way has a name")?;
        command.arg("worker").args(["--pace", &pace.to_string()]).args(["--start", start.get_name()]);
        command.arg(folder.join("tiny")).env(MARKER, marker);
        // They share the place in the file too.
        children.push(command.stdin(numbers.try_clone()?).stdout(Stdio::piped()).spawn()?);
    }
    let mut longest = 0;
    for child in children {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "a worker failed: {}", output.status);
        longest = longest.max(String::from_utf8(output.stdout)?.trim().parse()?);
    }
    Ok(Duration::from_nanos(longest))
}

/// A worker: executes the program once for each number that it reads, at most `pace` times a second unless that is [`UNPACED`], and
/// says how many nanoseconds it was busy. In an open loop it waits for the end of none before it has started all.
pub(crate) fn work(program: &Path, start: Start, pace: u32) -> Result<u64> {
    let path = CString::new(program.as_os_str().as_encoded_bytes())?;
    let marker = CString::new(std::env::var(MARKER)?)?;
    let numbers = std::io::stdin();
    let mut number = [0; NUMBER_BYTES];
    let started = Instant::now();
    let mut busy = Duration::ZERO;
    for turn in 0.. {
        if pace != UNPACED {
            let due = started + Duration::from_nanos(turn * (1_000_000_000 / u64::from(pace)));
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let begun = Instant::now();
        if rustix::io::read(&numbers, &mut number)? < NUMBER_BYTES {
            break;
        }
        match start {
            Start::Spawn => {
                let mut command = Command::new(program);
                command.env_clear().arg(marker.to_str()?).arg(std::str::from_utf8(&number)?);
                let status = command.status()?;
                ensure!(status.success(), "{command:?}: {status}");
            }
            Start::Vfork | Start::Open => {
                let number = CString::new(number)?;
                let child = vfork(&path, &[&path, &marker, &number])?;
                if start == Start::Open {
                    while wait(WaitOptions::NOHANG).is_ok_and(|ended| ended.is_some()) {}
                } else {
                    waitpid(Some(child), WaitOptions::empty())?;
                }
            }
        }
        busy += begun.elapsed();
    }
    let begun = Instant::now();
    // Fails once there is no child any more.
    while wait(WaitOptions::empty()).is_ok() {}
    Ok((busy + begun.elapsed()).as_nanos() as u64)
}

fn system_calls(count: u64) -> Result<()> {
    let zero = fs::File::open("/dev/zero")?;
    let mut buffer = [0; 64];
    // A port that nobody listens on: it was free a moment ago.
    let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    for number in 0..count {
        std::hint::black_box(rustix::process::getppid());
        drop(fs::File::open("/dev/null")?);
        std::hint::black_box(rustix::fs::stat("/etc/passwd")?);
        rustix::io::read(&zero, &mut buffer)?;
        if number % 16 == 0 {
            ensure!(TcpStream::connect(closed).is_err(), "somebody listens on {closed}");
        }
    }
    Ok(())
}

fn network(requests: u64) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address: SocketAddr = listener.local_addr()?;
    let server = thread::spawn(move || -> std::io::Result<()> {
        let mut buffer = [0; 256];
        for _ in 0..2 {
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            while stream.read(&mut buffer)? > 0 {
                stream.write_all(&buffer)?;
            }
        }
        Ok(())
    });
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut answer = [0; 256];
        for _ in 0..requests / 2 {
            stream.write_all(&[1; 64])?;
            stream.read_exact(&mut answer)?;
        }
    }
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    Ok(())
}
