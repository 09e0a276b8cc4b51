//! The node's files in which logins are watched. A probe hangs on a file and not on its name: an upgrade puts another file in
//! that place, and logins by way of that one are seen by nobody.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{library, sensor};

/// Which files were in their places when probes were attached to them.
#[derive(Default)]
pub struct LoginFiles {
    host_root: PathBuf,
    attached: Found,
    /// At the last look.
    last: Found,
}

/// Paths, each with the device and the inode number of the file there.
type Found = BTreeMap<PathBuf, (u64, u64)>;

impl LoginFiles {
    /// Those below the node's root as they are now: to be called before anything is attached, so that one which is replaced
    /// meanwhile is noticed.
    pub fn look(host_root: &Path) -> Self {
        let mut files = Self { host_root: host_root.to_owned(), ..Self::default() };
        files.attached = files.found();
        files
    }

    /// Programs that run and are not where they usually are, before they are watched.
    pub fn add<'a>(&mut self, programs: impl IntoIterator<Item = &'a PathBuf>) {
        for path in programs {
            // What was looked at before stands: it may have been replaced since.
            if let (false, Some(file)) = (self.attached.contains_key(path), identity(path)) {
                self.attached.insert(path.clone(), file);
            }
        }
    }

    /// One that is not the file any more that is watched, or that was not there before. Packages are unpacked file by file:
    /// it counts when nothing has changed since the last look.
    pub fn replaced(&mut self) -> Option<&Path> {
        let found = self.found();
        let is_quiet = found == self.last;
        self.last = found;
        let is_new = |(path, file): &(&PathBuf, &(u64, u64))| self.attached.get(*path) != Some(*file);
        self.last.iter().find(is_new).filter(|_| is_quiet).map(|(path, _)| path.as_path())
    }

    fn found(&self) -> Found {
        let usual = sensor::login_files(&self.host_root).chain(library::find(&self.host_root, &[sensor::LIBPAM]));
        let all = usual.chain(self.attached.keys().cloned());
        all.filter_map(|path| identity(&path).map(|file| (path, file))).collect()
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_is_told_when_all_is_quiet_again() {
        let root = tempfile::TempDir::new().expect("a folder");
        let at = |name: &str| root.path().join(name);
        let put = |name: &str| {
            fs::create_dir_all(at(name).parent().expect("a folder")).expect("made");
            fs::write(at("new"), name).expect("written");
            fs::rename(at("new"), at(name)).expect("in its place");
        };
        put("usr/lib/libpam.so.0");
        put("usr/sbin/sshd");
        let mut files = LoginFiles::look(root.path());
        let told = |files: &mut LoginFiles| files.replaced().map(Path::to_owned);
        assert_eq!([told(&mut files), told(&mut files)], [None, None]);
        // What goes lets nobody in.
        fs::remove_file(at("usr/sbin/sshd")).expect("removed");
        assert_eq!([told(&mut files), told(&mut files)], [None, None]);
        put("usr/lib/libpam.so.0");
        assert_eq!(told(&mut files), None);
        put("usr/sbin/sshd");
        assert_eq!([told(&mut files), told(&mut files)], [None, Some(at("usr/lib/libpam.so.0"))]);

        let mut files = LoginFiles::look(root.path());
        put("opt/sshd");
        files.add([&at("opt/sshd")]);
        assert_eq!([told(&mut files), told(&mut files)], [None, None]);
        put("opt/sshd");
        assert_eq!([told(&mut files), told(&mut files)], [None, Some(at("opt/sshd"))]);

        // While the agent starts.
        let mut files = LoginFiles::look(root.path());
        put("usr/sbin/sshd");
        files.add([&at("usr/sbin/sshd"), &at("opt/sshd")]);
        assert_eq!([told(&mut files), told(&mut files)], [None, Some(at("usr/sbin/sshd"))]);
    }
}
