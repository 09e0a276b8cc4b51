//! What was running before the agent: told once by the kernel side ([`told`]) or read from /proc ([`scan`]), so that no event has an unknown parent and a login that is
//! open already keeps its entry.
//!
//! The programs are attached before, so each process is seen by at least one of the two. Start times in /proc
//! are whole ticks (10 ms): [`SeedProcess::key`] equals the kernel's key rounded down, and a match is by pid and tick.
//! A process may vanish between two reads, or execute another program: the first is counted and left out, the second
//! is corrected by the record of that exec.
//!
//! This file and those below it are the only ones under `process` that touch the file system.

mod told;

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use postern_ebpf::abi::{ExecBody, FileIdentity, Namespaces, ProcessKey, SSH_SERVERS, Tty};
use rustc_hash::FxHashSet;
use rustix::{
    fs::{AtFlags, Mode, OFlags, major, minor, openat, readlinkat, statat},
    io::{Errno, read},
};

pub use self::told::told;
use super::proc_text::{self, SshConnection};

/// A process takes some 25 system calls, 70 to 100 microseconds: on a full node, more than one thread should bear.
const THREADS_MAX: usize = 4;
/// Fewer processes than this are not worth a thread of their own.
const SHARE_MIN: usize = 256;

/// Everything that was running.
#[derive(Clone, Debug, Default)]
pub struct Seed {
    /// Each process once, in no particular order: user processes and `kthreadd` (pid 2), the parent of what the kernel
    /// itself starts. Its other threads are left out.
    pub processes: Vec<SeedProcess>,
    /// What was left out or could not be read.
    pub failures: SeedFailures,
}

/// What a scan left out or could not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeedFailures {
    /// Processes that ended while they were read.
    pub vanished: u64,
    /// Processes that had ended before, and only waited for their parent. Their exit will never be seen.
    pub ended: u64,
    /// Files that did not read as `proc(5)` says. The process is left out if that was its `stat`.
    pub malformed: u64,
    /// Files and links that could not be read, most likely for want of `CAP_SYS_PTRACE`: what they say is left empty.
    pub unreadable: u64,
    /// Argument lists that were longer than [`ExecBody::ARGV_MAX`].
    pub argv_cut: u64,
    /// Processes of which a path was longer than the kernel side tells.
    pub path_cut: u64,
}

/// A process as /proc shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeedProcess {
    /// Its pid, and when it started, rounded down to a whole tick.
    pub key: ProcessKey,
    /// Its parent's pid; 0 for the first processes.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// Its controlling terminal.
    pub tty: Tty,
    /// `task_struct.comm`, as it is.
    pub comm: Vec<u8>,
    /// The arguments, each ended by a zero byte, at most [`ExecBody::ARGV_MAX`] bytes. The process may have
    /// overwritten them.
    pub argv: Vec<u8>,
    /// Whether there were more.
    pub argv_cut: bool,
    /// The running file's path in the process's own mount namespace; empty where unknown.
    pub executable: Vec<u8>,
    /// Whether that file has no name now; it may have had one at the exec, as after an upgrade of its package. A memfd's
    /// path begins with `/memfd:`.
    pub deleted: bool,
    /// The running file.
    pub file: FileIdentity,
    /// Working directory.
    pub cwd: Vec<u8>,
    /// Ids, capabilities and audit ids.
    pub credentials: postern_ebpf::abi::Credentials,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// The pid in its own pid namespace.
    pub inner_pid: u32,
    /// The cgroup's path, chosen as [`proc_text::cgroup`] says.
    pub cgroup: Vec<u8>,
    /// For a child of an SSH server, the connection that its environment names. The session's own user can have changed
    /// that, so it is a hint.
    pub ssh_connection: Option<SshConnection>,
}

/// Reads all processes under `proc_root` (`/proc`, or the host's as mounted into the agent's container). The error is
/// that of opening or listing the directory itself.
pub fn scan(proc_root: &Path) -> io::Result<Seed> {
    let root = File::open(proc_root)?;
    let mut pids = Vec::new();
    for entry in std::fs::read_dir(proc_root)? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    let mut whole = shared_out(&mut pids, |scan, pids| scan.processes(root.as_fd(), pids));
    whole.add_connections(root.as_fd());
    Ok(whole.seed)
}

/// A process's arguments, each ended by a zero byte, and no more of them than [`ExecBody::ARGV_MAX`]; `None` if it has gone.
pub fn arguments(proc_root: &Path, pid: u32) -> Option<Vec<u8>> {
    let file = File::open(proc_root.join(format!("{pid}/cmdline"))).ok()?;
    let mut arguments = Vec::new();
    file.take(ExecBody::ARGV_MAX as u64).read_to_end(&mut arguments).ok()?;
    Some(arguments)
}

/// Scans that share the work out among threads, and what all of them found.
fn shared_out<T: Send>(work: &mut [T], scan: impl Fn(&mut Scan, &mut [T]) + Sync) -> Scan {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let share = work.len().div_ceil(threads).max(SHARE_MIN);
    let mut parts: Vec<_> = work.chunks_mut(share).map(|work| (work, Scan::new())).collect();
    std::thread::scope(|scope| {
        for (work, part) in &mut parts {
            scope.spawn(|| scan(part, work));
        }
    });
    let mut whole = Scan::new();
    for (_, part) in parts {
        whole.absorb(part);
    }
    whole
}

struct Scan {
    seed: Seed,
    /// What a file is read into.
    buffer: Vec<u8>,
    /// The pid namespace that /proc shows, once it is known.
    pid_namespace: Option<u32>,
}

impl Scan {
    fn new() -> Self {
        Self { seed: Seed::default(), buffer: vec![0; ExecBody::ARGV_MAX + 1], pid_namespace: None }
    }

    fn absorb(&mut self, other: Self) {
        self.seed.processes.extend(other.seed.processes);
        let (sum, more) = (&mut self.seed.failures, other.seed.failures);
        sum.vanished += more.vanished;
        sum.ended += more.ended;
        sum.malformed += more.malformed;
        sum.unreadable += more.unreadable;
        sum.argv_cut += more.argv_cut;
        sum.path_cut += more.path_cut;
    }

    fn processes(&mut self, root: BorrowedFd<'_>, pids: &[u32]) {
        for &pid in pids {
            match self.process(root, pid) {
                Ok(found) => self.seed.processes.extend(found),
                Err(_) => self.seed.failures.vanished += 1,
            }
        }
    }

    /// Reads one process. The error says that it has gone.
    fn process(&mut self, root: BorrowedFd<'_>, pid: u32) -> Result<Option<SeedProcess>, Errno> {
        // The directory stays that of this process even if its pid is given to another one meanwhile.
        let directory = open_process(root, pid)?;
        let dir = directory.as_fd();
        let text = self.file(dir, "stat")?;
        let Some(stat) = proc_text::stat(text) else {
            self.seed.failures.malformed += 1;
            return Ok(None);
        };
        if stat.ended {
            self.seed.failures.ended += 1;
            return Ok(None);
        }
        if stat.kernel && pid != 2 {
            return Ok(None);
        }
        let mut process = SeedProcess {
            key: ProcessKey::new(pid, stat.start_ns),
            parent: stat.parent,
            group: stat.group,
            session: stat.session,
            tty: stat.tty,
            comm: stat.comm,
            ..SeedProcess::default()
        };
        self.identity(dir, &mut process)?;
        if !stat.kernel {
            self.program(dir, &mut process)?;
        }
        Ok(Some(process))
    }

    /// Who the process is: credentials, namespaces, cgroup.
    fn identity(&mut self, dir: BorrowedFd<'_>, process: &mut SeedProcess) -> Result<(), Errno> {
        let mut nested = true;
        match proc_text::status(self.file(dir, "status")?) {
            Some(status) => {
                process.credentials = status.credentials;
                process.inner_pid = status.inner_pid;
                nested = status.nested;
            }
            None => self.seed.failures.malformed += 1,
        }
        self.audit(dir, process)?;
        process.cgroup = match self.file(dir, "cgroup") {
            Ok(text) => proc_text::cgroup(text).to_vec(),
            Err(error) => self.allow(error).map(|()| Vec::new())?,
        };
        process.namespaces = Namespaces {
            mnt: self.namespace(dir, "ns/mnt")?,
            pid: self.pid_namespace(dir, nested)?,
            net: self.namespace(dir, "ns/net")?,
            user: self.namespace(dir, "ns/user")?,
            uts: self.namespace(dir, "ns/uts")?,
            ipc: self.namespace(dir, "ns/ipc")?,
            cgroup: self.namespace(dir, "ns/cgroup")?,
            reserved: 0,
        };
        Ok(())
    }

    fn audit(&mut self, dir: BorrowedFd<'_>, process: &mut SeedProcess) -> Result<(), Errno> {
        let credentials = &mut process.credentials;
        (credentials.login_uid, credentials.audit_session) = (u32::MAX, u32::MAX);
        // The kernel sets both at once, so one file is enough for the many that are under no login.
        for (name, place) in [("loginuid", &mut credentials.login_uid), ("sessionid", &mut credentials.audit_session)] {
            match self.file(dir, name) {
                Ok(text) => *place = proc_text::single_number(text).unwrap_or(u32::MAX),
                // A kernel without auditing.
                Err(Errno::NOENT) => {}
                Err(error) => self.allow(error)?,
            }
            if *place == u32::MAX {
                break;
            }
        }
        Ok(())
    }

    /// A process that is not nested is in the namespace that /proc shows, the same for all of them.
    fn pid_namespace(&mut self, dir: BorrowedFd<'_>, nested: bool) -> Result<u32, Errno> {
        if let (false, Some(known)) = (nested, self.pid_namespace) {
            return Ok(known);
        }
        let found = self.namespace(dir, "ns/pid")?;
        if !nested && found != 0 {
            self.pid_namespace = Some(found);
        }
        Ok(found)
    }

    fn namespace(&mut self, dir: BorrowedFd<'_>, name: &str) -> Result<u32, Errno> {
        Ok(proc_text::namespace(&self.link(dir, name)?).unwrap_or(0))
    }

    /// What the process runs: its file, arguments and working directory.
    fn program(&mut self, dir: BorrowedFd<'_>, process: &mut SeedProcess) -> Result<(), Errno> {
        let link = self.link(dir, "exe")?;
        let (path, deleted) = proc_text::executable(&link);
        if !link.is_empty() {
            match statat(dir, "exe", AtFlags::empty()) {
                Ok(stat) => {
                    process.file = FileIdentity {
                        inode: stat.st_ino,
                        device: major(stat.st_dev) << 20 | minor(stat.st_dev),
                        links: stat.st_nlink as u32,
                        uid: stat.st_uid,
                        mode: stat.st_mode,
                    };
                    process.deleted = stat.st_nlink == 0;
                }
                Err(error) => {
                    // Gone since the link was read: whether the whole process has, the arguments tell.
                    if error != Errno::NOENT {
                        self.allow(error)?;
                    }
                    process.deleted = deleted;
                }
            }
        }
        process.executable = if process.deleted { path.to_vec() } else { link };
        process.cwd = self.link(dir, "cwd")?;
        self.arguments(dir, "cmdline", process)
    }

    fn arguments(&mut self, dir: BorrowedFd<'_>, name: &str, process: &mut SeedProcess) -> Result<(), Errno> {
        process.argv = match self.file(dir, name) {
            Ok(text) => text.to_vec(),
            Err(error) => self.allow(error).map(|()| Vec::new())?,
        };
        process.argv_cut = process.argv.len() > ExecBody::ARGV_MAX;
        process.argv.truncate(ExecBody::ARGV_MAX);
        self.seed.failures.argv_cut += u64::from(process.argv_cut);
        Ok(())
    }

    /// Fills in the connection of each process that an SSH server started. Nobody else's environment is read.
    fn add_connections(&mut self, root: BorrowedFd<'_>) {
        let mut processes = std::mem::take(&mut self.seed.processes);
        let servers: FxHashSet<u32> =
            processes.iter().filter(|process| is_ssh_server(process)).map(|process| process.key.tgid).collect();
        for process in
            processes.iter_mut().filter(|process| servers.contains(&process.parent) && !is_ssh_server(process))
        {
            process.ssh_connection = self.connection(root, process.key);
        }
        self.seed.processes = processes;
    }

    fn connection(&mut self, root: BorrowedFd<'_>, key: ProcessKey) -> Option<SshConnection> {
        let directory = open_process(root, key.tgid).ok()?;
        // The pid may be another process's by now.
        if proc_text::stat(self.file(directory.as_fd(), "stat").ok()?)?.start_ns != key.start_ns {
            return None;
        }
        match self.file(directory.as_fd(), "environ") {
            Ok(environ) => proc_text::ssh_connection(proc_text::variable(environ, "SSH_CONNECTION")?),
            Err(error) => {
                self.seed.failures.unreadable += u64::from(!is_gone(error));
                None
            }
        }
    }

    /// The content of a file, as far as the buffer holds it. One read gets all of it: these files are made as a whole.
    fn file(&mut self, dir: BorrowedFd<'_>, name: &str) -> Result<&[u8], Errno> {
        let file = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let length = read(&file, &mut self.buffer[..])?;
        Ok(&self.buffer[..length])
    }

    /// The target of a link; empty where there is none or it may not be read.
    fn link(&mut self, dir: BorrowedFd<'_>, name: &str) -> Result<Vec<u8>, Errno> {
        match readlinkat(dir, name, Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            // A kernel without this namespace, or a leader that has ended while its threads run on.
            Err(Errno::NOENT) => Ok(Vec::new()),
            Err(error) => self.allow(error).map(|()| Vec::new()),
        }
    }

    /// Goes on without what could not be read, unless the process has gone.
    fn allow(&mut self, error: Errno) -> Result<(), Errno> {
        if is_gone(error) {
            return Err(error);
        }
        self.seed.failures.unreadable += 1;
        Ok(())
    }
}

fn open_process(root: BorrowedFd<'_>, pid: u32) -> Result<OwnedFd, Errno> {
    openat(root, pid.to_string(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::SRCH | Errno::NOENT)
}

/// Whether this is an SSH server or one of its processes: OpenSSH 9.8 split `sshd-session` off, 10.0 `sshd-auth`.
fn is_ssh_server(process: &SeedProcess) -> bool {
    let name = process.executable.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    name == b"sshd-auth" || SSH_SERVERS.iter().any(|server| server.as_bytes() == name)
}

#[cfg(test)]
#[path = "seed_tests.rs"]
mod tests;
