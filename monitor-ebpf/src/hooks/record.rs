//! An exec record under construction. Its tail is bytes one after the other, each read bounded so that the verifier can follow.

use core::{ffi::c_void, mem::offset_of};

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user};
use postern_ebpf::abi::{ExecBody, Header};

use crate::kernel::{Address, Pointer, offset};

/// Room for the arguments, for two given and three resolved paths, and for the environment. A path's last name may begin
/// below the limit and end a name's length above it.
const ROOM: usize =
    ExecBody::ARGV_MAX + 5 * (ExecBody::PATH_MAX + NAME) + ExecBody::PATH_MAX + ExecBody::ENVIRONMENT_MAX;

/// `NAME_MAX` and a closing zero.
const NAME: usize = 256;

/// How far a cgroup path is followed: a pod's container is six deep, one in a nested cluster twelve.
const CGROUP_DEPTH: usize = 20;

/// A record under construction. Positions live in memory and not in registers: the verifier then sees one state after
/// each part, instead of one for every way through it.
#[repr(C)]
pub struct ExecRecord {
    // Before the record, whose first bytes are near in any case: its end is in memory that nobody else touches.
    used: u64,
    first: u64,
    pub header: Header,
    pub body: ExecBody,
    tail: [u8; ROOM],
}

/// One part of the tail, as it came out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    Cut,
}

/// Where a climb through one mount ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Climbed {
    ToMountRoot,
    /// At an entry that is its own parent: a file that hangs nowhere, such as a memfd.
    Nowhere,
    Cut,
}

impl ExecRecord {
    /// The most that [`Self::length`] may be.
    pub const LENGTH_MAX: usize = size_of::<Self>() - offset_of!(Self, header);

    /// How long it is as far as it is filled, from its header on.
    #[inline(always)]
    pub fn length(&self) -> usize {
        offset_of!(Self, tail) - offset_of!(Self, header) + self.used()
    }

    /// Where it begins, as user space gets it.
    #[inline(always)]
    pub fn start(&self) -> *const c_void {
        // From the whole, so that all of it may be read from there.
        // SAFETY: the header is within.
        unsafe { (&raw const *self).byte_add(offset_of!(Self, header)).cast() }
    }

    /// How many bytes are in the tail.
    #[inline(always)]
    fn used(&self) -> usize {
        load(&self.used)
    }

    /// Starts the tail with nothing.
    #[inline(always)]
    pub fn start_tail(&mut self) {
        store(&mut self.used, 0);
    }

    /// Starts the tail with user memory; returns how many bytes were read, or `None` if it cannot be read.
    #[inline(always)]
    pub fn start_with_user(&mut self, from: u64, length: u64) -> Option<u32> {
        self.start_tail();
        let length = if length > ExecBody::ARGV_MAX as u64 { ExecBody::ARGV_MAX as u64 } else { length };
        // SAFETY: first in the tail, which has room for the longest.
        let result =
            unsafe { bpf_probe_read_user(self.tail.as_mut_ptr().cast(), length as u32, from as *const c_void) };
        if result != 0 {
            return None;
        }
        store(&mut self.used, length);
        Some(length as u32)
    }

    /// Appends the environment; returns how many bytes were read, or `None` if it cannot be read.
    #[inline(always)]
    pub fn environment(&mut self, from: u64, length: u64) -> Option<u32> {
        let used = self.used();
        if used > ROOM - ExecBody::ENVIRONMENT_MAX {
            return None;
        }
        let most = ExecBody::ENVIRONMENT_MAX as u64;
        let length = if length > most { most } else { length };
        // SAFETY: the check above leaves room for the longest.
        let result = unsafe {
            let target = self.tail.as_mut_ptr().add(used).cast();
            bpf_probe_read_user(target, length as u32, from as *const c_void)
        };
        if result != 0 {
            return None;
        }
        store(&mut self.used, used as u64 + length);
        Some(length as u32)
    }

    /// Appends a string in kernel memory without its closing zero, and returns its length.
    #[inline(always)]
    pub fn string(&mut self, from: Address) -> u32 {
        let used = self.used();
        if used > ROOM - ExecBody::PATH_MAX {
            return 0;
        }
        // SAFETY: the check above leaves room for PATH_MAX bytes.
        let length = unsafe {
            let target = self.tail.as_mut_ptr().add(used).cast();
            bpf_probe_read_kernel_str(target, ExecBody::PATH_MAX as u32, from.0 as *const c_void)
        };
        if length <= 1 || length > ExecBody::PATH_MAX as i64 {
            return 0;
        }
        store(&mut self.used, used as u64 + length as u64 - 1);
        length as u32 - 1
    }

    /// The length of the part that began at the last call of `path` or `cgroup`.
    #[inline(always)]
    pub fn part_length(&self) -> u32 {
        (load(&self.used) - load(&self.first)) as u32
    }

    /// Appends a `struct path`, leaf first, each name ended by a zero byte. Mounts are crossed as `d_path` does, so no
    /// symlink and no chroot can hide where a file is. Cut if its root was not reached.
    #[inline(never)]
    pub fn path(&mut self, path: impl Pointer) -> Part {
        let used = load(&self.used) as u64;
        store(&mut self.first, used);
        let mnt = path.at(offset!(path_mnt)).follow();
        // Most paths lie in one mount. What is mounted where is a structure around `vfsmount`, which has no type of its
        // own here, so that from the first crossing on all is read by calls.
        match self.names_within(path.at(offset!(path_dentry)).follow(), mnt) {
            Climbed::ToMountRoot => self.path_above(mnt.address()),
            Climbed::Nowhere => Part::Whole,
            Climbed::Cut => Part::Cut,
        }
    }

    /// Appends the names from a directory entry up to the root of its mount.
    #[inline(always)]
    fn names_within<P: Pointer>(&mut self, mut dentry: P, mnt: P) -> Climbed {
        let root = mnt.at(offset!(vfsmount_root)).follow().address();
        for _ in 0..ExecBody::PATH_DEPTH {
            if dentry.address() == root {
                return Climbed::ToMountRoot;
            }
            let parent = dentry.at(offset!(dentry_parent)).follow();
            if !self.dentry_name(dentry) {
                return Climbed::Cut;
            }
            if dentry == parent {
                return Climbed::Nowhere;
            }
            dentry = parent;
        }
        Climbed::Cut
    }

    /// Goes on from the root of a mount.
    #[inline(always)]
    fn path_above(&mut self, mut mnt: Address) -> Part {
        let mut at_mount_root = true;
        let mut dentry = Address(0);
        for _ in 0..ExecBody::PATH_DEPTH {
            if at_mount_root {
                // `container_of(mnt, struct mount, mnt)`
                let mount = Address(mnt.0.wrapping_sub(offset!(mount_mnt)));
                let above = mount.at(offset!(mount_parent)).follow();
                if above == mount || above.is_null() {
                    return Part::Whole;
                }
                dentry = mount.at(offset!(mount_mountpoint)).follow();
                mnt = above.at(offset!(mount_mnt));
            } else {
                let parent = dentry.at(offset!(dentry_parent)).follow();
                if !self.dentry_name(dentry) {
                    return Part::Cut;
                }
                if dentry == parent {
                    return Part::Whole;
                }
                dentry = parent;
            }
            at_mount_root = dentry == mnt.at(offset!(vfsmount_root)).follow();
        }
        Part::Cut
    }

    #[inline(always)]
    fn dentry_name(&mut self, dentry: impl Pointer) -> bool {
        let length = dentry.at(offset!(dentry_name_len)).read::<u32>() & 0xff;
        let name = dentry.at(offset!(dentry_name_str)).read::<u64>();
        let used = self.used();
        if used > ROOM - NAME || self.part_length() > ExecBody::PATH_MAX as u32 {
            return false;
        }
        // SAFETY: the check above leaves room for NAME bytes; the zero byte stands behind at most 255.
        unsafe {
            let target = self.tail.as_mut_ptr().add(used);
            if bpf_probe_read_kernel(target.cast(), length, name as *const c_void) != 0 {
                return false;
            }
            *target.add(length as usize) = 0;
        }
        store(&mut self.used, used as u64 + u64::from(length) + 1);
        true
    }

    /// Appends a cgroup's names, leaf first, each ended by a zero byte. Cut if the root was not reached.
    #[inline(always)]
    pub fn cgroup(&mut self, mut node: impl Pointer) -> Part {
        let used = load(&self.used) as u64;
        store(&mut self.first, used);
        for _ in 0..CGROUP_DEPTH {
            let parent = node.at(offset!(kernfs_parent)).follow();
            if parent.is_null() {
                return Part::Whole;
            }
            let used = self.used();
            if used > ROOM - NAME {
                return Part::Cut;
            }
            let name = node.at(offset!(kernfs_name)).read::<u64>();
            // SAFETY: the check above leaves room for NAME bytes.
            let length = unsafe {
                let target = self.tail.as_mut_ptr().add(used).cast();
                bpf_probe_read_kernel_str(target, NAME as u32, name as *const c_void)
            };
            if length <= 0 || length > NAME as i64 {
                return Part::Cut;
            }
            store(&mut self.used, used as u64 + length as u64);
            node = parent;
        }
        Part::Cut
    }
}

#[inline(always)]
fn load(place: &u64) -> usize {
    // SAFETY: a reference is readable; volatile so that the value is not kept in a register.
    unsafe { core::ptr::read_volatile(place) as usize }
}

#[inline(always)]
fn store(place: &mut u64, value: u64) {
    // SAFETY: a reference is writable; volatile so that the value is not kept in a register.
    unsafe { core::ptr::write_volatile(place, value) };
}
