//! Installs what building and testing need. Each need is probed itself, so what is there is left alone, and a set-up that
//! was broken off goes on where it stopped.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::command::{cargo, program, root, say};

const BPF_LINKER: &str = "0.13.0";
const CARGO_DENY: &str = "0.20.2";
const MUSL: &str = "x86_64-unknown-linux-musl";

/// A Debian package, and a file that is there when it is installed.
struct Package {
    name: &'static str,
    proof: &'static str,
}

const fn package(name: &'static str, proof: &'static str) -> Package {
    Package { name, proof }
}

/// bpf-linker links LLVM, in the version of the compiler's own.
const BUILD_PACKAGES: [Package; 6] = [
    package("gcc", "/usr/bin/gcc"),
    package("llvm-22-dev", "/usr/lib/llvm-22/bin/llvm-config"),
    package("libpolly-22-dev", "/usr/lib/llvm-22/lib/libPolly.a"),
    package("libzstd-dev", "/usr/include/zstd.h"),
    package("zlib1g-dev", "/usr/include/zlib.h"),
    package("libxml2-dev", "/usr/include/libxml2/libxml/parser.h"),
];

/// Real programs to watch, the static C library for the image, a C++ compiler for libFuzzer, and machines for other
/// kernels and for whole nodes.
const TEST_PACKAGES: [Package; 16] = [
    package("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    package("mmdebstrap", "/usr/bin/mmdebstrap"),
    package("g++", "/usr/bin/g++"),
    package("openssh-server", "/usr/sbin/sshd"),
    package("openssh-client", "/usr/bin/ssh"),
    package("sshpass", "/usr/bin/sshpass"),
    package("sudo", "/usr/bin/sudo"),
    package("dropbear-bin", "/usr/sbin/dropbear"),
    package("at", "/usr/sbin/atd"),
    package("cron", "/usr/sbin/cron"),
    package("tmux", "/usr/bin/tmux"),
    package("screen", "/usr/bin/screen"),
    package("containerd", "/usr/bin/containerd"),
    package("runc", "/usr/sbin/runc"),
    package("busybox-static", "/bin/busybox"),
    package("musl-tools", "/usr/bin/musl-gcc"),
];

/// Other monitors, to measure beside ours.
const PEER_PACKAGES: [Package; 3] = [
    package("libbpf-tools", "/usr/sbin/execsnoop"),
    package("bpftrace", "/usr/bin/bpftrace"),
    package("auditd", "/usr/sbin/auditd"),
];

/// Whether this process may install and watch.
pub(crate) fn is_root() -> bool {
    program("id", ["-u"]).quietly().is_ok_and(|id| id.trim() == "0")
}

/// Installs what is missing.
pub(crate) fn install(for_tests: bool) -> Result<()> {
    let started = Instant::now();
    let mut packages: Vec<&Package> = BUILD_PACKAGES.iter().collect();
    if for_tests {
        packages.extend(&TEST_PACKAGES);
    }
    install_packages(&packages)?;
    step("rust-src, to build core for the kernel", has_rust_src(), || {
        rustup(&["component", "add", "rust-src"], "rustup component add rust-src")
    })?;
    step("bpf-linker (about a minute)", has_bpf_linker(), install_bpf_linker)?;
    if for_tests {
        step("the musl target, for the image", has_musl(), || {
            rustup(&["target", "add", MUSL], "rustup target add x86_64-unknown-linux-musl")
        })?;
        step("cargo-deny (some minutes)", has_cargo_deny(), || {
            cargo(["install", "--locked", "--quiet", &format!("cargo-deny@{CARGO_DENY}")]).run()
        })?;
    }
    if started.elapsed().as_secs() >= 5 {
        say(&format!("setup: done in {} s", started.elapsed().as_secs()));
    }
    Ok(())
}

/// Installs what the benchmark compares with.
pub(crate) fn install_peers() -> Result<()> {
    install_packages(&PEER_PACKAGES.iter().collect::<Vec<_>>())?;
    // They attach by the names that it lists.
    if !Path::new("/sys/kernel/tracing/events").exists() {
        say("setup: mounting /sys/kernel/tracing");
        program("mount", ["-t", "tracefs", "tracefs", "/sys/kernel/tracing"]).run()?;
    }
    Ok(())
}

/// Debian's kernel for virtual machines, which a test boots.
pub(crate) fn kernel() -> Result<PathBuf> {
    const PACKAGE: &str = "linux-image-cloud-amd64";
    let kernel = root().join("target/kernel/vmlinuz");
    if kernel.is_file() {
        return Ok(kernel);
    }
    let depends = program("apt-cache", ["depends", "--important", PACKAGE]).quietly()?;
    let name = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).context("apt knows no kernel")?;
    let folder = root().join("target/kernel.part");
    unpack(name, &folder)?;
    let boot = std::fs::read_dir(folder.join("boot"))?.filter_map(Result::ok).map(|entry| entry.path());
    let found =
        boot.filter(|path| path.to_string_lossy().contains("vmlinuz")).max().context("the package holds no kernel")?;
    std::fs::create_dir_all(kernel.parent().unwrap_or(&kernel))?;
    std::fs::rename(found, &kernel)?;
    std::fs::remove_dir_all(&folder)?;
    Ok(kernel)
}

/// The part of Google's agent for virtual machines that runs what somebody asked for. The whole would take this machine for one
/// of theirs.
pub(crate) fn cloud_agent() -> Result<PathBuf> {
    const AGENT: &str = "usr/bin/google_metadata_script_runner";
    Ok(unpacked("target/cloud-agent", &[("google-guest-agent", AGENT)])?.join(AGENT))
}

/// Azure's agent for virtual machines, with the part of Python that it needs: for the same reason it is not installed either.
pub(crate) fn azure_agent() -> Result<PathBuf> {
    let distro = ("python3-distro", "usr/lib/python3/dist-packages/distro");
    unpacked("target/azure-agent", &[("waagent", "usr/sbin/waagent"), distro])
}

/// A folder with Debian packages, each unpacked there unless the file is there that proves it.
fn unpacked(folder: &str, packages: &[(&str, &str)]) -> Result<PathBuf> {
    let folder = root().join(folder);
    for (package, _) in packages.iter().filter(|(_, proof)| !folder.join(proof).exists()) {
        unpack(package, &folder)?;
    }
    Ok(folder)
}

/// Downloads a Debian package into a folder of its own and unpacks it there: it is never installed.
fn unpack(package: &str, folder: &Path) -> Result<()> {
    say(&format!("setup: downloading {package}"));
    std::fs::create_dir_all(folder)?;
    let folder = folder.display();
    let script =
        format!("cd '{folder}' && apt-get --quiet=2 download {package} && dpkg-deb --extract {package}_*.deb .");
    program("sh", ["-c", &script]).quietly().map(drop)
}

fn step(what: &str, is_there: bool, install: impl FnOnce() -> Result<()>) -> Result<()> {
    if is_there {
        return Ok(());
    }
    say(&format!("setup: installing {what}"));
    install().with_context(|| format!("cannot install {what}"))
}

fn install_packages(packages: &[&Package]) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|package| !Path::new(package.proof).exists()).map(|package| package.name).collect();
    if missing.is_empty() {
        if is_left_behind(Path::new(POLICY)) {
            std::fs::remove_file(POLICY).with_context(|| format!("{POLICY} keeps services from being started"))?;
        }
        return Ok(());
    }
    let list = missing.join(" ");
    if !program("apt-get", ["--version"]).succeeds() || !is_root() {
        bail!(
            "these Debian packages, or what they are called here, are missing, and only root on a system with apt can \
             install them: {list}"
        );
    }
    say(&format!("setup: installing the Debian packages {list}"));
    program("apt-get", ["update", "--quiet=2"]).quietly()?;
    let mut arguments = vec!["install", "--yes", "--quiet=2", "--no-install-recommends"];
    arguments.extend(&missing);
    // Nothing that is installed for the tests starts as a service: they start their own.
    let _denied = NoServices::deny(Path::new(POLICY))?;
    program("apt-get", arguments).env("DEBIAN_FRONTEND", "noninteractive").quietly()?;
    Ok(())
}

/// Keeps package scripts from starting services (policy-rc.d of invoke-rc.d(8)), until it is dropped.
struct NoServices {
    /// The policy, unless the machine has one of its own.
    ours: Option<PathBuf>,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";
/// 101: the action is forbidden by policy. The comment tells it from a machine's own.
const DENY: &str = "#!/bin/sh\n# By Postern's `cargo xtask setup`, while it installs packages. If it is still here, remove it.\nexit 101\n";

impl NoServices {
    fn deny(policy: &Path) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;

        let name = || policy.display().to_string();
        if policy.exists() && !is_left_behind(policy) {
            return Ok(Self { ours: None });
        }
        let denied = Self { ours: Some(policy.to_owned()) };
        std::fs::write(policy, DENY).with_context(name)?;
        std::fs::set_permissions(policy, std::fs::Permissions::from_mode(0o755)).with_context(name)?;
        Ok(denied)
    }
}

/// Whether a set-up that was killed left its policy there: nobody would have removed it.
fn is_left_behind(policy: &Path) -> bool {
    std::fs::read_to_string(policy).is_ok_and(|text| text == DENY)
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = &self.ours
            && std::fs::remove_file(policy).is_err()
        {
            say(&format!("setup: {} could not be removed: it keeps services from being started", policy.display()));
        }
    }
}

fn has_rust_src() -> bool {
    let sysroot = program("rustc", ["--print", "sysroot"]).quietly().unwrap_or_default();
    Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir()
}

fn has_musl() -> bool {
    let sysroot = program("rustc", ["--print", "sysroot"]).quietly().unwrap_or_default();
    Path::new(sysroot.trim()).join("lib/rustlib").join(MUSL).is_dir()
}

fn has_bpf_linker() -> bool {
    program("bpf-linker", ["--version"]).quietly().is_ok_and(|version| version.contains(BPF_LINKER))
}

fn has_cargo_deny() -> bool {
    program("cargo-deny", ["--version"]).succeeds()
}

fn install_bpf_linker() -> Result<()> {
    let package = format!("bpf-linker@{BPF_LINKER}");
    cargo(["install", "--quiet", &package, "--no-default-features", "--features", "llvm-22"])
        .env("LLVM_PREFIX", "/usr/lib/llvm-22")
        .run()
}

fn rustup(arguments: &[&str], by_hand: &str) -> Result<()> {
    if !program("rustup", ["--version"]).succeeds() {
        bail!("there is no rustup here: install by hand what `{by_hand}` would");
    }
    program("rustup", arguments).quietly().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("postern-xtask-{name}-{}", std::process::id()))
    }

    #[test]
    fn services_are_denied_only_while_packages_are_installed() {
        let policy = policy("policy");
        let denied = NoServices::deny(&policy).expect("written");
        let status = std::process::Command::new(&policy).status().expect("it runs");
        assert_eq!(status.code(), Some(101));
        // A set-up that is killed drops nothing.
        std::mem::forget(denied);
        assert!(is_left_behind(&policy));
        drop(NoServices::deny(&policy).expect("taken over"));
        assert!(!policy.exists());
    }

    #[test]
    fn a_machines_own_policy_stays() {
        let policy = policy("own-policy");
        std::fs::write(&policy, "#!/bin/sh\nexit 101\n").expect("written");
        drop(NoServices::deny(&policy).expect("left alone"));
        let stays = policy.exists();
        std::fs::remove_file(&policy).expect("removed");
        assert!(stays);
    }
}
