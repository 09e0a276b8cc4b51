//! A `forward` input as Fluentd and Fluent Bit have it (Forward Protocol Specification, version 1), with faults: it takes
//! packed entries, acknowledges chunks, and where it is told to wants TLS and a shared key.

use std::{
    fmt::Write as _,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde::{Deserialize, Deserializer, de::Visitor};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};
use tempfile::TempDir;

use super::tls;

/// What is wanted of the server.
#[derive(Clone, Default)]
pub struct Options {
    /// Whether to speak TLS, with a certificate for `localhost`.
    pub tls: bool,
    /// The shared key of the handshake.
    pub shared_key: Option<String>,
    /// User and password of the handshake.
    pub user: Option<(String, String)>,
    /// How many chunks to leave without an acknowledgement, the connection closed instead.
    pub unacknowledged: usize,
    /// How many chunks to acknowledge with another chunk's id.
    pub misacknowledged: usize,
    /// How many chunks to answer with garbage.
    pub garbled: usize,
}

/// One chunk that came.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Its tag.
    pub tag: String,
    /// Its id.
    pub id: String,
    /// Whether it was acknowledged.
    pub acknowledged: bool,
    /// Its records.
    pub records: Vec<Value>,
}

/// The running server; ends with its owner.
pub struct FluentdServer {
    port: u16,
    shared: Arc<Shared>,
    folder: TempDir,
}

struct Shared {
    options: Options,
    tls: Option<Arc<ServerConfig>>,
    faults: AtomicUsize,
    chunks: Mutex<Vec<Chunk>>,
    refused: AtomicUsize,
    over: AtomicBool,
}

const NONCE: &str = "a nonce of the server";
const AUTH: &str = "salt of the password";

impl FluentdServer {
    /// Starts on any port.
    pub fn start(options: Options) -> Self {
        Self::start_at(0, options)
    }

    /// Starts on this port.
    pub fn start_at(port: u16, options: Options) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let folder = TempDir::new().expect("a temporary folder");
        let tls = options.tls.then(|| tls::server("localhost", &folder.path().join("ca.pem")));
        let shared = Arc::new(Shared {
            options,
            tls,
            faults: AtomicUsize::new(0),
            chunks: Mutex::default(),
            refused: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.over.load(SeqCst) {
                    break;
                }
                let serving = Arc::clone(&serving);
                thread::spawn(move || {
                    // A client that goes is how every connection ends.
                    let _ = serving.accept(stream);
                });
            }
        });
        Self { port, shared, folder }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// All chunks that came, in order.
    pub fn chunks(&self) -> Vec<Chunk> {
        self.shared.chunks.lock().expect("no panic holds it").clone()
    }

    /// All records of acknowledged chunks.
    pub fn records(&self) -> Vec<Value> {
        self.chunks().into_iter().filter(|chunk| chunk.acknowledged).flat_map(|chunk| chunk.records).collect()
    }

    /// How many handshakes were refused.
    pub fn refused(&self) -> usize {
        self.shared.refused.load(SeqCst)
    }
}

impl Drop for FluentdServer {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Shared {
    fn accept(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        let mut stream: Box<dyn Stream> = match &self.tls {
            Some(config) => {
                let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                Box::new(StreamOwned::new(connection, stream))
            }
            None => Box::new(stream),
        };
        if self.options.shared_key.is_some() {
            self.shake_hands(&mut *stream)?;
        }
        loop {
            self.chunk(&mut *stream)?;
        }
    }

    fn shake_hands(&self, stream: &mut dyn Stream) -> io::Result<()> {
        let auth = if self.options.user.is_some() { AUTH } else { "" };
        send(stream, &json!(["HELO", { "nonce": NONCE, "auth": auth, "keepalive": true }]))?;
        let ping: Vec<String> = rmp_serde::from_read(&mut *stream).map_err(io::Error::other)?;
        let key = self.options.shared_key.as_deref().unwrap_or("");
        let [word, hostname, salt, digest, user, password] = &ping[..] else {
            return Err(io::Error::other("a PING has six parts"));
        };
        let knows_key = word == "PING" && *digest == sha512(&[salt, hostname, NONCE, key]);
        let is_user = self
            .options
            .user
            .as_ref()
            .is_none_or(|(name, secret)| name == user && *password == sha512(&[AUTH, name, secret]));
        let accepted = knows_key && is_user;
        let own = "the-server";
        let proof = if accepted { sha512(&[salt, own, NONCE, key]) } else { String::new() };
        send(stream, &json!(["PONG", accepted, if accepted { "" } else { "no" }, own, proof]))?;
        if !accepted {
            self.refused.fetch_add(1, SeqCst);
            return Err(io::Error::other("refused"));
        }
        Ok(())
    }

    fn chunk(&self, stream: &mut dyn Stream) -> io::Result<()> {
        #[derive(Deserialize)]
        struct Settings {
            chunk: String,
            size: usize,
        }
        let (tag, Octets(entries), settings): (String, Octets, Settings) =
            rmp_serde::from_read(&mut *stream).map_err(io::Error::other)?;
        let records = records(&entries);
        assert_eq!(records.len(), settings.size, "`size` counts the entries");
        let fault = self.faults.fetch_add(1, SeqCst);
        let Options { unacknowledged, misacknowledged, garbled, .. } = self.options;
        let acknowledged = fault >= unacknowledged + misacknowledged + garbled;
        let chunk = Chunk { tag, id: settings.chunk.clone(), acknowledged, records };
        self.chunks.lock().expect("no panic holds it").push(chunk);
        if acknowledged {
            send(stream, &json!({ "ack": settings.chunk }))
        } else if fault < unacknowledged {
            Err(io::Error::other("as told"))
        } else if fault < unacknowledged + misacknowledged {
            send(stream, &json!({ "ack": "another" }))
        } else {
            stream.write_all(b"\xc1\xff\x00 no MessagePack")
        }
    }
}

/// `[EventTime, record]`, one after the other; `EventTime` is extension type 0 with eight bytes.
fn records(mut entries: &[u8]) -> Vec<Value> {
    let mut records = Vec::new();
    while !entries.is_empty() {
        assert_eq!(rmp::decode::read_array_len(&mut entries).expect("an entry"), 2);
        let meta = rmp::decode::read_ext_meta(&mut entries).expect("an EventTime");
        assert_eq!((meta.typeid, meta.size), (0, 8));
        let (time, rest) = entries.split_at(8);
        entries = rest;
        let seconds = u32::from_be_bytes(time[..4].try_into().expect("four bytes"));
        let record: Value = rmp_serde::from_read(&mut entries).expect("a record");
        let stamp =
            record["@timestamp"].as_str().expect("a time").parse::<postern::event::Timestamp>().expect("a time");
        assert_eq!(i64::from(seconds), stamp.as_second(), "EventTime is the event's own time");
        records.push(record);
    }
    records
}

fn send(stream: &mut dyn Stream, message: &Value) -> io::Result<()> {
    stream.write_all(&rmp_serde::to_vec_named(message).map_err(io::Error::other)?)?;
    stream.flush()
}

fn sha512(parts: &[&str]) -> String {
    let mut hash = Sha512::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

struct Octets(Vec<u8>);

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Octets;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Octets, E> {
                Ok(Octets(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Octets, E> {
                Ok(Octets(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}
