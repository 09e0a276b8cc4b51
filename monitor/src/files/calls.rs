//! Three system calls that no crate among ours offers, each as a safe function: the only unsafe code of the agent's own.

#![expect(unsafe_code, reason = "see the module")]

use std::{
    ffi::c_int,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// The longest handle that the kernel takes or gives (`MAX_HANDLE_SZ`), in bytes.
const HANDLE_MAX: usize = 128;

/// A group that tells of names: it needs `CAP_SYS_ADMIN` here, and Linux 5.9.
pub(super) fn group() -> io::Result<OwnedFd> {
    let flags = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | libc::FAN_REPORT_DFID_NAME;
    let event_flags = (libc::O_RDONLY | libc::O_CLOEXEC).cast_unsigned();
    // SAFETY: no pointers.
    let descriptor = checked(unsafe { libc::fanotify_init(flags, event_flags) })?;
    // SAFETY: the kernel just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Has a group told of what happens on the whole file system that a directory is on. The caller needs `CAP_SYS_ADMIN`.
pub(super) fn mark(group: BorrowedFd<'_>, mask: u64, directory: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM;
    // SAFETY: both descriptors are open for the length of the call; no path means the directory itself.
    let result =
        unsafe { libc::fanotify_mark(group.as_raw_fd(), flags, mask, directory.as_raw_fd(), std::ptr::null()) };
    checked(result).map(drop)
}

/// Takes every mark on file systems away from a group.
pub(super) fn unmark_all(group: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::FAN_MARK_FLUSH | libc::FAN_MARK_FILESYSTEM;
    // SAFETY: as above; the kernel looks up the directory, and then does without it.
    let result = unsafe { libc::fanotify_mark(group.as_raw_fd(), flags, 0, libc::AT_FDCWD, c"/".as_ptr()) };
    checked(result).map(drop)
}

/// Opens a directory by its handle, for looking at its path only. The caller needs `CAP_DAC_READ_SEARCH`.
pub(super) fn open_handle(mount: BorrowedFd<'_>, handle_type: i32, handle: &[u8]) -> io::Result<OwnedFd> {
    /// `struct file_handle`, with room for the longest.
    #[repr(C)]
    struct Handle {
        length: u32,
        kind: i32,
        bytes: [u8; HANDLE_MAX],
    }
    let mut given = Handle { length: 0, kind: handle_type, bytes: [0; HANDLE_MAX] };
    let Some(room) = given.bytes.get_mut(..handle.len()) else { return Err(io::ErrorKind::InvalidInput.into()) };
    room.copy_from_slice(handle);
    given.length = handle.len() as u32;
    let flags = libc::O_PATH | libc::O_CLOEXEC | libc::O_DIRECTORY;
    // SAFETY: the kernel reads `length` bytes of the handle, which are there, and keeps no pointer.
    let result = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw const given, flags) };
    let descriptor = checked(result as c_int)?;
    // SAFETY: the kernel just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
