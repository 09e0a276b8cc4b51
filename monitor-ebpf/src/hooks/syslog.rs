//! What sshd says of a login: key fingerprint, method and port are nowhere else. Read as sshd hands the line to libc,
//! so no log daemon and no log file is needed, and the kernel names the process that logged.
//!
//! Prototypes from glibc: `void __syslog_chk(int priority, int flag, const char *format, ...)` (fortified builds),
//! `void syslog(int priority, const char *format, ...)`. sshd logs with the format `"%.500s"` (log.c, `do_log`).

use aya_ebpf::{helpers::bpf_probe_read_user_str_bytes, macros::uprobe, programs::ProbeContext};
use postern_ebpf::abi::{Header, HookId, LogBody, LoginClass, RecordKind};

use crate::{
    kernel::{Address, Task},
    maps::{LOGINS, RING},
    ring::{Account, header},
    stack,
};

#[repr(C)]
struct LogRecord {
    header: Header,
    body: LogBody,
}

#[uprobe]
pub fn syslog_fortified(ctx: ProbeContext) -> u32 {
    log(ctx.arg(0).unwrap_or(0), ctx.arg(2).unwrap_or(0), ctx.arg(3).unwrap_or(0));
    stack::keep_own(&ctx);
    0
}

#[uprobe]
pub fn syslog(ctx: ProbeContext) -> u32 {
    log(ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0), ctx.arg(2).unwrap_or(0));
    stack::keep_own(&ctx);
    0
}

#[inline(always)]
fn log(priority: u32, format: u64, argument: u64) {
    let Some(account) = Account::seen(HookId::Syslog) else { return };
    let task = Task::current();
    if !speaks_of_logins(task) || !is_one_string(format) {
        account.filtered();
        return;
    }
    let header = header(RecordKind::Log, size_of::<LogRecord>());
    let Some(mut entry) = RING.reserve::<LogRecord>(0) else {
        account.lost();
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the ring gave room for a whole record; each field is written before it is submitted.
    unsafe {
        (*record).header = header;
        let body = &mut (*record).body;
        body.caller = task.caller();
        body.priority = priority;
        body.text[0] = 0;
        body.length =
            bpf_probe_read_user_str_bytes(argument as *const u8, &mut body.text).map_or(0, |text| text.len() as u32);
    }
    account.submit_reserved(entry);
}

/// Root's process that is named like sshd, or that called `pam_start` as sshd. Before authentication sshd logs through
/// its privileged process too.
#[inline(always)]
fn speaks_of_logins(task: Task<Address>) -> bool {
    if task.euid() != 0 {
        return false;
    }
    let [s, h, d, name, ..] = task.comm();
    if [s, h, d, name] == *b"sshd" {
        return true;
    }
    // SAFETY: the map's value lives until the program returns.
    LOGINS.get_ptr(task.tgid()).is_some_and(|class| unsafe { *class } == LoginClass::Sshd as u32)
}

/// Whether the format is `%s` or `%.500s` alone, so that the next argument is the whole line.
#[inline(always)]
fn is_one_string(format: u64) -> bool {
    let mut bytes = [0u8; 8];
    // SAFETY: the helper checks the address.
    if unsafe { bpf_probe_read_user_str_bytes(format as *const u8, &mut bytes) }.is_err() {
        return false;
    }
    bytes == *b"%.500s\0\0" || bytes == *b"%s\0\0\0\0\0\0"
}
