//! A real sshd on a loopback port, set up as Debian's is (PAM, passwords, keys, lines to syslog), with host keys and
//! users of its own.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::program::{Outcome, free_address, run, until, wait};

const SSHD: &str = "/usr/sbin/sshd";
const DEADLINE: Duration = Duration::from_secs(20);
/// Another process may take a port between its choice and sshd's bind: so often another one is chosen.
const PORT_CHOICES: usize = 5;

/// A group that Debian has, and that users are in beside their own.
pub const GROUP: &str = "users";

/// Makes the names of users differ within this process.
static USERS: AtomicU32 = AtomicU32::new(0);
/// `useradd` and `userdel` refuse to run side by side.
static ACCOUNTS: Mutex<()> = Mutex::new(());

/// A running sshd. Dropping it ends the server and every session on it, and removes its users and files. (The empty
/// directory /run/sshd stays: other servers may need it.)
pub struct Sshd {
    listener: Child,
    port: u16,
    user: SshUser,
    /// Before the directory, so that no process of the user is left to write into it.
    _account: Account,
    directory: tempfile::TempDir,
}

/// Another user who can log in there, until it is dropped.
pub struct Another {
    /// Who.
    pub user: SshUser,
    _account: Account,
}

/// A user in /etc/passwd, until it is dropped.
struct Account {
    name: String,
    uid: u32,
}

/// A user made for the test.
#[derive(Clone, Debug)]
pub struct SshUser {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
    /// Its number.
    pub uid: u32,
    /// The private key that lets it in.
    pub key: PathBuf,
    /// The fingerprint of that key as sshd logs it: `SHA256:` and base64.
    pub fingerprint: String,
}

impl Sshd {
    /// Why no sshd can be started here, if so: the reason for a skip.
    pub fn unavailable() -> Option<&'static str> {
        if !rustix::process::geteuid().is_root() {
            return Some("starting sshd and making users takes root");
        }
        [SSHD, "/usr/bin/ssh", "/usr/bin/ssh-keygen", "/usr/bin/sshpass", "/usr/sbin/useradd", "/usr/sbin/chpasswd"]
            .iter()
            .any(|program| !Path::new(program).exists())
            .then_some("sshd, ssh, sshpass or the programs that make users are not installed")
    }

    /// Starts a server with Debian's settings, and makes one user.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more lines of `sshd_config(5)`, which come before the usual ones and so outrank them.
    pub fn start_with(settings: &str) -> Self {
        fs::create_dir_all("/run/sshd").expect("sshd confines its unprivileged part to /run/sshd");
        let directory = tempfile::Builder::new().prefix("postern-sshd-").tempdir().expect("a directory for the server");
        // The user's home is inside.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("the directory is ours");
        make_key(&directory.path().join("host_key"));
        let account = Account::make(&directory.path().join("home"));
        let user = account.let_in(directory.path());
        let (listener, port) = listen(directory.path(), settings);
        Self { listener, port, user, _account: account, directory }
    }

    /// The loopback port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The pid of the listening process.
    pub fn pid(&self) -> u32 {
        self.listener.id()
    }

    /// The user who can log in.
    pub fn user(&self) -> &SshUser {
        &self.user
    }

    /// Makes another user who can log in.
    pub fn another(&self) -> Another {
        let directory = self.directory().join("another");
        fs::create_dir(&directory).expect("there is one");
        let account = Account::make(&directory.join("home"));
        let user = account.let_in(&directory);
        Another { user, _account: account }
    }

    /// A directory that lives as long as the server.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The pids of the server's processes for each connection, the privileged ones.
    pub fn connections(&self) -> Vec<u32> {
        children_of(self.pid())
    }

    /// Waits until no connection is left: every session has then been closed and logged.
    pub fn wait_until_idle(&self) {
        until("sshd's connections end", DEADLINE, || self.connections().is_empty().then_some(()));
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // A connection's process closes its PAM session when it is asked to end, so it is asked before it is made to.
        let connections = self.connections();
        for &pid in connections.iter().chain([&self.listener.id()]) {
            signal(pid, Signal::TERM);
        }
        if wait(&mut self.listener, DEADLINE).is_none() {
            let _ = self.listener.kill().and_then(|()| self.listener.wait());
        }
    }
}

impl Account {
    fn make(home: &Path) -> Self {
        let name = format!("pst{}x{}", std::process::id(), USERS.fetch_add(1, Ordering::Relaxed));
        let _accounts = ACCOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut make = Command::new("/usr/sbin/useradd");
        make.args(["-m", "-k", "/var/empty", "-s", "/bin/sh", "-G", GROUP, "-d"]).arg(home).arg(&name);
        make.bounded(b"").succeeded();
        Self { name, uid: fs::metadata(home).expect("useradd made the home").uid() }
    }

    /// Gives the user a password and a key.
    fn let_in(&self, directory: &Path) -> SshUser {
        let (name, uid) = (self.name.clone(), self.uid);
        let password = format!("{name}-Pw7");
        let accounts = ACCOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        Command::new("/usr/sbin/chpasswd").bounded(format!("{name}:{password}\n").as_bytes()).succeeded();
        drop(accounts);
        let key = directory.join("user_key");
        let fingerprint = make_key(&key);
        let keys = directory.join("home/.ssh");
        fs::create_dir(&keys).expect("the home is empty");
        fs::copy(key.with_extension("pub"), keys.join("authorized_keys")).expect("the key was made");
        for path in [&keys, &keys.join("authorized_keys")] {
            std::os::unix::fs::chown(path, Some(uid), None).expect("this is root");
        }
        SshUser { name, password, uid, key, fingerprint }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        end_all_of(self.uid);
        let _accounts = ACCOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = Command::new("/usr/sbin/userdel").arg(&self.name).bounded(b"");
        // Panicking in a drop during a panic would hide the first one.
        let said = format!("{}{}", removed.stdout, removed.stderr);
        assert!(removed.status.success() || std::thread::panicking(), "userdel {}: {said}", self.name);
    }
}

/// Makes an ed25519 key pair without a passphrase, and gives its fingerprint.
pub fn make_key(path: &Path) -> String {
    Command::new("/usr/bin/ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(path)
        .bounded(b"")
        .succeeded();
    let shown = Command::new("/usr/bin/ssh-keygen").arg("-lf").arg(path).bounded(b"").succeeded().stdout;
    shown.split(' ').nth(1).unwrap_or_else(|| panic!("no fingerprint in {shown:?}")).to_owned()
}

/// Whether this sshd has a setting of that name. Without a host's key it does no more than read its settings.
fn knows(setting: &str) -> bool {
    let read = Command::new(SSHD).args(["-t", "-f", "/dev/null", "-o", setting]).bounded(b"");
    !read.stderr.contains("Bad configuration option")
}

fn listen(directory: &Path, settings: &str) -> (Child, u16) {
    let mut refusal = String::new();
    // Since OpenSSH 9.8 an address from which many were refused is not listened to for a while, and here all come from one.
    let no_penalties = if knows("PerSourcePenalties=no") { "PerSourcePenalties no" } else { "" };
    for _ in 0..PORT_CHOICES {
        let free = free_address();
        let config = directory.join("sshd_config");
        let root = directory.display();
        let text = format!(
            "{settings}\n{no_penalties}\nPort {}\nListenAddress 127.0.0.1\nHostKey {root}/host_key\nPidFile none\nUsePAM yes\n\
             PasswordAuthentication yes\nKbdInteractiveAuthentication no\nPubkeyAuthentication yes\nPrintMotd no\n\
             X11Forwarding no\nSubsystem sftp /usr/lib/openssh/sftp-server\n",
            free.port(),
        );
        fs::write(&config, text).expect("the directory is ours");
        // Without -e, so that its lines go the way they go on a real node: through syslog(3).
        let mut listener = Command::new(SSHD)
            .arg("-D")
            .arg("-f")
            .arg(&config)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sshd starts");
        let up = until("sshd listens or ends", DEADLINE, || match listener.try_wait() {
            Ok(Some(_)) => Some(false),
            _ => is_listening(free.port()).then_some(true),
        });
        // A port that somebody else took is listened on too; sshd then ends at once.
        if up && owns_port(listener.id(), free.port()) {
            return (listener, free.port());
        }
        let ended = listener.kill().and_then(|()| listener.wait_with_output()).expect("it can be waited for");
        refusal = String::from_utf8_lossy(&ended.stderr).into_owned();
    }
    panic!("sshd does not start: {refusal}");
}

/// The inode of the socket that listens on a port of 127.0.0.1. Asking the kernel makes no connection that sshd would log.
fn listening_inode(port: u16) -> Option<u64> {
    let table = fs::read_to_string("/proc/self/net/tcp").expect("the kernel has TCP");
    let local = format!("0100007F:{port:04X}");
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find_map(|fields| {
        let listens = fields.get(1) == Some(&local.as_str()) && fields.get(3) == Some(&"0A");
        listens.then(|| fields.get(9)?.parse().ok()).flatten()
    })
}

fn is_listening(port: u16) -> bool {
    listening_inode(port).is_some()
}

fn owns_port(pid: u32, port: u16) -> bool {
    let Some(inode) = listening_inode(port) else { return false };
    let socket = format!("socket:[{inode}]");
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))
}

fn children_of(pid: u32) -> Vec<u32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Ends every process of a user that exists for one test only, and waits until none is left: `userdel` refuses else.
fn end_all_of(uid: u32) {
    until("the user's processes end", DEADLINE, || {
        let left = processes_of(uid);
        for &pid in &left {
            signal(pid, Signal::KILL);
        }
        left.is_empty().then_some(())
    });
}

fn processes_of(uid: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if entry.metadata().is_ok_and(|metadata| metadata.uid() == uid) {
            found.insert(pid);
        }
    }
    found
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended meanwhile.
        let _ = kill_process(pid, signal);
    }
}

trait Bounded {
    fn bounded(&mut self, input: &[u8]) -> Outcome;
}

impl Bounded for Command {
    fn bounded(&mut self, input: &[u8]) -> Outcome {
        run(self, input, DEADLINE)
    }
}
