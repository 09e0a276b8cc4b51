//! Logins: who, how, from where.

use std::{net::IpAddr, sync::Arc};

use super::{Door, Session, User};

/// One attempt to come in, or one person who did.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// By which door.
    pub door: Door,
    /// The user asked for, as it was typed; empty where nobody on the node can know.
    pub user: Arc<str>,
    /// Whether the node knows that user; `None` where nobody said.
    pub user_known: Option<bool>,
    /// From where.
    pub source: Source,
    /// How the user proved to be who they say; `None` where the login program did not say.
    pub method: Option<LoginMethod>,
    /// Fingerprint of the key or certificate, as the login program gives it (`SHA256:...`).
    pub key_fingerprint: Option<Arc<str>>,
    /// The id in the certificate.
    pub certificate: Option<Arc<str>>,
    /// The node's groups that the user is in, by the node's own files.
    pub groups: Vec<Arc<str>>,
    /// Type of the key (`ED25519`).
    pub key_type: Option<Arc<str>>,
    /// Terminal name, as the login program gave it to PAM.
    pub terminal: Option<Arc<str>>,
    /// PAM service name.
    pub service: Arc<str>,
    /// Why it was refused, in PAM's or the login program's words.
    pub reason: Option<Arc<str>>,
    /// The access session that it opened.
    pub session: Option<Arc<Session>>,
    /// How often this user was refused from this source, this time included; 0 where nobody was.
    pub attempts: u64,
    /// Who was refused, where the event stands for more than one user from one source.
    pub refused: Option<Arc<Refused>>,
    /// What the session was; set when it closed.
    pub summary: Option<Summary>,
}

/// Those who were refused, where there were too many for an event each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many users at least.
    pub users: u64,
    /// From how many sources at least.
    pub sources: u64,
    /// Some of them.
    pub examples: Vec<Arc<str>>,
}

/// A session from its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How long it lasted, in nanoseconds.
    pub duration_ns: u64,
    /// Programs executed.
    pub commands: u64,
    /// Alerts raised.
    pub alerts: u64,
    /// Users that its processes became, in the order of their first time.
    pub users: Vec<Arc<str>>,
    /// Containers that its processes entered or ran in.
    pub containers: Vec<Arc<str>>,
    /// Files of the node that its processes changed.
    pub files: u64,
    /// Their paths, in the order of their first time.
    pub file_paths: Vec<Arc<str>>,
    /// Whether there were more users, containers or files than are listed.
    pub cut: bool,
}

/// Somebody who came in goes on as somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserChange {
    /// Whose process it was.
    pub from: User,
    /// Whose process it is.
    pub to: User,
    /// Path of the program that changed the user.
    pub program: Arc<str>,
}

/// The two witnesses of who came in part: a process of a session is in another audit session than the program before it. The
/// kernel gives that number at a login, once, and only who may control auditing can have another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditChange {
    /// The audit session before.
    pub from: u32,
    /// The one from now on; none where it was taken away.
    pub to: Option<u32>,
}

/// A process of a session that no rule allows was killed, as the configuration asks.
#[derive(Clone, Debug)]
pub struct Termination {
    /// The session.
    pub session: Arc<Session>,
    /// Why it could not be.
    pub failure: Option<Arc<str>>,
}

/// Where a login came from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// As the login program gave it: an address or a host name.
    pub address: Option<Arc<str>>,
    /// Its IP address.
    pub ip: Option<IpAddr>,
    /// Its TCP port.
    pub port: Option<u16>,
    /// Whether nothing but a program's environment says so, which is whatever those wrote who started it.
    pub claimed: bool,
}

/// How a user proved to be who they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginMethod {
    /// A key, or a certificate.
    PublicKey,
    /// A password.
    Password,
    /// Questions and answers, mostly by PAM.
    KeyboardInteractive,
    /// A host's key.
    HostBased,
    /// Kerberos.
    Gssapi,
    /// A method this program has no name for, in the login program's words.
    Other(Arc<str>),
}

impl LoginMethod {
    /// The method that SSH names so.
    pub fn parse(name: &str) -> Self {
        let named = [Self::PublicKey, Self::Password, Self::KeyboardInteractive, Self::HostBased, Self::Gssapi];
        named.into_iter().find(|method| method.as_str() == name).unwrap_or_else(|| Self::Other(name.into()))
    }

    /// As SSH names it (RFC 4252, 4256, 4462).
    pub fn as_str(&self) -> &str {
        match self {
            Self::PublicKey => "publickey",
            Self::Password => "password",
            Self::KeyboardInteractive => "keyboard-interactive",
            Self::HostBased => "hostbased",
            Self::Gssapi => "gssapi-with-mic",
            Self::Other(name) => name,
        }
    }
}
