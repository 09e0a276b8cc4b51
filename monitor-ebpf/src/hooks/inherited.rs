//! Inherited: which programs are still run by processes that were forked from those that executed them, and which logins anything
//! is still under. No hook: it runs once for every task when the agent reads it. In the order of pids, so that nobody can keep out
//! of its sight by forking on and on: a child comes behind its parent.
//!
//! `int bpf_iter_task(struct bpf_iter_meta *meta, struct task_struct *task)` (`kernel/bpf/task_iter.c`)

use core::ffi::c_void;

use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};
use postern_ebpf::abi::Inheritance;

use crate::{
    kernel::{Address, Pointer, Task, Typed},
    tasks,
};

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn inherited_state(context: *const [u64; 2]) -> i32 {
    // SAFETY: `struct bpf_iter__task` is two pointers.
    let [meta, task] = unsafe { [(*context)[0], (*context)[1]] };
    // Behind the last task the program is called once more without one.
    if task != 0 {
        // Read by calls, which every kernel bears.
        let task = Task(Address(task));
        if task.is_running_process() {
            tell(Typed(meta).follow(), task);
        }
    }
    0
}

#[inline(always)]
fn tell(sequence: Typed, task: Task<Address>) {
    let Some(state) = tasks::get(task.tgid()) else { return };
    // SAFETY: the map's value lives until the program returns.
    let inheritance = unsafe { Inheritance { image: (*state).image, login: (*state).entry.login } };
    if inheritance.image == task.key() && inheritance.login.is_none() {
        return;
    }
    let length = size_of::<Inheritance>() as u32;
    // SAFETY: the verifier checks both pointers and the length. Where the reader's buffer is full the kernel asks again.
    unsafe { bpf_seq_write(sequence.0 as *mut seq_file, (&raw const inheritance).cast::<c_void>().cast_mut(), length) };
}
