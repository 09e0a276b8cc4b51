//! Typed readers of kernel structures: the only raw reads of kernel memory. A read that fails yields zero, which every
//! caller takes for "not there".
//!
//! There are two ways to read. Where the kernel hands a program typed pointers, and knows the types of what they lead to,
//! a read is one load instruction ([`Typed`]); everywhere else it is a call ([`Address`]) that costs twenty times as much.
//! What reads a structure is written once, for both.

use core::{ffi::c_void, mem::MaybeUninit, ptr::read_volatile};

use aya_ebpf::helpers::{bpf_get_current_task, generated::bpf_probe_read_kernel};
use postern_ebpf::abi::{Caller, CgroupHierarchy, Credentials, FileIdentity, Namespaces, ProcessKey, Tty};

use crate::maps::SETTINGS;

/// The offset of a kernel field, by its name in the table, as a `u64`: a constant in the instruction, which user space sets before
/// the programs are loaded. To read it from a map would take a load and its address beside.
macro_rules! offset {
    ($field:ident) => {{
        const MARK: i32 = postern_ebpf::abi::KernelFields::MARK
            | (core::mem::offset_of!(postern_ebpf::abi::KernelFields, $field) / size_of::<u32>()) as i32;
        let offset: u64;
        // SAFETY: it sets a register.
        unsafe {
            core::arch::asm!("{offset} = {MARK}", offset = out(reg) offset, MARK = const MARK, options(pure, nomem, nostack));
        }
        offset
    }};
}
pub(crate) use offset;

/// What a field's offset is on a kernel that does not have it: the mark, with its sign.
const ABSENT: u64 = postern_ebpf::abi::ABSENT as i32 as u64;

/// Something in the kernel that can be read.
pub trait Pointer: Copy + PartialEq {
    /// The address of a field within the structure here.
    fn at(self, offset: u64) -> Self;

    /// The number here, of at most eight bytes.
    fn read<T: Copy>(self) -> T;

    /// The pointer here to another structure, followed.
    fn follow(self) -> Self;

    /// The bare address: to be read by calls from here on.
    fn address(self) -> Address;

    /// Whether it points anywhere.
    #[inline(always)]
    fn is_null(self) -> bool {
        self.address().0 == 0
    }
}

/// An address in the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Address(pub u64);

impl Pointer for Address {
    #[inline(always)]
    fn at(self, offset: u64) -> Self {
        Self(self.0.wrapping_add(offset))
    }

    #[inline(always)]
    fn read<T: Copy>(self) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper checks the source and writes exactly the size of `T`, zeroes where it cannot read; every `T` used
        // here is plain data for which zero is a value.
        unsafe {
            bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, self.0 as *const c_void);
            value.assume_init()
        }
    }

    #[inline(always)]
    fn follow(self) -> Self {
        Self(self.read::<u64>())
    }

    #[inline(always)]
    fn address(self) -> Address {
        self
    }
}

/// A pointer whose type the verifier knows (`PTR_TO_BTF_ID`). It may only be moved by constants, and what it leads to must
/// be a pointer to a structure, or a number. A load through it never faults: the kernel makes it zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Typed(pub u64);

impl Pointer for Typed {
    #[inline(always)]
    fn at(self, offset: u64) -> Self {
        Self(self.0.wrapping_add(offset))
    }

    #[inline(always)]
    fn read<T: Copy>(self) -> T {
        // SAFETY: the verifier checks that a `T` is here, and the kernel that the address can be read.
        unsafe { read_volatile(self.0 as *const T) }
    }

    #[inline(always)]
    fn follow(self) -> Self {
        Self(self.read::<u64>())
    }

    #[inline(always)]
    fn address(self) -> Address {
        Address(self.0)
    }
}

/// `struct task_struct`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Task<P>(pub P);

impl Task<Address> {
    /// The task that runs now.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: a helper without arguments.
        Self(Address(unsafe { bpf_get_current_task() }))
    }
}

impl<P: Pointer> Task<P> {
    /// What the records of uprobes say of the process that called.
    #[inline(always)]
    pub fn caller(self) -> Caller {
        Caller {
            process: self.key(),
            parent: self.parent().key(),
            euid: self.euid(),
            mnt_namespace: self.mnt_namespace(),
            comm: self.comm(),
        }
    }

    #[inline(always)]
    pub fn tgid(self) -> u32 {
        self.0.at(offset!(task_tgid)).read()
    }

    #[inline(always)]
    pub fn pid(self) -> u32 {
        self.0.at(offset!(task_pid)).read()
    }

    /// The key of the process (of its thread group's leader).
    #[inline(always)]
    pub fn key(self) -> ProcessKey {
        let leader = self.0.at(offset!(task_group_leader)).follow();
        ProcessKey::new(self.tgid(), leader.at(offset!(task_start)).read())
    }

    #[inline(always)]
    pub fn parent(self) -> Self {
        Self(self.0.at(offset!(task_parent)).follow())
    }

    #[inline(always)]
    pub fn comm(self) -> [u8; 16] {
        // By words: the compiler would copy bytes one by one.
        zerocopy::transmute!(self.comm_words())
    }

    /// The same, to be compared.
    #[inline(always)]
    pub fn comm_words(self) -> [u64; 2] {
        self.0.at(offset!(task_comm)).address().read()
    }

    #[inline(always)]
    pub fn mm(self) -> P {
        self.0.at(offset!(task_mm)).follow()
    }

    #[inline(always)]
    pub fn signal(self) -> P {
        self.0.at(offset!(task_signal)).follow()
    }

    /// Threads of the process that are still alive (`signal_struct.live`).
    #[inline(always)]
    pub fn live_threads(self) -> u32 {
        self.signal().at(offset!(signal_live)).read()
    }

    /// Whether it stands for a process that runs: a thread stands for nothing of its own, and where no thread lives the process only
    /// waits for its parent.
    #[inline(always)]
    pub fn is_running_process(self) -> bool {
        self.pid() == self.tgid() && self.live_threads() != 0
    }

    #[inline(always)]
    pub fn exit_status(self) -> u32 {
        self.0.at(offset!(task_exit_code)).read()
    }

    /// Leader of the process group (`kind` 2) or session (`kind` 3): `enum pid_type`.
    #[inline(always)]
    pub fn leader(self, kind: u64) -> ProcessKey {
        let pid = self.signal().at(offset!(signal_pids) + kind * 8).follow();
        if pid.is_null() {
            return ProcessKey::NONE;
        }
        let nr = pid.at(offset!(pid_numbers)).at(offset!(upid_nr)).read::<u32>();
        // `pid.tasks[PIDTYPE_TGID]` heads the list of its one task, linked by `task_struct.pid_links[PIDTYPE_TGID]`:
        // an hlist node is two pointers, its head one.
        let node = pid.at(offset!(pid_tasks) + 8).follow();
        if node.is_null() {
            return ProcessKey::new(nr, 0);
        }
        let task = Address(node.address().0.wrapping_sub(offset!(task_pid_links) + 16));
        ProcessKey::new(nr, task.at(offset!(task_start)).read())
    }

    /// The pid in the innermost namespace, and that namespace's inode number.
    #[inline(always)]
    pub fn innermost(self) -> (u32, u32) {
        let pid = self.0.at(offset!(task_thread_pid)).follow();
        let level = pid.at(offset!(pid_level)).read::<u32>();
        let outermost = pid.at(offset!(pid_numbers));
        if level == 0 {
            number_and_namespace(outermost)
        } else {
            // `struct upid` is an int and a pointer: 16 bytes.
            number_and_namespace(outermost.address().at(u64::from(level & 31) * 16))
        }
    }

    /// The mount namespace's inode number; 0 of a task that is ending.
    #[inline(always)]
    pub fn mnt_namespace(self) -> u32 {
        self.0.at(offset!(task_nsproxy)).follow().at(offset!(nsproxy_mnt)).follow().at(offset!(ns_mnt_inum)).read()
    }

    /// The namespaces it is in, given the inode number of its pid namespace.
    #[inline(always)]
    pub fn namespaces(self, pid: u32) -> Namespaces {
        let nsproxy = self.0.at(offset!(task_nsproxy)).follow();
        let inum = |pointer: u64, inum: u64| {
            if inum == ABSENT { 0 } else { nsproxy.at(pointer).follow().at(inum).read() }
        };
        let user_ns = offset!(ns_user_inum);
        Namespaces {
            mnt: inum(offset!(nsproxy_mnt), offset!(ns_mnt_inum)),
            pid,
            net: inum(offset!(nsproxy_net), offset!(ns_net_inum)),
            user: if user_ns == ABSENT {
                0
            } else {
                self.0.at(offset!(task_cred)).follow().at(offset!(cred_user_ns)).follow().at(user_ns).read()
            },
            uts: inum(offset!(nsproxy_uts), offset!(ns_uts_inum)),
            ipc: inum(offset!(nsproxy_ipc), offset!(ns_ipc_inum)),
            cgroup: inum(offset!(nsproxy_cgroup), offset!(ns_cgroup_inum)),
            reserved: 0,
        }
    }

    #[inline(always)]
    pub fn euid(self) -> u32 {
        self.0.at(offset!(task_cred)).follow().at(offset!(cred_uid) + 16).read()
    }

    #[inline(always)]
    pub fn credentials(self) -> Credentials {
        let optional = |offset: u64| if offset == ABSENT { u32::MAX } else { self.0.at(offset).read() };
        let cred = self.0.at(offset!(task_cred)).follow();
        // In every kernel since 2.6.29 the ids stand together, as do the capability sets.
        let [uid, gid, suid, sgid, euid, egid] = cred.at(offset!(cred_uid)).address().read();
        let [cap_inheritable, cap_permitted, cap_effective, cap_bounding, cap_ambient] =
            cred.at(offset!(cred_cap_inheritable)).address().read();
        Credentials {
            cap_inheritable,
            cap_permitted,
            cap_effective,
            cap_bounding,
            cap_ambient,
            uid,
            gid,
            suid,
            sgid,
            euid,
            egid,
            login_uid: optional(offset!(task_loginuid)),
            audit_session: optional(offset!(task_sessionid)),
            // PFA_NO_NEW_PRIVS is bit 0 of the atomic flags.
            no_new_privs: self.0.at(offset!(task_atomic_flags)).read::<u32>() & 1,
            seccomp_mode: optional(offset!(task_seccomp)),
        }
    }

    #[inline(always)]
    pub fn tty(self) -> Tty {
        let tty = self.signal().at(offset!(signal_tty)).follow();
        if tty.is_null() {
            return Tty::default();
        }
        let driver = tty.at(offset!(tty_driver)).follow();
        let first = driver.at(offset!(tty_driver_minor)).read::<u32>();
        let index = tty.at(offset!(tty_index)).read::<u32>();
        Tty { major: driver.at(offset!(tty_driver_major)).read(), minor: first.wrapping_add(index) }
    }

    /// The kernfs node of the cgroup that names the container.
    #[inline(always)]
    pub fn cgroup(self) -> P {
        let css_set = self.0.at(offset!(task_cgroups)).follow();
        // SAFETY: as in `offset!`.
        let hierarchy = unsafe { read_volatile(&raw const SETTINGS.cgroup_hierarchy) };
        let cgroup = if hierarchy == CgroupHierarchy::Unified as u32 {
            css_set.at(offset!(css_set_dfl)).follow()
        } else {
            let subsystem =
                if hierarchy == CgroupHierarchy::Pids as u32 { offset!(subsys_pids) } else { offset!(subsys_memory) };
            css_set.at(offset!(css_set_subsys) + (subsystem & 31) * 8).follow().at(offset!(css_cgroup)).follow()
        };
        cgroup.at(offset!(cgroup_kn)).follow()
    }
}

/// Of a `struct upid`, the number and the inode number of the namespace that it is in.
#[inline(always)]
fn number_and_namespace(upid: impl Pointer) -> (u32, u32) {
    (upid.at(offset!(upid_nr)).read(), upid.at(offset!(upid_ns)).follow().at(offset!(ns_pid_inum)).read())
}

/// `struct file`.
#[derive(Clone, Copy)]
pub struct File<P>(pub P);

const TMPFS_MAGIC: u64 = 0x0102_1994;
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

impl<P: Pointer> File<P> {
    #[inline(always)]
    fn inode(self) -> P {
        self.0.at(offset!(file_inode)).follow()
    }

    /// The first 16 bytes of its name and, where that is shorter, of what stands behind its closing zero.
    #[inline(always)]
    pub fn name_words(self) -> [u64; 2] {
        let dentry = self.0.at(offset!(file_path)).at(offset!(path_dentry)).follow();
        Address(dentry.at(offset!(dentry_name_str)).read()).read()
    }

    #[inline(always)]
    pub fn identity(self) -> FileIdentity {
        let inode = self.inode();
        FileIdentity {
            inode: inode.at(offset!(inode_ino)).read(),
            device: inode.at(offset!(inode_sb)).follow().at(offset!(sb_dev)).read(),
            links: inode.at(offset!(inode_nlink)).read(),
            uid: inode.at(offset!(inode_uid)).read(),
            mode: u32::from(inode.at(offset!(inode_mode)).read::<u16>()),
        }
    }

    /// Whether it came from `memfd_create(2)`: a file of tmpfs or hugetlbfs with no name, whose entry hangs nowhere.
    /// A file that was deleted still hangs from its directory.
    #[inline(always)]
    pub fn is_memfd(self) -> bool {
        let inode = self.inode();
        if inode.is_null() || inode.at(offset!(inode_nlink)).read::<u32>() != 0 {
            return false;
        }
        let magic = inode.at(offset!(inode_sb)).follow().at(offset!(sb_magic)).read::<u64>();
        let dentry = self.0.at(offset!(file_path)).at(offset!(path_dentry)).follow();
        (magic == TMPFS_MAGIC || magic == HUGETLBFS_MAGIC) && dentry == dentry.at(offset!(dentry_parent)).follow()
    }
}
