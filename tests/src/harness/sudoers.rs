//! What a user of a test may do with sudo, until it is dropped.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

/// A file of `sudoers.d`.
pub struct Sudoers(PathBuf);

impl Sudoers {
    /// Whether there is no sudo here.
    pub fn unavailable() -> Option<String> {
        (!fs::exists("/usr/bin/sudo").unwrap_or(false)).then(|| "there is no sudo".to_owned())
    }

    /// Lets a user do anything, without a password.
    pub fn allow(user: &str) -> Self {
        let file = Self(format!("/etc/sudoers.d/{user}").into());
        fs::write(&file.0, format!("{user} ALL=(ALL) NOPASSWD: ALL\n")).expect("sudo is installed");
        fs::set_permissions(&file.0, Permissions::from_mode(0o440)).expect("it is ours");
        file
    }
}

impl Drop for Sudoers {
    fn drop(&mut self) {
        // It may have been removed with sudo itself.
        let _ = fs::remove_file(&self.0);
    }
}
