//! The barest program that tells of an exec and its arguments, which the benchmark holds Postern against. It is no part of the
//! agent.
//!
//! `TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)` (include/trace/events/sched.h)
#![no_std]
#![no_main]
#![expect(clippy::needless_pass_by_value, reason = "aya's macros hand each program its context by value")]
#![expect(unsafe_code, reason = "kernel memory and maps are raw pointers; the verifier checks each access")]

mod bare;

use core::ptr::{addr_of, read_volatile};

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_user},
    macros::{btf_tracepoint, map},
    maps::RingBuf,
    programs::BtfTracePointContext,
};

/// Bytes of the arguments that are told.
const ARGUMENTS: usize = 256;

#[map]
static RING: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Offsets of `task_struct.mm`, `mm_struct.arg_start` and `mm_struct.arg_end`, set before load: constants for the verifier.
#[unsafe(no_mangle)]
static OFFSETS: [u64; 3] = [0; 3];

#[repr(C)]
struct Record {
    pid: u32,
    length: u32,
    arguments: [u8; ARGUMENTS],
}

#[btf_tracepoint(function = "sched_process_exec")]
fn floor(context: BtfTracePointContext) -> i32 {
    // SAFETY: it is there, and nobody writes it once the program is loaded.
    let [mm, start, end] = unsafe { read_volatile(addr_of!(OFFSETS)) };
    let task: u64 = context.arg(0);
    // SAFETY: typed pointers, which the verifier follows: a task's memory, and two numbers in that.
    let (start, end) = unsafe {
        let mm = read_volatile((task + mm) as *const u64);
        (read_volatile((mm + start) as *const u64), read_volatile((mm + end) as *const u64))
    };
    // What there is no room for is missing in the benchmark's count.
    let Some(mut entry) = RING.reserve::<Record>(0) else { return 0 };
    let record = entry.as_mut_ptr();
    let length = (end.wrapping_sub(start) as usize).min(ARGUMENTS) as u32;
    // SAFETY: all within the record, of which user space reads no more than `length` bytes of the arguments.
    unsafe {
        (*record).pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        (*record).length = length;
        bpf_probe_read_user((*record).arguments.as_mut_ptr().cast(), length, start as *const _);
    }
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    0
}
