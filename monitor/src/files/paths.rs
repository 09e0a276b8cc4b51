//! From a directory's handle to its path. What was looked up is remembered until a directory is renamed; how much is bounded.

use std::{
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    sync::Arc,
};

use rustc_hash::FxHashMap;
use rustix::fs::{AtFlags, fstat, fstatvfs, statat};

use super::{
    calls,
    mounts::{FileSystem, Node},
    raw::Place,
};

/// How many directories are remembered, and then none for a moment.
const REMEMBERED: usize = 8_192;
/// What the kernel adds to the path of a directory that is gone.
const GONE: &[u8] = b" (deleted)";

/// The file systems that are watched, and the directories that were seen on them.
#[derive(Default)]
pub(super) struct Paths {
    /// By the number that `statfs(2)` gives each. None is held open, for then nobody could unmount it.
    mounts: Vec<(u64, FileSystem)>,
    known: FxHashMap<Key, Arc<[u8]>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    file_system: u64,
    handle_type: i32,
    handle: Box<[u8]>,
}

impl Paths {
    /// Looks at what is mounted now. Says whether that is something else than before.
    pub(super) fn refresh(&mut self, node: &mut Node) -> io::Result<bool> {
        let file_systems = node.table()?.file_systems;
        if file_systems.iter().eq(self.mounts.iter().map(|(_, file_system)| file_system)) {
            return Ok(false);
        }
        self.known.clear();
        self.mounts.clear();
        for file_system in file_systems {
            // What cannot be opened cannot be marked either, and whoever marks says so.
            let number = node.directory(&file_system).and_then(|directory| Ok(fstatvfs(&directory)?.f_fsid));
            self.mounts.push((number.unwrap_or(0), file_system));
        }
        Ok(true)
    }

    /// Forgets all paths: a directory was renamed.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// The path of what is at a place; `None` where its directory is gone.
    pub(super) fn path(&mut self, node: &Node, place: &Place<'_>) -> Option<Box<[u8]>> {
        let directory = self.directory(node, place)?;
        if place.name == b"." {
            return Some((*directory).into());
        }
        let slash: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
        Some([&directory[..], slash, place.name].concat().into())
    }

    /// Whether there is something at a place now.
    pub(super) fn exists(&self, node: &Node, place: &Place<'_>) -> bool {
        let found =
            self.open(node, place).map(|directory| statat(directory, place.name, AtFlags::SYMLINK_NOFOLLOW).is_ok());
        found.unwrap_or(false)
    }

    fn directory(&mut self, node: &Node, place: &Place<'_>) -> Option<Arc<[u8]>> {
        let Place { file_system, handle_type, handle, .. } = *place;
        let key = Key { file_system, handle_type, handle: handle.into() };
        if let Some(known) = self.known.get(&key) {
            return Some(Arc::clone(known));
        }
        let directory = self.open(node, place).ok()?;
        let path = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).ok()?;
        let mut path = path.into_os_string().into_vec();
        if path.ends_with(GONE) && fstat(&directory).is_ok_and(|status| status.st_nlink == 0) {
            path.truncate(path.len() - GONE.len());
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let path: Arc<[u8]> = path.into();
        self.known.insert(key, Arc::clone(&path));
        Some(path)
    }

    fn open(&self, node: &Node, place: &Place<'_>) -> io::Result<OwnedFd> {
        let mount = self.mounts.iter().find(|(number, _)| *number == place.file_system);
        let (_, mount) = mount.ok_or(io::ErrorKind::NotFound)?;
        calls::open_handle(node.directory(mount)?.as_fd(), place.handle_type, place.handle)
    }
}
