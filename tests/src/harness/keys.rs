//! Keys that people come with beside the one that is theirs from the beginning: others of their own, such as they take along, and
//! such as nobody has allowed.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use super::sshd::{Sshd, make_key};

impl Sshd {
    /// Another key of the same user.
    pub fn other_key(&self) -> PathBuf {
        let key = self.directory().join("other_key");
        if !key.exists() {
            make_key(&key);
            let public = fs::read_to_string(key.with_extension("pub")).expect("it was made");
            let keys = self.directory().join("home/.ssh/authorized_keys");
            let known = fs::read_to_string(&keys).expect("the user has one");
            fs::write(&keys, format!("{known}{public}")).expect("this is root");
        }
        key
    }

    /// Puts a private key where the server's user may read it, as somebody does who goes on from there.
    pub fn carried(&self, key: &Path) -> PathBuf {
        let name = key.file_name().expect("a file").to_string_lossy();
        let carried = self.directory().join(format!("home/.ssh/carried-{name}"));
        fs::copy(key, &carried).expect("the user has a home");
        std::os::unix::fs::chown(&carried, Some(self.user().uid), None).expect("this is root");
        carried
    }

    /// The line by which somebody in a session logs in once more, by a key that is at hand there, and runs a command.
    pub fn line(&self, user: &str, key: &Path, command: &str) -> String {
        let (key, port) = (self.carried(key), self.port());
        format!(
            "ssh -F none -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null -oLogLevel=ERROR \
             -oIdentitiesOnly=yes -oBatchMode=yes -p {port} -i {} {user}@127.0.0.1 {command}",
            key.display()
        )
    }

    /// Tries to log in as somebody with those keys, which nobody has allowed, over one connection.
    pub fn guess_keys(&self, name: &str, keys: Range<usize>) -> Child {
        let mut client = self.client("publickey", name);
        for number in keys {
            // A client asks whether a key would do before it needs the private part of it.
            let file = self.directory().join(format!("guess-{number}"));
            if !file.exists() {
                fs::write(&file, public_key(number)).expect("the directory is ours");
            }
            client.arg("-i").arg(file);
        }
        client.args(["-T", "127.0.0.1", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        client.spawn().expect("ssh starts")
    }
}

/// The public part of a key of which nobody has the private one. Only its beginning has a meaning.
fn public_key(number: usize) -> String {
    format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA{number:0>42}\n")
}
