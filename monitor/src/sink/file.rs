//! A file that is rotated by size: `events.json`, then `events.json.1` (the newest of the old ones) and so on. It goes on
//! where an earlier run stopped, and in a new file when somebody has moved it away.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use rustix::fs::OFlags;

use super::{SinkError, blocking::WriteLines};

/// See the module.
pub(super) struct RotatedFile {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    open: Option<Open>,
}

struct Open {
    file: File,
    /// Its device and inode.
    identity: (u64, u64),
    length: u64,
}

impl RotatedFile {
    pub(super) fn new(path: PathBuf, max_bytes: u64, keep: u32) -> Self {
        Self { path, max_bytes, keep, open: None }
    }

    fn append(&mut self, lines: &[u8], done: &mut usize) -> io::Result<()> {
        self.look();
        while *done < lines.len() {
            let open = match &mut self.open {
                Some(open) => open,
                closed => closed.insert(Open::new(&self.path)?),
            };
            let rest = &lines[*done..];
            let room = self.max_bytes.saturating_sub(open.length);
            let part = match whole_lines(rest, room) {
                // A line that is larger than a file has one to itself.
                0 if open.length == 0 => first_line(rest),
                0 => {
                    self.open = None;
                    self.rotate()?;
                    continue;
                }
                part => part,
            };
            if let Err(error) = open.append(&rest[..part]) {
                // Whatever is wrong, the next attempt begins anew.
                self.open = None;
                return Err(error);
            }
            *done += part;
        }
        Ok(())
    }

    /// Lets the open file go if the path leads to it no more, and sees how long it is: somebody may have emptied it.
    fn look(&mut self) {
        let Some(open) = &mut self.open else { return };
        match fs::symlink_metadata(&self.path) {
            Ok(named) if identity(&named) == open.identity => open.length = named.len(),
            _ => self.open = None,
        }
    }

    fn rotate(&self) -> io::Result<()> {
        let old = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.keep == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.keep).rev() {
            match fs::rename(old(number), old(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, old(1))
    }
}

impl WriteLines for RotatedFile {
    fn write(&mut self, lines: &[u8], done: &mut usize) -> Result<(), SinkError> {
        self.append(lines, done).map_err(|source| SinkError::System { place: self.path.display().to_string(), source })
    }
}

impl Open {
    fn new(path: &PathBuf) -> io::Result<Self> {
        // A link in this place would let whoever may make one choose the file that root writes to.
        let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits() as i32;
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let mut length = metadata.len();
        // A crash may have left half a line: it must not run into the next.
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::Start(length - 1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                length += 1;
            }
        }
        Ok(Self { file, identity: identity(&metadata), length })
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(lines) {
            // The disk is full, most likely: what was half written would be there twice after the next attempt.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += lines.len() as u64;
        Ok(())
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// How many bytes of whole lines there are within `room`.
fn whole_lines(lines: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if lines.len() <= room {
        return lines.len();
    }
    lines[..room].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)
}

fn first_line(lines: &[u8]) -> usize {
    lines.iter().position(|&byte| byte == b'\n').map_or(lines.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(max_bytes: u64, keep: u32, batches: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("events.json");
        let mut file = RotatedFile::new(path.clone(), max_bytes, keep);
        for batch in batches {
            file.append(batch.as_bytes(), &mut 0).expect("written");
        }
        (folder, path)
    }

    fn read(path: &std::path::Path, suffix: &str) -> Option<String> {
        fs::read_to_string(format!("{}{suffix}", path.display())).ok()
    }

    #[test]
    fn it_is_rotated_before_it_grows_too_large() {
        let (_folder, path) = written(8, 2, &["one\n", "two\n", "three\n", "four\n", "five\n", "six\n"]);
        assert_eq!(read(&path, "").as_deref(), Some("six\n"));
        assert_eq!(read(&path, ".1").as_deref(), Some("five\n"));
        assert_eq!(read(&path, ".2").as_deref(), Some("four\n"));
        assert_eq!(read(&path, ".3"), None);
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o600);
    }

    #[test]
    fn one_batch_that_is_larger_than_a_file_goes_to_several() {
        let (_folder, path) = written(8, 3, &["one\ntwo\nthree\nfour\n", "a line larger than a file\nfive\n"]);
        assert_eq!(read(&path, "").as_deref(), Some("five\n"));
        assert_eq!(read(&path, ".1").as_deref(), Some("a line larger than a file\n"));
        assert_eq!(read(&path, ".2").as_deref(), Some("four\n"));
        assert_eq!(read(&path, ".3").as_deref(), Some("three\n"));
    }

    #[test]
    fn half_a_line_of_an_earlier_run_is_ended() {
        let (_folder, path) = written(1_000, 1, &["one\n", "tw"]);
        RotatedFile::new(path.clone(), 1_000, 1).append(b"three\n", &mut 0).expect("written");
        assert_eq!(read(&path, "").as_deref(), Some("one\ntw\nthree\n"));
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let (_folder, path) = written(1_000, 1, &[]);
        let mut file = RotatedFile::new(path.clone(), 1_000, 1);
        file.append(b"one\n", &mut 0).expect("written");
        fs::rename(&path, path.with_extension("moved")).expect("moved");
        file.append(b"two\n", &mut 0).expect("written");
        assert_eq!(read(&path, "").as_deref(), Some("two\n"));
    }

    #[test]
    fn a_file_that_was_emptied_is_gone_on_with() {
        let (_folder, path) = written(1_000, 1, &[]);
        let mut file = RotatedFile::new(path.clone(), 12, 1);
        file.append(b"one\ntwo\n", &mut 0).expect("written");
        fs::write(&path, "").expect("emptied");
        file.append(b"three\n", &mut 0).expect("written");
        assert_eq!(read(&path, "").as_deref(), Some("three\n"));
        assert_eq!(read(&path, ".1"), None);
    }

    #[test]
    fn a_link_is_not_followed() {
        let (folder, path) = written(1_000, 1, &[]);
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).expect("a link");
        assert!(RotatedFile::new(path, 1_000, 1).append(b"one\n", &mut 0).is_err());
    }
}
