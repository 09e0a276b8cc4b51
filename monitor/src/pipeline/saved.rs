//! What is kept of open sessions across a restart of the agent, as text: JSON with a version. Plain values that know nothing of the
//! rest, so that a fuzzer can have the parser alone. Whatever is too long, too many or of another version is refused as a
//! whole: the agent then knows no more than /proc tells.

use serde::{Deserialize, Serialize};

/// The form that is written, and the only one that is read.
const VERSION: u32 = 2;
/// The longest text, in bytes.
pub const BYTES_MAX: usize = 768 << 10;
/// How many logins, how many entries, and how much of what is left to run later, are kept.
pub const KEPT_MAX: usize = 1_024;
/// The longest name of what is left to run later, in bytes: cron runs no command of more than 1,000, and what cannot be printed
/// takes more.
pub const WHAT_MAX: usize = 8 << 10;
/// The longest text in it, in bytes.
pub const TEXT_MAX: usize = 1_024;
/// The longest list in it.
pub const LIST_MAX: usize = 64;

/// All that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    version: u32,
    /// The boot that it is of: processes of another are none of this one.
    pub boot_id: String,
    /// Logins, with the sessions that they opened.
    pub logins: Vec<SavedLogin>,
    /// Entries below a session that began with a process of their own.
    pub entries: Vec<SavedEntry>,
    /// What was left to run later, in sessions that may be over.
    pub left: Vec<SavedLeft>,
}

/// A process: its pid, and when it started, in nanoseconds since boot and in whole ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SavedKey(pub u32, pub u64);

/// A login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SavedLogin {
    /// The process that carries it.
    pub process: SavedKey,
    /// Whether the kernel side carries it in the marks of what is under it.
    pub marked: bool,
    /// The first process that executed under it.
    pub leader: Option<SavedKey>,
    /// The kernel's audit session of what runs under it.
    pub audit_session: Option<u32>,
    /// Whether it has ended, and what it left behind may run still.
    pub closed: bool,
    /// When it opened, in nanoseconds since boot: the node's clock may be set between two runs.
    pub since: i64,
    /// The kind of entry.
    pub entry_type: String,
    /// What the kernel alone said of it, where it began with a process in a container.
    pub observed: String,
    /// Who.
    pub user: String,
    /// Whether the node knows that user.
    pub user_known: Option<bool>,
    /// From where, as the login program gave it.
    pub address: Option<String>,
    /// From which address.
    pub ip: Option<std::net::IpAddr>,
    /// From which port.
    pub port: Option<u16>,
    /// How the user proved to be who they say.
    pub method: Option<String>,
    /// Fingerprint of the key.
    pub key_fingerprint: Option<String>,
    /// Type of the key.
    pub key_type: Option<String>,
    /// Id in the certificate.
    pub certificate: Option<String>,
    /// Groups of the user.
    pub groups: Vec<String>,
    /// Terminal.
    pub terminal: Option<String>,
    /// PAM service.
    pub service: String,
    /// The session that it opened.
    pub session: Option<SavedSession>,
    /// Of a job: the session of whoever asked for it.
    pub linked: Option<SavedSession>,
    /// Programs executed so far.
    pub commands: u64,
    /// Alerts raised so far.
    pub alerts: u64,
    /// Users that its processes became.
    pub users: Vec<String>,
    /// Containers that its processes were in.
    pub containers: Vec<String>,
    /// Files of the node that were changed so far.
    pub files: u64,
    /// Their paths.
    pub file_paths: Vec<String>,
    /// Whether there were more of any.
    pub cut: bool,
}

/// An access session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedSession {
    /// Its id.
    pub id: String,
    /// By which door.
    pub door: String,
    /// Who came in.
    pub user: String,
    /// What the policy decided when it opened.
    pub allowed: bool,
    /// How sure the attribution is.
    pub confidence: String,
    /// What joins it.
    pub link: Option<String>,
    /// From which session it was come to. Left out where there is none, as by those who knew of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<SavedOrigin>,
}

/// The session from which another one was come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedOrigin {
    /// Its id.
    pub id: String,
    /// By which door.
    pub door: String,
    /// Who came in.
    pub user: String,
    /// How sure it is.
    pub confidence: String,
    /// Why it is thought so.
    pub reason: String,
}

/// An entry below a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedEntry {
    /// Its first process.
    pub leader: SavedKey,
    /// The login that it is below.
    pub login: Option<SavedKey>,
    /// What the kernel alone said of it.
    pub observed: String,
    /// What it turned out to be.
    pub entry_type: String,
    /// The remote address.
    pub ip: Option<std::net::IpAddr>,
    /// The session.
    pub session: SavedSession,
    /// The server of the terminal multiplexer that it goes on under.
    pub multiplexer: Option<SavedKey>,
}

/// What somebody in a session left for others to run later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedLeft {
    /// What it is.
    pub what: SavedWhat,
    /// What was done for it.
    pub how: String,
    /// When, in nanoseconds since boot.
    pub at: u64,
    /// By whom.
    pub by: SavedEntry,
}

/// What somebody left, by the name that it has where it is run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SavedWhat {
    /// The service that a unit's file is about.
    Unit(String),
    /// A table of cron's, and the command in it.
    CronJob(String, String),
    /// A program in a folder whose programs cron runs.
    CronProgram(String),
    /// The user whose jobs atd runs.
    AtJobs(String),
}

/// Why a text is not what was kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is longer than any that is written.
    #[error("it has more than {BYTES_MAX} bytes")]
    Long,
    /// It is no JSON of this form.
    #[error("it makes no sense: {0}")]
    Senseless(String),
    /// It is of another version of the agent.
    #[error("it has version {0}, and not {VERSION}")]
    Version(u32),
    /// A list or a text in it is longer than any that is written.
    #[error("a list or a text in it is too long")]
    Unbounded,
}

/// What one of any version has.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

impl Saved {
    /// Nothing yet, of that boot.
    pub fn new(boot_id: &str) -> Self {
        Self { version: VERSION, boot_id: boot_id.to_owned(), ..Self::default() }
    }

    /// The text, and how much had no room in it: what was left to run later goes before sessions do, and of each what came first.
    pub fn encode(mut self) -> (Vec<u8>, usize) {
        let over = |length: usize| length.saturating_sub(KEPT_MAX);
        let mut left_out = over(self.logins.len()) + over(self.entries.len()) + over(self.left.len());
        self.logins.drain(..over(self.logins.len()));
        self.entries.drain(..over(self.entries.len()));
        self.left.drain(..over(self.left.len()));
        loop {
            // Values of these kinds always have a text.
            let text = serde_json::to_vec(&self).unwrap_or_default();
            if text.len() <= BYTES_MAX {
                return (text, left_out);
            }
            if !self.left.is_empty() {
                left_out += self.left.drain(..self.left.len().div_ceil(2)).count();
                continue;
            }
            let (logins, entries) = (self.logins.len().div_ceil(2), self.entries.len().div_ceil(2));
            self.logins.drain(..logins);
            self.entries.drain(..entries);
            left_out += logins + entries;
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn parse(text: &[u8]) -> Result<Self, Unusable> {
        if text.len() > BYTES_MAX {
            return Err(Unusable::Long);
        }
        let senseless = |error: serde_json::Error| Unusable::Senseless(error.to_string());
        let head: Head = serde_json::from_slice(text).map_err(senseless)?;
        if head.version != VERSION {
            return Err(Unusable::Version(head.version));
        }
        let saved: Self = serde_json::from_slice(text).map_err(senseless)?;
        if saved.is_bounded() { Ok(saved) } else { Err(Unusable::Unbounded) }
    }

    fn is_bounded(&self) -> bool {
        self.logins.len() <= KEPT_MAX
            && self.entries.len() <= KEPT_MAX
            && self.left.len() <= KEPT_MAX
            && self.logins.iter().all(SavedLogin::is_bounded)
            && self.entries.iter().all(SavedEntry::is_bounded)
            && self.left.iter().all(SavedLeft::is_bounded)
    }
}

impl SavedEntry {
    fn is_bounded(&self) -> bool {
        self.session.is_bounded() && all_short([&self.observed, &self.entry_type].into_iter())
    }
}

impl SavedLeft {
    fn is_bounded(&self) -> bool {
        self.what.is_bounded() && all_short([&self.how].into_iter()) && self.by.is_bounded()
    }
}

impl SavedWhat {
    /// Whether another run would take it.
    pub fn is_bounded(&self) -> bool {
        match self {
            Self::Unit(name) | Self::CronProgram(name) | Self::AtJobs(name) => name.len() <= WHAT_MAX,
            Self::CronJob(table, command) => table.len() <= WHAT_MAX && command.len() <= WHAT_MAX,
        }
    }
}

impl SavedLogin {
    fn is_bounded(&self) -> bool {
        let lists = [&self.groups, &self.users, &self.containers, &self.file_paths];
        let texts = [&self.entry_type, &self.observed, &self.user, &self.service];
        let maybe =
            [&self.address, &self.method, &self.key_fingerprint, &self.key_type, &self.certificate, &self.terminal];
        lists.iter().all(|list| list.len() <= LIST_MAX && all_short(list.iter()))
            && all_short(texts.into_iter())
            && all_short(maybe.into_iter().flatten())
            && [&self.session, &self.linked].into_iter().flatten().all(SavedSession::is_bounded)
    }
}

impl SavedSession {
    fn is_bounded(&self) -> bool {
        all_short([&self.id, &self.door, &self.user, &self.confidence].into_iter().chain(&self.link))
            && self.from.as_ref().is_none_or(SavedOrigin::is_bounded)
    }
}

impl SavedOrigin {
    fn is_bounded(&self) -> bool {
        all_short([&self.id, &self.door, &self.user, &self.confidence, &self.reason].into_iter())
    }
}

fn all_short<'a>(mut texts: impl Iterator<Item = &'a String>) -> bool {
    texts.all(|text| text.len() <= TEXT_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn login(pid: u32) -> SavedLogin {
        SavedLogin {
            process: SavedKey(pid, 10_000_000),
            user: "ops".into(),
            ip: Some([192, 0, 2, 7].into()),
            session: Some(SavedSession {
                id: "1".into(),
                from: Some(SavedOrigin { id: "0".into(), ..SavedOrigin::default() }),
                ..SavedSession::default()
            }),
            ..SavedLogin::default()
        }
    }

    fn left(what: SavedWhat) -> SavedLeft {
        SavedLeft { what, how: "wrote it".into(), at: 7, by: SavedEntry::default() }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let entry = SavedEntry { leader: SavedKey(7, 0), ..SavedEntry::default() };
        let what = [
            SavedWhat::Unit("web.service".into()),
            SavedWhat::CronJob("/etc/crontab".into(), "x".into()),
            SavedWhat::CronProgram("/etc/cron.daily/x".into()),
            SavedWhat::AtJobs("ops".into()),
        ];
        let left = what.map(left).to_vec();
        let saved = Saved { logins: vec![login(1), login(2)], entries: vec![entry], left, ..Saved::new("boot") };
        let (text, left_out) = saved.clone().encode();
        assert_eq!((Saved::parse(&text), left_out), (Ok(saved), 0));
    }

    #[test]
    fn what_has_no_room_is_counted_and_the_rest_is_readable() {
        let many = Saved { logins: (0..3_000).map(login).collect(), ..Saved::new("boot") };
        let (text, left_out) = many.encode();
        let read = Saved::parse(&text).expect("readable");
        assert_eq!((read.logins.len() + left_out, read.logins.last()), (3_000, Some(&login(2_999))));
        let long = SavedLogin { groups: vec!["g".repeat(1_000); 64], ..login(1) };
        let (text, left_out) = Saved { logins: vec![long; 100], ..Saved::new("boot") }.encode();
        assert!(text.len() <= BYTES_MAX && left_out > 0 && Saved::parse(&text).is_ok(), "{left_out}");
    }

    #[test]
    fn what_is_left_to_run_later_makes_room_for_sessions() {
        let later = |number: usize| left(SavedWhat::Unit(format!("{number:0>WHAT_MAX$}")));
        let count = 2 * KEPT_MAX;
        let saved = Saved { logins: vec![login(1)], left: (0..count).map(later).collect(), ..Saved::new("boot") };
        let (text, left_out) = saved.encode();
        let read = Saved::parse(&text).expect("readable");
        assert_eq!((read.logins.len(), read.left.len() + left_out), (1, count));
        assert_eq!(read.left.last(), Some(&later(count - 1)), "what came last is kept");
    }

    #[test]
    fn anything_else_is_refused_as_a_whole() {
        let within = |logins: &str, left: &str| {
            format!(r#"{{"version":2,"boot_id":"b","entries":[],"logins":{logins},"left":[{left}]}}"#)
        };
        let by = serde_json::to_string(&SavedEntry::default()).expect("a text");
        let later =
            |what: &str, how: &str| within("[]", &format!(r#"{{"what":{what},"how":"{how}","at":0,"by":{by}}}"#));
        let come_to = |from: &str| {
            let from = Some(SavedOrigin { id: from.to_owned(), ..SavedOrigin::default() });
            serde_json::to_string(&SavedSession { from, ..SavedSession::default() }).expect("a text")
        };
        let (long, longer) = ("x".repeat(TEXT_MAX + 1), "x".repeat(WHAT_MAX + 1));
        for (text, expected) in [
            (r#"{"version":1,"else":[]}"#.to_owned(), Unusable::Version(1)),
            (within(&format!(r#"[{{"user":"{long}"}}]"#), ""), Unusable::Unbounded),
            (within(&format!(r#"[{{"session":{}}}]"#, come_to(&long)), ""), Unusable::Unbounded),
            (later(r#"{"unit":"x"}"#, &long), Unusable::Unbounded),
            (later(&format!(r#"{{"unit":"{longer}"}}"#), "x"), Unusable::Unbounded),
            (later(&format!(r#"{{"cron-job":["x","{longer}"]}}"#), "x"), Unusable::Unbounded),
            (" ".repeat(BYTES_MAX + 1), Unusable::Long),
        ] {
            assert_eq!(Saved::parse(text.as_bytes()), Err(expected));
        }
        assert!(Saved::parse(later(r#"{"unit":"x"}"#, "x").as_bytes()).is_ok());
        let wrong = [r#"{"job":"x"}"#, r#"{"cron-job":["x"]}"#, r#"{"unit":null}"#, r#""unit""#];
        let wrong = wrong.map(|what| later(what, "x"));
        let more = within(r#"[],"more":1"#, "");
        let all = ["", "[]", "null", r#"{"version":2}"#, &more].into_iter().chain(wrong.iter().map(|it| &**it));
        for text in all {
            assert!(matches!(Saved::parse(text.as_bytes()), Err(Unusable::Senseless(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_borne(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            // Only that it returns.
            let _ = Saved::parse(&bytes);
        }
    }
}
