//! A virtual machine with another kernel: QEMU by emulation, and an initial file system that holds busybox, the static agent
//! and a script. What the script prints is on the serial console.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use super::program::run;

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
const BOOT: Duration = Duration::from_mins(4);
const APPLETS: [&str; 13] =
    ["sh", "mount", "mkdir", "echo", "sleep", "cat", "true", "poweroff", "unshare", "kill", "grep", "usleep", "date"];
/// What the login sensors attach to.
const LIBRARIES: [&str; 2] = ["libpam.so.0", "libc.so.6"];
const LIBRARY_FOLDER: &str = "usr/lib/x86_64-linux-gnu";

/// What a machine is made of.
pub struct Parts {
    kernel: PathBuf,
    agent: PathBuf,
}

impl Parts {
    /// As `cargo xtask test` names them; the error says what is missing.
    pub fn find() -> Result<Self, String> {
        let named = |name: &str| {
            let path = std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_file());
            path.ok_or_else(|| format!("{name} does not name a file: `cargo xtask test` makes it"))
        };
        if !Path::new(QEMU).exists() {
            return Err(format!("there is no {QEMU}"));
        }
        Ok(Self { kernel: named("POSTERN_KERNEL")?, agent: named("POSTERN_STATIC")? })
    }

    /// Boots, runs the script as process 1 with /proc, /sys and /dev mounted, and returns what it printed, line by line.
    pub fn boot(&self, script: &str) -> Vec<String> {
        let folder = TempDir::with_prefix("vm-").expect("a temporary folder");
        let initrd = self.initrd(folder.path(), script);
        let mut qemu = Command::new(QEMU);
        qemu.args(["-accel", "tcg", "-cpu", "max", "-m", "1024", "-nographic", "-no-reboot", "-nic", "none"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(initrd)
            .args(["-append", "console=ttyS0 quiet panic=-1"]);
        let console = run(&mut qemu, b"", BOOT).succeeded().stdout;
        console.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect()
    }

    fn initrd(&self, folder: &Path, script: &str) -> PathBuf {
        let root = folder.join("root");
        for name in ["bin", "proc", "sys", "dev", "tmp", "etc", LIBRARY_FOLDER] {
            fs::create_dir_all(root.join(name)).expect("a folder");
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox");
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).expect("a link");
        }
        fs::copy(&self.agent, root.join("bin/postern")).expect("the agent");
        for library in LIBRARIES {
            let own = Path::new("/").join(LIBRARY_FOLDER).join(library);
            fs::copy(own, root.join(LIBRARY_FOLDER).join(library)).expect("a library");
        }
        let start = "#!/bin/sh\nmount -t proc p /proc\nmount -t sysfs s /sys\nmount -t devtmpfs d /dev\n";
        let init = root.join("init");
        fs::write(&init, format!("{start}{script}\npoweroff -f\n")).expect("a script");
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).expect("a mode");
        let initrd = folder.join("initrd");
        let pack = format!("find . | busybox cpio -o -H newc > {}", initrd.display());
        run(Command::new("/bin/sh").args(["-c", &pack]).current_dir(&root), b"", BOOT).succeeded();
        initrd
    }
}
