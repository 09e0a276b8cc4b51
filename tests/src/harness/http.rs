//! As much HTTP/1.1 (RFC 9112) as a stand-in for one of a cloud's services needs: a request, an answer, and the end of the connection.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

/// A request.
#[derive(Default)]
pub(super) struct Request {
    pub(super) method: String,
    /// With the query.
    pub(super) path: String,
    /// By its name in small letters.
    headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Reads the only one on a connection; what is to be answered on is given back.
    pub(super) fn read<S: Read>(stream: S) -> io::Result<(Self, S)> {
        let mut stream = BufReader::new(stream);
        let (mut request, mut line) = (Self::default(), String::new());
        stream.read_line(&mut line)?;
        let mut first = line.split(' ').map(str::to_owned);
        (request.method, request.path) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
        loop {
            line.clear();
            if stream.read_line(&mut line)? <= "\r\n".len() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
        }
        let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        request.body.resize(length, 0);
        stream.read_exact(&mut request.body)?;
        Ok((request, stream.into_inner()))
    }

    /// `name` in small letters.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// Writes the only answer on a connection. `status` is the code and what it means, `kind` the type of the body's medium.
pub(super) fn answer(stream: &mut impl Write, status: &str, kind: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(body)?;
    stream.flush()
}

/// Serves each connection by a thread of its own, for as long as this process is there.
pub(super) fn serve<S: Send + Sync + 'static>(
    listener: TcpListener,
    service: Arc<S>,
    one: fn(&S, TcpStream) -> io::Result<()>,
) {
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let service = Arc::clone(&service);
            // A client that goes is how every connection ends.
            thread::spawn(move || one(&service, stream));
        }
    });
}
