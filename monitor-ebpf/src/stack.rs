//! Whose stack a program runs on. Since Linux 6.13 a program that takes 64 bytes or more gets one per CPU in place of the
//! kernel's, which is sound for what nothing interrupts on its way. A uprobe's program is: where the kernel itself can be preempted,
//! another process runs the same program on the same CPU in between, on the same stack, and the first goes on with the other's
//! pointers and keys.

use aya_ebpf::EbpfContext;

use crate::maps::NOWHERE;

/// Keeps the program on the stack of the process that it runs for: the kernel gives none of its own to what calls other programs.
/// There is none to call, so that nothing happens. Of each program that can be preempted, and at its end: what a call that fails
/// leaves behind nobody reads.
#[inline(always)]
pub fn keep_own<C: EbpfContext>(ctx: &C) {
    // SAFETY: the table is empty, so the call fails, and the program goes on.
    unsafe { NOWHERE.tail_call(ctx, 0) };
}
