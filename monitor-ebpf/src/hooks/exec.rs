//! Exec: after the new program is in place, before it runs its first instruction. The arguments are read from the new
//! stack, which the kernel has just written: at the system call's entry some of them are not in memory yet.
//!
//! `TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)` (include/trace/events/sched.h)

use aya_ebpf::{
    helpers::bpf_get_smp_processor_id,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use postern_ebpf::abi::{EntryMark, ExecBody, ExecFlags, HookId, LoginClass, ProcessKey, RecordKind, TaskState};

use super::{
    record::{ExecRecord, Part},
    servers::is_server,
};
use crate::{
    kernel::{Address, File, Pointer, Task, Typed, offset},
    maps::EXEC_SCRATCH,
    ring::{Account, header},
    tasks,
};

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
    if length <= ExecRecord::LENGTH_MAX {
        account.submit(record.start(), length, &record.header, urgent);
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
    // One by one: together they would take a call.
    (record.body.tail.argv, record.body.tail.interpreter, record.body.tail.environment) = (0, 0, 0);
    let mm = task.mm();
    let start = mm.at(offset!(mm_arg_start)).read::<u64>();
    let total = mm.at(offset!(mm_arg_end)).read::<u64>().wrapping_sub(start);
    record.body.argv_total = total as u32;
    if total > ExecBody::ARGV_MAX as u64 {
        record.body.flags |= ExecFlags::ARGV_CUT;
    }
    match record.start_with_user(start, total) {
        Some(length) => record.body.tail.argv = length,
        None => record.body.flags |= ExecFlags::ARGV_UNREADABLE,
    }
    let filename = Address(bprm.at(offset!(bprm_filename)).read());
    let interpreter = Address(bprm.at(offset!(bprm_interp)).read());
    record.body.tail.filename = record.string(filename);
    if filename != interpreter {
        record.body.flags |= ExecFlags::SCRIPT;
        record.body.tail.interpreter = record.string(interpreter);
        if script_is_memfd(task, filename) {
            record.body.flags |= ExecFlags::SCRIPT_MEMFD;
        }
    }
    fill_paths(record, task, file);
    record.body.environment_total = 0;
    if record.body.flags & ExecFlags::ENVIRONMENT != 0 {
        let start = mm.at(offset!(mm_env_start)).read::<u64>();
        let total = mm.at(offset!(mm_env_end)).read::<u64>().wrapping_sub(start);
        record.body.environment_total = total as u32;
        record.body.tail.environment = record.environment(start, total).unwrap_or(0);
    }
}

/// Parts of the tail that every process has: the running file, the working directory, the cgroup.
#[inline(always)]
pub fn fill_paths<P: Pointer>(record: &mut ExecRecord, task: Task<P>, file: File<P>) {
    if record.path(file.0.at(offset!(file_path))) == Part::Cut {
        record.body.flags |= ExecFlags::PATH_CUT;
    }
    record.body.tail.executable = record.part_length();
    if record.path(task.0.at(offset!(task_fs)).follow().at(offset!(fs_pwd))) == Part::Cut {
        record.body.flags |= ExecFlags::PATH_CUT;
    }
    record.body.tail.cwd = record.part_length();
    let cgroup = task.cgroup();
    record.body.cgroup_id = cgroup.at(offset!(kernfs_id)).read();
    if record.cgroup(cgroup) == Part::Cut {
        record.body.flags |= ExecFlags::PATH_CUT;
    }
    record.body.tail.cgroup = record.part_length();
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
