//! Reads the node's users for the pipeline, which reads no files: once, and again when their files have changed. Cloud agents make
//! a user in the moment in which somebody comes in.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::host_file::{HostRoot, Version};
use crate::process::users::Passwd;

const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";
/// Beyond this, a file is not that of a node.
const FILE_MAX: u64 = 1 << 20;
/// How long a change waits at least for the next one: whoever may write the files must not keep the agent busy.
const PAUSE: Duration = Duration::from_millis(250);

/// See the module.
pub(super) struct Users {
    host_root: PathBuf,
    /// The same, once it could be opened.
    opened: Option<HostRoot>,
    /// What was read last, and when.
    versions: [Option<Version>; 2],
    then: Instant,
}

impl Users {
    /// Those that there are now. The error says that they cannot be read.
    pub(super) fn read(host_root: PathBuf) -> (Self, io::Result<Passwd>) {
        let mut read = Self { host_root, opened: None, versions: [None; 2], then: Instant::now() };
        // Before they are read: what is written meanwhile is another change.
        read.versions = read.versions_now();
        let users = read.users();
        (read, users)
    }

    /// The users, where they are not as they were the last time. The error says that they cannot be read, once for each change.
    pub(super) fn changed(&mut self) -> Option<io::Result<Passwd>> {
        if self.then.elapsed() < PAUSE {
            return None;
        }
        let versions = self.versions_now();
        if self.versions == versions {
            return None;
        }
        (self.versions, self.then) = (versions, Instant::now());
        Some(self.users())
    }

    fn versions_now(&mut self) -> [Option<Version>; 2] {
        if self.opened.is_none() {
            self.opened = HostRoot::open(&self.host_root).ok();
        }
        [PASSWD, GROUP].map(|name| self.opened.as_ref()?.version(name))
    }

    fn users(&self) -> io::Result<Passwd> {
        let root = HostRoot::open(&self.host_root)?;
        let text = |name| root.read(name, FILE_MAX).map(|text| String::from_utf8_lossy(&text).into_owned());
        let users = Passwd::parse(&text(PASSWD)?);
        Ok(match text(GROUP) {
            Ok(groups) => users.with_groups(&groups),
            // Users have their names; a rule that names a group covers nobody.
            Err(_) => users,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn users_are_read_again_when_their_files_have_changed() {
        let root = tempfile::tempdir().expect("a folder");
        let etc = root.path().join("etc");
        fs::create_dir(&etc).expect("a folder");
        let (mut users, none) = Users::read(root.path().to_owned());
        assert!(none.is_err());
        let mut changed = || {
            // As if the last change were long ago.
            users.then = users.then.checked_sub(PAUSE).expect("the machine runs for longer");
            users.changed()
        };
        assert!(changed().is_none(), "that was said");
        fs::write(etc.join("passwd"), "root:x:0:0::/:/bin/sh\n").expect("written");
        assert_eq!(changed().expect("changed").expect("read").name(0).as_deref(), Some("root"));
        assert!(changed().is_none());
        // As useradd does it: another file under the same name, and of the same length.
        fs::write(etc.join("passwd+"), "boot:x:0:0::/:/bin/sh\n").expect("written");
        fs::rename(etc.join("passwd+"), etc.join("passwd")).expect("moved");
        assert_eq!(changed().expect("changed").expect("read").name(0).as_deref(), Some("boot"));
        fs::write(etc.join("group"), "ops:x:7:boot\n").expect("written");
        assert_eq!(*changed().expect("changed").expect("read").groups("boot"), ["ops".into()]);
    }

    #[test]
    fn one_change_at_a_time() {
        let (mut users, _) = Users::read("/".into());
        users.versions = [None, None];
        assert!(users.changed().is_none(), "it has just been read");
    }
}
