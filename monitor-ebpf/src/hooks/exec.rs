//! Exec: after the new program is in place, before it runs its first instruction. The arguments are read from the new
//! stack, which the kernel has just written: at the system call's entry some of them are not in memory yet.
//!
//! `TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)` (include/trace/events/sched.h)

use aya_ebpf::{
    helpers::bpf_get_smp_processor_id,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use postern_ebpf::abi::{
    EntryMark, ExecBody, ExecFlags, Header, HookId, LoginClass, ProcessKey, RecordKind, TailLengths, TaskState,
};

use super::{
    servers::is_server,
    tail::{Part, Tail},
};
use crate::{
    kernel::{Address, File, Pointer, Task, Typed, offset},
    maps::EXEC_SCRATCH,
    ring::{Account, header},
    tasks,
};

#[repr(C)]
pub struct ExecRecord {
    pub header: Header,
    pub body: ExecBody,
    pub tail: Tail,
}

impl ExecRecord {
    /// How long it is as far as it is filled.
    #[inline(always)]
    pub fn length(&self) -> usize {
        size_of::<Header>() + size_of::<ExecBody>() + self.tail.used()
    }
}

const PIDTYPE_PGID: u64 = 2;
const PIDTYPE_SID: u64 = 3;

#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    exec(Task(Typed(ctx.arg(0))), ctx.arg(1), Typed(ctx.arg(2)))
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec_untyped(ctx: RawTracePointContext) -> i32 {
    exec(Task(Address(ctx.arg(0))), ctx.arg(1), Address(ctx.arg(2)))
}

#[inline(always)]
fn exec<P: Pointer>(task: Task<P>, old_tid: u32, bprm: P) -> i32 {
    let Some(account) = Account::seen(HookId::Exec) else { return 0 };
    // SAFETY: a helper without arguments.
    let Some(record) = EXEC_SCRATCH.get_ptr_mut(1 + unsafe { bpf_get_smp_processor_id() }) else {
        account.lost();
        return 0;
    };
    // SAFETY: the slot is this CPU's own, and the kernel does not run this program twice at once on one CPU.
    let record = unsafe { &mut *record };
    let comm = task.comm_words();
    record.body.comm = zerocopy::transmute!(comm);
    let lineage = follow_lineage(task, comm);
    let file = File(bprm.at(offset!(bprm_file)).follow());
    fill_body(&mut record.body, task, old_tid, &lineage, file);
    fill_tail(record, task, bprm, file);
    // Both may be alerts: a program from memory, and a step into a container or out of one.
    let urgent = record.body.flags & (ExecFlags::MEMFD | ExecFlags::SCRIPT_MEMFD) != 0
        || record.body.namespaces.mnt != task.parent().mnt_namespace();
    let length = record.length();
    record.header = header(RecordKind::Exec, length);
    if length <= size_of::<ExecRecord>() {
        account.submit((&raw const *record).cast(), length, &record.header, urgent);
    } else {
        account.lost();
    }
    0
}

pub struct Lineage {
    pub process: ProcessKey,
    pub previous: ProcessKey,
    pub parent: ProcessKey,
    pub parent_image: ProcessKey,
    pub entry: EntryMark,
    /// Whether it is the first program below an SSH server.
    pub first: bool,
}

/// Brings the process's state up to date: from here on its own exec is what its children inherit, and if it is the
/// first to execute under a login, it leads that entry.
#[inline(always)]
fn follow_lineage(task: Task<impl Pointer>, comm: [u64; 2]) -> Lineage {
    let process = task.key();
    let parent = task.parent().key();
    let parent_image = tasks::get(parent.tgid).map_or(ProcessKey::NONE, |state| {
        // SAFETY: the map's value lives until the program returns.
        unsafe { (*state).image }
    });
    let mut server = is_server(comm);
    let entry = EntryMark { server: u32::from(server), ..EntryMark::default() };
    let fresh = TaskState { image: process, entry, tgid: process.tgid, reported: 1, forked: 0 };
    let Some(own) = tasks::get(process.tgid) else {
        tasks::insert(fresh, HookId::Exec);
        let previous = ProcessKey::NONE;
        return Lineage { process, previous, parent, parent_image, entry: fresh.entry, first: false };
    };
    // SAFETY: the map's value lives until the program returns; only this process's own hooks write it.
    let own = unsafe { &mut *own };
    let previous = own.image;
    if own.entry.class != LoginClass::None as u32 && own.entry.leader.is_none() {
        own.entry.leader = process;
    }
    let below_server = own.entry.server != 0;
    if below_server && !server {
        // A server that executes itself anew by a descriptor has that for its name.
        server = is_server(File(task.mm().at(offset!(mm_exe_file)).follow()).name_words());
    }
    own.entry.server = u32::from(server);
    own.image = process;
    own.reported = 1;
    let first = below_server && !server;
    Lineage { process, previous, parent, parent_image, entry: own.entry, first }
}

#[inline(always)]
pub fn fill_body<P: Pointer>(body: &mut ExecBody, task: Task<P>, old_tid: u32, lineage: &Lineage, file: File<P>) {
    body.process = lineage.process;
    body.previous = lineage.previous;
    body.parent = lineage.parent;
    body.parent_image = lineage.parent_image;
    body.entry = lineage.entry;
    body.flags = if lineage.first { ExecFlags::ENVIRONMENT } else { 0 };
    body.group_leader = task.leader(PIDTYPE_PGID);
    body.session_leader = task.leader(PIDTYPE_SID);
    body.credentials = task.credentials();
    let (inner_pid, pid_namespace) = task.innermost();
    body.namespaces = task.namespaces(pid_namespace);
    body.tty = task.tty();
    body.inner_pid = inner_pid;
    body.old_tid = old_tid;
    body.parent_comm = task.parent().comm();
    body.file = file.identity();
    if file.is_memfd() {
        body.flags |= ExecFlags::MEMFD;
    }
}

#[inline(always)]
fn fill_tail<P: Pointer>(record: &mut ExecRecord, task: Task<P>, bprm: P, file: File<P>) {
    let ExecRecord { body, tail, .. } = record;
    body.tail = TailLengths::default();
    let mm = task.mm();
    let start = mm.at(offset!(mm_arg_start)).read::<u64>();
    let total = mm.at(offset!(mm_arg_end)).read::<u64>().wrapping_sub(start);
    body.argv_total = total as u32;
    if total > ExecBody::ARGV_MAX as u64 {
        body.flags |= ExecFlags::ARGV_CUT;
    }
    match tail.start_with_user(start, total) {
        Some(length) => body.tail.argv = length,
        None => body.flags |= ExecFlags::ARGV_UNREADABLE,
    }
    let filename = Address(bprm.at(offset!(bprm_filename)).read());
    let interpreter = Address(bprm.at(offset!(bprm_interp)).read());
    body.tail.filename = tail.string(filename);
    if filename != interpreter {
        body.flags |= ExecFlags::SCRIPT;
        body.tail.interpreter = tail.string(interpreter);
        if script_is_memfd(task, filename) {
            body.flags |= ExecFlags::SCRIPT_MEMFD;
        }
    }
    fill_paths(body, tail, task, file);
    body.environment_total = 0;
    if body.flags & ExecFlags::ENVIRONMENT != 0 {
        let start = mm.at(offset!(mm_env_start)).read::<u64>();
        let total = mm.at(offset!(mm_env_end)).read::<u64>().wrapping_sub(start);
        body.environment_total = total as u32;
        body.tail.environment = tail.environment(start, total).unwrap_or(0);
    }
}

/// Parts of the tail that every process has: the running file, the working directory, the cgroup.
#[inline(always)]
pub fn fill_paths<P: Pointer>(body: &mut ExecBody, tail: &mut Tail, task: Task<P>, file: File<P>) {
    if tail.path(file.0.at(offset!(file_path))) == Part::Cut {
        body.flags |= ExecFlags::PATH_CUT;
    }
    body.tail.executable = tail.part_length();
    if tail.path(task.0.at(offset!(task_fs)).follow().at(offset!(fs_pwd))) == Part::Cut {
        body.flags |= ExecFlags::PATH_CUT;
    }
    body.tail.cwd = tail.part_length();
    let cgroup = task.cgroup();
    body.cgroup_id = cgroup.at(offset!(kernfs_id)).read();
    if tail.cgroup(cgroup) == Part::Cut {
        body.flags |= ExecFlags::PATH_CUT;
    }
    body.tail.cgroup = tail.part_length();
}

/// A script executed by its descriptor is named `/dev/fd/N` (`alloc_bprm` in fs/exec.c): the interpreter opens that
/// name, and the descriptor is still in the process's table.
#[inline(always)]
fn script_is_memfd(task: Task<impl Pointer>, filename: Address) -> bool {
    let [prefix, digits] = filename.read::<[[u8; 8]; 2]>();
    if prefix != *b"/dev/fd/" {
        return false;
    }
    let mut descriptor = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            break;
        }
        descriptor = descriptor * 10 + u64::from(digit - b'0');
    }
    let table = task.0.at(offset!(task_files)).follow().at(offset!(files_fdt)).follow();
    if descriptor >= u64::from(table.at(offset!(fdtable_max)).read::<u32>()) {
        return false;
    }
    let file = Address(table.at(offset!(fdtable_fd)).read::<u64>().wrapping_add(descriptor * 8)).follow();
    !file.is_null() && File(file).is_memfd()
}
