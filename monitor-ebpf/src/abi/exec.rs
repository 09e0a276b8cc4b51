//! The record of an exec.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{EntryMark, ProcessKey};

/// Who a process acts as: `struct cred`, ids in the initial user namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Credentials {
    /// Inheritable, permitted, effective, bounding and ambient capabilities, a bit each (`capabilities(7)`), in
    /// the order in which the kernel keeps them.
    pub cap_inheritable: u64,
    /// See `cap_inheritable`.
    pub cap_permitted: u64,
    /// See `cap_inheritable`.
    pub cap_effective: u64,
    /// See `cap_inheritable`.
    pub cap_bounding: u64,
    /// See `cap_inheritable`.
    pub cap_ambient: u64,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Saved user id.
    pub suid: u32,
    /// Saved group id.
    pub sgid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// The user who logged in (`loginuid`); `u32::MAX` where nobody did.
    pub login_uid: u32,
    /// The audit session id; `u32::MAX` where there is none.
    pub audit_session: u32,
    /// `no_new_privs`: 1 when set.
    pub no_new_privs: u32,
    /// `seccomp(2)` mode: 0 none, 1 strict, 2 filter; `u32::MAX` where the kernel has no seccomp.
    pub seccomp_mode: u32,
}

/// Inode numbers of the namespaces a process is in; 0 where the kernel has no such namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Namespaces {
    /// Mount namespace.
    pub mnt: u32,
    /// The pid namespace the process itself is in (not the one its children will be in).
    pub pid: u32,
    /// Network namespace.
    pub net: u32,
    /// User namespace of the credentials.
    pub user: u32,
    /// Host and domain name.
    pub uts: u32,
    /// System V IPC and POSIX message queues.
    pub ipc: u32,
    /// Cgroup namespace.
    pub cgroup: u32,
    /// Always zero.
    pub reserved: u32,
}

/// The controlling terminal.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Tty {
    /// Major device number; 0 where there is no terminal.
    pub major: u32,
    /// Minor device number.
    pub minor: u32,
}

/// The file that now runs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FileIdentity {
    /// Inode number.
    pub inode: u64,
    /// The file system's device number, in the kernel's own encoding (major << 20 | minor).
    pub device: u32,
    /// How many names the file has; 0 for a memfd or a deleted file.
    pub links: u32,
    /// Owner, in the initial user namespace.
    pub uid: u32,
    /// Type and permission bits (`inode(7)`).
    pub mode: u32,
}

impl FileIdentity {
    /// The device's major and minor number (`include/linux/kdev_t.h`).
    pub const fn device_numbers(&self) -> (u32, u32) {
        (self.device >> 20, self.device & 0xf_ffff)
    }
}

/// Marks in [`ExecBody::flags`].
pub struct ExecFlags;

impl ExecFlags {
    /// The arguments did not fit and were cut.
    pub const ARGV_CUT: u32 = 1 << 0;
    /// The arguments could not be read.
    pub const ARGV_UNREADABLE: u32 = 1 << 1;
    /// A path in the tail did not fit and was cut at its root end.
    pub const PATH_CUT: u32 = 1 << 2;
    /// The program is an interpreter: the file named was a script.
    pub const SCRIPT: u32 = 1 << 3;
    /// The file that runs was made by `memfd_create(2)`.
    pub const MEMFD: u32 = 1 << 4;
    /// The script that runs was made by `memfd_create(2)`.
    pub const SCRIPT_MEMFD: u32 = 1 << 5;
    /// The first program below an SSH server that told PAM of no login: its environment is in the tail.
    pub const ENVIRONMENT: u32 = 1 << 6;
    /// Set by user space: nobody saw it execute, and it was found running.
    pub const FOUND: u32 = 1 << 7;
}

/// Byte lengths of the tail's parts, which follow the body in this order without separators.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TailLengths {
    /// The arguments as the process sees them: each ends in a zero byte (`mm->arg_start..arg_end`).
    pub argv: u32,
    /// The path that `execve(2)` was given, without the closing zero (`linux_binprm.filename`).
    pub filename: u32,
    /// The interpreter's path if the file is a script, else empty (`linux_binprm.interp`).
    pub interpreter: u32,
    /// The running file's path, as components from leaf to root, each ended by a zero byte.
    pub executable: u32,
    /// The working directory, in the same form.
    pub cwd: u32,
    /// The cgroup, in the same form.
    pub cgroup: u32,
    /// The environment, in the form of the arguments (`mm->env_start..env_end`); empty without [`ExecFlags::ENVIRONMENT`].
    pub environment: u32,
}

/// What an exec record carries between its header and its tail.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ExecBody {
    /// The process that executed.
    pub process: ProcessKey,
    /// Whose program it ran before: its own, or that of the ancestor it was forked from. This is where it comes from,
    /// also when its parent has gone and init has taken its place. None where the kernel side does not know it.
    pub previous: ProcessKey,
    /// Its parent (`real_parent`).
    pub parent: ProcessKey,
    /// The process whose exec gave the parent its program: the parent itself, or an ancestor that it was forked
    /// from. None where the kernel side does not know it.
    pub parent_image: ProcessKey,
    /// Process group leader; `start_ns` is 0 where it has gone.
    pub group_leader: ProcessKey,
    /// Session leader; `start_ns` is 0 where it has gone.
    pub session_leader: ProcessKey,
    /// How its process tree came to be here, as far as the kernel side knows.
    pub entry: EntryMark,
    /// Credentials after the exec.
    pub credentials: Credentials,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// The file that now runs.
    pub file: FileIdentity,
    /// Cgroup id (its inode in the cgroup file system).
    pub cgroup_id: u64,
    /// Controlling terminal.
    pub tty: Tty,
    /// The pid inside the process's own pid namespace.
    pub inner_pid: u32,
    /// The thread that called `execve(2)`, before it became the leader.
    pub old_tid: u32,
    /// The arguments' length in bytes before any cut.
    pub argv_total: u32,
    /// The environment's length in bytes before any cut, where it is told.
    pub environment_total: u32,
    /// [`ExecFlags`].
    pub flags: u32,
    /// Lengths of the tail's parts.
    pub tail: TailLengths,
    /// `task_struct.comm`, ended by a zero byte.
    pub comm: [u8; 16],
    /// The parent's `comm`.
    pub parent_comm: [u8; 16],
}

impl ExecBody {
    /// The most of the arguments that one record holds, in bytes.
    pub const ARGV_MAX: usize = 128 * 1024;
    /// The most of the environment that one record holds, in bytes. A client can have a server put much into it (`AcceptEnv`).
    pub const ENVIRONMENT_MAX: usize = 16 * 1024;
    /// The most of one path that a record holds, in bytes (`PATH_MAX`).
    pub const PATH_MAX: usize = 4096;
    /// The most directories of one path that a record holds.
    pub const PATH_DEPTH: usize = 64;
}
