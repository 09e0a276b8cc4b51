//! What went wrong with the API server, in words that tell an operator where to look.

use std::{error::Error, fmt, time::Duration};

use kube::core::Status;

/// Longest text of the server's that a message carries, in bytes.
const QUOTED_BYTES: usize = 300;
/// The longest wait that a server can ask for.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Why a list or a watch failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    text: String,
    /// How long the server asks to be left alone.
    pub(super) wait: Option<Duration>,
}

/// Failures that an operator would treat alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The resource version is too old to continue from (410): list anew.
    Expired,
    /// A watch ended without need: watch again from where it was.
    Ended,
    /// Nobody answers.
    Unanswered,
    /// The server does not know who we are (401).
    Unauthenticated,
    /// The server knows us and does not let us (403).
    Forbidden,
    /// The server has too much to do or is broken (429, 5xx), or refuses the request otherwise.
    Refused,
    /// The server's answer makes no sense.
    Garbled,
}

impl Failure {
    pub(super) fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), wait: None }
    }

    pub(super) fn of_kind(kind: FailureKind, error: &(dyn Error + 'static)) -> Self {
        Self::new(kind, chain(error))
    }

    pub(super) fn garbled(text: impl fmt::Display) -> Self {
        Self::new(FailureKind::Garbled, text.to_string())
    }

    /// What a `Status` object says, that came with this HTTP status or in a watch's ERROR line.
    pub(super) fn of_status(code: u16, status: &Status) -> Self {
        let kind = match code {
            410 => FailureKind::Expired,
            401 => FailureKind::Unauthenticated,
            403 => FailureKind::Forbidden,
            _ => FailureKind::Refused,
        };
        let asked = status.details.as_ref().map(|details| u64::from(details.retry_after_seconds));
        let failure =
            Self { kind, text: format!("{code} {}: {}", quoted(&status.reason), quoted(&status.message)), wait: None };
        failure.with_wait(asked)
    }

    /// In words, of objects that are called `name`.
    pub(super) fn said_of<'a>(&'a self, name: &'a str) -> Said<'a> {
        Said { failure: self, name }
    }

    /// Keeps the longer of the waits that were asked for, in seconds.
    pub(super) fn with_wait(mut self, asked: Option<u64>) -> Self {
        let asked = asked.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
        self.wait = self.wait.max(asked);
        self
    }
}

/// A failure to learn of these objects.
pub(super) struct Said<'a> {
    failure: &'a Failure,
    name: &'a str,
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.failure.kind {
            FailureKind::Expired => "the API server has forgotten where the watch was",
            FailureKind::Ended => "the API server or the network ended a watch",
            FailureKind::Unanswered => "the API server does not answer",
            FailureKind::Unauthenticated => "the API server does not accept the token",
            FailureKind::Forbidden => {
                return write!(f, "the service account may not list and watch {} ({})", self.name, self.failure.text);
            }
            FailureKind::Refused => "the API server refuses",
            FailureKind::Garbled => "the API server's answer makes no sense",
        };
        write!(f, "{what} ({})", self.failure.text)
    }
}

/// An error with its causes: the outer ones seldom say more than that there was one.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |error| (*error).source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    quoted(&text)
}

/// Somebody else's text: short, and without control characters.
fn quoted(text: &str) -> String {
    text[..text.floor_char_boundary(QUOTED_BYTES)].escape_debug().to_string()
}
