//! Which files are made, changed and removed on the node's own file systems, and by which process: by fanotify, which is in
//! every kernel and costs nothing while nothing is marked. Marks are set only while somebody is on the node.

mod calls;
mod marker;
mod mounts;
mod paths;
pub mod raw;
mod touch;

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use rustix::io::{Errno, read};

pub use self::{
    marker::{COMMAND, serve},
    touch::Touch,
};
use self::{
    marker::{Marker, Said},
    mounts::Node,
    paths::Paths,
    raw::{RawEvent, mask},
};

/// What is asked for. Not each write, which would make every small one dearer on the whole node, but the end of writing.
const MASK: u64 = mask::CREATE | mask::DELETE | mask::CLOSE_WRITE | mask::ATTRIB | mask::ONDIR;
/// A move as one event, and as two for kernels before 5.17.
const MOVES: [(u64, &str); 2] =
    [(mask::RENAME, "fanotify"), (mask::MOVED_FROM | mask::MOVED_TO, "fanotify, moves in two")];
/// How much is read at once.
const BUFFER: usize = 64 << 10;
/// How much is read in one turn: more than the kernel's queue of 16,384 events mostly holds.
const TURN: usize = 8 << 20;

/// The sensor.
pub struct Files {
    group: OwnedFd,
    marker: Marker,
    node: Node,
    paths: Paths,
    /// Marks are set, or about to be.
    watching: bool,
    /// What was read and not yet looked at.
    bytes: Vec<u8>,
    own: [u32; 2],
}

/// A sensor that was armed, and how.
pub struct ArmedFiles {
    /// The sensor.
    pub files: Files,
    /// The rung of its ladder.
    pub rung: &'static str,
    /// What it cannot see, for a person.
    pub notices: Vec<String>,
}

/// What a turn came to, beside what was touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Events that the kernel handed over.
    pub seen: u64,
    /// How often its queue was full: at least that many events are lost.
    pub overflows: u64,
    /// Bytes that made no sense.
    pub senseless: u64,
}

/// What changed about the marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marks {
    /// So many file systems are marked.
    Set {
        /// How many.
        count: u8,
        /// How many could not be.
        refused: u8,
    },
    /// No file can be watched any more, and why.
    Broken(&'static str),
}

impl Files {
    /// Tries the marks, and starts the process that will set them. To be called while this one may do so itself, before
    /// anything else is attached. The error says why files are not watched.
    pub fn arm(host_root: &Path) -> Result<ArmedFiles, String> {
        let group = calls::group().map_err(|error| match error.raw_os_error() {
            Some(code) if code == Errno::INVAL.raw_os_error() => {
                "this kernel's fanotify has no names (Linux 5.9)".into()
            }
            Some(code) if code == Errno::PERM.raw_os_error() => "fanotify needs CAP_SYS_ADMIN".to_owned(),
            _ => format!("this kernel has no fanotify: {error}"),
        })?;
        let mut node = Node::open(host_root).map_err(|error| format!("the node's mounts cannot be read: {error}"))?;
        let (moves, rung, notices) = try_marks(&group, &mut node)?;
        let mask = MASK | moves;
        let marker = Marker::start(&group, mask, host_root)
            .map_err(|error| format!("the process that marks file systems does not start: {error}"))?;
        let own = [std::process::id(), marker.pid()];
        let files = Self { group, marker, node, paths: Paths::default(), watching: false, bytes: Vec::new(), own };
        Ok(ArmedFiles { files, rung, notices })
    }

    /// Whether files are watched.
    pub fn is_watching(&self) -> bool {
        self.watching
    }

    /// Watches from now on, or does not. The error says that it cannot any more.
    pub fn watch(&mut self, on: bool) -> io::Result<()> {
        if on == self.watching {
            return Ok(());
        }
        self.marker.tell(on)?;
        self.watching = on;
        self.paths.forget();
        self.bytes = Vec::new();
        if on {
            self.paths.refresh(&mut self.node)?;
        }
        Ok(())
    }

    /// Marks what was mounted since, if anything was.
    pub fn look_again(&mut self) -> io::Result<()> {
        if self.watching && self.paths.refresh(&mut self.node)? {
            self.marker.tell(true)?;
        }
        Ok(())
    }

    /// What the marks have come to since the last time.
    pub fn marks(&self) -> Option<Marks> {
        match self.marker.heard() {
            Said::Nothing => None,
            Said::Marked { on: true, count: 0, .. } => Some(Marks::Broken("no file system can be marked")),
            Said::Marked { count, refused, .. } => Some(Marks::Set { count, refused }),
            Said::Gone => Some(Marks::Broken("the process that marks file systems has ended")),
        }
    }

    /// Takes what the kernel has ready. Whoever did it is to be looked up after this.
    pub fn read(&mut self) {
        while self.bytes.len() < TURN {
            let end = self.bytes.len();
            self.bytes.resize(end + BUFFER, 0);
            let count = read(&self.group, &mut self.bytes[end..]).unwrap_or(0);
            self.bytes.truncate(end + count);
            if count == 0 {
                break;
            }
        }
    }

    /// Hands on what was read of processes that `concerns` is true for.
    pub fn take(&mut self, mut concerns: impl FnMut(u32) -> bool, mut take: impl FnMut(Touch)) -> Turn {
        let bytes = std::mem::take(&mut self.bytes);
        let mut turn = Turn::default();
        let mut moved: Option<RawEvent<'_>> = None;
        for event in raw::events(&bytes) {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    turn.senseless += error.0 as u64;
                    break;
                }
            };
            turn.seen += 1;
            turn.overflows += u64::from(event.mask & mask::Q_OVERFLOW != 0);
            if is_move(&event) && event.mask & mask::ONDIR != 0 {
                self.paths.forget();
            }
            if self.own.contains(&event.pid) || !concerns(event.pid) {
                continue;
            }
            let (first, second) = pair(&mut moved, event);
            [first, second].into_iter().flatten().filter_map(|event| self.touch(&event)).for_each(&mut take);
        }
        moved.and_then(|event| self.touch(&event)).into_iter().for_each(take);
        // The room stays, unless it was for a storm.
        self.bytes = bytes;
        self.bytes.clear();
        self.bytes.shrink_to(BUFFER);
        turn
    }

    fn touch(&mut self, event: &RawEvent<'_>) -> Option<Touch> {
        let place = event.place?;
        let action = touch::action(event.mask, || self.paths.exists(&self.node, &place))?;
        Some(Touch {
            pid: event.pid,
            action,
            path: self.paths.path(&self.node, &place),
            name: place.name.into(),
            from: event.from.and_then(|from| self.paths.path(&self.node, &from)),
            is_directory: event.mask & mask::ONDIR != 0,
        })
    }
}

fn is_move(event: &RawEvent<'_>) -> bool {
    event.mask & (mask::RENAME | mask::MOVED_FROM | mask::MOVED_TO) != 0
}

/// Makes one event of the two that older kernels tell of a move, one right after the other. What was held back comes first.
fn pair<'a>(held: &mut Option<RawEvent<'a>>, event: RawEvent<'a>) -> (Option<RawEvent<'a>>, Option<RawEvent<'a>>) {
    if event.mask & mask::MOVED_FROM != 0 {
        return (held.replace(event), None);
    }
    match held.take() {
        Some(from) if event.mask & mask::MOVED_TO != 0 && from.pid == event.pid => {
            let mask = event.mask & !mask::MOVED_TO | mask::RENAME;
            (Some(RawEvent { mask, from: from.place, ..event }), None)
        }
        held => (held, Some(event)),
    }
}

/// Marks what is to be marked, and takes the marks away again.
fn try_marks(group: &OwnedFd, node: &mut Node) -> Result<(u64, &'static str, Vec<String>), String> {
    let table = node.table().map_err(|error| format!("the node's mounts cannot be read: {error}"))?;
    let mut why = "the node has no file system of its own".to_owned();
    for (moves, rung) in MOVES {
        let mut refused = Vec::new();
        for file_system in &table.file_systems {
            let marked = node
                .directory(file_system)
                .and_then(|directory| calls::mark(group.as_fd(), MASK | moves, directory.as_fd()));
            if let Err(error) = marked {
                refused.push(format!("{} ({}): {error}", file_system.path.display(), file_system.kind));
            }
        }
        if refused.len() < table.file_systems.len() {
            calls::unmark_all(group.as_fd()).map_err(|error| format!("marks cannot be taken away: {error}"))?;
            drop_events(group);
            let mut notices: Vec<String> =
                refused.into_iter().map(|it| format!("what happens to files on {it}")).collect();
            if table.left_out > 0 {
                notices.push(format!("what happens to files on {} more file systems", table.left_out));
            }
            return Ok((moves, rung, notices));
        }
        why = refused.into_iter().next().unwrap_or(why);
    }
    Err(format!("no file system can be marked: {why}"))
}

/// What came in between is nobody's who is watched.
fn drop_events(group: &OwnedFd) {
    let mut buffer = vec![0; BUFFER];
    while read(group, &mut buffer).is_ok_and(|count| count > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_told_in_two_is_one_again() {
        let event = |mask, pid| RawEvent { mask, pid, ..RawEvent::default() };
        let mut held = None;
        let (from, to, made) = (event(mask::MOVED_FROM, 1), event(mask::MOVED_TO, 1), event(mask::CREATE, 1));
        assert_eq!(pair(&mut held, from), (None, None));
        assert_eq!(pair(&mut held, to), (Some(event(mask::RENAME, 1)), None));
        assert_eq!(pair(&mut held, made), (None, Some(made)));
        // Out of what is watched, into it, and another's.
        assert_eq!((pair(&mut held, from), pair(&mut held, made)), ((None, None), (Some(from), Some(made))));
        assert_eq!(pair(&mut held, to), (None, Some(to)));
        let other = event(mask::MOVED_TO, 2);
        assert_eq!((pair(&mut held, from), pair(&mut held, other)), ((None, None), (Some(from), Some(other))));
    }
}
