//! The file in which one run of the agent leaves the next what it knows of open sessions. Root's own, and replaced as a whole: a
//! reader finds the old text or the new one. What another user could have written is not read.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::pipeline::saved::{BYTES_MAX, Saved};

/// Where it is, and whether the last attempt to write it failed.
pub(super) struct StateFile {
    path: PathBuf,
    failing: bool,
    left_out: usize,
}

impl StateFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, failing: false, left_out: 0 }
    }

    /// What another run left; nothing where there was none. The error says why it is of no use.
    pub(super) fn read(&self) -> Result<Option<Saved>, String> {
        let said = |error: String| format!("{}: {error}", self.path.display());
        match read(&self.path) {
            Ok(text) => Saved::parse(&text).map(Some).map_err(|error| said(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(said(error.to_string())),
        }
    }

    /// Leaves this for the next run. Yields what there is to say: that it cannot be done, once for as long as that lasts, or that
    /// not all has room.
    pub(super) fn write(&mut self, saved: Saved) -> Option<String> {
        let (text, left_out) = saved.encode();
        let before = std::mem::replace(&mut self.left_out, left_out);
        match write(&self.path, &text) {
            Ok(()) => {
                self.failing = false;
                let said = || {
                    format!(
                        "{left_out} sessions, or what they left to run later, have no room in {}",
                        self.path.display()
                    )
                };
                (left_out > before).then(said)
            }
            Err(_) if self.failing => None,
            Err(error) => {
                self.failing = true;
                Some(format!("open sessions will not be known after a restart: {}: {error}", self.path.display()))
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let wrong = |message| io::Error::new(io::ErrorKind::InvalidData, message);
    // A named pipe in its place would hold the agent up for ever, and a link could lead anywhere.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
    let it = file.metadata()?;
    if !it.is_file() || it.uid() != rustix::process::geteuid().as_raw() || it.mode() & 0o077 != 0 {
        return Err(wrong("it is not this user's own and nobody else's"));
    }
    let mut text = Vec::new();
    file.take(BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    }
    let new = path.with_extension("new");
    // Left behind by a run that was killed in the middle.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text)?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_found_by_the_next_and_what_others_could_have_written_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("below/sessions.json");
        let mut state = StateFile::new(path.clone());
        assert_eq!(state.read(), Ok(None));
        assert_eq!(state.write(Saved::new("boot")), None);
        assert_eq!(state.read(), Ok(Some(Saved::new("boot"))));
        assert_eq!(state.write(Saved::new("other")), None, "it takes the place of the first");
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o620)).expect("ours");
        assert!(state.read().is_err_and(|error| error.contains("not this user's own")));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("ours");
        fs::write(&path, "]").expect("ours");
        assert!(state.read().is_err_and(|error| error.contains("makes no sense")));
        let link = folder.path().join("link.json");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert!(StateFile::new(link).read().is_err());
    }

    #[test]
    fn that_it_cannot_be_written_is_said_once() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("file"), "").expect("a file");
        let mut state = StateFile::new(folder.path().join("file/sessions.json"));
        assert!(state.write(Saved::new("boot")).is_some_and(|said| said.contains("will not be known")));
        assert_eq!(state.write(Saved::new("boot")), None);
    }
}
