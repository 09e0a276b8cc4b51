//! Starting a program as cheaply as Linux can: a child that shares its parent's memory until it executes (`vfork(2)`), and
//! nothing else, where the standard library's way (`posix_spawn(3)`) takes half as long again.
#![expect(unsafe_code, reason = "the standard library has no vfork")]

use std::{
    arch::asm,
    ffi::{CStr, c_char},
    io, ptr,
};

use rustix::process::Pid;

/// Starts `program` with these arguments and no environment.
pub(crate) fn vfork(program: &CStr, arguments: &[&CStr]) -> io::Result<Pid> {
    let arguments: Vec<*const c_char> =
        arguments.iter().map(|argument| argument.as_ptr()).chain([ptr::null()]).collect();
    let environment: [*const c_char; 1] = [ptr::null()];
    // SAFETY: the strings and both lists, each ended by a null pointer, outlive the call.
    let pid = unsafe { vfork_exec(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    match i32::try_from(pid).ok().and_then(Pid::from_raw) {
        Some(pid) => Ok(pid),
        None => Err(io::Error::from_raw_os_error(-pid as i32)),
    }
}

/// `CLONE_VM | CLONE_VFORK | SIGCHLD`
const FLAGS: u64 = 0x100 | 0x4000 | 0x11;

/// The child's pid, or an error number below zero. A child that cannot execute exits with 127.
///
/// # Safety
///
/// All three as `execve(2)` takes them.
// SAFETY (of both blocks): the child runs on its parent's stack while that is suspended, and between `clone` and `execve` it
// touches nothing but registers, so that the parent finds its memory as it left it.
#[cfg(target_arch = "x86_64")]
unsafe fn vfork_exec(path: *const c_char, argv: *const *const c_char, envp: *const *const c_char) -> i64 {
    let pid: i64;
    // SAFETY: see above.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, 59", // execve
            "mov rdi, r12",
            "mov rsi, r13",
            "mov rdx, r14",
            "syscall",
            "mov eax, 60", // exit
            "mov edi, 127",
            "syscall",
            "2:",
            inlateout("rax") 56_i64 => pid, // clone
            inlateout("rdi") FLAGS => _,
            inlateout("rsi") 0_u64 => _,
            inlateout("rdx") 0_u64 => _,
            in("r10") 0_u64,
            in("r8") 0_u64,
            in("r12") path,
            in("r13") argv,
            in("r14") envp,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    pid
}

/// See above.
#[cfg(target_arch = "aarch64")]
unsafe fn vfork_exec(path: *const c_char, argv: *const *const c_char, envp: *const *const c_char) -> i64 {
    let pid: i64;
    // SAFETY: see above.
    unsafe {
        asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x8, #221", // execve
            "mov x0, x20",
            "mov x1, x21",
            "mov x2, x22",
            "svc #0",
            "mov x8, #93", // exit
            "mov x0, #127",
            "svc #0",
            "2:",
            inlateout("x0") FLAGS => pid,
            inlateout("x1") 0_u64 => _,
            inlateout("x2") 0_u64 => _,
            in("x3") 0_u64,
            in("x4") 0_u64,
            inlateout("x8") 220_u64 => _, // clone
            in("x20") path,
            in("x21") argv,
            in("x22") envp,
        );
    }
    pid
}
