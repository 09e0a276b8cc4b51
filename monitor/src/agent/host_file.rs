//! Files of the node, read below its root: links in their paths are followed inside that root only. Names have no slash before them.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// Which file has a name, and when it was written or put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    file: (u64, u64),
    length: u64,
    /// `st_ctime`, which no program can set back.
    changed: (i64, i64),
}

/// What stands in a file. The error is that of the file system, or says that the file is not a regular one of at most `most`
/// bytes.
pub(super) fn read(host_root: &Path, name: &str, most: u64) -> io::Result<Vec<u8>> {
    let file = open(host_root, name)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{name} is not a regular file")));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{name} is larger than {} KiB", most >> 10)));
    }
    Ok(bytes)
}

/// Which file it is; `None` where there is none.
pub(super) fn version(host_root: &Path, name: &str) -> Option<Version> {
    let file = open(host_root, name).ok()?.metadata().ok()?;
    let changed = (file.ctime(), file.ctime_nsec());
    Some(Version { file: (file.dev(), file.ino()), length: file.len(), changed })
}

fn open(host_root: &Path, name: &str) -> io::Result<File> {
    let root = File::open(host_root)?;
    // Without O_NONBLOCK a named pipe in its place would hold the agent up for ever.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(File::from(openat2(&root, name, flags, Mode::empty(), ResolveFlags::IN_ROOT)?))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn files_are_read_inside_the_root_only() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("users");
        let read = || read(root.path(), "users", 1_000).map_err(|error| error.kind());
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
