//! Fluentd and Fluent Bit, by the Forward Protocol (specification version 1): packed entries, and an acknowledgement for
//! each chunk. A chunk that is not acknowledged is sent again under the same id, which the other end may tell copies by.

mod handshake;
mod tls;
mod wire;

use std::{io, time::Duration};

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
        let connection = match self.connection.take() {
            None => self.send(&message, &chunk).await?,
            Some(mut kept) => match self.exchange(&mut kept, &message, &chunk).await {
                Ok(()) => kept,
                // It was closed while there was nothing to send, most likely: no sign that the server is down.
                Err(SinkError::System { .. }) => self.send(&message, &chunk).await?,
                Err(error) => return Err(error),
            },
        };
        // Only a connection that works is kept.
        self.connection = Some(connection);
        self.pending = None;
        Ok(())
    }

    /// Sends a chunk on a new connection; returns that once the chunk is acknowledged.
    async fn send(&self, message: &[u8], chunk: &str) -> Result<Connection, SinkError> {
        let mut connection = self.connect().await?;
        self.exchange(&mut connection, message, chunk).await?;
        Ok(connection)
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
        // Fluent Bit can ask for users without a key: it is empty then.
        if self.settings.shared_key.is_some() || self.settings.user.is_some() {
            self.shake_hands(&mut connection).await?;
        }
        Ok(connection)
    }

    async fn shake_hands(&self, connection: &mut Connection) -> Result<(), SinkError> {
        let helo = self.read(connection, STEP, "HELO", wire::helo).await?;
        let greeting = handshake::Greeting::new(&self.settings, &helo, Ulid::generate().to_bytes());
        self.within(STEP, "room for PING", write(&mut connection.stream, &greeting.ping())).await?;
        let pong = self.read(connection, STEP, "PONG", wire::pong).await?;
        greeting.check(&pong).map_err(|message| self.refused(message))
    }

    async fn exchange(&self, connection: &mut Connection, message: &[u8], chunk: &str) -> Result<(), SinkError> {
        let timeout = self.settings.ack_timeout;
        self.within(timeout, "room for a chunk", write(&mut connection.stream, message)).await?;
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
                    let message = format!("the connection was closed before its {what}");
                    return Err(self.system(io::Error::new(io::ErrorKind::UnexpectedEof, message)));
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
        doing: impl Future<Output = io::Result<T>>,
    ) -> Result<T, SinkError> {
        match timeout(limit, doing).await {
            Ok(result) => result.map_err(|error| self.system(error)),
            Err(_) => Err(SinkError::TimedOut { place: self.address.clone(), what }),
        }
    }

    fn system(&self, source: io::Error) -> SinkError {
        SinkError::System { place: self.address.clone(), source }
    }

    fn refused(&self, message: String) -> SinkError {
        SinkError::Protocol { place: self.address.clone(), message }
    }
}

/// TLS takes more than it passes on at once, and passes the rest on only when told to.
async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    stream.write_all(message).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{BufStream, duplex},
        net::TcpListener,
    };

    use super::*;
    use crate::{event::Kind, sink::settings::Secret};

    /// How long a test waits for what should happen at once.
    const SOON: Duration = Duration::from_secs(10);

    fn settings(port: u16) -> FluentdSettings {
        FluentdSettings {
            host: "127.0.0.1".into(),
            port,
            tls: None,
            tag: "postern".into(),
            shared_key: None,
            user: None,
            ack_timeout: Duration::from_secs(2),
        }
    }

    fn batch(sequence: u64) -> [Line; 1] {
        [Line::for_test(sequence, Kind::Event, r#"{"a":1}"#)]
    }

    /// Reads one chunk and acknowledges it; returns its id.
    async fn acknowledge(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
        #[derive(serde::Deserialize)]
        struct Options {
            chunk: String,
        }
        let mut received = Vec::new();
        loop {
            assert_ne!(stream.read_buf(&mut received).await.expect("read"), 0, "a whole chunk");
            let message = rmp_serde::from_slice::<(String, serde::de::IgnoredAny, Options)>(&received);
            if let Ok((_, _, Options { chunk })) = message {
                let ack = rmp_serde::to_vec_named(&serde_json::json!({ "ack": chunk })).expect("encoded");
                stream.write_all(&ack).await.expect("written");
                return chunk;
            }
        }
    }

    #[tokio::test]
    async fn what_the_stream_holds_back_is_pushed_out_before_the_answer_is_waited_for() {
        let (ours, mut theirs) = duplex(1024);
        let mut sink = Fluentd::new(&settings(1)).expect("built");
        // Holds back what TLS may hold back.
        let stream = Box::new(BufStream::new(ours));
        sink.connection = Some(Connection { stream, received: Vec::new() });
        let (line, server) = (batch(0), acknowledge(&mut theirs));
        let (result, _) = timeout(SOON, async { tokio::join!(sink.deliver(&line), server) }).await.expect("in time");
        result.expect("delivered");
    }

    #[tokio::test]
    async fn a_kept_connection_that_the_server_has_closed_is_replaced_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut sink = Fluentd::new(&settings(listener.local_addr().expect("an address").port())).expect("built");
        let server = async {
            let (mut first, _) = listener.accept().await.expect("a connection");
            acknowledge(&mut first).await;
            drop(first);
            let (mut second, _) = listener.accept().await.expect("another connection");
            acknowledge(&mut second).await;
        };
        let client = async {
            sink.deliver(&batch(0)).await.expect("delivered");
            sink.deliver(&batch(1)).await.expect("delivered, on another connection");
        };
        timeout(SOON, async { tokio::join!(server, client) }).await.expect("in time");
    }

    #[tokio::test]
    async fn a_user_is_named_where_there_is_no_shared_key() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut settings = settings(listener.local_addr().expect("an address").port());
        settings.user = Some(("postern".into(), Secret::new("a password")));
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let helo = serde_json::json!(["HELO", { "nonce": "nonce", "auth": "salt", "keepalive": true }]);
            stream.write_all(&rmp_serde::to_vec_named(&helo).expect("encoded")).await.expect("written");
            let mut received = Vec::new();
            loop {
                assert_ne!(stream.read_buf(&mut received).await.expect("read"), 0, "a whole message");
                if let Ok(ping) = rmp_serde::from_slice::<Vec<String>>(&received) {
                    return ping;
                }
            }
        };
        let mut sink = Fluentd::new(&settings).expect("built");
        let client = async {
            let _ = sink.deliver(&batch(0)).await;
            std::future::pending::<()>().await;
        };
        let ping = tokio::select! {
            ping = timeout(SOON, server) => ping.expect("in time"),
            () = client => unreachable!("it never ends"),
        };
        assert_eq!((&*ping[0], &*ping[4]), ("PING", "postern"));
    }
}
