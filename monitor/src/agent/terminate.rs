//! Ends processes of sessions that the access policy forbids.

use std::{fs, io};

use postern_ebpf::abi::ProcessKey;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::process::{proc_text, to_tick};

/// Kills that process and no other that has its pid by now. Says whether it was still there.
pub(super) fn kill(process: ProcessKey) -> io::Result<bool> {
    let pid = i32::try_from(process.tgid).ok().filter(|&pid| pid > 1).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(Errno::SRCH) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    // The handle stays that of one process: whose start is read after it was opened is that process, if any.
    let Ok(text) = fs::read(format!("/proc/{}/stat", process.tgid)) else { return Ok(false) };
    let is_same = proc_text::stat(&text).is_some_and(|stat| stat.start_ns == to_tick(process).start_ns);
    if !is_same {
        return Ok(false);
    }
    match pidfd_send_signal(&handle, Signal::KILL) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, process::Command};

    use super::*;

    #[test]
    fn one_process_is_killed_and_no_other_with_its_pid() {
        let mut child = Command::new("/bin/sleep").arg("1000").spawn().expect("sleep runs");
        let text = fs::read(format!("/proc/{}/stat", child.id())).expect("it runs");
        let start_ns = proc_text::stat(&text).expect("the kernel's own").start_ns;
        assert!(!kill(ProcessKey::new(child.id(), start_ns + 10_000_000)).expect("asked"), "another one");
        assert!(kill(ProcessKey::new(child.id(), start_ns + 5)).expect("asked"));
        assert_eq!(child.wait().expect("it ended").signal(), Some(Signal::KILL.as_raw()));
        assert!(!kill(ProcessKey::new(child.id(), start_ns)).expect("asked"), "it has gone");
        assert!(kill(ProcessKey::new(1, 0)).is_err() && kill(ProcessKey::NONE).is_err());
    }
}
