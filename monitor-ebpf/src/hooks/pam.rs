//! Logins: uprobes on libpam, which sshd, login, su, sudo and cron all go through. `pam_open_session` runs in the
//! login's own process, and marks the entry there and then: no command can be missed between login and attribution.
//!
//! Prototypes from `security/pam_appl.h`:
//! `int pam_start(const char *service, const char *user, const struct pam_conv *, pam_handle_t **)`,
//! `int pam_set_item(pam_handle_t *, int item, const void *value)`, `int pam_authenticate(pam_handle_t *, int)`,
//! `int pam_acct_mgmt(pam_handle_t *, int)`, `int pam_open_session(pam_handle_t *, int)`,
//! `int pam_close_session(pam_handle_t *, int)`.

use aya_ebpf::{
    helpers::bpf_probe_read_user_str_bytes,
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use postern_ebpf::abi::{
    EntryMark, Header, HookId, LOGIN_TEXT, LoginBody, LoginCall, LoginClass, ProcessKey, RecordKind, TaskState,
};

use crate::{
    kernel::{Address, Task},
    maps::{LOGINS, RING},
    ring::{Account, header},
    stack, tasks,
};

#[repr(C)]
struct LoginRecord {
    header: Header,
    body: LoginBody,
}

/// `pam_set_item` items that say who comes from where; the others are the conversation's own business.
const ITEMS: [i32; 4] = [2, 3, 4, 8];

#[uprobe]
pub fn pam_start(ctx: ProbeContext) -> u32 {
    let (service, user) = (ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0));
    let class = service_class(service);
    let task = Task::current();
    // A process that forgot to be remembered is classed by user space, from the record below.
    let _ = LOGINS.insert(task.tgid(), class as u32, 0);
    emit(task, LoginCall::Start, 0, service, user);
    stack::keep_own(&ctx);
    0
}

#[uprobe]
pub fn pam_set_item(ctx: ProbeContext) -> u32 {
    let item: i32 = ctx.arg(1).unwrap_or(0);
    if ITEMS.contains(&item) {
        emit(Task::current(), LoginCall::SetItem, item, ctx.arg(2).unwrap_or(0), 0);
    } else if let Some(account) = Account::seen(HookId::Pam) {
        account.filtered();
    }
    stack::keep_own(&ctx);
    0
}

#[uretprobe]
pub fn pam_authenticate(ctx: RetProbeContext) -> u32 {
    emit(Task::current(), LoginCall::Authenticated, ctx.ret(), 0, 0);
    stack::keep_own(&ctx);
    0
}

#[uretprobe]
pub fn pam_acct_mgmt(ctx: RetProbeContext) -> u32 {
    emit(Task::current(), LoginCall::AccountChecked, ctx.ret(), 0, 0);
    stack::keep_own(&ctx);
    0
}

#[uprobe]
pub fn pam_open_session(ctx: ProbeContext) -> u32 {
    let task = Task::current();
    mark_entry(task);
    emit(task, LoginCall::OpenSession, 0, 0, 0);
    stack::keep_own(&ctx);
    0
}

#[uretprobe]
pub fn pam_open_session_return(ctx: RetProbeContext) -> u32 {
    emit(Task::current(), LoginCall::SessionOpened, ctx.ret(), 0, 0);
    stack::keep_own(&ctx);
    0
}

#[uprobe]
pub fn pam_close_session(ctx: ProbeContext) -> u32 {
    emit(Task::current(), LoginCall::CloseSession, 0, 0, 0);
    stack::keep_own(&ctx);
    0
}

/// A login makes a new entry; su and sudo change the user within the one they are in.
#[inline(always)]
fn mark_entry(task: Task<Address>) {
    let process = task.key();
    // A login program may fork between `pam_start` and here.
    let class = LOGINS.get_ptr(process.tgid).or_else(|| LOGINS.get_ptr(task.parent().tgid()));
    // SAFETY: the map's value lives until the program returns.
    let class = class.map_or(LoginClass::Other as u32, |class| unsafe { *class });
    if class == LoginClass::UserChange as u32 || class == LoginClass::Other as u32 || task.euid() != 0 {
        return;
    }
    let entry = EntryMark { login: process, leader: ProcessKey::NONE, class, server: 0 };
    if let Some(state) = tasks::get(process.tgid) {
        // SAFETY: the map's value lives until the program returns; only this process's own hooks write it.
        let state = unsafe { &mut *state };
        // Not every server tells PAM from where somebody comes.
        state.entry = EntryMark { server: state.entry.server, ..entry };
    } else {
        let state = TaskState { image: ProcessKey::NONE, entry, tgid: process.tgid, reported: 0, forked: 0 };
        tasks::insert(state, HookId::Pam);
    }
}

#[inline(always)]
fn service_class(service: u64) -> LoginClass {
    let mut name = [0u8; 8];
    // A longer name than these is none of them: it is cut to seven bytes and so matches nothing.
    // SAFETY: the helper checks the address.
    if unsafe { bpf_probe_read_user_str_bytes(service as *const u8, &mut name) }.is_err() {
        return LoginClass::Other;
    }
    match u64::from_ne_bytes(name) {
        name if name == word(b"sshd") => LoginClass::Sshd,
        name if name == word(b"login") || name == word(b"remote") => LoginClass::Console,
        name if name == word(b"cron") || name == word(b"crond") => LoginClass::Cron,
        name if name == word(b"atd") => LoginClass::At,
        name if name == word(b"su") || name == word(b"su-l") || name == word(b"sudo") || name == word(b"sudo-i") => {
            LoginClass::UserChange
        }
        name if name == word(b"runuser") => LoginClass::UserChange,
        _ => LoginClass::Other,
    }
}

const fn word(text: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let mut index = 0;
    while index < text.len() {
        bytes[index] = text[index];
        index += 1;
    }
    u64::from_ne_bytes(bytes)
}

#[inline(always)]
fn emit(task: Task<Address>, call: LoginCall, value: i32, text: u64, user: u64) {
    let Some(account) = Account::seen(HookId::Pam) else { return };
    let header = header(RecordKind::Login, size_of::<LoginRecord>());
    // Straight into the ring: the record is larger than the stack, and uprobes can preempt each other, so that
    // scratch space of one CPU would be shared.
    let Some(mut entry) = RING.reserve::<LoginRecord>(0) else {
        account.lost();
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the ring gave room for a whole record; each field is written before it is submitted.
    unsafe {
        (*record).header = header;
        let body = &mut (*record).body;
        body.caller = task.caller();
        body.call = call as u32;
        body.value = value;
        read_text(text, &mut body.text);
        read_text(user, &mut body.user);
    }
    account.submit_reserved(entry);
}

#[inline(always)]
fn read_text(from: u64, into: &mut [u8; LOGIN_TEXT]) {
    into[0] = 0;
    if from != 0 {
        // SAFETY: the helper checks the address; a failed read leaves the text empty.
        let _ = unsafe { bpf_probe_read_user_str_bytes(from as *const u8, into) };
    }
}
