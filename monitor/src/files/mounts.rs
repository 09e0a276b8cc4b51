//! The node's own file systems: those on which a change is a change of the node, and not of a container, of the kernel's view
//! of itself or of somebody else's server.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Seek as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// The most file systems that are marked; past that the rest is said to be left out.
const FILE_SYSTEMS_MAX: usize = 64;
/// How much of the mount table is read. A node with many pods has some thousand lines.
const TABLE_BYTES: u64 = 4 << 20;
/// Types that keep a node's files.
const TYPES: [&str; 10] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "bcachefs", "zfs", "tmpfs", "vfat"];
/// Below these, pods and containers have their own.
const OF_PODS: [&str; 7] = [
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/run/containerd",
    "/run/containers",
    "/run/netns",
];

/// A file system, by one of its mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileSystem {
    /// Its type.
    pub(super) kind: String,
    /// Where it is mounted.
    pub(super) path: PathBuf,
    device: String,
    /// Whether the mount shows all of it.
    whole: bool,
}

/// What the node's mount table says.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) file_systems: Vec<FileSystem>,
    /// How many were left out for want of room.
    pub(super) left_out: usize,
}

/// The node's root and its mount table, held open so that neither takes a privilege later.
pub(super) struct Node {
    root: OwnedFd,
    table: File,
}

impl Node {
    /// Opens both.
    pub(super) fn open(host_root: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = rustix::fs::open(host_root, flags, Mode::empty())?;
        Ok(Self { root, table: File::open("/proc/1/mountinfo")? })
    }

    /// What is mounted now.
    pub(super) fn table(&mut self) -> io::Result<Table> {
        let mut text = Vec::new();
        self.table.rewind()?;
        self.table.by_ref().take(TABLE_BYTES).read_to_end(&mut text)?;
        Ok(parse(&String::from_utf8_lossy(&text)))
    }

    /// The directory on which a file system is mounted; no symbolic link can lead elsewhere.
    pub(super) fn directory(&self, file_system: &FileSystem) -> io::Result<OwnedFd> {
        let below = file_system.path.strip_prefix("/").unwrap_or(&file_system.path);
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::IN_ROOT;
        Ok(openat2(self.root.as_fd(), below, flags, Mode::empty(), resolve)?)
    }
}

/// Reads `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`).
fn parse(text: &str) -> Table {
    let mut found: Vec<FileSystem> = Vec::new();
    for file_system in text.lines().filter_map(line) {
        match found.iter_mut().find(|known| known.device == file_system.device) {
            // From a mount of a part, not every directory has a path.
            Some(known) if file_system.whole && !known.whole => *known = file_system,
            Some(_) => {}
            None => found.push(file_system),
        }
    }
    let left_out = found.len().saturating_sub(FILE_SYSTEMS_MAX);
    found.truncate(FILE_SYSTEMS_MAX);
    Table { file_systems: found, left_out }
}

fn line(line: &str) -> Option<FileSystem> {
    let (mount, own) = line.split_once(" - ")?;
    let mount: Vec<&str> = mount.split(' ').collect();
    let [_, _, device, root, path, options, ..] = mount[..] else { return None };
    let mut own = own.split(' ');
    let (kind, super_options) = (own.next()?, own.nth(1)?);
    let path = unescape(path);
    let is_writable = |options: &str| options.split(',').any(|option| option == "rw");
    // A node that boots from an image has an overlay as its root; any other is a container's.
    let is_nodes = TYPES.contains(&kind) || kind == "overlay" && path == Path::new("/");
    let of_pod = OF_PODS.iter().any(|folder| path.starts_with(folder));
    (is_nodes && !of_pod && is_writable(options) && is_writable(super_options)).then(|| FileSystem {
        kind: kind.to_owned(),
        path,
        device: device.to_owned(),
        whole: root == "/",
    })
}

/// Blanks and the like are written in octal.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        let octal =
            others.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|it| (b'0'..=b'7').contains(it)));
        let value = octal.map(|digits| digits.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0')));
        if let Some(byte) = value.and_then(|value| u8::try_from(value).ok()) {
            bytes.push(byte);
            rest = &others[3..];
        } else {
            bytes.push(first);
            rest = others;
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_own_and_writable_file_systems_are_found_once_each() {
        let text = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
24 27 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw,size=1k
40 27 254:0 /var/data /mnt/part rw,relatime - ext4 /dev/vda rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
41 27 254:1 / /boot ro,relatime - ext4 /dev/vdb ro
42 27 0:25 / /run rw,nosuid - tmpfs tmpfs rw,mode=755
43 27 0:26 / /mnt/a\\040b rw - xfs /dev/vdc rw
44 42 0:27 / /run/containerd/io.containerd.runtime.v2.task/k8s.io/x/rootfs rw - overlay overlay rw
45 27 0:28 / /var/lib/kubelet/pods/1/volumes/kubernetes.io~projected/t rw - tmpfs tmpfs rw
46 27 0:29 / /home nfs rw
47 27 0:30 / /home rw - nfs4 server:/home rw
";
        let found: Vec<_> = parse(text).file_systems.into_iter().map(|it| (it.kind, it.path)).collect();
        let expected = [("ext4", "/"), ("tmpfs", "/run"), ("xfs", "/mnt/a b")];
        assert_eq!(found, expected.map(|(kind, path)| (kind.to_owned(), PathBuf::from(path))));
    }

    #[test]
    fn too_many_are_counted_and_nonsense_is_passed_over() {
        let mounts: Vec<String> =
            (0..100).map(|number| format!("1 1 8:{number} / /{number} rw - ext4 x rw\n")).collect();
        let table = parse(&format!("\\777 - - - \n - \n{}", mounts.concat()));
        assert_eq!((table.file_systems.len(), table.left_out), (FILE_SYSTEMS_MAX, 100 - FILE_SYSTEMS_MAX));
    }
}
