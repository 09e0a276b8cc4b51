//! One line of the stream, as far as a story needs it. Fields are those of the stream's schema; whatever is missing is empty.

use serde::{Deserialize, Serialize};

use crate::event::Timestamp;

/// The longest line that is read, in bytes: longer than any that an agent writes.
pub(super) const LINE_BYTES: usize = 1 << 20;

/// An event, read back.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct Seen {
    /// When it happened.
    #[serde(rename = "@timestamp")]
    pub time: Timestamp,
    /// What kind of thing happened.
    pub event: What,
    /// One sentence about it.
    pub message: String,
    /// The process.
    pub process: Process,
    /// Whoever it is about.
    pub user: User,
    /// Where a login came from.
    pub source: Source,
    /// The file that was changed.
    pub file: File,
    /// The container.
    pub container: Named,
    /// The pod.
    pub orchestrator: Orchestrator,
    /// The rule that fired.
    pub rule: Named,
    /// What the schema has no place for.
    pub postern: Own,
}

/// `event`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct What {
    /// `event`, `alert`, `metric` or `state`.
    pub kind: String,
    /// What happened.
    pub action: Actions,
    /// Nanoseconds.
    pub duration: u64,
}

/// `event.action`: one, or an array of those that one event tells of.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Actions {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Actions {
    /// The first of them; empty if there is none.
    pub fn first(&self) -> &str {
        match self {
            Self::One(action) => action,
            Self::Several(actions) => actions.first().map_or("", String::as_str),
        }
    }

    /// Whether it tells of that.
    pub fn has(&self, wanted: &str) -> bool {
        match self {
            Self::One(action) => action == wanted,
            Self::Several(actions) => actions.iter().any(|action| action == wanted),
        }
    }
}

impl Default for Actions {
    fn default() -> Self {
        Self::One(String::new())
    }
}

/// `process`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Process {
    /// Its unique id.
    pub entity_id: String,
    /// Its pid.
    pub pid: u32,
    /// Path of its program.
    pub executable: String,
    /// Its arguments as one line.
    pub command_line: String,
    /// Its exit code, where that is known.
    pub exit_code: Option<i64>,
    /// Its parent.
    pub parent: Parent,
}

/// `process.parent`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Parent {
    /// Its unique id.
    pub entity_id: String,
}

/// `user`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct User {
    /// Name.
    pub name: String,
    /// Whom a change of user leads to.
    pub effective: Named,
}

/// `source`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Source {
    /// Address.
    pub ip: String,
    /// TCP port.
    pub port: u16,
}

/// `file`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct File {
    /// Its path; empty where nobody knows it.
    pub path: String,
    /// Its name.
    pub name: String,
}

/// What has a name.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// `orchestrator`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Orchestrator {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub resource: Named,
}

/// `postern`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Own {
    /// The access session.
    pub session: Session,
    /// The login.
    pub login: Login,
    /// The maintenance that was on.
    pub maintenance: Maintenance,
    /// Who beside the owner may have done it.
    pub attached: Vec<Other>,
    /// The terminal multiplexer that somebody attaches to.
    pub attachment: Attachment,
}

/// `postern.attachment`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Attachment {
    /// The session that it was started in.
    pub session: Other,
}

/// Another session.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Other {
    /// Its id.
    pub id: String,
    /// Who came in.
    pub user: String,
    /// Why it is thought to be this one.
    pub link: String,
}

/// `postern.maintenance`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Maintenance {
    /// Its ticket.
    pub ticket: String,
}

/// `postern.session`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Session {
    /// Its id; empty where the event is under none.
    pub id: String,
    /// The door.
    pub door: String,
    /// Who came in.
    pub user: String,
    /// Whether a rule allows it.
    pub allowed: bool,
    /// How sure the attribution is.
    pub confidence: String,
    /// What joins the event to the session, where the lineage was broken.
    pub link: String,
    /// The session that it was come to in.
    pub from: Other,
}

/// `postern.login`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Login {
    /// How the user proved to be who they say.
    pub method: String,
    /// The key.
    pub key: Key,
}

/// `postern.login.key`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Key {
    /// Its fingerprint.
    pub fingerprint: String,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            time: Timestamp::UNIX_EPOCH,
            event: What::default(),
            message: String::new(),
            process: Process::default(),
            user: User::default(),
            source: Source::default(),
            file: File::default(),
            container: Named::default(),
            orchestrator: Orchestrator::default(),
            rule: Named::default(),
            postern: Own::default(),
        }
    }
}

impl Seen {
    /// Reads a line; `None` where it is no event.
    pub fn parse(line: &[u8]) -> Option<Self> {
        if line.len() > LINE_BYTES {
            return None;
        }
        serde_json::from_slice(line).ok().filter(|seen: &Self| !seen.event.action.first().is_empty())
    }

    /// Whether it is an alert.
    pub fn is_alert(&self) -> bool {
        self.event.kind == "alert"
    }

    /// Sessions beside its own that it concerns too.
    pub fn others(&self) -> impl Iterator<Item = &Other> {
        let Own { session, attached, attachment, .. } = &self.postern;
        // What is done in the one session is no part of the other, but that it was.
        let is_end = matches!(self.event.action.first(), "session-opened" | "session-closed");
        let from = is_end.then_some(&session.from);
        attached.iter().chain([&attachment.session]).chain(from).filter(|other| !other.id.is_empty())
    }

    /// The pod and container, or the container; empty on the node itself.
    pub fn place(&self) -> String {
        let own = if self.container.name.is_empty() { &self.container.id } else { &self.container.name };
        match &*self.orchestrator.resource.name {
            "" => own.clone(),
            pod => format!("{}/{pod}/{own}", self.orchestrator.namespace),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Categorization;
    use crate::sink::encode::{Encoder, samples};

    #[test]
    fn whatever_the_agent_writes_is_read_back() {
        let mut encoder = Encoder::new(samples::node());
        for event in samples::all() {
            let mut line = Vec::new();
            encoder.encode(&event, &mut line);
            let seen = Seen::parse(&line).expect("an event");
            let Categorization { action, also, .. } = event.categorization();
            assert_eq!(seen.event.action.first(), action);
            assert!(also.is_none_or(|also| seen.event.action.has(also)));
            assert_eq!(seen.event.kind, event.kind().as_str());
            // Lines have microseconds.
            assert_eq!(seen.time.as_microsecond(), event.time.as_microsecond());
            let session = event.session();
            assert_eq!(seen.postern.session.id, session.map_or("", |session| &*session.id));
            assert_eq!(seen.postern.session.user, session.map_or("", |session| &*session.user));
        }
    }

    proptest! {
        #[test]
        fn any_line_is_borne(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            // Only that it returns.
            let _ = Seen::parse(&line);
        }
    }
}
