//! Exit: reported for processes whose exec was.
//!
//! `TP_PROTO(struct task_struct *p)`, since 6.16 `TP_PROTO(struct task_struct *p, bool group_dead)`
//! (include/trace/events/sched.h)

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use postern_ebpf::abi::{ExitBody, Header, HookId, RecordKind};

use crate::{
    kernel::{Address, Pointer, Task, Typed},
    maps::{FORKED, LOGINS, WANT_FORKED},
    ring::{Account, header},
    tasks,
};

#[repr(C)]
struct ExitRecord {
    header: Header,
    body: ExitBody,
}

#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    exit(Task(Typed(ctx.arg(0))))
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn process_exit_untyped(ctx: RawTracePointContext) -> i32 {
    exit(Task(Address(ctx.arg(0))))
}

#[inline(always)]
fn exit(task: Task<impl Pointer>) -> i32 {
    let Some(account) = Account::seen(HookId::Exit) else { return 0 };
    // The kernel lowers `live` before this point: the last thread finds zero.
    if task.live_threads() != 0 {
        account.filtered();
        return 0;
    }
    let tgid = task.tgid();
    let Some(state) = tasks::get(tgid) else {
        account.filtered();
        return 0;
    };
    // SAFETY: the map's value lives until the program returns.
    let state = unsafe { *state };
    // Known in one of the two tables at any time.
    // SAFETY: as above; user space writes the one word at once.
    if state.reported == 0 && WANT_FORKED.get_ptr(0).is_some_and(|wanted| unsafe { *wanted } != 0) {
        // A full table forgets its oldest: an error only means that a file's change has no owner, which is counted.
        let _ = FORKED.insert(tgid, state, 0);
    }
    tasks::remove(tgid);
    // The end of a login's own process ends its session, whether or not it ever executed.
    let is_login = state.entry.login.tgid == tgid;
    if is_login {
        let _ = LOGINS.remove(tgid);
    }
    if state.reported == 0 && !is_login {
        account.filtered();
        return 0;
    }
    let record = ExitRecord {
        header: header(RecordKind::Exit, size_of::<ExitRecord>()),
        body: ExitBody {
            process: task.key(),
            entry: state.entry,
            status: task.exit_status(),
            forked: state.forked.into(),
        },
    };
    account.submit((&raw const record).cast(), size_of::<ExitRecord>(), &record.header, false);
    0
}
