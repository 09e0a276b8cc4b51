//! A whole Debian node in a virtual machine, by emulation: the suite's own kernel, systemd as process 1, and the suite's own
//! sshd, PAM and containerd. It plays the access scenarios inside, or an ordinary node's life, and says on its second serial
//! port how that went.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    iter,
    os::unix::fs::PermissionsExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::program::{PATIENCE, run, wait};
use crate::quiet::QUIET;

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
const MKE2FS: &str = "/usr/sbin/mke2fs";
/// How long a node may take to boot and to play everything.
const DEADLINE: Duration = Duration::from_mins(20);
/// How long it may take to end, or to make a disk.
const SOON: Duration = Duration::from_secs(30);
/// How many times slower than the machine below it a node is thought to be.
const SLOWER: u32 = 4;
/// How many nodes run at once: each keeps one processor busy.
const AT_ONCE: usize = 2;
/// A plain processor and programs at the same addresses each time: what newer processors have besides is emulated at every turn,
/// and what is placed anew each time is translated anew. Together they save a third of the time that a node takes.
const PROCESSOR: &str = "Nehalem";
const KERNEL_ARGUMENTS: &str = "root=/dev/vda rw console=ttyS0 quiet panic=-1 mitigations=off norandmaps apparmor=0 \
                                systemd.show_status=false";
/// What the runner, which is built for this machine, needs of this machine's C library. A node's own may be older.
const LIBRARIES: [&str; 4] = ["ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libgcc_s.so.1"];
const LIBRARY_FOLDER: &str = "/usr/lib/x86_64-linux-gnu";
/// The last line of a node that has played.
const OVER: &str = "the node is done";

/// What a node is made of.
pub struct Node {
    /// Its disk, kernel and initial file system.
    folder: PathBuf,
    agent: PathBuf,
}

impl Node {
    /// The node of a suite, as `cargo xtask nodes` makes it; the error says what is missing.
    pub fn find(suite: &str) -> Result<Self, String> {
        let named = |name: &str| {
            let path = std::env::var_os(name).map(PathBuf::from).filter(|path| path.exists());
            path.ok_or_else(|| format!("{name} does not name what is there: `cargo xtask nodes {suite}` does"))
        };
        if let Some(missing) = [QEMU, MKE2FS].into_iter().find(|path| !Path::new(path).exists()) {
            return Err(format!("there is no {missing}"));
        }
        let (folder, agent) = (named("POSTERN_NODES")?.join(suite), named("POSTERN_STATIC")?);
        if !folder.join("disk").exists() {
            return Err(format!("there is no disk of {suite}: `cargo xtask nodes {suite}` makes it"));
        }
        Ok(Self { folder, agent })
    }

    /// Boots, plays the scenarios whose names contain one of the parts (all, if there are none), and hands over each line as
    /// it comes. Returns how many were exact, and of how many. Panics if the node does not get to its end.
    pub fn play(&self, parts: &[String], say: impl Fn(&str)) -> (usize, usize) {
        let quoted = parts.iter().fold(String::new(), |all, part| all + " '" + &part.replace('\'', r"'\''") + "'");
        let mut score = (0, 0);
        self.run(&format!("play{quoted}"), DEADLINE, |line| {
            say(line);
            score = read_score(line).unwrap_or(score);
        });
        score
    }

    /// Boots, lives an ordinary node's life for so many minutes, and hands over each line as it comes. Returns whether there
    /// was no false alarm. Panics if the node does not get to its end.
    pub fn live(&self, minutes: u32, say: impl Fn(&str)) -> bool {
        let mut is_quiet = false;
        self.run(&format!("quiet {minutes}"), DEADLINE + Duration::from_mins(minutes.into()), |line| {
            say(line);
            is_quiet |= line == QUIET;
        });
        is_quiet
    }

    /// Boots, has the runner do that, and hands over each line as it comes.
    fn run(&self, words: &str, within: Duration, mut say: impl FnMut(&str)) {
        let folder = TempDir::with_prefix("node-").expect("a temporary folder");
        let kernel_log = folder.path().join("kernel.log");
        let mut machine = Machine(self.command(folder.path(), &kernel_log, words).spawn().expect("QEMU starts"));
        let stdout = BufReader::new(machine.0.stdout.take().expect("it is piped"));
        let (send, lines) = channel();
        let reader = thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let end = Instant::now() + within;
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.trim_end() == OVER => break,
                Ok(line) => say(line.trim_end()),
                Err(why) => {
                    let why = if why == RecvTimeoutError::Timeout { "too late" } else { "it ended" };
                    panic!("the node did not get to its end ({why}): {}", tail(&kernel_log));
                }
            }
        }
        wait(&mut machine.0, SOON).expect("the node ends");
        reader.join().expect("reading does not panic");
    }

    fn command(&self, folder: &Path, kernel_log: &Path, words: &str) -> Command {
        let drive = |file: &Path| format!("if=virtio,format=raw,cache=unsafe,file={}", file.display());
        let tools = self.tools(folder, words);
        let mut qemu = Command::new(QEMU);
        qemu.args(["-accel", "tcg", "-cpu", PROCESSOR, "-m", "2048", "-display", "none", "-monitor", "none"])
            .args(["-no-reboot", "-nic", "none", "-device", "virtio-rng-pci"])
            .arg("-kernel")
            .arg(self.folder.join("vmlinuz"))
            .arg("-initrd")
            .arg(self.folder.join("initrd"))
            .args(["-append", KERNEL_ARGUMENTS])
            .arg("-drive")
            // What the node writes is thrown away: the disk is the next one's, too.
            .arg(drive(&self.folder.join("disk")) + ",snapshot=on")
            .arg("-drive")
            .arg(drive(&tools) + ",readonly=on")
            .arg("-serial")
            .arg(format!("file:{}", kernel_log.display()))
            .args(["-serial", "stdio"])
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        qemu
    }

    /// A small disk with the agent, the runner, and the script that the node's one unit runs.
    fn tools(&self, folder: &Path, words: &str) -> PathBuf {
        let root = folder.join("tools");
        fs::create_dir_all(root.join("lib")).expect("a folder");
        fs::copy(&self.agent, root.join("postern")).expect("the agent");
        let own = std::env::current_exe().expect("a program knows its path");
        fs::copy(own, root.join("postern-tests")).expect("the runner");
        for library in LIBRARIES {
            fs::copy(Path::new(LIBRARY_FOLDER).join(library), root.join("lib").join(library)).expect("a library");
        }
        let start = format!(
            "cd \"$(dirname \"$0\")\"\n\
             export {PATIENCE}={SLOWER}\n\
             . /etc/os-release\n\
             echo \"$PRETTY_NAME, Linux $(uname -r), $(/usr/bin/ssh -V 2>&1 | cut -d' ' -f1)\"\n\
             lib/ld-linux-x86-64.so.2 --library-path lib ./postern-tests {words}\n\
             echo {OVER}\n"
        );
        fs::write(root.join("start"), start).expect("a script");
        fs::set_permissions(root.join("start"), Permissions::from_mode(0o755)).expect("a mode");
        let disk = folder.join("tools.disk");
        let mut make = Command::new(MKE2FS);
        make.args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(&root).arg(&disk).arg("256M");
        run(&mut make, b"", SOON).succeeded();
        disk
    }
}

/// Plays the scenarios on nodes of these suites, as `on_each` does. Each line is said behind its suite's name, and each score once
/// more at the end. Returns whether all were exact.
pub fn play_on(suites: &[&str], parts: &[String], say: impl Fn(&str) + Sync) -> bool {
    let play = |suite: &str| {
        let node = Node::find(suite).unwrap_or_else(|missing| panic!("{missing}"));
        node.play(parts, |line| say(&format!("{suite}: {line}")))
    };
    let played = on_each(suites, |suite| (*suite, catch_unwind(AssertUnwindSafe(|| play(suite))).ok()));
    for (suite, score) in &played {
        match score {
            Some((exact, of)) => say(&format!("{suite}: {exact} of {of} access scenarios are exact")),
            None => say(&format!("{suite}: it did not get to its end")),
        }
    }
    played.iter().all(|(_, score)| matches!(score, Some((exact, of)) if exact == of && *of > 0))
}

/// Does that with each, as many at a time as nodes may run at once: the next begins when one is done.
pub fn on_each<T: Sync, R: Send>(all: &[T], run: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let waiting = Mutex::new(all.iter());
    let next = || waiting.lock().expect("nobody panics while it is held").next();
    let run_next = || iter::from_fn(next).map(&run).collect::<Vec<_>>();
    thread::scope(|scope| {
        let running = [(); AT_ONCE].map(|()| scope.spawn(run_next));
        running.into_iter().flat_map(|it| it.join().expect("none of them panics")).collect()
    })
}

/// `55 of 56 access scenarios are exact`.
fn read_score(line: &str) -> Option<(usize, usize)> {
    let (exact, rest) = line.split_once(" of ")?;
    let (played, _) = rest.split_once(" access scenarios are exact")?;
    Some((exact.parse().ok()?, played.parse().ok()?))
}

/// A machine that does not outlive its owner.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // Either fails if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The end of a log, for whoever has to find out.
fn tail(log: &Path) -> String {
    const BYTES: usize = 4_096;
    let bytes = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(BYTES)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::read_score;

    #[test]
    fn a_score_is_read_and_nothing_else_is() {
        assert_eq!(read_score("55 of 56 access scenarios are exact"), Some((55, 56)));
        assert_eq!(read_score("46 of 46 access scenarios are exact, 10 cannot be played here"), Some((46, 46)));
        assert_eq!(read_score("exact the end of a session"), None);
    }
}
