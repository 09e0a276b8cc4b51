//! Looks in /proc for who has a connection, for the pipeline, which reads no files: its client's end, by which somebody came in who
//! may be of this node. The client waits meanwhile, so it is looked for at once, and not beside the event loop.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _},
    iter,
    net::{IpAddr, SocketAddr},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use postern_ebpf::abi::ProcessKey;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    pipeline::{Holders, Question},
    process::proc_text::{self, Connection},
};

/// How many descriptors of a process are looked at.
const DESCRIPTORS_MAX: usize = 4_096;
/// How many of the processes that a carrier has forked: one, if it is sshd.
const CHILDREN_MAX: usize = 8;
/// How much of the kernel's table of connections is read, in bytes: 100,000 of them.
const TABLE_BYTES: u64 = 16 << 20;

/// See the module.
pub(super) fn holders(question: &Question) -> Holders {
    if question.left_out > 0 {
        tracing::warn!(
            count = question.left_out,
            "processes were not looked at: it may not be known in which session somebody came in"
        );
    }
    let Question { ip, port, server, among, carriers, .. } = question;
    find(*ip, *port, *server, among, carriers)
}

fn find(ip: IpAddr, port: Option<u16>, server: ProcessKey, among: &[ProcessKey], carriers: &[ProcessKey]) -> Holders {
    let mut tables = Tables { ip, read: FxHashMap::default() };
    let servers = namespace(server).unwrap_or_default();
    let own = sockets(server.tgid).unwrap_or_default();
    let here = tables.of(&servers, server);
    let is_it = |it: &&Connection| it.remote.ip() == ip && port.is_none_or(|port| it.remote.port() == port);
    let accepted = here.iter().find(|it| own.contains(&it.inode) && is_it(it));
    let client = accepted.map(|it| it.remote).or_else(|| Some(SocketAddr::new(ip, port?)));
    let Some(client) = client else { return Holders::default() };
    // Of several connections from one port, the one that reaches this server. From another namespace the server may be known by an
    // address that is translated.
    let here = inodes(here, client, accepted.map(|it| it.local));
    let mut holders = Holders { others: here.iter().any(|inode| *inode != 0), ..Holders::default() };
    for &process in among {
        let Some(namespace) = namespace(process) else {
            holders.unseen.push(process);
            continue;
        };
        let elsewhere;
        let wanted = if namespace == servers {
            &here
        } else if ip.is_loopback() {
            // Each namespace has a loopback of its own.
            continue;
        } else {
            elsewhere = inodes(tables.of(&namespace, process), client, None);
            &elsewhere
        };
        // Most often nobody can have it: a process may have thousands of descriptors, and none is read for nothing.
        if wanted.is_empty() {
            continue;
        }
        match sockets(process.tgid) {
            Ok(sockets) if wanted.is_disjoint(&sockets) => {}
            Ok(_) => holders.found.push(process),
            Err(_) => holders.unseen.push(process),
        }
    }
    holders.others &= holders.found.is_empty();
    if holders.others {
        // Those who came in may have forwarded it, if nobody in their sessions has it.
        let has_it = |process: u32| sockets(process).is_ok_and(|sockets| !here.is_disjoint(&sockets));
        let carries = |carrier: &&ProcessKey| iter::once(carrier.tgid).chain(children(carrier.tgid)).any(has_it);
        holders.carried = carriers.iter().filter(carries).copied().collect();
        holders.others = holders.carried.is_empty();
    }
    holders
}

/// The inodes of this end of what reaches that other end, if that is known.
fn inodes(connections: &[Connection], local: SocketAddr, remote: Option<SocketAddr>) -> FxHashSet<u64> {
    let reaches = |it: &&Connection| it.local == local && remote.is_none_or(|remote| it.remote == remote);
    connections.iter().filter(reaches).map(|it| it.inode).collect()
}

/// What the kernel's tables say of the address, by the link to the network namespace that each is of.
struct Tables {
    ip: IpAddr,
    read: FxHashMap<PathBuf, Vec<Connection>>,
}

impl Tables {
    /// The table of a namespace, as a process in it sees it.
    fn of(&mut self, namespace: &Path, process: ProcessKey) -> &[Connection] {
        if !self.read.contains_key(namespace) {
            let read = |table| connections(process, table, self.ip);
            // It cannot be read by way of a process that has gone: then by way of the next one.
            let Ok(of_4) = read("tcp") else { return &[] };
            let all = of_4.into_iter().chain(read("tcp6").unwrap_or_default()).collect();
            self.read.insert(namespace.to_owned(), all);
        }
        self.read.get(namespace).map_or(&[], Vec::as_slice)
    }
}

/// Those connections that have an end at this address.
fn connections(process: ProcessKey, table: &str, ip: IpAddr) -> io::Result<Vec<Connection>> {
    let file = File::open(format!("/proc/{}/net/{table}", process.tgid))?;
    let mut lines = BufReader::with_capacity(1 << 16, file.take(TABLE_BYTES));
    let (mut line, mut found) = (Vec::new(), Vec::new());
    while lines.read_until(b'\n', &mut line)? > 0 {
        found.extend(proc_text::connection(&line).filter(|it| [it.local, it.remote].iter().any(|end| end.ip() == ip)));
        line.clear();
    }
    if lines.get_ref().limit() == 0 {
        tracing::warn!(table, "not all connections were read: it may not be known in which session somebody came in");
    }
    Ok(found)
}

fn namespace(process: ProcessKey) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{}/ns/net", process.tgid)).ok()
}

/// What a process with one thread has forked and what runs still, where the kernel tells (`CONFIG_PROC_CHILDREN`, which distributions
/// set).
fn children(process: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    text.split_ascii_whitespace().take(CHILDREN_MAX).filter_map(|pid| pid.parse().ok()).collect()
}

/// The inodes of the sockets that a process has.
fn sockets(process: u32) -> io::Result<FxHashSet<u64>> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd"))?.take(DESCRIPTORS_MAX);
    let links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok());
    Ok(links.filter_map(|link| proc_text::socket(link.as_os_str().as_bytes())).collect())
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::OwnedFd,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn whoever_has_the_clients_end_is_found_among_others() {
        let process = |pid| ProcessKey::new(pid, 0);
        let own = process(std::process::id());
        let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().expect("cat runs");
        let (other, gone) = (process(child.id()), process(u32::MAX));
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let server = listener.local_addr().expect("an address");
            let stream = TcpStream::connect(server).expect("it listens");
            let client = stream.local_addr().expect("an address");
            let (accepted, _) = listener.accept().expect("it is there");
            let find =
                |end: SocketAddr, server, among: &[ProcessKey]| find(end.ip(), Some(end.port()), server, among, &[]);
            let holders = find(client, own, &[other, gone, own]);
            assert_eq!((&*holders.found, &*holders.unseen, holders.others), (&[own][..], &[gone][..], false));
            // A server that has none of it, but is in the same place.
            assert_eq!(find(client, other, &[own]).found, [own]);
            // Nobody of those asked for, but somebody.
            let holders = find(client, own, &[other]);
            assert_eq!((&*holders.found, holders.others), (&[][..], true));
            let holders = find(server, own, &[own]);
            assert_eq!(holders.found, [own], "the server's own end, if that were asked for");
            assert_eq!(
                super::find(client.ip(), None, own, &[own], &[]).found,
                [own],
                "the port is that of what it has"
            );
            assert!(super::find(client.ip(), None, other, &[own], &[]).found.is_empty());
            // A shell that has the connection no more, but a child of it does.
            let mut shell = Command::new("/bin/sh")
                .args(["-c", "exec 3<&0 0</dev/null; cat <&3 & exec 3<&-; echo ready; wait"])
                .stdin(OwnedFd::from(stream.try_clone().expect("one more descriptor")))
                .stdout(Stdio::piped())
                .spawn()
                .expect("a shell runs");
            BufReader::new(shell.stdout.take().expect("it is piped"))
                .read_line(&mut String::new())
                .expect("it is ready");
            let carrier = process(shell.id());
            for (carriers, carried) in [(&[gone, carrier][..], &[carrier][..]), (&[own], &[own]), (&[other, gone], &[])]
            {
                let holders = super::find(client.ip(), Some(client.port()), other, &[gone], carriers);
                assert_eq!((&*holders.carried, holders.others), (carried, carried.is_empty()), "{carriers:?}");
            }
            assert!(super::find(client.ip(), Some(client.port()), other, &[own], &[carrier]).carried.is_empty());
            drop(accepted);
            shell.wait().expect("it ends with what it reads");
            drop((stream, listener));
            let holders = find(client, own, &[own]);
            assert_eq!((&*holders.found, holders.others), (&[][..], false));
        }
        child.kill().and_then(|()| child.wait()).expect("it ran");
    }
}
