//! Files of the node, read below its root: links in their paths are followed inside that root only. Names have no slash before them.

use std::{
    fs::File,
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::Path,
};

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};

/// Which file has a name, and when it was written or put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    file: (u64, u64),
    length: u64,
    /// `st_ctime`, which no program can set back.
    changed: (i64, i64),
}

/// The node's root, opened once: to come by way of /proc costs more than to look at a file.
pub(super) struct HostRoot(OwnedFd);

impl HostRoot {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(open(path, flags, Mode::empty())?))
    }

    /// What stands in a file. The error is that of the file system, or says that the file is not a regular one of at most `most`
    /// bytes.
    pub(super) fn read(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        // Without O_NONBLOCK a named pipe in its place would hold the agent up for ever.
        let file = self.file(name, OFlags::RDONLY | OFlags::NONBLOCK)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{name} is not a regular file")));
        }
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{name} is larger than {} KiB", most >> 10),
            ));
        }
        Ok(bytes)
    }

    /// Which file it is; `None` where there is none.
    pub(super) fn version(&self, name: &str) -> Option<Version> {
        let file = self.file(name, OFlags::PATH).ok()?.metadata().ok()?;
        let changed = (file.ctime(), file.ctime_nsec());
        Some(Version { file: (file.dev(), file.ino()), length: file.len(), changed })
    }

    fn file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        Ok(File::from(openat2(&self.0, name, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)?))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn files_are_read_inside_the_root_only() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("users");
        let opened = HostRoot::open(root.path()).expect("it is there");
        let read = || opened.read("users", 1_000).map_err(|error| error.kind());
        assert_eq!(read(), Err(io::ErrorKind::NotFound));
        fs::write(root.path().join("others"), "ops").expect("a file");
        // In the host's root this link is right; in the agent's own it would name another file.
        symlink("/others", &path).expect("a link");
        assert_eq!(read(), Ok(b"ops".to_vec()));
        fs::remove_file(&path).expect("it was there");
        fs::write(&path, vec![b'\n'; 1_001]).expect("a file");
        assert_eq!(read(), Err(io::ErrorKind::FileTooLarge));
        fs::remove_file(&path).expect("it was there");
        fs::create_dir(&path).expect("a directory");
        assert_eq!(read(), Err(io::ErrorKind::InvalidData));
    }
}
