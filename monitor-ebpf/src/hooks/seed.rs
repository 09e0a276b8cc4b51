//! Seed: what runs before the agent does, or is to be known again after a loss, one record for each process, in the form of an
//! exec's. No hook: it runs once for every task when the agent reads it. The arguments are in another process's memory, and left to
//! user space.
//!
//! `int bpf_iter_task(struct bpf_iter_meta *meta, struct task_struct *task)` (`kernel/bpf/task_iter.c`)

use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};
use postern_ebpf::abi::{EntryMark, Header, ProcessKey, RecordKind, TailLengths};

use super::{
    exec::{Lineage, fill_body, fill_paths},
    record::ExecRecord,
};
use crate::{
    kernel::{Address, File, Pointer, Task, Typed, offset},
    maps::EXEC_SCRATCH,
    tasks,
};

/// `PF_KTHREAD` (include/linux/sched.h).
const KERNEL_THREAD: u32 = 0x0020_0000;
/// `kthreadd`, the parent of what the kernel itself starts.
const KTHREADD: u32 = 2;

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn running_process(context: *const [u64; 2]) -> i32 {
    // SAFETY: `struct bpf_iter__task` is two pointers, whose types the verifier knows.
    let [meta, task] = unsafe { [(*context)[0], (*context)[1]] };
    // Behind the last task the program is called once more without one.
    if task != 0 {
        consider(Typed(meta), Task(Typed(task)));
    }
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn running_process_untyped(context: *const [u64; 2]) -> i32 {
    // SAFETY: as above.
    let [meta, task] = unsafe { [(*context)[0], (*context)[1]] };
    if task != 0 {
        consider(Typed(meta), Task(Address(task)));
    }
    0
}

#[inline(always)]
fn consider(meta: Typed, task: Task<impl Pointer>) {
    let tgid = task.tgid();
    let is_of_interest = tgid == KTHREADD || task.0.at(offset!(task_flags)).read::<u32>() & KERNEL_THREAD == 0;
    if is_of_interest && task.is_running_process() {
        tell(meta.follow(), task, tgid);
    }
}

#[inline(always)]
fn tell(sequence: Typed, task: Task<impl Pointer>, tgid: u32) {
    // Nothing else writes the first slot.
    let Some(record) = EXEC_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: the map's value lives until the program returns, and only one reader runs this program.
    let record = unsafe { &mut *record };
    let (none, process, parent) = (ProcessKey::NONE, task.key(), task.parent().key());
    let (previous, entry) = tasks::get(tgid).map_or((none, EntryMark::default()), |state| {
        // SAFETY: the map's value lives until the program returns.
        unsafe { ((*state).image, (*state).entry) }
    });
    let lineage = Lineage { process, previous, parent, parent_image: none, entry, first: false };
    let file = File(task.mm().at(offset!(mm_exe_file)).follow());
    fill_body(&mut record.body, task, tgid, &lineage, file);
    record.body.comm = task.comm();
    record.start_tail();
    record.body.tail = TailLengths::default();
    (record.body.argv_total, record.body.environment_total) = (0, 0);
    fill_paths(record, task, file);
    let length = record.length();
    record.header =
        Header { time_ns: process.start_ns, sequence: 0, length: length as u32, cpu: 0, kind: RecordKind::Exec as u16 };
    // The next one begins at a multiple of eight bytes, too.
    let length = (length + 7) & !7;
    if length <= ExecRecord::LENGTH_MAX {
        // SAFETY: the verifier checks both pointers and the length. Where the reader's buffer is full the kernel asks again.
        unsafe { bpf_seq_write(sequence.0 as *mut seq_file, record.start(), length as u32) };
    }
}
