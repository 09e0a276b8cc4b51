//! Standard output.

use std::{io, os::fd::AsFd as _};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use super::{SinkError, blocking::WriteLines};

/// Standard output of this process. Not Rust's own, which would give up half-way where the descriptor does not block.
pub(super) struct Stdout;

impl WriteLines for Stdout {
    fn write(&mut self, mut lines: &[u8]) -> Result<(), SinkError> {
        let stdout = io::stdout();
        let stdout = stdout.as_fd();
        while !lines.is_empty() {
            match rustix::io::write(stdout, lines) {
                Ok(count) => lines = &lines[count..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // An error here shows itself at the next write.
                    let _ = poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None);
                }
                Err(error) => return Err(SinkError::System { place: "standard output".into(), source: error.into() }),
            }
        }
        Ok(())
    }
}
