//! Standard output.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use super::{SinkError, blocking::WriteLines};

/// Standard output of this process. Not Rust's own, which would give up half-way where the descriptor does not block.
pub(super) struct Stdout;

impl WriteLines for Stdout {
    fn write(&mut self, lines: &[u8], done: &mut usize) -> Result<(), SinkError> {
        write(io::stdout().as_fd(), lines, done)
            .map_err(|error| SinkError::System { place: "standard output".into(), source: error.into() })
    }
}

fn write(out: BorrowedFd<'_>, lines: &[u8], done: &mut usize) -> Result<(), Errno> {
    while *done < lines.len() {
        match rustix::io::write(out, &lines[*done..]) {
            Ok(count) => *done += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                // An error here shows itself at the next write.
                let _ = poll(&mut [PollFd::new(&out, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, thread};

    use super::*;

    #[test]
    fn what_was_written_before_an_error_is_not_written_again() {
        let lines: Vec<u8> = (0..50_000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
        let (mut reader, writer) = io::pipe().expect("a pipe");
        // A reader that goes in the middle of a line, when the pipe is full.
        let first = thread::spawn(move || {
            let mut start = vec![0; 5_001];
            reader.read_exact(&mut start).expect("read");
        });
        let mut done = 0;
        assert_eq!(write(writer.as_fd(), &lines, &mut done), Err(Errno::PIPE));
        first.join().expect("no panic");
        assert!((5_001..lines.len()).contains(&done), "{done}");

        let (mut reader, writer) = io::pipe().expect("a pipe");
        let second = thread::spawn(move || {
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).map(|_| rest)
        });
        let before = done;
        assert_eq!(write(writer.as_fd(), &lines, &mut done), Ok(()));
        drop(writer);
        assert_eq!(second.join().expect("no panic").expect("read"), lines[before..]);
    }
}
