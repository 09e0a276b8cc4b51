//! The variable tail of an exec record: bytes one after the other, each read bounded so that the verifier can follow.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user};
use postern_ebpf::abi::ExecBody;

use crate::{
    kernel::{Address, offset},
    maps::FIELDS,
};

/// Room for the arguments, and for two given and three resolved paths. A path's last name may begin below the limit
/// and end a name's length above it.
pub const ROOM: usize = ExecBody::ARGV_MAX + 5 * (ExecBody::PATH_MAX + NAME) + ExecBody::PATH_MAX;

/// `NAME_MAX` and a closing zero.
const NAME: usize = 256;

/// How far a cgroup path is followed: a pod's container is six deep, one in a nested cluster twelve.
const CGROUP_DEPTH: usize = 20;

pub struct Tail {
    start: *mut u8,
    used: usize,
}

impl Tail {
    #[inline(always)]
    pub fn new(start: *mut u8) -> Self {
        Self { start, used: 0 }
    }

    #[inline(always)]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Appends user memory; returns how many bytes, or `None` if it cannot be read.
    #[inline(always)]
    pub fn user(&mut self, from: u64, length: usize) -> Option<u32> {
        let length = if length > ExecBody::ARGV_MAX { ExecBody::ARGV_MAX } else { length };
        // SAFETY: first in the tail, which has room for the longest.
        let result = unsafe { bpf_probe_read_user(self.start.cast(), length as u32, from as *const _) };
        if result != 0 {
            return None;
        }
        self.used = length;
        Some(length as u32)
    }

    /// Appends the string in kernel memory that `from` points to, without its closing zero. Returns its length, and
    /// whether it was cut.
    #[inline(always)]
    pub fn string(&mut self, from: Address) -> u32 {
        let used = self.used;
        if used > ROOM - ExecBody::PATH_MAX {
            return 0;
        }
        // SAFETY: the check above leaves room for PATH_MAX bytes.
        let length = unsafe {
            bpf_probe_read_kernel_str(self.start.add(used).cast(), ExecBody::PATH_MAX as u32, from.0 as *const _)
        };
        if length <= 1 || length > ExecBody::PATH_MAX as i64 {
            return 0;
        }
        self.used = used + (length as usize - 1);
        length as u32 - 1
    }

    /// Appends a `struct path`, leaf first, each name ended by a zero byte. Returns its length and whether its root
    /// was reached. Mounts are crossed as `d_path` does, so no symlink and no chroot can hide where a file is.
    #[inline(always)]
    pub fn path(&mut self, path: Address) -> (u32, bool) {
        let first = self.used;
        let mut dentry = path.at(offset!(path_dentry)).follow();
        let mut mnt = path.at(offset!(path_mnt)).follow();
        for _ in 0..ExecBody::PATH_DEPTH {
            let parent = dentry.at(offset!(dentry_parent)).follow();
            if dentry == mnt.at(offset!(vfsmount_root)).follow() {
                // `container_of(mnt, struct mount, mnt)`
                let mount = Address(mnt.0.wrapping_sub(u64::from(offset!(mount_mnt))));
                let above = mount.at(offset!(mount_parent)).follow();
                if above == mount || above.is_null() {
                    return ((self.used - first) as u32, true);
                }
                dentry = mount.at(offset!(mount_mountpoint)).follow();
                mnt = above.at(offset!(mount_mnt));
                continue;
            }
            if !self.dentry_name(dentry, first) {
                break;
            }
            if dentry == parent {
                // A file that hangs nowhere, such as a memfd.
                return ((self.used - first) as u32, true);
            }
            dentry = parent;
        }
        ((self.used - first) as u32, false)
    }

    #[inline(always)]
    fn dentry_name(&mut self, dentry: Address, first: usize) -> bool {
        let length = dentry.at(offset!(dentry_name_len)).read::<u32>() & 0xff;
        let name = dentry.at(offset!(dentry_name_str)).follow();
        let used = self.used;
        if used > ROOM - NAME || used - first > ExecBody::PATH_MAX {
            return false;
        }
        // SAFETY: the check above leaves room for NAME bytes; the zero byte stands behind at most 255.
        unsafe {
            let target = self.start.add(used);
            if bpf_probe_read_kernel(target.cast(), length, name.0 as *const _) != 0 {
                return false;
            }
            *target.add(length as usize) = 0;
        }
        self.used = used + length as usize + 1;
        true
    }

    /// Appends a cgroup's names, leaf first, each ended by a zero byte. Returns its length, and whether the root was
    /// reached.
    #[inline(always)]
    pub fn cgroup(&mut self, mut node: Address) -> (u32, bool) {
        let first = self.used;
        for _ in 0..CGROUP_DEPTH {
            let parent = node.at(offset!(kernfs_parent)).follow();
            if parent.is_null() {
                return ((self.used - first) as u32, true);
            }
            let used = self.used;
            if used > ROOM - NAME {
                break;
            }
            let name = node.at(offset!(kernfs_name)).follow();
            // SAFETY: the check above leaves room for NAME bytes.
            let length =
                unsafe { bpf_probe_read_kernel_str(self.start.add(used).cast(), NAME as u32, name.0 as *const _) };
            if length <= 0 || length > NAME as i64 {
                break;
            }
            self.used = used + length as usize;
            node = parent;
        }
        ((self.used - first) as u32, false)
    }
}
