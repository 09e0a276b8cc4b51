//! The kernel fields that the programs read: a line each. User space looks each one up in the kernel's own BTF and
//! sets its offset before the programs are loaded.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The offset of a field that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// How a field is found in BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name here.
    pub name: &'static str,
    /// The places it may be at, tried in order: `struct.member.member`, through embedded structs and unions, or
    /// `enum:enumerator` for the value of an enumerator.
    pub paths: &'static [&'static str],
    /// What is missing from the output on a kernel without it; `None` if the agent cannot work without it.
    pub optional: Option<&'static str>,
}

macro_rules! kernel_fields {
    ($($name:ident = $($path:literal)|+ $(, else $without:literal)? ;)+) => {
        /// Byte offsets (or enumerator values) of kernel fields, in the order of [`FIELDS`].
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        pub struct KernelFields {
            $(
                #[doc = concat!($("`", $path, "` "),+)]
                pub $name: u32,
            )+
        }

        impl KernelFields {
            /// What stands in a kernel program's instruction in place of a field's offset, together with the field's place in
            /// [`FIELDS`]: a number that nothing else there has.
            pub const MARK: i32 = 0x5057_0000;

            /// Every field absent.
            pub const UNSET: Self = Self { $($name: ABSENT),+ };
        }

        /// The table of kernel fields, one entry for each `u32` of [`KernelFields`].
        pub const FIELDS: &[Field] = &[
            $(Field {
                name: stringify!($name),
                paths: &[$($path),+],
                optional: kernel_fields!(@optional $($without)?),
            }),+
        ];
    };
    (@optional $without:literal) => { Some($without) };
    (@optional) => { None };
}

kernel_fields! {
    task_tgid = "task_struct.tgid";
    task_pid = "task_struct.pid";
    task_start = "task_struct.start_boottime" | "task_struct.real_start_time";
    task_flags = "task_struct.flags";
    task_parent = "task_struct.real_parent";
    task_group_leader = "task_struct.group_leader";
    task_comm = "task_struct.comm";
    task_mm = "task_struct.mm";
    task_fs = "task_struct.fs";
    task_files = "task_struct.files";
    task_cred = "task_struct.cred";
    task_signal = "task_struct.signal";
    task_nsproxy = "task_struct.nsproxy";
    task_cgroups = "task_struct.cgroups";
    task_thread_pid = "task_struct.thread_pid";
    task_exit_code = "task_struct.exit_code";
    task_pid_links = "task_struct.pid_links";
    task_loginuid = "task_struct.loginuid", else "the audit login user id";
    task_sessionid = "task_struct.sessionid", else "the audit session id";
    task_seccomp = "task_struct.seccomp.mode", else "the seccomp mode";
    task_atomic_flags = "task_struct.atomic_flags";
    cred_uid = "cred.uid";
    cred_cap_inheritable = "cred.cap_inheritable";
    cred_user_ns = "cred.user_ns";
    mm_arg_start = "mm_struct.arg_start";
    mm_arg_end = "mm_struct.arg_end";
    mm_env_start = "mm_struct.env_start";
    mm_env_end = "mm_struct.env_end";
    mm_exe_file = "mm_struct.exe_file";
    file_path = "file.f_path";
    file_inode = "file.f_inode";
    path_mnt = "path.mnt";
    path_dentry = "path.dentry";
    inode_ino = "inode.i_ino";
    inode_nlink = "inode.i_nlink";
    inode_mode = "inode.i_mode";
    inode_uid = "inode.i_uid";
    inode_sb = "inode.i_sb";
    sb_dev = "super_block.s_dev";
    sb_magic = "super_block.s_magic";
    dentry_parent = "dentry.d_parent";
    dentry_name_len = "dentry.d_name.len";
    dentry_name_str = "dentry.d_name.name";
    mount_mnt = "mount.mnt";
    mount_parent = "mount.mnt_parent";
    mount_mountpoint = "mount.mnt_mountpoint";
    vfsmount_root = "vfsmount.mnt_root";
    fs_pwd = "fs_struct.pwd";
    signal_pids = "signal_struct.pids";
    signal_tty = "signal_struct.tty";
    signal_live = "signal_struct.live.counter";
    pid_level = "pid.level";
    pid_numbers = "pid.numbers";
    pid_tasks = "pid.tasks";
    upid_nr = "upid.nr";
    upid_ns = "upid.ns";
    ns_pid_inum = "pid_namespace.ns.inum";
    ns_mnt_inum = "mnt_namespace.ns.inum";
    ns_net_inum = "net.ns.inum";
    ns_user_inum = "user_namespace.ns.inum", else "the user namespace";
    ns_uts_inum = "uts_namespace.ns.inum", else "the UTS namespace";
    ns_ipc_inum = "ipc_namespace.ns.inum", else "the IPC namespace";
    ns_cgroup_inum = "cgroup_namespace.ns.inum", else "the cgroup namespace";
    nsproxy_mnt = "nsproxy.mnt_ns";
    nsproxy_net = "nsproxy.net_ns";
    nsproxy_uts = "nsproxy.uts_ns";
    nsproxy_ipc = "nsproxy.ipc_ns";
    nsproxy_cgroup = "nsproxy.cgroup_ns";
    css_set_dfl = "css_set.dfl_cgrp";
    css_set_subsys = "css_set.subsys";
    css_cgroup = "cgroup_subsys_state.cgroup";
    cgroup_kn = "cgroup.kn";
    kernfs_name = "kernfs_node.name";
    kernfs_parent = "kernfs_node.__parent" | "kernfs_node.parent";
    kernfs_id = "kernfs_node.id";
    subsys_pids = "enum:pids_cgrp_id", else "containers on cgroup v1 without the pids controller";
    subsys_memory = "enum:memory_cgrp_id", else "containers on cgroup v1 without the memory controller";
    tty_driver = "tty_struct.driver";
    tty_index = "tty_struct.index";
    tty_driver_major = "tty_driver.major";
    tty_driver_minor = "tty_driver.minor_start";
    bprm_file = "linux_binprm.file";
    bprm_filename = "linux_binprm.filename";
    bprm_interp = "linux_binprm.interp";
    files_fdt = "files_struct.fdt";
    fdtable_max = "fdtable.max_fds";
    fdtable_fd = "fdtable.fd";
}
