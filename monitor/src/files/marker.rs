//! Who sets the marks. That takes `CAP_SYS_ADMIN` each time, which the agent gives up before it reads a first event. So a
//! second process of the same program keeps it, and does nothing else: it parses nothing but the node's mount table, and hears
//! of the agent one byte for on and one for off. It ends with the agent.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::{
    io::{Errno, read, retry_on_intr},
    net::{SendFlags, send},
};

use super::{calls, mounts::Node};
use crate::{exit::Exit, privileges};

/// The command that runs it.
pub const COMMAND: &str = "mark-files";

const ON: u8 = b'+';
const OFF: u8 = b'-';
/// What it answers: the word, how many file systems are marked now, and how many could not be.
type Answer = [u8; 3];

/// The agent's end.
pub(super) struct Marker {
    process: Child,
    line: UnixStream,
}

/// What the marker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing yet.
    Nothing,
    /// What is marked now, and what could not be.
    Marked {
        /// Whether that is an answer to on.
        on: bool,
        /// File systems.
        count: u8,
        /// File systems.
        refused: u8,
    },
    /// It is gone.
    Gone,
}

impl Marker {
    /// Starts it with a group to mark for.
    pub(super) fn start(group: &OwnedFd, mask: u64, host_root: &Path) -> io::Result<Self> {
        let (line, its_end) = UnixStream::pair()?;
        line.set_nonblocking(true)?;
        let process = Command::new("/proc/self/exe")
            .arg0("postern")
            .args([OsStr::new(COMMAND), OsStr::new(&mask.to_string()), host_root.as_os_str()])
            // What tells the agent to stop may be for its whole group, as from a terminal. This process ends when the agent has: an end
            // before that is a failure, and is told as one.
            .process_group(0)
            .env_clear()
            .stdin(OwnedFd::from(its_end))
            .stdout(group.try_clone()?)
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { process, line })
    }

    /// Its pid.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Tells it to mark the node's file systems, or to take the marks away.
    pub(super) fn tell(&self, on: bool) -> io::Result<()> {
        send(&self.line, &[if on { ON } else { OFF }], SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// What it has said since the last time.
    pub(super) fn heard(&self) -> Said {
        let mut answer = Answer::default();
        match read(&self.line, &mut answer) {
            Ok(3) => Said::Marked { on: answer[0] == ON, count: answer[1], refused: answer[2] },
            Err(Errno::AGAIN | Errno::INTR) => Said::Nothing,
            _ => Said::Gone,
        }
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        // It ends by itself once the line is closed; this way nobody waits for it. An error says that it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The marker's whole life: the line on standard input, the group on standard output.
pub fn serve(mask: u64, host_root: &Path) -> Exit {
    let (line, group) = (io::stdin(), io::stdout());
    let Ok(mut node) = Node::open(host_root) else { return Exit::Unavailable };
    if privileges::keep_for_marking().is_err() {
        return Exit::NoPermission;
    }
    let mut word = [0];
    // Anything but a byte is the end: the agent has gone.
    while let Ok(1) = retry_on_intr(|| read(line.as_fd(), &mut word)) {
        let answer = match word[0] {
            ON => mark_all(group.as_fd(), mask, &mut node),
            OFF => calls::unmark_all(group.as_fd()).map_or([OFF, 0, 1], |()| [OFF, 0, 0]),
            _ => return Exit::Software,
        };
        if send(line.as_fd(), &answer, SendFlags::NOSIGNAL).is_err() {
            break;
        }
    }
    Exit::Success
}

fn mark_all(group: BorrowedFd<'_>, mask: u64, node: &mut Node) -> Answer {
    let Ok(table) = node.table() else { return [ON, 0, 1] };
    let mut answer = [ON, 0, u8::try_from(table.left_out).unwrap_or(u8::MAX)];
    for file_system in &table.file_systems {
        let marked = node.directory(file_system).and_then(|directory| calls::mark(group, mask, directory.as_fd()));
        let count: &mut u8 = &mut answer[1 + usize::from(marked.is_err())];
        *count = count.saturating_add(1);
    }
    answer
}
