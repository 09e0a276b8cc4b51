//! One connection after the other: what is asked, what goes wrong, what is answered.

use std::{
    collections::{BTreeSet, VecDeque},
    future, io,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
    time::sleep,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    cluster::{Cluster, Kind, line, watch_version},
    fault::{Fault, On, gone, status},
    http::{Asked, Request, answer, begin_chunks, chunk, read_request},
};

/// What the connections share with each other and with the test.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Told of every request, of every watch that opens, and of every connection's end.
    happened: Condvar,
    signals: watch::Sender<Signals>,
}

struct State {
    cluster: Cluster,
    nodes: Cluster,
    token: String,
    faults: VecDeque<(On, Fault, bool)>,
    requests: Vec<Request>,
    /// Watches on pods.
    open: usize,
    most_open: usize,
    /// Watches on the node.
    open_nodes: usize,
    /// Numbers of the connections that are open, and the number of the next one.
    connections: BTreeSet<u64>,
    next_connection: u64,
}

/// What the open connections must react to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Signals {
    changes: u64,
    ends: u64,
    /// Connections with lower numbers are to be dropped.
    dropped_below: u64,
}

impl Shared {
    pub(super) fn new(pods: impl IntoIterator<Item = Value>, token: &str) -> Self {
        let state = State {
            cluster: Cluster::new(Kind::Pod, pods),
            nodes: Cluster::new(Kind::Node, []),
            token: token.to_owned(),
            faults: VecDeque::new(),
            requests: Vec::new(),
            open: 0,
            most_open: 0,
            open_nodes: 0,
            connections: BTreeSet::new(),
            next_connection: 0,
        };
        Self { state: Mutex::new(state), happened: Condvar::new(), signals: watch::Sender::default() }
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        let result = change(&mut self.lock().cluster);
        self.signals.send_modify(|signals| signals.changes += 1);
        result
    }

    pub(super) fn change_node(&self, node: Value) {
        self.lock().nodes.apply(node);
        self.signals.send_modify(|signals| signals.changes += 1);
    }

    /// Whether a watch on the node was open in time.
    pub(super) fn wait_for_node_watch(&self, within: Duration) -> bool {
        let waited = self.happened.wait_timeout_while(self.lock(), within, |state| state.open_nodes == 0);
        !waited.expect("no thread of the server panicked").1.timed_out()
    }

    pub(super) fn end_watches(&self) {
        self.signals.send_modify(|signals| signals.ends += 1);
    }

    /// Returns when none of the connections of this moment can say any more.
    pub(super) fn drop_connections(&self) {
        let state = self.lock();
        let below = state.next_connection;
        self.signals.send_modify(|signals| signals.dropped_below = below);
        let dropped = self.happened.wait_timeout_while(state, Duration::from_secs(10), |state| {
            state.connections.first().is_some_and(|first| *first < below)
        });
        assert!(!dropped.expect("no thread of the server panicked").1.timed_out(), "a connection could not be dropped");
    }

    pub(super) fn script(&self, on: On, fault: Fault, until_healed: bool) {
        self.lock().faults.push_back((on, fault, until_healed));
    }

    pub(super) fn heal(&self) {
        self.lock().faults.clear();
    }

    pub(super) fn change_token(&self, token: &str) {
        token.clone_into(&mut self.lock().token);
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    pub(super) fn open_watches(&self) -> (usize, usize) {
        let state = self.lock();
        (state.open, state.most_open)
    }

    /// Whether `done` said so in time, of the requests so far and the number of open watches.
    pub(super) fn wait_until(&self, within: Duration, done: impl Fn(&[Request], usize) -> bool) -> bool {
        let waited = self.happened.wait_timeout_while(self.lock(), within, |state| !done(&state.requests, state.open));
        !waited.expect("no thread of the server panicked").1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the server panicked")
    }

    /// Records a request and says what goes wrong with it.
    fn record(&self, request: &Request) -> Option<Fault> {
        let mut state = self.lock();
        state.requests.push(request.clone());
        self.happened.notify_all();
        let known = request.token.as_ref() == Some(&state.token);
        if !known {
            return Some(Fault::unauthorized());
        }
        let position = state.faults.iter().position(|(on, ..)| on.matches(request.asked))?;
        if state.faults[position].2 {
            return Some(state.faults[position].1.clone());
        }
        state.faults.remove(position).map(|(_, fault, _)| fault)
    }
}

/// Serves a connection until either side has enough of it. Its errors are the client's business: it sees them, too.
pub(super) async fn serve_connection(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let mut signals = shared.signals.subscribe();
    let connection = Connection::new(&shared);
    let serving = async {
        let mut stream = BufReader::new(acceptor.accept(stream).await?);
        while let Some(request) = read_request(&mut stream).await? {
            if !serve_request(&mut stream, &request, &shared).await? {
                break;
            }
        }
        io::Result::Ok(())
    };
    tokio::select! {
        _ = serving => {}
        _ = signals.wait_for(|now| now.dropped_below > connection.number) => {}
    }
}

impl State {
    fn of(&mut self, kind: Kind) -> &mut Cluster {
        match kind {
            Kind::Pod => &mut self.cluster,
            Kind::Node => &mut self.nodes,
        }
    }

    fn open_of(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Pod => &mut self.open,
            Kind::Node => &mut self.open_nodes,
        }
    }
}

fn kind(request: &Request) -> Kind {
    if matches!(request.asked, Asked::ListNode | Asked::WatchNode) { Kind::Node } else { Kind::Pod }
}

type Stream = BufReader<TlsStream<TcpStream>>;

/// Whether the connection can be used for another request.
async fn serve_request(stream: &mut Stream, request: &Request, shared: &Shared) -> io::Result<bool> {
    match shared.record(request) {
        None => {}
        Some(Fault::Status(status)) => return say(stream, &Err(status)).await.map(|()| true),
        Some(Fault::Plain(code, text)) => {
            return answer(stream, code, "text/plain", text.as_bytes(), usize::MAX).await.map(|()| true);
        }
        Some(Fault::Raw(bytes)) => {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            return Ok(false);
        }
        Some(Fault::Slow(wait)) => sleep(wait).await,
        Some(Fault::Silent) => return future::pending().await,
        Some(Fault::Drop) => return Ok(false),
        Some(fault) if matches!(request.asked, Asked::Watch | Asked::WatchNode) => {
            return faulty_watch(stream, request, &fault, shared).await;
        }
        Some(fault) => return faulty_list(stream, request, &fault, shared).await,
    }
    match request.asked {
        Asked::List | Asked::ListNode => {
            let list = shared.lock().of(kind(request)).list(&request.query);
            say(stream, &list).await.map(|()| true)
        }
        Asked::Watch | Asked::WatchNode => match watch_version(kind(request), &request.query) {
            Ok(version) => watch_pods(stream, request, version, shared, None).await,
            Err(refusal) => say(stream, &Err(refusal)).await.map(|()| true),
        },
        Asked::Else => {
            let message = "an agent may only list and watch pods and its node";
            say(stream, &Err(status(403, "Forbidden", message, None))).await.map(|()| true)
        }
    }
}

/// A whole answer: an object, or the `Status` that stands for it.
async fn say(stream: &mut (impl AsyncWrite + Unpin), object: &Result<Value, Value>) -> io::Result<()> {
    let (code, object) = match object {
        Ok(object) => (200, object),
        Err(status) => (status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500), status),
    };
    answer(stream, code, "application/json", object.to_string().as_bytes(), usize::MAX).await
}

async fn faulty_list(stream: &mut Stream, request: &Request, fault: &Fault, shared: &Shared) -> io::Result<bool> {
    let list = shared.lock().of(kind(request)).list(&request.query).unwrap_or_else(|status| status).to_string();
    let half = list.len() / 2;
    let (body, sent) = match fault {
        Fault::Garbage(bytes) => (bytes.clone(), usize::MAX),
        Fault::HalfJson => (list[..half].into(), usize::MAX),
        Fault::Endless(bytes) => (vec![b' '; *bytes], usize::MAX),
        // The others are about watches: for a list, all that is left is to send half of it.
        _ => (list.into_bytes(), half),
    };
    answer(stream, 200, "application/json", &body, sent).await?;
    Ok(sent == usize::MAX)
}

async fn faulty_watch(stream: &mut Stream, request: &Request, fault: &Fault, shared: &Shared) -> io::Result<bool> {
    let first = match fault {
        Fault::CutShort | Fault::HalfJson => {
            let version = watch_version(kind(request), &request.query).unwrap_or_default();
            return watch_pods(stream, request, version, shared, Some(fault)).await;
        }
        Fault::ErrorLine(status) => line("ERROR", status).into_bytes(),
        Fault::Garbage(bytes) => [&bytes[..], b"\n"].concat(),
        Fault::Endless(bytes) => vec![b' '; *bytes],
        _ => Vec::new(),
    };
    begin_chunks(stream).await?;
    if !first.is_empty() {
        chunk(stream, &first).await?;
    }
    if matches!(fault, Fault::EndAtOnce | Fault::ErrorLine(_)) {
        return chunk(stream, b"").await.map(|()| true);
    }
    future::pending().await
}

/// A watch as it should be, but for what `fault` does to its next line.
async fn watch_pods(
    stream: &mut Stream,
    request: &Request,
    mut version: u64,
    shared: &Shared,
    fault: Option<&Fault>,
) -> io::Result<bool> {
    let mut signals = shared.signals.subscribe();
    let ends = signals.borrow_and_update().ends;
    let seconds = request.query.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(1800);
    let end = sleep(Duration::from_secs(seconds));
    tokio::pin!(end);
    begin_chunks(stream).await?;
    let compacted = shared.lock().of(kind(request)).is_compacted(version);
    if compacted {
        // The real one does so, too: the watch opens, and its first line says that it cannot be.
        chunk(stream, line("ERROR", &gone()).as_bytes()).await?;
        return chunk(stream, b"").await.map(|()| true);
    }
    // Closed before the client can know that the watch is over, lest its next one count as a second.
    let open = OpenWatch::new(shared, kind(request));
    loop {
        let ended = signals.borrow_and_update().ends != ends;
        let lines = shared.lock().of(kind(request)).lines_after(version, &request.query);
        for (next, line) in lines {
            let line = line.as_bytes();
            match fault {
                Some(Fault::HalfJson) => {
                    drop(open);
                    chunk(stream, &[&line[..line.len() / 2], b"\n"].concat()).await?;
                    return future::pending().await;
                }
                Some(_) => {
                    drop(open);
                    return chunk(stream, &line[..line.len() / 2]).await.map(|()| false);
                }
                None => chunk(stream, line).await?,
            }
            version = next;
        }
        if ended {
            drop(open);
            return chunk(stream, b"").await.map(|()| true);
        }
        tokio::select! {
            changed = signals.changed() => changed.map_err(io::Error::other)?,
            () = &mut end => {
                drop(open);
                return chunk(stream, b"").await.map(|()| true);
            }
            // A client says nothing during a watch: whatever comes is its end.
            _ = stream.read_u8() => return Ok(false),
        }
    }
}

/// Keeps a connection's number for as long as it is open.
struct Connection<'a> {
    number: u64,
    shared: &'a Shared,
}

impl<'a> Connection<'a> {
    fn new(shared: &'a Shared) -> Self {
        let mut state = shared.lock();
        let number = state.next_connection;
        state.next_connection += 1;
        state.connections.insert(number);
        drop(state);
        Self { number, shared }
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.shared.lock().connections.remove(&self.number);
        self.shared.happened.notify_all();
    }
}

/// Counts a watch for as long as it is open.
struct OpenWatch<'a>(&'a Shared, Kind);

impl<'a> OpenWatch<'a> {
    fn new(shared: &'a Shared, kind: Kind) -> Self {
        let mut state = shared.lock();
        *state.open_of(kind) += 1;
        state.most_open = state.most_open.max(state.open);
        drop(state);
        shared.happened.notify_all();
        Self(shared, kind)
    }
}

impl Drop for OpenWatch<'_> {
    fn drop(&mut self) {
        *self.0.lock().open_of(self.1) -= 1;
    }
}
