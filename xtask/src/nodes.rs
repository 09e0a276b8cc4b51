//! `cargo xtask nodes`: whole Debian nodes in virtual machines, which play the access scenarios with their own systemd, logind,
//! PAM and sshd, and the score of each. A node's disk is made once, from the machine's own package mirror. `cargo xtask quiet`
//! has one of them live an ordinary life, in which nothing may look as if somebody came in.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build,
    command::{Program, cargo, program, root, say},
    setup,
};

/// The suites that there are nodes of.
const SUITES: [&str; 4] = ["bookworm", "trixie", "bullseye", "sid"];
/// Those that are played unless others are named, and by `cargo xtask test`: the stable one, the one before it, and the one before
/// that, since its kernel is the oldest that the agent is for. What is to become stable changes from day to day.
const TESTED: [&str; 3] = ["bookworm", "trixie", "bullseye"];
/// What Kubernetes nodes have, what people come in by and go on with, and what the scenarios need beside that.
const PACKAGES: [&str; 30] = [
    "at",
    "busybox-static",
    "containerd",
    "cron",
    "dbus",
    "docker.io",
    "dropbear-bin",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "libpam-systemd",
    "linux-image-cloud-amd64",
    "login",
    "logrotate",
    "man-db",
    "openssh-client",
    "openssh-server",
    "passwd",
    "procps",
    "runc",
    "screen",
    "sshpass",
    "sudo",
    "systemd",
    "systemd-container",
    "systemd-sysv",
    "tmux",
    "udev",
    "util-linux",
    "zstd",
];
/// What is a package of its own since Debian 13: Docker's client.
const PACKAGES_SINCE_13: [&str; 1] = ["docker-cli"];
/// The suites before that.
const BEFORE_13: [&str; 2] = ["bookworm", "bullseye"];
/// Units that a node has and that do not start with it: a Kubernetes node's runtime is containerd, and Docker's is started by those
/// who play with it.
const MASKED: [&str; 2] = ["docker.service", "docker.socket"];
/// How mmdebstrap makes the files of one.
const OPTIONS: [&str; 11] = [
    "--mode=root",
    "--variant=minbase",
    "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
    // /bin is a link to /usr/bin, as Debian's installer does it since Debian 10.
    "--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr",
    "--aptopt=APT::Install-Recommends \"false\"",
    "--aptopt=Acquire::Languages \"none\"",
    // A mirror may be a snapshot, which is signed and says that it is out of date.
    "--aptopt=Acquire::Check-Valid-Until \"false\"",
    // A disk that breaks is made anew.
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
];
const SIZE: &str = "3G";
/// Plays what is on the second disk, and goes. Its words go to the second serial port: the first is the kernel's.
const UNIT: &str = "[Unit]
Description=What the second disk holds
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'mount -o ro /dev/vdb /mnt; /mnt/start; poweroff -f'
StandardOutput=file:/dev/ttyS1
StandardError=file:/dev/ttyS1
TimeoutStartSec=infinity
";
/// Files of a node, beside those of its packages.
const FILES: [(&str, &str); 4] = [
    ("etc/hostname", "node-1\n"),
    ("etc/hosts", "127.0.0.1 localhost node-1\n"),
    ("etc/systemd/system/play.service", UNIT),
    // An empty one is a node's that boots for the first time, and asks.
    ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
];

/// Where the nodes' disks are, each in a folder named like its suite.
pub(crate) fn folder() -> PathBuf {
    root().join("target/nodes")
}

/// Makes the disks that `cargo xtask test` boots. What cannot be made is said, and its test is skipped.
pub(crate) fn make_tested() {
    if let Err(error) = make_all(&TESTED) {
        say(&format!("no whole nodes: {error:#}"));
    }
}

/// Has a node live an ordinary life for so many minutes.
pub(crate) fn live(suite: &str, minutes: u32) -> Result<()> {
    prepare(&[suite])?.argument("live").argument(suite).argument(&minutes.to_string()).run()
}

/// Plays the scenarios on nodes of these suites; of those that are tested, if none is named.
pub(crate) fn play(wanted: &[String]) -> Result<()> {
    let named = wanted.iter().map(String::as_str).collect();
    let suites: Vec<&str> = if wanted.is_empty() { TESTED.to_vec() } else { named };
    suites.iter().fold(prepare(&suites)?.argument("nodes"), |runner, suite| runner.argument(suite)).run()
}

/// Makes the disks of these suites, and all else that the runner needs.
fn prepare(suites: &[&str]) -> Result<Program> {
    if let Some(unknown) = suites.iter().find(|suite| !SUITES.contains(suite)) {
        bail!("there is no node of {unknown}: there are {}", SUITES.join(", "));
    }
    setup::install(true)?;
    make_all(suites)?;
    cargo(["build", "--package", "postern-tests"]).run()?;
    let agent = build::static_agent()?;
    let runner = root().join("target/debug/postern-tests").display().to_string();
    Ok(program::<&str>(&runner, [])
        .env("POSTERN_STATIC", &agent.display().to_string())
        .env("POSTERN_NODES", &folder().display().to_string()))
}

/// Two at a time: each waits for the network and for the disk in turn.
fn make_all(suites: &[&str]) -> Result<()> {
    for pair in suites.chunks(2) {
        thread::scope(|scope| {
            let running: Vec<_> = pair.iter().map(|suite| (suite, scope.spawn(move || make(suite)))).collect();
            running.into_iter().try_for_each(|(suite, made)| {
                let made = made.join().unwrap_or_else(|_| bail!("it cannot be made"));
                made.with_context(|| format!("a node of {suite}"))
            })
        })?;
    }
    Ok(())
}

/// Makes the disk of a suite, unless there is one by the same recipe.
fn make(suite: &str) -> Result<()> {
    let (made, new) = (folder().join(suite), folder().join(format!("{suite}.new")));
    let recipe = format!("{OPTIONS:?}\n{:?}\n{SIZE}\n{FILES:?}\n{MASKED:?}\n", packages(suite));
    if fs::read_to_string(made.join("recipe")).is_ok_and(|text| text == recipe) {
        return Ok(());
    }
    say(&format!("node: making the disk of {suite}"));
    for left in [&made, &new] {
        if left.exists() {
            fs::remove_dir_all(left)?;
        }
    }
    let root = new.join("root");
    fs::create_dir_all(&root)?;
    bootstrap(suite, &root)?;
    for (name, content) in FILES {
        fs::write(root.join(name), content).with_context(|| name.to_owned())?;
    }
    for unit in MASKED {
        symlink("/dev/null", root.join("etc/systemd/system").join(unit))?;
    }
    let wanted = root.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wanted)?;
    symlink("../play.service", wanted.join("play.service"))?;
    for (beginning, name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")] {
        fs::copy(in_boot(&root, beginning)?, new.join(name))?;
    }
    let disk = new.join("disk").display().to_string();
    program("mke2fs", ["-q", "-t", "ext4", "-O", "^has_journal", "-d", &root.display().to_string(), &disk, SIZE])
        .quietly()?;
    fs::remove_dir_all(&root)?;
    fs::write(new.join("recipe"), recipe)?;
    fs::rename(&new, &made)?;
    Ok(())
}

fn packages(suite: &str) -> Vec<&'static str> {
    let own: &[&str] = if BEFORE_13.contains(&suite) { &[] } else { &PACKAGES_SINCE_13 };
    PACKAGES.iter().chain(own).copied().collect()
}

fn bootstrap(suite: &str, root: &Path) -> Result<()> {
    let include = format!("--include={}", packages(suite).join(","));
    let (root, mirror) = (root.display().to_string(), mirror()?);
    program("mmdebstrap", OPTIONS.into_iter().chain([&*include, suite, &root, &mirror])).quietly().map(drop)
}

/// The address that this machine's apt gets Debian from.
fn mirror() -> Result<String> {
    let filters = ["Created-By: Packages", "Origin: Debian", "Label: Debian"];
    let listed =
        program("apt-get", ["indextargets", "--format", "$(REPO_URI)"].into_iter().chain(filters)).quietly()?;
    let mirror = listed.lines().next().context("this machine's apt knows no mirror of Debian")?;
    Ok(mirror.to_owned())
}

fn in_boot(root: &Path, beginning: &str) -> Result<PathBuf> {
    let files = fs::read_dir(root.join("boot"))?.filter_map(Result::ok).map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning));
    files.filter(named).max().with_context(|| format!("the node's /boot has no {beginning}*"))
}
