//! Fluentd and Fluent Bit, by the Forward Protocol (specification version 1): packed entries, and an acknowledgement for
//! each chunk. A chunk that is not acknowledged is sent again under the same id, which the other end may tell copies by.

mod handshake;
mod tls;
mod wire;

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use ulid::Ulid;

use super::{Line, SinkError, settings::FluentdSettings};

/// How long connecting, or a step of the handshake, may take.
const STEP: Duration = Duration::from_secs(10);
/// The longest message that is read: acknowledgements and the handshake's are far smaller.
const MESSAGE_MAX: usize = 64 * 1024;

/// See the module.
pub(super) struct Fluentd {
    settings: FluentdSettings,
    address: String,
    tls: Option<TlsConnector>,
    connection: Option<Connection>,
    /// The chunk that is not acknowledged yet: the first sequence number in it, and its id.
    pending: Option<(u64, String)>,
}

struct Connection {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
}

/// Finds the message at the start of what was received, and its length; `None` if there is more to come.
type Parse<T> = fn(&[u8]) -> Result<Option<(T, usize)>, String>;

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

impl Fluentd {
    /// Reads the files that TLS needs; connects to nothing yet.
    pub(super) fn new(settings: &FluentdSettings) -> Result<Self, SinkError> {
        Ok(Self {
            address: format!("{}:{}", settings.host, settings.port),
            tls: settings.tls.as_ref().map(tls::connector).transpose()?,
            settings: settings.clone(),
            connection: None,
            pending: None,
        })
    }

    pub(super) async fn deliver(&mut self, batch: &[Line]) -> Result<(), SinkError> {
        let Some(first) = batch.first() else { return Ok(()) };
        let chunk = match &self.pending {
            Some((sequence, chunk)) if *sequence == first.sequence => chunk.clone(),
            _ => wire::chunk_id(Ulid::generate().to_bytes()),
        };
        self.pending = Some((first.sequence, chunk.clone()));
        let message = wire::message(&self.settings.tag, batch, &chunk);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        self.exchange(&mut connection, &message, &chunk).await?;
        // Only a connection that works is kept.
        self.connection = Some(connection);
        self.pending = None;
        Ok(())
    }

    async fn connect(&self) -> Result<Connection, SinkError> {
        let connecting = TcpStream::connect((self.settings.host.as_str(), self.settings.port));
        let tcp = self.within(STEP, "connection", connecting).await?;
        // Chunks are whole messages: there is nothing to gather.
        tcp.set_nodelay(true).map_err(|error| self.system(error))?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(connector) => {
                let name = self.settings.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
                let name =
                    tls::server_name(name.unwrap_or(&self.settings.host)).map_err(|message| self.refused(message))?;
                Box::new(self.within(STEP, "TLS handshake", connector.connect(name, tcp)).await?)
            }
        };
        let mut connection = Connection { stream, received: Vec::new() };
        if self.settings.shared_key.is_some() {
            self.shake_hands(&mut connection).await?;
        }
        Ok(connection)
    }

    async fn shake_hands(&self, connection: &mut Connection) -> Result<(), SinkError> {
        let helo = self.read(connection, STEP, "HELO", wire::helo).await?;
        let greeting = handshake::Greeting::new(&self.settings, &helo, Ulid::generate().to_bytes());
        self.within(STEP, "room for PING", connection.stream.write_all(&greeting.ping())).await?;
        let pong = self.read(connection, STEP, "PONG", wire::pong).await?;
        greeting.check(&pong).map_err(|message| self.refused(message))
    }

    async fn exchange(&self, connection: &mut Connection, message: &[u8], chunk: &str) -> Result<(), SinkError> {
        let timeout = self.settings.ack_timeout;
        self.within(timeout, "room for a chunk", connection.stream.write_all(message)).await?;
        let ack = self.read(connection, timeout, "acknowledgement", wire::ack).await?;
        if ack == chunk {
            Ok(())
        } else {
            Err(self.refused(format!("it acknowledged the chunk {ack:?}, not {chunk:?}")))
        }
    }

    /// Reads until `parse` finds a whole message.
    async fn read<T>(
        &self,
        connection: &mut Connection,
        limit: Duration,
        what: &'static str,
        parse: Parse<T>,
    ) -> Result<T, SinkError> {
        let reading = async {
            loop {
                if let Some((message, length)) = parse(&connection.received).map_err(|message| self.refused(message))? {
                    connection.received.drain(..length);
                    return Ok(message);
                }
                if connection.received.len() > MESSAGE_MAX {
                    return Err(self.refused(format!("its {what} is longer than {MESSAGE_MAX} bytes")));
                }
                let count =
                    connection.stream.read_buf(&mut connection.received).await.map_err(|error| self.system(error))?;
                if count == 0 {
                    return Err(self.refused(format!("it closed the connection before its {what}")));
                }
            }
        };
        match timeout(limit, reading).await {
            Ok(result) => result,
            Err(_) => Err(SinkError::TimedOut { place: self.address.clone(), what }),
        }
    }

    async fn within<T>(
        &self,
        limit: Duration,
        what: &'static str,
        doing: impl Future<Output = std::io::Result<T>>,
    ) -> Result<T, SinkError> {
        match timeout(limit, doing).await {
            Ok(result) => result.map_err(|error| self.system(error)),
            Err(_) => Err(SinkError::TimedOut { place: self.address.clone(), what }),
        }
    }

    fn system(&self, source: std::io::Error) -> SinkError {
        SinkError::System { place: self.address.clone(), source }
    }

    fn refused(&self, message: String) -> SinkError {
        SinkError::Protocol { place: self.address.clone(), message }
    }
}
