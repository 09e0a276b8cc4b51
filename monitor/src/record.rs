//! Turns bytes from the ring into records. Pure and total: whatever the bytes are, the answer is a record that borrows
//! from them or an error that says what is wrong, never a panic.

use postern_ebpf::abi::{ExecBody, ExitBody, Header, LogBody, LoginBody, LoginCall, RecordKind, TailLengths};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// One decoded record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When, and where in the sequence.
    pub header: Header,
    /// What.
    pub body: Body<'a>,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A process executed a program.
    Exec(Exec<'a>),
    /// A process ended.
    Exit(&'a ExitBody),
    /// A login program called into libpam.
    Login(Login<'a>),
    /// A login program logged a line.
    Log(Log<'a>),
}

/// An exec and its tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exec<'a> {
    /// The fixed part.
    pub body: &'a ExecBody,
    /// The arguments, each ended by a zero byte; the last one may be cut.
    pub argv: &'a [u8],
    /// The path that `execve(2)` was given.
    pub filename: &'a [u8],
    /// The interpreter's path, if the file is a script.
    pub interpreter: &'a [u8],
    /// The file that runs.
    pub executable: Components<'a>,
    /// Working directory.
    pub cwd: Components<'a>,
    /// Cgroup.
    pub cgroup: Components<'a>,
    /// The environment, each variable ended by a zero byte; the last one may be cut. Only of the first program below an SSH server.
    pub environment: &'a [u8],
}

/// A call into libpam.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Login<'a> {
    /// The fixed part.
    pub body: &'a LoginBody,
    /// Which function.
    pub call: LoginCall,
    /// Its string argument.
    pub text: &'a [u8],
    /// Its user argument.
    pub user: &'a [u8],
}

/// A logged line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log<'a> {
    /// The fixed part.
    pub body: &'a LogBody,
    /// The line.
    pub text: &'a [u8],
}

/// A path as the kernel side found it: names from leaf to root, each ended by a zero byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Components<'a>(&'a [u8]);

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than a header.
    #[error("{0} bytes are too few for a record's header")]
    NoHeader(usize),
    /// The header gives another length than the record has.
    #[error("the header says {said} bytes, the record has {has}")]
    Length {
        /// What the header says.
        said: u32,
        /// What there is.
        has: usize,
    },
    /// A kind that this agent does not know.
    #[error("record kind {0} is unknown")]
    Kind(u16),
    /// The body ends too early, or does not begin at a multiple of eight bytes, as the ring's do.
    #[error("the body of record kind {0} is cut short or misaligned")]
    Body(u16),
    /// The tail's parts do not add up to the tail.
    #[error("the tail's parts take {said} bytes, the tail has {has}")]
    Tail {
        /// What the parts take.
        said: u64,
        /// What there is.
        has: usize,
    },
    /// A call that this agent does not know.
    #[error("login call {0} is unknown")]
    Call(u32),
}

/// Decodes exec records that stand one behind the other, each at a multiple of eight bytes. Returns how many of them made no sense.
pub fn decode_execs(records: &[u8], mut each: impl FnMut(&Exec<'_>)) -> u64 {
    let mut malformed = 0;
    let mut aligned = Vec::<u64>::new();
    let mut rest = records;
    while let Ok((header, _)) = Header::ref_from_prefix(rest) {
        let length = (header.length as usize).next_multiple_of(8);
        let Some((bytes, behind)) = rest.split_at_checked(length).filter(|_| length > 0) else { break };
        aligned.resize(length / 8, 0);
        aligned.as_mut_bytes().copy_from_slice(bytes);
        match decode(aligned.as_bytes().get(..header.length as usize).unwrap_or_default()).map(|record| record.body) {
            Ok(Body::Exec(exec)) => each(&exec),
            _ => malformed += 1,
        }
        rest = behind;
    }
    // Without a length that makes sense nobody knows where the next one begins.
    malformed + u64::from(!rest.is_empty())
}

/// Decodes one record.
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, DecodeError> {
    let (header, rest) = Header::read_from_prefix(bytes).map_err(|_| DecodeError::NoHeader(bytes.len()))?;
    if header.length as usize != bytes.len() {
        return Err(DecodeError::Length { said: header.length, has: bytes.len() });
    }
    let cut = || DecodeError::Body(header.kind);
    let body = match header.kind {
        kind if kind == RecordKind::Exec as u16 => {
            let (body, tail) = ExecBody::ref_from_prefix(rest).map_err(|_| cut())?;
            Body::Exec(exec(body, tail)?)
        }
        kind if kind == RecordKind::Exit as u16 => Body::Exit(ExitBody::ref_from_bytes(rest).map_err(|_| cut())?),
        kind if kind == RecordKind::Login as u16 => {
            let body = LoginBody::ref_from_bytes(rest).map_err(|_| cut())?;
            let call = login_call(body.call).ok_or(DecodeError::Call(body.call))?;
            Body::Login(Login { body, call, text: until_zero(&body.text), user: until_zero(&body.user) })
        }
        kind if kind == RecordKind::Log as u16 => {
            let body = LogBody::ref_from_bytes(rest).map_err(|_| cut())?;
            Body::Log(Log { body, text: until_zero(&body.text) })
        }
        kind => return Err(DecodeError::Kind(kind)),
    };
    Ok(Record { header, body })
}

fn exec<'a>(body: &'a ExecBody, tail: &'a [u8]) -> Result<Exec<'a>, DecodeError> {
    let TailLengths { argv, filename, interpreter, executable, cwd, cgroup, environment } = body.tail;
    let parts = [argv, filename, interpreter, executable, cwd, cgroup, environment];
    let said = parts.iter().map(|&length| u64::from(length)).sum::<u64>();
    if said != tail.len() as u64 {
        return Err(DecodeError::Tail { said, has: tail.len() });
    }
    let mut rest = tail;
    let [argv, filename, interpreter, executable, cwd, cgroup, environment] = parts.map(|length| {
        // The sum was checked, so no part is longer than what is left.
        let (part, after) = rest.split_at_checked(length as usize).unwrap_or_default();
        rest = after;
        part
    });
    Ok(Exec {
        body,
        argv,
        filename,
        interpreter,
        executable: Components(executable),
        cwd: Components(cwd),
        cgroup: Components(cgroup),
        environment,
    })
}

fn login_call(call: u32) -> Option<LoginCall> {
    use LoginCall::{AccountChecked, Authenticated, CloseSession, OpenSession, SessionOpened, SetItem, Start};
    [Start, SetItem, Authenticated, AccountChecked, OpenSession, SessionOpened, CloseSession]
        .into_iter()
        .find(|&known| known as u32 == call)
}

/// The bytes before the first zero; all of them where there is none.
pub fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

impl<'a> Components<'a> {
    /// As they stand in the record.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The names, from leaf to root.
    pub fn names(self) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let names = self.0.strip_suffix(&[0]).unwrap_or(self.0);
        // A path of no names is the root; splitting nothing would yield one empty name.
        names.split(|&byte| byte == 0).filter(move |_| !names.is_empty())
    }

    /// The path from its root on, `/` before each name; `/` alone for the root.
    pub fn path(self) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.0.len() + 1);
        for name in self.names().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    }
}

impl<'a> Exec<'a> {
    /// The arguments, without their closing zeros. An empty argument is an argument.
    pub fn arguments(&self) -> impl Iterator<Item = &'a [u8]> {
        let whole = self.argv.strip_suffix(&[0]).unwrap_or(self.argv);
        whole.split(|&byte| byte == 0).take(if self.argv.is_empty() { 0 } else { usize::MAX })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::{FromZeros as _, IntoBytes as _};

    use super::*;

    fn record(kind: u16, body: &[u8]) -> Vec<u8> {
        let header =
            Header { time_ns: 1, sequence: 2, length: (size_of::<Header>() + body.len()) as u32, cpu: 0, kind };
        [header.as_bytes(), body].concat()
    }

    fn exec_record(lengths: impl FnOnce(&mut ExecBody), tail: &[u8]) -> Vec<u8> {
        let mut body = ExecBody::new_zeroed();
        lengths(&mut body);
        record(RecordKind::Exec as u16, &[body.as_bytes(), tail].concat())
    }

    #[test]
    fn an_exec_yields_its_tail() {
        let bytes = exec_record(
            |body| {
                body.tail.argv = 6;
                body.tail.filename = 2;
                body.tail.executable = 7;
                body.tail.environment = 4;
            },
            b"ls\0-l\0lsls\0bin\0A=b\0",
        );
        let Ok(Record { body: Body::Exec(exec), .. }) = decode(&bytes) else { panic!("not an exec") };
        assert_eq!(exec.arguments().collect::<Vec<_>>(), [&b"ls"[..], b"-l"]);
        assert_eq!((exec.filename, exec.environment), (&b"ls"[..], &b"A=b\0"[..]));
        assert_eq!(exec.executable.path(), b"/bin/ls");
        assert_eq!(exec.cwd.path(), b"/");
    }

    #[test]
    fn empty_arguments_are_arguments() {
        let bytes = exec_record(|body| body.tail.argv = 5, b"sh\0\0\0");
        let Ok(Record { body: Body::Exec(exec), .. }) = decode(&bytes) else { panic!("not an exec") };
        assert_eq!(exec.arguments().collect::<Vec<_>>(), [&b"sh"[..], b"", b""]);
    }

    #[test]
    fn no_arguments_are_none() {
        let bytes = exec_record(|_| {}, b"");
        let Ok(Record { body: Body::Exec(exec), .. }) = decode(&bytes) else { panic!("not an exec") };
        assert_eq!(exec.arguments().count(), 0);
    }

    #[test]
    fn a_tail_that_does_not_add_up_is_refused() {
        let bytes = exec_record(|body| body.tail.argv = u32::MAX, b"ls\0");
        assert_eq!(decode(&bytes), Err(DecodeError::Tail { said: u64::from(u32::MAX), has: 3 }));
    }

    #[test]
    fn short_and_unknown_records_are_refused() {
        assert_eq!(decode(b"abc"), Err(DecodeError::NoHeader(3)));
        assert_eq!(decode(&record(99, b"")), Err(DecodeError::Kind(99)));
        assert_eq!(decode(&record(RecordKind::Exit as u16, b"xx")), Err(DecodeError::Body(2)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600), kind in 0u16..6) {
            let _ = decode(&bytes);
            let record = record(kind, &bytes);
            if let Ok(Record { body: Body::Exec(exec), .. }) = decode(&record) {
                exec.arguments().count();
                exec.cgroup.path();
            }
        }
    }
}
