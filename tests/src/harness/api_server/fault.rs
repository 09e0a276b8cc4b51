//! What can go wrong.

use std::time::Duration;

use serde_json::{Value, json};

use super::http::Asked;

/// Which requests a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Lists of pods, each page being a request.
    List,
    /// Watches on pods.
    Watch,
    /// Both.
    Any,
    /// Lists of the node's own object, and watches on it.
    Node,
}

impl On {
    pub(super) fn matches(self, asked: Asked) -> bool {
        let is_of_node = matches!(asked, Asked::ListNode | Asked::WatchNode);
        match self {
            Self::Node => is_of_node,
            Self::Any => !is_of_node,
            Self::List => asked == Asked::List,
            Self::Watch => asked == Asked::Watch,
        }
    }
}

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An HTTP error with a `Status` object.
    Status(Value),
    /// An HTTP error with plain text, as proxies and overloaded servers give it.
    Plain(u16, &'static str),
    /// These bytes for the whole HTTP message; then the connection is dropped.
    Raw(Vec<u8>),
    /// A watch that begins well and then has an ERROR line with this `Status`.
    ErrorLine(Value),
    /// A list that is these bytes, or a watch that has them for its first line.
    Garbage(Vec<u8>),
    /// A list of which only half is sent, or a watch whose next line is: then the connection is dropped.
    CutShort,
    /// A list or a watch's next line that ends in the middle of the JSON, though the HTTP message is whole.
    HalfJson,
    /// The answer begins only after this long.
    Slow(Duration),
    /// No answer at all; the connection stays open.
    Silent,
    /// A watch that opens and then says nothing and does not end.
    Mute,
    /// A watch that ends in good order as soon as it has begun.
    EndAtOnce,
    /// The connection is dropped instead of an answer.
    Drop,
    /// A list or a line that goes on for this many bytes.
    Endless(usize),
}

impl Fault {
    /// 401, as for a token that is not known.
    pub fn unauthorized() -> Self {
        Self::Status(status(401, "Unauthorized", "Unauthorized", None))
    }

    /// 403, as RBAC says it.
    pub fn forbidden() -> Self {
        let message = "pods is forbidden: User \"system:serviceaccount:postern:postern\" cannot list resource \"pods\" in API group \"\" at the cluster scope";
        Self::Status(status(403, "Forbidden", message, None))
    }

    /// 410 for a resource version that is too old.
    pub fn gone() -> Self {
        Self::Status(gone())
    }

    /// The same, once the watch is open.
    pub fn gone_line() -> Self {
        Self::ErrorLine(gone())
    }

    /// 429 that asks for a wait.
    pub fn too_many_requests(wait: Duration) -> Self {
        let message = "the server has received too many requests and has asked us to try again later";
        Self::Status(status(429, "TooManyRequests", message, Some(wait)))
    }

    /// 500.
    pub fn internal() -> Self {
        Self::Status(status(500, "InternalError", "Internal error occurred: etcdserver: request timed out", None))
    }
}

pub(super) fn gone() -> Value {
    status(410, "Expired", "too old resource version: 1 (2)", None)
}

/// A `Status` object of meta/v1.
pub(super) fn status(code: u16, reason: &str, message: &str, wait: Option<Duration>) -> Value {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason,
        "code": code,
    });
    if let Some(wait) = wait {
        status["details"] = json!({"retryAfterSeconds": wait.as_secs()});
    }
    status
}
