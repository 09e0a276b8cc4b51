//! What this machine is: read once, when the agent starts.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use postern_ebpf::abi::Namespaces;
use rustix::time::{ClockId, clock_gettime};
use ulid::Ulid;

use crate::{
    config::Config,
    event::{Capabilities, Node},
    pipeline::Host,
    process::text::printable,
};

/// The clock by which the kernel side stamps its records, in nanoseconds (`CLOCK_BOOTTIME`).
pub(super) fn since_boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// When this boot began, in nanoseconds since 1970, by the node's clock as it is set now.
pub(super) fn boot_time_ns() -> i128 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since_1970.as_nanos() as i128 - i128::from(since_boot_ns())
}

/// The same, unless so much came between the looks at the two clocks that it would not be exact.
pub(super) fn exact_boot_time_ns() -> Option<i128> {
    const BETWEEN_NS: u64 = 1_000_000;
    let (before, boot_time, after) = (since_boot_ns(), boot_time_ns(), since_boot_ns());
    (after - before < BETWEEN_NS).then_some(boot_time)
}

/// Where the node's own files are seen from here: as configured; else through the node's init, or a kernel thread, whose
/// root is the node's too (some machines let nobody look at process 1); else, outside any container, our own root. Says
/// so where it is not what one would expect.
pub(super) fn host_root(configured: Option<&Path>) -> (PathBuf, Option<String>) {
    const ROOT_OF_INIT: &str = "/proc/1/root";
    if let Some(configured) = configured {
        return (configured.to_owned(), None);
    }
    let is_system = |root: &Path| root.join("usr").is_dir();
    let same_mounts = fs::read_link("/proc/self/ns/mnt").ok() == fs::read_link("/proc/1/ns/mnt").ok();
    let own = if same_mounts { "/" } else { ROOT_OF_INIT };
    let root = [ROOT_OF_INIT, "/proc/2/root", own].into_iter().map(Path::new).find(|root| is_system(root));
    match root {
        Some(root) if root == Path::new(ROOT_OF_INIT) => (root.to_owned(), None),
        Some(root) => (
            root.to_owned(),
            Some(format!("{ROOT_OF_INIT} cannot be read: the node's files are read at {}", root.display())),
        ),
        None => {
            (ROOT_OF_INIT.into(), Some(format!("the node's files are not seen at {ROOT_OF_INIT}: is hostPID set?")))
        }
    }
}

/// What every event says of this node.
pub(super) fn node(config: &Config, host_root: &Path, host: &Host) -> Node {
    let uname = rustix::system::uname();
    let line = |path: &Path| {
        let text = fs::read_to_string(path).ok()?;
        Some(Arc::<str>::from(text.trim())).filter(|text| !text.is_empty())
    };
    let os_release = fs::read_to_string(host_root.join("etc/os-release"))
        .or_else(|_| fs::read_to_string(host_root.join("usr/lib/os-release")))
        .unwrap_or_default();
    let os =
        os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).map(|name| name.trim_matches('"').into());
    let text = |value: &std::ffi::CStr| printable(value.to_bytes());
    Node {
        name: config.node.clone().unwrap_or_else(|| text(uname.nodename())),
        id: line(&host_root.join("etc/machine-id")),
        boot_id: line(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_else(|| "unknown".into()),
        kernel: text(uname.release()),
        architecture: text(uname.machine()),
        os,
        cluster: config.cluster.clone(),
        capabilities: host.capabilities,
        version: env!("CARGO_PKG_VERSION"),
        run_id: Ulid::generate().to_string().into(),
    }
}

/// Against what containers are held.
pub(super) fn host() -> Host {
    let namespace = |name: &str| {
        // A kernel thread is where init is; only outside a container are we.
        let link = ["1", "2", "self"].iter().find_map(|pid| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok());
        let inode = |link: PathBuf| link.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok();
        link.and_then(inode).unwrap_or(0)
    };
    let status = fs::read_to_string("/proc/1/status").unwrap_or_default();
    let bounding = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|value| u64::from_str_radix(value.trim(), 16).ok());
    Host {
        namespaces: Namespaces {
            mnt: namespace("mnt"),
            pid: namespace("pid"),
            net: namespace("net"),
            user: namespace("user"),
            uts: namespace("uts"),
            ipc: namespace("ipc"),
            cgroup: namespace("cgroup"),
            reserved: 0,
        },
        // Without it no container would be taken for privileged that is not beyond doubt: all capabilities there are.
        capabilities: Capabilities(bounding.unwrap_or((1 << 41) - 1)),
    }
}
