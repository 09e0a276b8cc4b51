//! What the agent tells on its own node: the last events of access sessions, and all events from now on, as the lines that
//! its sinks get. A Unix socket for root alone; `postern sessions` and `postern watch` are its clients.
//!
//! A client sends one line of JSON, [`Request`], and reads events, a line each. Where it reads too slowly and misses some, a
//! line `{"missed":N}` stands in their place.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{fs::PermissionsExt as _, net},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};

use crate::sink::recent::Recent;

/// What a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The last events of access sessions.
    pub history: bool,
    /// All events from now on.
    pub follow: bool,
}

/// How many clients are served at a time; others wait.
const CLIENTS_MAX: usize = 16;
/// The longest request.
const REQUEST_BYTES: u64 = 1_024;
/// How long a client may take to say what it wants, and to take a line.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another agent answers there.
    #[error("{}: another agent answers there", .0.display())]
    Taken(PathBuf),
    /// The operating system refused something.
    #[error("{}: {source}", path.display())]
    System {
        /// The socket's path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes the socket, its folder where that is missing, and takes the place of one that nobody answers on any more.
pub fn listen(path: &Path) -> Result<net::UnixListener, ControlError> {
    let failed = |source| ControlError::System { path: path.to_owned(), source };
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        fs::create_dir_all(folder).map_err(failed)?;
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed)?;
    }
    match net::UnixStream::connect(path) {
        Ok(_) => return Err(ControlError::Taken(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed)?,
        Err(_) => {}
    }
    // Nobody can connect before the mode is set: the folder is root's own, or whoever runs the agent chose another.
    let listener = net::UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Answers clients for ever.
pub async fn serve(listener: net::UnixListener, recent: Arc<Recent>) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "nobody on this node is answered"),
    };
    let mut clients = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if clients.len() < CLIENTS_MAX => match accepted {
                Ok((client, _)) => clients.push(answer(client, &recent)),
                Err(error) => {
                    tracing::warn!(%error, "a client on this node cannot be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(answered) = clients.next() => if let Err(error) = answered {
                tracing::debug!(%error, "a client on this node has gone");
            },
        }
    }
}

async fn answer(mut client: UnixStream, recent: &Arc<Recent>) -> io::Result<()> {
    // The mode of the socket says so too, unless somebody changed it.
    let peer = client.peer_cred()?.uid();
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {peer} may not ask")));
    }
    let (reader, mut writer) = client.split();
    let mut line = String::new();
    timeout(PATIENCE, BufReader::new(reader.take(REQUEST_BYTES)).read_line(&mut line)).await??;
    let request: Request = serde_json::from_str(&line)?;
    if !request.follow {
        if request.history {
            for text in recent.history() {
                timeout(PATIENCE, writer.write_all(&text)).await??;
            }
        }
        return writer.shutdown().await;
    }
    let (history, mut following) = recent.follow();
    for text in history.iter().filter(|_| request.history) {
        timeout(PATIENCE, writer.write_all(text)).await??;
    }
    let mut end = [0];
    let (mut reader, mut writer) = client.split();
    loop {
        tokio::select! {
            // A client that has gone is noticed when nothing happens, too.
            gone = reader.read(&mut end) => return gone.map(|_| ()),
            next = following.next() => match next {
                Some(Ok(text)) => timeout(PATIENCE, writer.write_all(&text)).await??,
                Some(Err(missed)) => {
                    let line = format!("{{\"missed\":{missed}}}\n");
                    timeout(PATIENCE, writer.write_all(line.as_bytes())).await??;
                }
                None => return Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn the_socket_is_for_its_owner_alone_and_a_dead_one_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/control.sock");
        let first = listen(&path).expect("listening");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().expect("one")).expect("there").permissions().mode() & 0o777, 0o700);
        assert!(matches!(listen(&path), Err(ControlError::Taken(_))));
        drop(first);
        listen(&path).expect("listening again");
        fs::write(folder.path().join("file"), "").expect("written");
        assert!(matches!(listen(&folder.path().join("file/x")), Err(ControlError::System { .. })));
    }

    #[tokio::test]
    async fn a_request_that_makes_no_sense_is_answered_with_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("control.sock");
        let server = tokio::spawn(serve(listen(&path).expect("listening"), Arc::default()));
        let asked = tokio::task::spawn_blocking(move || {
            for request in ["", "{}\n", "{\"history\":true,\"follow\":false,\"more\":1}\n", "\u{0}\n", "[[[[[[\n"] {
                let mut client = net::UnixStream::connect(&path).expect("connected");
                client.write_all(request.as_bytes()).expect("sent");
                client.shutdown(std::net::Shutdown::Write).expect("shut");
                let mut answer = Vec::new();
                // A reset is an answer as well.
                let _ = client.read_to_end(&mut answer);
                assert!(answer.is_empty(), "{request:?}");
            }
        });
        timeout(PATIENCE, asked).await.expect("in time").expect("no panic");
        server.abort();
    }
}
