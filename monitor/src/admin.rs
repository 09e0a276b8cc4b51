//! Health and metrics over HTTP, on a thread and a runtime of their own: a storm of events may delay events, and must
//! not make the node's health probe fail. Bounded in connections and in the life of each; when all places are taken the
//! oldest connection goes, so that clients that say nothing cannot keep the probe out.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{Sleep, sleep},
};

use crate::metrics::{self, Figures};

/// So many connections at a time; one more, and the oldest goes. An honest one is over within milliseconds.
const CONNECTIONS: usize = 64;
/// A connection serves one request and ends after this, whatever its other end does.
const CONNECTION_LIFE: Duration = Duration::from_secs(5);
/// Pause after a failure to accept, which is mostly a want of file descriptors and passes as connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests under way may take when the server is told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// Whether the agent lives, and whether it watches. Shared by the event loop and the server.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    beat_ms: AtomicU64,
    limit: Duration,
    not_ready: std::sync::Mutex<Option<String>>,
}

impl Health {
    /// Alive from now on, and for as long as beats are at most `limit` apart. Not ready.
    pub fn new(limit: Duration) -> Self {
        let not_ready = std::sync::Mutex::new(Some("starting".to_owned()));
        Self { started: Instant::now(), beat_ms: AtomicU64::new(0), limit, not_ready }
    }

    /// Says that the event loop goes round. Cheap; to be called at least every second, idle or not.
    pub fn beat(&self) {
        self.beat_ms.store(self.started.elapsed().as_millis() as u64, Relaxed);
    }

    /// Every sensor is armed.
    pub fn set_ready(&self) {
        *self.reason() = None;
    }

    /// Something is missing: `reason` says what.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        *self.reason() = Some(reason.into());
    }

    /// How long ago the last beat was.
    fn silence(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.beat_ms.load(Relaxed)))
    }

    fn reason(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        // The value is replaced whole, so a panic elsewhere cannot have left half of one.
        self.not_ready.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be listened on.
    #[error("health and metrics cannot listen on {address}: {source}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The thread or its runtime cannot be made.
    #[error("the thread for health and metrics cannot be started: {0}")]
    Thread(io::Error),
}

/// The running server. Dropping it stops it.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Listens on `address` (port 0 for any) and starts the thread. Needs no runtime around it.
    pub fn start(address: SocketAddr, health: Arc<Health>, figures: Arc<Figures>) -> Result<Self, AdminError> {
        let bind = |source| AdminError::Bind { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AdminError::Thread)?;
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let serve = move || {
            // Dropped when this thread ends, in a panic too: that is what tells `ended`.
            let _end: oneshot::Sender<()> = end;
            if let Err(error) = runtime.block_on(serve(listener, health, figures, stopped)) {
                tracing::error!(%error, "health and metrics are no longer served");
            }
        };
        let thread = std::thread::Builder::new().name("admin".into()).spawn(serve).map_err(AdminError::Thread)?;
        Ok(Self { address, stop: Some(stop), ended, thread: Some(thread) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the thread has ended: on its own it never should.
    pub async fn ended(&mut self) {
        // Nothing is ever sent: the sender's end is the message.
        let _ = (&mut self.ended).await;
    }

    /// Ends requests under way, within a second, and waits for the thread.
    pub fn stop(mut self) {
        self.halt();
    }

    fn halt(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread for health and metrics had panicked");
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.halt();
    }
}

async fn serve(
    listener: std::net::TcpListener,
    health: Arc<Health>,
    figures: Arc<Figures>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = Bounded { listener: TcpListener::from_std(listener)?, places: VecDeque::new() };
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(health)
        .merge(Router::new().route("/metrics", get(exposition)).with_state(figures))
        .layer(axum::middleware::map_response(one_request));
    let (announce, announced) = oneshot::channel();
    let signal = async move {
        // Told by dropping the sender, or never sent to.
        let _ = stopped.await;
        let _ = announce.send(());
    };
    let grace = async move {
        let _ = announced.await;
        sleep(STOP_WITHIN).await;
    };
    tokio::select! {
        result = axum::serve(listener, router).with_graceful_shutdown(signal).into_future() => result,
        () = grace => Ok(()),
    }
}

async fn healthz(State(health): State<Arc<Health>>) -> Response {
    let silence = health.silence();
    if silence <= health.limit {
        return (StatusCode::OK, "ok\n").into_response();
    }
    let message = format!("the event loop was last seen {} ms ago\n", silence.as_millis());
    (StatusCode::SERVICE_UNAVAILABLE, message).into_response()
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    match &*health.reason() {
        None => (StatusCode::OK, "ok\n").into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn exposition(State(figures): State<Arc<Figures>>) -> Response {
    match metrics::exposition(&figures) {
        Ok(body) => ([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn one_request(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Accepts a bounded number of connections at a time.
struct Bounded {
    listener: TcpListener,
    /// One for each connection, the oldest first; dropping it ends the connection.
    places: VecDeque<oneshot::Sender<()>>,
}

impl Bounded {
    /// Room for one more connection. What ends here is gone when its task runs next, on this same thread.
    fn place(&mut self) -> oneshot::Receiver<()> {
        self.places.retain(|place| !place.is_closed());
        if self.places.len() == CONNECTIONS {
            drop(self.places.pop_front());
        }
        let (place, evicted) = oneshot::channel();
        self.places.push_back(place);
        evicted
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let life = Box::pin(sleep(CONNECTION_LIFE));
                    return (Connection { stream, life, evicted: self.place(), over: false }, address);
                }
                Err(error) => {
                    tracing::warn!(%error, "health and metrics: a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when its time is over, or when a newer one needs its place.
struct Connection {
    stream: TcpStream,
    life: Pin<Box<Sleep>>,
    evicted: oneshot::Receiver<()>,
    over: bool,
}

impl Connection {
    /// An error once the connection is over. Every poll also asks to be woken then.
    fn alive(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.life.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // The channel is not to be asked again after its answer, and a server may well read again after an error.
        self.over = self.over || Pin::new(&mut self.evicted).poll(context).is_ready();
        if self.over { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.alive(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.alive(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream as Client,
    };

    use super::*;

    fn started(limit: Duration) -> (Admin, Arc<Health>, Arc<Figures>) {
        let health = Arc::new(Health::new(limit));
        let figures = Arc::new(Figures::new(["exec"], []));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let admin = Admin::start(any, Arc::clone(&health), Arc::clone(&figures)).expect("a server");
        (admin, health, figures)
    }

    fn connect(admin: &Admin) -> Client {
        let client = Client::connect_timeout(&admin.address(), Duration::from_secs(5)).expect("a connection");
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        client
    }

    /// The whole response: the server closes behind it.
    fn ask(admin: &Admin, path: &str) -> String {
        let mut client = connect(admin);
        write!(client, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        let mut response = String::new();
        client.read_to_string(&mut response).expect("a response that ends");
        response
    }

    #[test]
    fn ready_once_armed_and_not_before() {
        let (admin, health, _) = started(Duration::from_mins(1));
        let response = ask(&admin, "/readyz");
        assert!(response.starts_with("HTTP/1.1 503") && response.ends_with("\r\n\r\nstarting\n"), "{response}");
        health.set_ready();
        assert!(ask(&admin, "/readyz").starts_with("HTTP/1.1 200"));
        health.set_not_ready("the exec sensor is gone");
        assert!(ask(&admin, "/readyz").ends_with("the exec sensor is gone\n"));
    }

    #[test]
    fn alive_while_the_event_loop_beats() {
        let (admin, health, _) = started(Duration::from_mins(1));
        assert!(ask(&admin, "/healthz").starts_with("HTTP/1.1 200"));
        health.beat();
        assert!(health.silence() < Duration::from_mins(1));
        let (admin, _, _) = started(Duration::ZERO);
        let until = Instant::now() + Duration::from_secs(10);
        while ask(&admin, "/healthz").starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < until, "still healthy without a beat");
        }
    }

    #[test]
    fn metrics_are_served_and_nothing_else_is() {
        let (admin, _, figures) = started(Duration::from_mins(1));
        figures.hooks[0].seen.add(1);
        let response = ask(&admin, "/metrics");
        assert!(response.contains("content-type: application/openmetrics-text; version=1.0.0"), "{response}");
        assert!(response.contains("postern_hook_seen_total{hook=\"exec\"} 1\n"), "{response}");
        assert!(ask(&admin, "/").starts_with("HTTP/1.1 404"));
        let mut client = connect(&admin);
        client.write_all(b"\x16\x03\x01 no HTTP\r\n\r\n").expect("sent");
        let mut response = Vec::new();
        client.read_to_end(&mut response).expect("an end");
        assert!(response.is_empty() || response.starts_with(b"HTTP/1.1 400"), "{response:?}");
    }

    #[test]
    fn an_address_in_use_is_named() {
        let (admin, health, figures) = started(Duration::from_mins(1));
        let error = Admin::start(admin.address(), health, figures).expect_err("taken");
        assert!(error.to_string().contains(&admin.address().to_string()), "{error}");
    }

    /// More silent clients than there are places, and a probe behind them: it is answered before their time is over.
    #[test]
    fn clients_that_say_nothing_do_not_keep_the_probe_out() {
        let (admin, _, _) = started(Duration::from_mins(1));
        let mut silent: Vec<Client> = (0..CONNECTIONS + 8).map(|_| connect(&admin)).collect();
        for client in &mut silent {
            client.write_all(b"GET /healthz HTTP/1.1\r\nX-Slow:").expect("sent");
        }
        let begun = Instant::now();
        assert!(ask(&admin, "/healthz").starts_with("HTTP/1.1 200"));
        assert!(begun.elapsed() < CONNECTION_LIFE / 2, "{:?}", begun.elapsed());
        let mut rest = Vec::new();
        // The first of them had to go: its end is seen as an end or as a reset.
        let _ = silent[0].read_to_end(&mut rest);
        assert!(begun.elapsed() < CONNECTION_LIFE / 2, "{:?}", begun.elapsed());
        // Those that kept their place have it no longer than anybody.
        let _ = silent[CONNECTIONS + 7].read_to_end(&mut rest);
        assert!(begun.elapsed() < CONNECTION_LIFE * 2, "{:?}", begun.elapsed());
    }

    #[test]
    fn stopping_does_not_wait_for_a_client_that_says_nothing() {
        let (admin, _, _) = started(Duration::from_mins(1));
        let mut silent = connect(&admin);
        silent.write_all(b"GET /healthz HTTP/1.1\r\n").expect("sent");
        let (address, begun) = (admin.address(), Instant::now());
        admin.stop();
        assert!(begun.elapsed() < STOP_WITHIN * 3, "{:?}", begun.elapsed());
        assert!(Client::connect(address).is_err(), "still listening");
    }

    #[test]
    fn the_end_of_the_thread_can_be_waited_for() {
        let (mut admin, _, _) = started(Duration::from_mins(1));
        drop(admin.stop.take());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(10), admin.ended()).await.expect("the thread ends");
        });
    }
}
