//! What the files under `/proc/PID` say (`proc(5)`), as plain functions over their bytes. Names in them are chosen by
//! whoever runs the process, so nothing here trusts a separator that a name could contain.

use std::net::{IpAddr, SocketAddr};

use postern_ebpf::abi::{Credentials, Tty};

/// The kernel's unit for times in `/proc/PID/stat`: `USER_HZ` is 100 on every architecture that Postern runs on.
pub const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// `PF_KTHREAD`: the process is a thread of the kernel.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What `/proc/PID/stat` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// `task_struct.comm`, as it is: any bytes but zero.
    pub comm: Vec<u8>,
    /// Its parent's pid.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// Its controlling terminal.
    pub tty: Tty,
    /// When it started, in nanoseconds since boot, rounded down to a whole tick.
    pub start_ns: u64,
    /// Whether it is a thread of the kernel.
    pub kernel: bool,
    /// Whether it has ended, with all its threads, and only waits for its parent.
    pub ended: bool,
}

/// What `/proc/PID/status` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Ids and capabilities; the audit ids are not in this file and are left at `u32::MAX`.
    pub credentials: Credentials,
    /// The pid in the process's own pid namespace; 0 where the kernel does not say.
    pub inner_pid: u32,
    /// Whether its pid namespace is below that which /proc was mounted in, rather than the same.
    pub nested: bool,
}

/// Both ends of the connection that an SSH session came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SshConnection {
    /// Where it came from.
    pub client: SocketAddr,
    /// What it reached.
    pub server: SocketAddr,
}

/// A TCP connection, as a process of its network namespace sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// This end.
    pub local: SocketAddr,
    /// The other one.
    pub remote: SocketAddr,
    /// The inode of the socket; 0 where no process has it any more.
    pub inode: u64,
}

/// Reads `/proc/PID/stat`; `None` if it is not one.
pub fn stat(text: &[u8]) -> Option<Stat> {
    // The name stands in brackets and may hold brackets, spaces and newlines itself: only the last one closes it.
    let open = text.iter().position(|&byte| byte == b'(')?;
    let close = text.iter().rposition(|&byte| byte == b')')?;
    let comm = text.get(open + 1..close)?.to_vec();
    let mut fields = [&[][..]; 20];
    let mut words = words(text.get(close + 1..)?);
    for field in &mut fields {
        *field = words.next()?;
    }
    // Counted from the state, which is field 3 of proc(5).
    let [state, parent, group, session, tty, _, flags, ..] = fields;
    let threads: u64 = number(fields[17])?;
    Some(Stat {
        comm,
        parent: number(parent)?,
        group: number(group).unwrap_or(0),
        session: number(session).unwrap_or(0),
        tty: tty_of(number(tty)?),
        start_ns: number::<u64>(fields[19])?.checked_mul(NANOSECONDS_PER_TICK)?,
        kernel: number::<u64>(flags)? & KERNEL_THREAD != 0,
        ended: matches!(state, b"Z" | b"X") && threads <= 1,
    })
}

/// Reads `/proc/PID/status`; `None` if ids or capabilities are missing.
pub fn status(text: &[u8]) -> Option<Status> {
    let mut found = Status::default();
    let credentials = &mut found.credentials;
    (credentials.login_uid, credentials.audit_session) = (u32::MAX, u32::MAX);
    // A kernel without seccomp has no such line.
    credentials.seccomp_mode = u32::MAX;
    let mut required = 0;
    for line in text.split(|&byte| byte == b'\n') {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (key, value) = (&line[..colon], &line[colon + 1..]);
        match key {
            b"Uid" => [credentials.uid, credentials.euid, credentials.suid] = three(value)?,
            b"Gid" => [credentials.gid, credentials.egid, credentials.sgid] = three(value)?,
            b"CapInh" => credentials.cap_inheritable = hexadecimal(value)?,
            b"CapPrm" => credentials.cap_permitted = hexadecimal(value)?,
            b"CapEff" => credentials.cap_effective = hexadecimal(value)?,
            b"CapBnd" => credentials.cap_bounding = hexadecimal(value)?,
            b"CapAmb" => credentials.cap_ambient = hexadecimal(value)?,
            b"NoNewPrivs" => {
                credentials.no_new_privs = words(value).next().and_then(number)?;
                continue;
            }
            b"Seccomp" => {
                credentials.seccomp_mode = words(value).next().and_then(number)?;
                continue;
            }
            // From the outermost namespace to the process's own.
            b"NStgid" => {
                found.inner_pid = words(value).last().and_then(number)?;
                found.nested = words(value).count() > 1;
                continue;
            }
            _ => continue,
        }
        required += 1;
    }
    (required >= 7).then_some(found)
}

/// Chooses among the lines of `/proc/PID/cgroup` the path that names the container: that of the v2 hierarchy if it is in
/// use, else that of the v1 `pids` controller, else of `memory`. The kernel programs choose alike. Empty if there is none.
pub fn cgroup(text: &[u8]) -> &[u8] {
    let (mut unified, mut pids, mut memory) = (None, None, None);
    for line in text.split(|&byte| byte == b'\n') {
        let mut parts = line.splitn(3, |&byte| byte == b':');
        let (Some(hierarchy), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        // The kernel appends this to the path of a v2 cgroup that was removed.
        let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
        let mut controllers = controllers.split(|&byte| byte == b',');
        if hierarchy == b"0" {
            unified = Some(path);
        } else if controllers.clone().any(|name| name == b"pids") {
            pids = Some(path);
        } else if controllers.any(|name| name == b"memory") {
            memory = Some(path);
        }
    }
    unified.filter(|path| *path != b"/").or(pids).or(memory).or(unified).unwrap_or_default()
}

/// The decimal number that is all of a file (`loginuid`, `sessionid`).
pub fn single_number(text: &[u8]) -> Option<u32> {
    number(text.trim_ascii())
}

/// The inode number in a namespace link such as `mnt:[4026531841]`.
pub fn namespace(link: &[u8]) -> Option<u32> {
    let open = link.iter().position(|&byte| byte == b'[')?;
    number(link.get(open + 1..)?.strip_suffix(b"]")?)
}

/// The path in the link `/proc/PID/exe`, and whether the kernel says that the file was deleted. A file whose real name
/// ends in " (deleted)" reads the same: its link count tells them apart.
pub fn executable(link: &[u8]) -> (&[u8], bool) {
    match link.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (link, false),
    }
}

/// The value of a variable in `/proc/PID/environ`.
pub fn variable<'a>(environ: &'a [u8], name: &str) -> Option<&'a [u8]> {
    environ
        .split(|&byte| byte == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")))
}

/// Reads `SSH_CONNECTION` as `ssh(1)` describes it: client address, client port, server address, server port.
pub fn ssh_connection(value: &[u8]) -> Option<SshConnection> {
    let mut parts = std::str::from_utf8(value).ok()?.split(' ');
    let connection = SshConnection { client: end(&mut parts)?, server: end(&mut parts)? };
    parts.next().is_none().then_some(connection)
}

/// From where somebody came, as an SSH server puts it into an environment: in `SSH_CONNECTION`, or in `SSH_CLIENT`, which is client
/// address, client port and server port.
pub fn ssh_client(environ: &[u8]) -> Option<SocketAddr> {
    let connection = || Some(ssh_connection(variable(environ, "SSH_CONNECTION")?)?.client);
    connection().or_else(|| {
        let mut parts = std::str::from_utf8(variable(environ, "SSH_CLIENT")?).ok()?.split(' ');
        let client = end(&mut parts)?;
        let _: u16 = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(client)
    })
}

/// Reads a line of `/proc/PID/net/tcp` or `tcp6`; `None` where it is of no connection.
pub fn connection(line: &[u8]) -> Option<Connection> {
    const LISTEN: &[u8] = b"0A";
    let mut words = words(line).skip(1);
    let (local, remote) = (endpoint(words.next()?)?, endpoint(words.next()?)?);
    let state = words.next()?;
    let inode = number(words.nth(5)?)?;
    (state != LISTEN).then_some(Connection { local, remote, inode })
}

/// The inode that the link of a socket in `/proc/PID/fd` names.
pub fn socket(link: &[u8]) -> Option<u64> {
    number(link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?)
}

/// An address as the kernel keeps it, in 32-bit numbers of this machine's byte order, and a port.
fn endpoint(word: &[u8]) -> Option<SocketAddr> {
    let (address, port) = std::str::from_utf8(word).ok()?.split_once(':')?;
    let part = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match address.len() {
        8 => IpAddr::from(part(0)?),
        32 => {
            let mut octets = [0; 16];
            for (at, four) in octets.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&part(8 * at)?);
            }
            IpAddr::from(octets)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

/// An address and a port.
fn end<'a>(parts: &mut impl Iterator<Item = &'a str>) -> Option<SocketAddr> {
    // A link-local address carries its interface, which is of no use off this machine.
    let address: IpAddr = parts.next()?.split('%').next()?.parse().ok()?;
    // A server that listens for both kinds may write one of version 4 as one of version 6.
    Some(SocketAddr::new(address.to_canonical(), parts.next()?.parse().ok()?))
}

/// Splits the kernel's 32-bit device number (`new_encode_dev`).
fn tty_of(device: i64) -> Tty {
    let device = device as u32;
    Tty { major: device >> 8 & 0xfff, minor: device & 0xff | device >> 12 & 0x000f_ff00 }
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn hexadecimal(value: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(value).ok()?.trim(), 16).ok()
}

/// The first three of the four ids on a line: real, effective, saved.
fn three(value: &[u8]) -> Option<[u32; 3]> {
    let mut ids = words(value).map(number);
    Some([ids.next()??, ids.next()??, ids.next()??])
}

#[cfg(test)]
#[path = "proc_text_tests.rs"]
mod tests;
