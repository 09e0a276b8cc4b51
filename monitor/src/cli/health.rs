//! `postern health`: asks a running agent how it is. It is there for the kubelet, whose HTTP probes come from the node and
//! so cannot reach an address on the pod's own loopback, and the image holds no other program that could ask.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use super::report;
use crate::{
    config::{Config, Surroundings, printable},
    exit::Exit,
};

/// How long the whole question may take.
const WITHIN: Duration = Duration::from_secs(2);
/// The longest answer that is read, in bytes. The agent's own have one line.
const ANSWER_BYTES: usize = 64 << 10;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether the event loop goes round: `/healthz`.
    Alive,
    /// Whether every sensor is armed: `/readyz`.
    Ready,
}

impl Question {
    const fn path(self) -> &'static str {
        match self {
            Self::Alive => "/healthz",
            Self::Ready => "/readyz",
        }
    }
}

/// Asks the agent that the configuration at `path` belongs to. Says nothing where the answer is yes, and otherwise why not.
pub fn health(path: Option<&Path>, question: Question, errors: &mut impl Write) -> Exit {
    let config = match Config::load(path, &Surroundings::of_this_process()) {
        Ok(config) => config,
        Err(problems) => {
            report(&problems, errors);
            return Exit::Usage;
        }
    };
    let Some(address) = config.admin else {
        // Nobody is left to tell when standard error is gone; the exit code says it too.
        let _ = writeln!(errors, "postern: health is not served, since admin.address is off");
        return Exit::Usage;
    };
    let refusal = match ask(address, question) {
        Ok(Answer { status: 200, .. }) => return Exit::Success,
        Ok(Answer { status, body }) => format!("{}: {status}: {}", question.path(), printable(body.trim_end())),
        Err(error) => format!("http://{address}{} cannot be asked: {error}", question.path()),
    };
    let _ = writeln!(errors, "postern: {refusal}");
    Exit::No
}

struct Answer {
    status: u16,
    body: String,
}

/// One request of HTTP/1.0 (RFC 1945), whose answer ends with its connection.
fn ask(address: SocketAddr, question: Question) -> io::Result<Answer> {
    let end = Instant::now() + WITHIN;
    let mut stream = TcpStream::connect_timeout(&address, WITHIN)?;
    stream.set_write_timeout(Some(left(end)?))?;
    write!(stream, "GET {} HTTP/1.0\r\nHost: {address}\r\n\r\n", question.path())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while answer.len() < ANSWER_BYTES {
        // Set anew each time: the limit is on the whole answer, and not on each byte of it.
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    read(&String::from_utf8_lossy(&answer)).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer"))
}

/// The time that is left; none is an error, since a socket takes no time-out of zero.
fn left(end: Instant) -> io::Result<Duration> {
    match end.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

fn read(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.get(..3)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, sync::Arc};

    use super::*;
    use crate::{
        admin::{Admin, Health},
        metrics::Figures,
    };

    /// What `postern health` answers with this `admin.address`.
    fn answer(address: &str, question: Question) -> (Exit, String) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), format!("admin: {{address: '{address}'}}\n")).expect("written");
        let mut errors = Vec::new();
        let exit = health(Some(file.path()), question, &mut errors);
        (exit, String::from_utf8(errors).expect("text"))
    }

    #[test]
    fn a_running_agent_is_asked() {
        let state = Arc::new(Health::new(Duration::from_mins(1)));
        let figures = Arc::new(Figures::new(["exec"], []));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let admin = Admin::start(any, Arc::clone(&state), figures).expect("a server");
        let address = admin.address().to_string();
        assert_eq!(answer(&address, Question::Alive), (Exit::Success, String::new()));
        state.set_not_ready("the sensor logins is not armed\nand more");
        let (exit, said) = answer(&address, Question::Ready);
        assert_eq!(exit, Exit::No);
        assert!(said.starts_with("postern: /readyz: 503: the sensor logins is not armed"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        state.set_ready();
        assert_eq!(answer(&address, Question::Ready), (Exit::Success, String::new()));
        admin.stop();
        let (exit, said) = answer(&address, Question::Alive);
        assert_eq!(exit, Exit::No);
        assert!(said.contains("cannot be asked: "), "{said}");
    }

    #[test]
    fn an_agent_that_says_nothing_is_not_waited_for() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a listener");
        let begun = Instant::now();
        let (exit, _) = answer(&listener.local_addr().expect("an address").to_string(), Question::Alive);
        assert_eq!(exit, Exit::No);
        assert!((WITHIN..WITHIN * 3).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[test]
    fn nothing_can_be_asked_where_health_is_not_served() {
        let (exit, said) = answer("off", Question::Alive);
        assert_eq!((exit, said.contains("admin.address is off")), (Exit::Usage, true));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for garbage in ["", "\r\n\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 2é0 OK\r\n\r\n", "SSH-2.0-x\r\n\r\n"] {
            assert!(read(garbage).is_none(), "{garbage:?}");
        }
        assert!(read("HTTP/1.1 200 OK\r\n\r\nok\n").is_some_and(|it| it.status == 200 && it.body == "ok\n"));
    }
}
