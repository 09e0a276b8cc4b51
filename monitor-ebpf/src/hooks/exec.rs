//! Exec: after the new program is in place, before it runs its first instruction. The arguments are read from the new
//! stack, which the kernel has just written: at the system call's entry some of them are not in memory yet.
//!
//! `TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)` (include/trace/events/sched.h)

use aya_ebpf::{helpers::bpf_get_smp_processor_id, macros::raw_tracepoint, programs::RawTracePointContext};
use postern_ebpf::abi::{
    EntryMark, ExecBody, ExecFlags, Header, HookId, LoginClass, ProcessKey, RecordKind, TailLengths, TaskState,
};

use super::tail::{Part, Tail};
use crate::{
    kernel::{Address, File, Task, offset},
    maps::{EXEC_SCRATCH, FIELDS, TASKS},
    ring::{Account, header, untracked},
};

#[repr(C)]
pub struct ExecRecord {
    header: Header,
    body: ExecBody,
    tail: Tail,
}

const PIDTYPE_PGID: u32 = 2;
const PIDTYPE_SID: u32 = 3;

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec(ctx: RawTracePointContext) -> i32 {
    let task = Task(Address(ctx.arg(0)));
    let old_tid: u32 = ctx.arg(1);
    let bprm = Address(ctx.arg(2));
    let Some(account) = Account::seen(HookId::Exec) else { return 0 };
    // SAFETY: a helper without arguments.
    let Some(record) = EXEC_SCRATCH.get_ptr_mut(unsafe { bpf_get_smp_processor_id() }) else {
        account.lost();
        return 0;
    };
    // SAFETY: the slot is this CPU's own, and the kernel does not run this program twice at once on one CPU.
    let record = unsafe { &mut *record };
    let lineage = follow_lineage(task);
    fill_body(&mut record.body, task, old_tid, &lineage);
    fill_tail(record, task, bprm);
    let urgent = record.body.flags & (ExecFlags::MEMFD | ExecFlags::SCRIPT_MEMFD) != 0;
    let length = size_of::<Header>() + size_of::<ExecBody>() + record.tail.used();
    record.header = header(RecordKind::Exec, length);
    if length <= size_of::<ExecRecord>() {
        account.submit((&raw const *record).cast(), length, urgent);
    } else {
        account.lost();
    }
    0
}

struct Lineage {
    process: ProcessKey,
    previous: ProcessKey,
    parent: ProcessKey,
    parent_image: ProcessKey,
    entry: EntryMark,
    orphan: bool,
}

/// Brings the process's state up to date: from here on its own exec is what its children inherit, and if it is the
/// first to execute under a login, it leads that entry.
#[inline(always)]
fn follow_lineage(task: Task) -> Lineage {
    let process = task.key();
    let parent_task = task.parent();
    let parent = parent_task.key();
    let own = state_of(process.tgid);
    let parent_image = state_of(parent.tgid).map_or(ProcessKey::NONE, |state| state.image);
    let mut entry = own.map_or_else(EntryMark::default, |state| state.entry);
    if entry.class != LoginClass::None as u32 && entry.leader.is_none() {
        entry.leader = process;
    }
    if TASKS.insert(process.tgid, TaskState { image: process, entry, reported: 1, reserved: 0 }, 0).is_err() {
        untracked(HookId::Exec);
    }
    let previous = own.map_or(ProcessKey::NONE, |state| state.image);
    Lineage { process, previous, parent, parent_image, entry, orphan: own.is_none() }
}

#[inline(always)]
fn state_of(tgid: u32) -> Option<TaskState> {
    let state = TASKS.get_ptr(tgid)?;
    // SAFETY: the map's value lives until the program returns.
    Some(unsafe { *state })
}

#[inline(always)]
fn fill_body(body: &mut ExecBody, task: Task, old_tid: u32, lineage: &Lineage) {
    body.process = lineage.process;
    body.previous = lineage.previous;
    body.parent = lineage.parent;
    body.parent_image = lineage.parent_image;
    body.entry = lineage.entry;
    body.flags = if lineage.orphan { ExecFlags::ORPHAN } else { 0 };
    body.group_leader = task.leader(PIDTYPE_PGID);
    body.session_leader = task.leader(PIDTYPE_SID);
    body.credentials = task.credentials();
    body.namespaces = task.namespaces();
    body.tty = task.tty();
    body.inner_pid = task.inner_pid();
    body.old_tid = old_tid;
    body.comm = task.comm();
    body.parent_comm = task.parent().comm();
    let file = File(task.mm().at(offset!(mm_exe_file)).follow());
    body.file = file.identity();
    if file.is_memfd() {
        body.flags |= ExecFlags::MEMFD;
    }
}

#[inline(always)]
fn fill_tail(record: &mut ExecRecord, task: Task, bprm: Address) {
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
    let filename = bprm.at(offset!(bprm_filename)).follow();
    let interpreter = bprm.at(offset!(bprm_interp)).follow();
    body.tail.filename = tail.string(filename);
    if filename != interpreter {
        body.flags |= ExecFlags::SCRIPT;
        body.tail.interpreter = tail.string(interpreter);
        if script_is_memfd(task, filename) {
            body.flags |= ExecFlags::SCRIPT_MEMFD;
        }
    }
    if tail.path(mm.at(offset!(mm_exe_file)).follow().at(offset!(file_path))) == Part::Cut {
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
fn script_is_memfd(task: Task, filename: Address) -> bool {
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
    let file = Address(table.at(offset!(fdtable_fd)).follow().0.wrapping_add(descriptor * 8)).follow();
    !file.is_null() && File(file).is_memfd()
}
