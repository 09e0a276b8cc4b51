//! Records as the kernel programs write them, made by hand: for what replays streams of them, tests and benchmarks.

use std::sync::Arc;

use postern_ebpf::abi::{
    EntryMark, ExecBody, ExitBody, Header, LogBody, LoginBody, LoginCall, Namespaces, ProcessKey, RecordKind,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

use crate::{
    detect::AccessPolicy,
    event::{Capabilities, FileAction, FileChange, Node, Process},
    pipeline::{Host, Pipeline},
    process::{Decoder, users::Passwd},
};

/// The node's own mount namespace.
pub const HOST_MNT: u32 = 1;
/// That of a container.
pub const CONTAINER_MNT: u32 = 2;
/// All capabilities that the node's init has.
pub const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

/// A pipeline on such a node.
pub fn pipeline(policy: AccessPolicy) -> Pipeline {
    let host = Host { namespaces: namespaces(), capabilities: Capabilities(ALL_CAPABILITIES) };
    Pipeline::new(host, decoder(), policy)
}

/// What reads records of such a node, which has no users.
pub fn decoder() -> Decoder {
    Decoder::new("boot", 0, Passwd::default(), namespaces())
}

fn namespaces() -> Namespaces {
    Namespaces { mnt: HOST_MNT, ..Namespaces::default() }
}

/// The process with this pid, which started so many seconds after boot.
pub fn key(pid: u32) -> ProcessKey {
    ProcessKey::new(pid, u64::from(pid) * 1_000_000_000)
}

/// A process with this pid, of which nothing is known but what it runs.
pub fn process(pid: u32, path: &str, args: &[&str]) -> Process {
    let mut process = decoder().unknown(key(pid), b"");
    process.executable.path = path.into();
    process.args = args.iter().collect();
    process
}

/// What somebody did to a file.
pub fn change(path: &str, action: FileAction) -> FileChange {
    let name = path.rsplit('/').next().unwrap_or_default().into();
    FileChange { action, path: Some(path.into()), name, from: None, is_directory: false }
}

/// An exec to be.
#[derive(Clone, Copy, Debug)]
pub struct Exec<'a> {
    /// The process.
    pub pid: u32,
    /// Whose program it ran before, and its parent; 0 for none.
    pub previous: u32,
    /// The file that runs.
    pub path: &'a str,
    /// Its arguments.
    pub args: &'a [&'a str],
    /// The cgroup's path, whose length is taken for its id.
    pub cgroup: &'a str,
}

/// One record's bytes, at an address that is a multiple of eight, as in the ring.
#[derive(Clone, Debug)]
pub struct Written {
    words: Vec<u64>,
    length: usize,
}

impl Written {
    /// A record of any kind, a millisecond after the one before it in the sequence.
    pub fn new(kind: RecordKind, sequence: u64, body: &[u8]) -> Self {
        let length = size_of::<Header>() + body.len();
        let header =
            Header { time_ns: sequence * 1_000_000, sequence, length: length as u32, cpu: 0, kind: kind as u16 };
        let mut words = vec![0u64; length.div_ceil(8)];
        let (start, rest) = words.as_mut_bytes().split_at_mut(size_of::<Header>());
        start.copy_from_slice(header.as_bytes());
        rest[..body.len()].copy_from_slice(body);
        Self { words, length }
    }

    /// An exec on the node, changed by `change`.
    pub fn exec(sequence: u64, exec: Exec<'_>, change: impl FnOnce(&mut ExecBody)) -> Self {
        Self::exec_in(sequence, exec, b"", change)
    }

    /// The same of the first program below an SSH server, with its environment.
    pub fn exec_in(sequence: u64, exec: Exec<'_>, environment: &[u8], change: impl FnOnce(&mut ExecBody)) -> Self {
        let reversed = |path: &str| {
            let names = path.split('/').rev().filter(|name| !name.is_empty());
            names.flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect::<Vec<u8>>()
        };
        let (executable, cgroup) = (reversed(exec.path), reversed(exec.cgroup));
        let argv: Vec<u8> = exec.args.iter().flat_map(|argument| [argument.as_bytes(), b"\0"].concat()).collect();
        let mut body = ExecBody::new_zeroed();
        body.process = key(exec.pid);
        body.previous = if exec.previous == 0 { ProcessKey::NONE } else { key(exec.previous) };
        body.parent = body.previous;
        body.namespaces.mnt = HOST_MNT;
        body.inner_pid = exec.pid;
        body.cgroup_id = cgroup.len() as u64;
        body.file.links = 1;
        body.tail.argv = argv.len() as u32;
        body.tail.executable = executable.len() as u32;
        body.tail.cgroup = cgroup.len() as u32;
        body.tail.environment = environment.len() as u32;
        change(&mut body);
        Self::new(RecordKind::Exec, sequence, &[body.as_bytes(), &argv, &executable, &cgroup, environment].concat())
    }

    /// A process's end.
    pub fn exit(sequence: u64, pid: u32, entry: EntryMark) -> Self {
        let body = ExitBody { process: key(pid), entry, status: 0, forked: 0 };
        Self::new(RecordKind::Exit, sequence, body.as_bytes())
    }

    /// A call into libpam for the user `ops`.
    pub fn login(sequence: u64, pid: u32, call: LoginCall, text: &str) -> Self {
        let mut body = LoginBody::new_zeroed();
        body.caller.process = key(pid);
        body.call = call as u32;
        body.text[..text.len()].copy_from_slice(text.as_bytes());
        body.user[..3].copy_from_slice(b"ops");
        Self::new(RecordKind::Login, sequence, body.as_bytes())
    }

    /// A login program tells libpam from where somebody comes.
    pub fn remote(sequence: u64, pid: u32, address: &str) -> Self {
        let mut body = LoginBody::new_zeroed();
        body.caller.process = key(pid);
        body.call = LoginCall::SetItem as u32;
        // `PAM_RHOST`.
        body.value = 4;
        body.text[..address.len()].copy_from_slice(address.as_bytes());
        Self::new(RecordKind::Login, sequence, body.as_bytes())
    }

    /// A line that a process logged, as a child of `parent`.
    pub fn log(sequence: u64, pid: u32, parent: u32, text: &str) -> Self {
        let mut body = LogBody::new_zeroed();
        (body.caller.process, body.caller.parent) = (key(pid), key(parent));
        body.length = text.len() as u32;
        body.text[..text.len()].copy_from_slice(text.as_bytes());
        Self::new(RecordKind::Log, sequence, body.as_bytes())
    }

    /// As they are read from the ring.
    pub fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.length]
    }
}

/// Makes the process of an exec one of a container, where it has this pid, with all capabilities in its bounding set.
pub fn in_container(pid: u32) -> impl FnOnce(&mut ExecBody) {
    move |body| {
        body.namespaces.mnt = CONTAINER_MNT;
        body.inner_pid = pid;
        body.credentials.cap_bounding = ALL_CAPABILITIES;
    }
}

/// What an encoder has to know of such a node.
pub fn node() -> Arc<Node> {
    Arc::new(Node {
        name: "node-1".into(),
        id: Some("0123456789abcdef0123456789abcdef".into()),
        boot_id: "01234567-89ab-cdef-0123-456789abcdef".into(),
        kernel: "6.12.0".into(),
        architecture: "x86_64".into(),
        os: Some("Linux".into()),
        cluster: None,
        capabilities: Capabilities(ALL_CAPABILITIES),
        version: env!("CARGO_PKG_VERSION"),
        run_id: "01J00000000000000000000000".into(),
    })
}
