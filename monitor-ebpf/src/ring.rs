//! Records on their way to user space, and the accounting of each: whoever counts a hook as `seen` ends in exactly
//! one of `submitted`, `filtered`, `rate_limited` and `lost`.

use core::{
    arch::asm,
    ffi::c_void,
    ptr::{read_volatile, write_volatile},
};

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, generated::bpf_ringbuf_output},
    maps::ring_buf::RingBufEntry,
};
use postern_ebpf::abi::{Header, HookCounters, HookId, RecordKind};

use crate::maps::{ACCOUNTS, LAST_WAKE, RING, SETTINGS};

/// How long after a wake-up no other is due, in nanoseconds: user space that is behind would otherwise be woken for each record,
/// and fall further behind.
const WAKE_PAUSE_NS: u64 = 1_000_000;

/// How many bytes a record has at least that counts as large, and of how many others one is taken for a sample: to ask how full the
/// ring is takes longer than all else about a wake-up.
const LARGE: usize = 4096;
/// See `LARGE`.
const SAMPLED: u64 = 16;

/// One CPU's counters at one hook.
pub struct Account {
    counters: *mut HookCounters,
    /// Whether another process may come to the same hook on this CPU before the program has returned.
    is_shared: bool,
}

impl Account {
    /// Counts the hook as seen.
    #[inline(always)]
    pub fn seen(hook: HookId) -> Option<Self> {
        let counters = counters(hook)?;
        // The kernel runs a tracepoint's program to its end before it runs it again on the same CPU.
        let account = Self { counters, is_shared: matches!(hook, HookId::Pam | HookId::Syslog) };
        // SAFETY: the map's value lives as long as the program, and is aligned.
        account.add(unsafe { &raw mut (*counters).seen });
        Some(account)
    }

    /// Counts it as not of interest.
    #[inline(always)]
    pub fn filtered(&self) {
        // SAFETY: as in `seen`.
        self.add(unsafe { &raw mut (*self.counters).filtered });
    }

    /// Counts it as lost.
    #[inline(always)]
    pub fn lost(&self) {
        // SAFETY: as in `seen`.
        self.add(unsafe { &raw mut (*self.counters).lost });
    }

    /// Hands over a record that was put together in the ring itself, and wakes user space: for the few that matter
    /// at once.
    #[inline(always)]
    pub fn submit_reserved<T: 'static>(&self, entry: RingBufEntry<T>) {
        entry.submit(BPF_RB_FORCE_WAKEUP.into());
        // SAFETY: as in `seen`.
        self.add(unsafe { &raw mut (*self.counters).submitted });
    }

    /// Hands a finished record to user space, or counts it as lost. `header` is the record's own, and `length` is not longer
    /// than what is there.
    #[inline(always)]
    pub fn submit(&self, record: *const c_void, length: usize, header: &Header, urgent: bool) {
        let flags = if urgent || wake_is_due(header, length) { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
        // SAFETY: the caller passes `length` readable bytes at `record`, which the verifier checks.
        let result = unsafe {
            bpf_ringbuf_output((&raw const RING).cast_mut().cast(), record.cast_mut(), length as u64, flags.into())
        };
        if result == 0 {
            // SAFETY: as in `seen`.
            self.add(unsafe { &raw mut (*self.counters).submitted });
        } else {
            self.lost();
        }
    }

    #[inline(always)]
    fn add(&self, counter: *mut u64) {
        if self.is_shared {
            add(counter);
        } else {
            // An atomic one would wait for all that this program has written.
            // SAFETY: the counter is an aligned u64 in a map, and this CPU's own.
            unsafe { *counter += 1 };
        }
    }
}

/// This CPU's counters at a hook.
#[inline(always)]
fn counters(hook: HookId) -> Option<*mut HookCounters> {
    // SAFETY: a helper without arguments.
    let account = ACCOUNTS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() })?;
    // SAFETY: the map's value lives as long as the program, and is aligned.
    Some(unsafe { (&raw mut (*account).hooks).cast::<HookCounters>().add(hook as usize) })
}

/// Adds one, whoever else does.
#[inline(always)]
fn add(counter: *mut u64) {
    // A uprobe can be preempted in the middle: only an atomic addition is exact. `core` offers none on this target,
    // since the kernels before 5.12 lack the others.
    // SAFETY: the counter is an aligned u64 in a map.
    unsafe { asm!("lock *(u64 *)({counter} + 0) += {one}", counter = in(reg) counter, one = in(reg) 1u64) };
}

/// Counts a process that there is no room for to remember. Not part of any hook's sum.
#[inline(always)]
pub fn untracked(hook: HookId) {
    if let Some(counters) = counters(hook) {
        // SAFETY: as in `Account::seen`.
        add(unsafe { &raw mut (*counters).untracked });
    }
}

/// A record's header, which takes this CPU's next sequence number.
#[inline(always)]
pub fn header(kind: RecordKind, length: usize) -> Header {
    // SAFETY: helpers without arguments.
    let (time_ns, cpu) = unsafe { (bpf_ktime_get_boot_ns(), bpf_get_smp_processor_id()) };
    let mut sequence = 0;
    if let Some(account) = ACCOUNTS.get_ptr_mut(cpu) {
        // Kernels before 5.12 have no atomic fetch-and-add. Two uprobes that preempt each other right here would get
        // the same number: user space counts records too, and takes a number seen twice for what it is.
        // SAFETY: the map's value lives as long as the program, and is aligned.
        unsafe {
            sequence = (*account).next_sequence;
            (*account).next_sequence = sequence + 1;
        }
    }
    Header { time_ns, sequence, length: length as u32, cpu: cpu as u16, kind: kind as u16 }
}

/// Ordinary records wake user space when it may be asleep, or has much to read: a wake-up for each would cost more
/// than everything else together.
#[inline(always)]
fn wake_is_due(header: &Header, length: usize) -> bool {
    // SAFETY: a read-only global, set before load; volatile so that the compiler does not take its initial value.
    let (quiet_ns, wake_bytes) =
        unsafe { (read_volatile(&raw const SETTINGS.quiet_ns), read_volatile(&raw const SETTINGS.wake_bytes)) };
    let Some(last_wake_ns) = LAST_WAKE.get_ptr_mut(0) else { return true };
    let is_full = || {
        (header.sequence.is_multiple_of(SAMPLED) || length >= LARGE)
            && RING.query(BPF_RB_AVAIL_DATA.into()) >= wake_bytes
    };
    // SAFETY: a live and aligned map value. Two CPUs may read the same time, and both wake.
    unsafe {
        // Another CPU's time may be a little ahead of this one's.
        let since = header.time_ns.saturating_sub(read_volatile(last_wake_ns));
        if since < WAKE_PAUSE_NS || since < quiet_ns && !is_full() {
            return false;
        }
        write_volatile(last_wake_ns, header.time_ns);
    }
    true
}
