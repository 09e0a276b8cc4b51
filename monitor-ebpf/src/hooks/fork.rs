//! Fork: the child inherits its parent's lineage here, so that fork-heavy work costs user space nothing.
//!
//! `TP_PROTO(struct task_struct *parent, struct task_struct *child)` (include/trace/events/sched.h)

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use postern_ebpf::abi::{HookId, TaskState};

use crate::{
    kernel::{Address, Pointer, Task, Typed},
    ring::Account,
    tasks,
};

#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_fork(ctx: BtfTracePointContext) -> i32 {
    fork(Task(Typed(ctx.arg(0))), Task(Typed(ctx.arg(1))))
}

#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn process_fork_untyped(ctx: RawTracePointContext) -> i32 {
    fork(Task(Address(ctx.arg(0))), Task(Address(ctx.arg(1))))
}

#[inline(always)]
fn fork<P: Pointer>(parent: Task<P>, child: Task<P>) -> i32 {
    let Some(account) = Account::seen(HookId::Fork) else { return 0 };
    account.filtered();
    let tgid = child.tgid();
    if child.pid() != tgid {
        return 0;
    }
    let Some(own) = tasks::get(parent.tgid()) else { return 0 };
    // SAFETY: the map's value lives until the program returns. Threads that fork at once write the same.
    let state = unsafe {
        if (*own).forked == 0 {
            (*own).forked = 1;
        }
        TaskState { tgid, reported: 0, forked: 0, ..*own }
    };
    tasks::insert(state, HookId::Fork);
    0
}
