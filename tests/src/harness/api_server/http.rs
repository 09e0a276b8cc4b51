//! As much HTTP/1.1 (RFC 9112) as one client with one kind of request needs; written out so that every byte of an answer can be wrong on purpose.

use std::{collections::BTreeMap, io, time::Instant};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest request head that is read, in bytes.
const HEAD_BYTES: u64 = 16 * 1024;

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// When its head had been read.
    pub at: Instant,
    /// What it asks for.
    pub asked: Asked,
    /// Method.
    pub method: String,
    /// Path, without the query.
    pub path: String,
    /// The query's parameters, decoded.
    pub query: BTreeMap<String, String>,
    /// The bearer token.
    pub token: Option<String>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A list of pods, or the next page of one.
    List,
    /// A watch on pods.
    Watch,
    /// A list of the node's own object.
    ListNode,
    /// A watch on it.
    WatchNode,
    /// Something that an agent has no business with.
    Else,
}

/// Reads a request's head; `None` when there is no further one. Bodies are not read: neither request has one.
pub(super) async fn read_request(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Request>> {
    let mut stream = stream.take(HEAD_BYTES);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut first = lines.first().map(String::as_str).unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query: BTreeMap<_, _> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    let bearer = |line: &String| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.strip_prefix("Bearer ").map(str::to_owned)).flatten()
    };
    let asked = match (method, path, query.get("watch").map(String::as_str)) {
        ("GET", "/api/v1/pods", Some("true" | "1")) => Asked::Watch,
        ("GET", "/api/v1/pods", None) => Asked::List,
        ("GET", "/api/v1/nodes", Some("true" | "1")) => Asked::WatchNode,
        ("GET", "/api/v1/nodes", None) => Asked::ListNode,
        _ => Asked::Else,
    };
    let token = lines.iter().find_map(bearer);
    Ok(Some(Request { at: Instant::now(), asked, method: method.to_owned(), path: path.to_owned(), query, token }))
}

/// Percent-decoding (RFC 3986), with the plus sign of HTML forms.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'+' => b' ',
            b'%' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            byte => byte,
        };
        bytes.push(decoded);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Writes a whole answer, or as much of it as `sent` lets through.
pub(super) async fn answer(
    stream: &mut (impl AsyncWrite + Unpin),
    code: u16,
    kind: &str,
    body: &[u8],
    sent: usize,
) -> io::Result<()> {
    let head = format!("HTTP/1.1 {code} -\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body[..sent.min(body.len())]).await?;
    stream.flush().await
}

/// Begins an answer of unknown length.
pub(super) async fn begin_chunks(stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    stream.flush().await
}

/// Writes a part of it; an empty part ends it.
pub(super) async fn chunk(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).await?;
    stream.write_all(bytes).await?;
    stream.write_all(b"\r\n").await?;
    stream.flush().await
}
