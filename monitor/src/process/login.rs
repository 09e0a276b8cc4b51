//! Logins, put together from calls into libpam and from what the login program logs. The calls say that a login happened
//! and whose processes are under it; the log adds method, key and port. A line can add to a login, but only a call
//! makes one: a forged line opens nothing.

use std::{net::IpAddr, sync::Arc};

use postern_ebpf::abi::{LoginCall, LoginClass, ProcessKey};
use rustc_hash::FxHashMap;

use super::{
    key::to_tick,
    sshd_log::{self, Line, Spelled},
    text::{cut, printable},
};
use crate::{
    event::{Door, EntryType, Login, LoginMethod, Source},
    record,
};

/// Logins that are followed at once. Past that the one that was begun first is given up, and said to be.
const ATTEMPTS_MAX: usize = 8_192;
/// How long a refusal waits for the line that says more of it.
const DETAIL_WAIT_NS: u64 = 1_000_000_000;
/// How long after PAM has let somebody in the session is expected.
const ADMITTED_NS: u64 = 10_000_000_000;
/// How much of a name is kept, in bytes.
const NAME_MAX: usize = 256;
/// Item numbers of `pam_set_item`, from `security/_pam_types.h`.
const PAM_USER: i32 = 2;
/// See `PAM_USER`.
const PAM_TTY: i32 = 3;
/// See `PAM_USER`.
const PAM_RHOST: i32 = 4;

/// What became of a login.
#[derive(Debug)]
pub enum Outcome {
    /// Somebody comes from there, and is not let in yet.
    Coming {
        /// The process that may let them in.
        process: ProcessKey,
        /// From where.
        ip: IpAddr,
    },
    /// Its session is about to open: processes under `process` belong to it from here on.
    Opening {
        /// The process that opens it.
        process: ProcessKey,
        /// Who.
        login: Login,
    },
    /// Its session is open.
    Opened {
        /// The process that opened it.
        process: ProcessKey,
    },
    /// Its session could not be opened, or the login was refused.
    Failed {
        /// The process that refused it.
        process: ProcessKey,
        /// Who.
        login: Login,
        /// Whether the login program's own words were still missing.
        partial: bool,
    },
    /// Its session has ended.
    Closed {
        /// The process that had opened it.
        process: ProcessKey,
    },
}

/// Follows logins by the process that carries each.
#[derive(Default)]
pub struct LoginTracker {
    attempts: FxHashMap<u32, Attempt>,
    given_up: u64,
}

#[derive(Clone, Debug, Default)]
struct Attempt {
    process: ProcessKey,
    begun_ns: u64,
    class: Option<LoginClass>,
    service: Arc<str>,
    user: Arc<str>,
    user_known: Option<bool>,
    terminal: Option<Arc<str>>,
    source: Source,
    method: Option<LoginMethod>,
    key_type: Option<Arc<str>>,
    fingerprint: Option<Arc<str>>,
    certificate: Option<Arc<str>>,
    reason: Option<Arc<str>>,
    /// A refusal by PAM that no line has explained yet: when it was.
    refused_ns: Option<u64>,
    /// Whether this login was refused at least once, and said so.
    failed: bool,
    open: bool,
    /// When PAM found nothing against a person's account.
    admitted_ns: Option<u64>,
    /// What sshd said of whom it let in, for what comes without PAM.
    accepted: Option<Box<Login>>,
}

impl LoginTracker {
    /// How many logins were given up for want of room.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Whether somebody has been let in whose session is not open yet.
    pub fn is_admitting(&self, now_ns: u64) -> bool {
        let soon = |since: u64| now_ns.saturating_sub(since) < ADMITTED_NS;
        self.attempts.values().any(|attempt| !attempt.open && attempt.admitted_ns.is_some_and(soon))
    }

    /// A call into libpam.
    pub fn call(&mut self, login: &record::Login<'_>, now_ns: u64) -> Option<Outcome> {
        let (process, parent) = (login.body.caller.process, login.body.caller.parent);
        if login.call == LoginCall::Start {
            self.start(process, login, now_ns);
            return None;
        }
        let attempt = self.find(process, parent)?;
        let value = login.body.value;
        match login.call {
            LoginCall::Start => None,
            LoginCall::SetItem => {
                attempt.set_item(value, login.text);
                let ip = attempt.source.ip.filter(|_| value == PAM_RHOST && attempt.class == Some(LoginClass::Sshd));
                ip.map(|ip| Outcome::Coming { process, ip })
            }
            LoginCall::Authenticated | LoginCall::AccountChecked => {
                attempt.checked(value, now_ns);
                if login.call == LoginCall::AccountChecked && value == 0 {
                    let by_person = matches!(attempt.class, Some(LoginClass::Sshd | LoginClass::Console));
                    attempt.admitted_ns = by_person.then_some(now_ns);
                }
                None
            }
            LoginCall::OpenSession => {
                attempt.process = process;
                attempt.refused_ns = None;
                Some(Outcome::Opening { process, login: attempt.login() })
            }
            LoginCall::SessionOpened if value == 0 => {
                attempt.open = true;
                Some(Outcome::Opened { process })
            }
            LoginCall::SessionOpened => {
                attempt.reason = Some(format!("the session could not be opened: {}", pam_error(value)).into());
                Some(attempt.fail(false))
            }
            LoginCall::CloseSession => self.end(process),
        }
    }

    /// Whom the sshd that carries a connection said that it let in. A connection has one process that says so, which executes
    /// nothing else as long as it lives: neither what comes of the login nor any other program can say it in its place.
    pub fn accepted(&self, process: ProcessKey) -> Option<&Login> {
        let attempt = self.attempts.get(&process.tgid)?;
        attempt.accepted.as_deref().filter(|_| to_tick(attempt.process) == to_tick(process))
    }

    /// A line that a login program logged.
    pub fn log(&mut self, log: &record::Log<'_>, now_ns: u64) -> Option<Outcome> {
        let text = printable(log.text);
        let line = sshd_log::parse(&text)?;
        let process = log.body.caller.process;
        let known = self.find(process, log.body.caller.parent).is_some();
        // Before authentication sshd speaks of users that PAM has not been asked about yet.
        if !known {
            self.admit(Attempt {
                process,
                begun_ns: now_ns,
                class: Some(LoginClass::Sshd),
                service: "sshd".into(),
                ..Attempt::default()
            });
        }
        let attempt = self.find(process, log.body.caller.parent)?;
        if attempt.class != Some(LoginClass::Sshd) {
            return None;
        }
        let is_accepted = matches!(line, Line::Accepted(_)) && attempt.process == process;
        let outcome = attempt.explain(line);
        // Nobody is let in twice over one connection: what a program would say later in sshd's name is not heard.
        if is_accepted && attempt.accepted.is_none() {
            attempt.accepted = Some(Box::new(attempt.login()));
        }
        outcome
    }

    /// A process has ended: with it its login.
    pub fn end(&mut self, process: ProcessKey) -> Option<Outcome> {
        if to_tick(self.attempts.get(&process.tgid)?.process) != to_tick(process) {
            return None;
        }
        let mut attempt = self.attempts.remove(&process.tgid)?;
        if attempt.open {
            Some(Outcome::Closed { process: attempt.process })
        } else {
            attempt.refused_ns.is_some().then(|| attempt.fail(true))
        }
    }

    /// Refusals that no line has explained in time.
    pub fn overdue(&mut self, now_ns: u64) -> Vec<Outcome> {
        self.attempts
            .values_mut()
            .filter(|attempt| attempt.refused_ns.is_some_and(|since| now_ns.saturating_sub(since) > DETAIL_WAIT_NS))
            .map(|attempt| attempt.fail(true))
            .collect()
    }

    fn start(&mut self, process: ProcessKey, login: &record::Login<'_>, now_ns: u64) {
        let service = printable(login.text);
        let Some(class) = class_of(&service) else { return };
        let earlier = self.attempts.remove(&process.tgid).filter(|it| it.process == process && !it.open);
        let mut attempt =
            Attempt { process, begun_ns: now_ns, class: Some(class), service, ..earlier.unwrap_or_default() };
        if !login.user.is_empty() {
            attempt.user = name(login.user);
        }
        self.admit(attempt);
    }

    fn admit(&mut self, attempt: Attempt) {
        if self.attempts.len() >= ATTEMPTS_MAX
            && let Some(oldest) =
                self.attempts.values().filter(|it| !it.open).min_by_key(|it| it.begun_ns).map(|it| it.process.tgid)
        {
            self.attempts.remove(&oldest);
            self.given_up += 1;
        }
        self.attempts.insert(attempt.process.tgid, attempt);
    }

    /// The login that a process carries, or that its parent carries and it was forked to help with.
    fn find(&mut self, process: ProcessKey, parent: ProcessKey) -> Option<&mut Attempt> {
        let carries = |key: ProcessKey| self.attempts.get(&key.tgid).is_some_and(|attempt| attempt.process == key);
        let tgid = if carries(process) {
            process.tgid
        } else if carries(parent) {
            parent.tgid
        } else {
            return None;
        };
        self.attempts.get_mut(&tgid)
    }
}

impl Attempt {
    fn set_item(&mut self, item: i32, value: &[u8]) {
        match item {
            PAM_USER if !value.is_empty() => self.user = name(value),
            PAM_TTY if !value.is_empty() => self.terminal = Some(name(value)),
            PAM_RHOST if !value.is_empty() => {
                let address = name(value);
                self.source.ip = address.parse().ok().or(self.source.ip);
                self.source.address = Some(address);
            }
            _ => {}
        }
    }

    fn checked(&mut self, value: i32, now_ns: u64) {
        if value == 0 {
            self.refused_ns = None;
        } else {
            self.reason = Some(pam_error(value));
            self.refused_ns = Some(now_ns);
        }
    }

    fn explain(&mut self, line: Line<'_>) -> Option<Outcome> {
        match line {
            Line::Accepted(attempt) => {
                self.attempted(&attempt);
                self.credential(&attempt);
                self.reason = None;
                None
            }
            // The method `none` only asks which methods there are (RFC 4252, section 5.2).
            Line::Failed(attempt) if attempt.method == "none" => None,
            Line::Failed(attempt) => {
                self.attempted(&attempt);
                let before = self.clone();
                self.credential(&attempt);
                let failed = self.fail(false);
                // What was refused says nothing of what may be accepted next.
                (self.method, self.key_type) = (before.method, before.key_type);
                (self.fingerprint, self.certificate) = (before.fingerprint, before.certificate);
                Some(failed)
            }
            Line::InvalidUser(peer) => {
                self.peer(&peer);
                self.reason = Some("unknown user".into());
                None
            }
            Line::NotAllowed { user, reason } => {
                self.named(user);
                self.reason = Some(format!("not allowed because {}", cut(reason, NAME_MAX)).into());
                None
            }
            Line::Gone(peer) => {
                self.peer(&peer);
                self.left("gone before it was let in")
            }
            Line::SentAway => self.left("sent away by the server"),
            Line::AccountRefused => {
                self.reason = Some("refused by PAM account configuration".into());
                Some(self.fail(false))
            }
        }
    }

    /// The client has left. That is news only if no attempt was refused before.
    fn left(&mut self, reason: &str) -> Option<Outcome> {
        if self.failed {
            return None;
        }
        self.reason.get_or_insert_with(|| reason.into());
        Some(self.fail(false))
    }

    fn attempted(&mut self, attempt: &sshd_log::Attempt<'_>) {
        if let Some(peer) = &attempt.peer {
            self.peer(peer);
        }
    }

    fn peer(&mut self, peer: &sshd_log::Peer<'_>) {
        self.named(peer.user);
        if peer.invalid {
            self.user_known = Some(false);
        }
        self.source.ip = Some(peer.ip);
        self.source.port = Some(peer.port);
        self.source.address.get_or_insert_with(|| peer.ip.to_string().into());
    }

    /// What sshd calls whoever comes. It writes only the beginning of a long name, of which PAM was told more.
    fn named(&mut self, user: Spelled<'_>) {
        let user = user.bytes();
        if user.len() < Spelled::MOST || !self.user.as_bytes().starts_with(&user) {
            self.user = name(&user);
        }
    }

    fn credential(&mut self, attempt: &sshd_log::Attempt<'_>) {
        self.method = Some(method(attempt.method));
        self.key_type = attempt.key_type.map(|text| name(text.as_bytes()));
        self.fingerprint = attempt.fingerprint.map(|text| name(text.as_bytes()));
        self.certificate = attempt.certificate.map(|spelled| name(&spelled.bytes()));
        if attempt.peer.as_ref().is_some_and(|peer| !peer.invalid) {
            self.user_known = Some(true);
        }
    }

    fn fail(&mut self, partial: bool) -> Outcome {
        self.failed = true;
        self.refused_ns = None;
        Outcome::Failed { process: self.process, login: self.login(), partial }
    }

    fn login(&self) -> Login {
        Login {
            door: self.class.map_or(EntryType::Unknown, door),
            user: Arc::clone(&self.user),
            user_known: self.user_known,
            source: self.source.clone(),
            method: self.method.clone(),
            key_fingerprint: self.fingerprint.clone(),
            certificate: self.certificate.clone(),
            key_type: self.key_type.clone(),
            terminal: self.terminal.clone(),
            service: Arc::clone(&self.service),
            reason: self.reason.clone(),
            ..Login::default()
        }
    }
}

/// The class of a PAM service, if it makes an entry: as in the kernel programs' `pam_start`.
fn class_of(service: &str) -> Option<LoginClass> {
    match service {
        "sshd" => Some(LoginClass::Sshd),
        "login" | "remote" => Some(LoginClass::Console),
        "cron" | "crond" => Some(LoginClass::Cron),
        "atd" => Some(LoginClass::At),
        _ => None,
    }
}

/// The door of a class.
pub fn door(class: LoginClass) -> Door {
    match class {
        LoginClass::Sshd => EntryType::Sshd,
        LoginClass::Console => EntryType::Console,
        LoginClass::Cron => EntryType::Cron,
        LoginClass::At => EntryType::At,
        LoginClass::None | LoginClass::UserChange | LoginClass::Other => EntryType::Unknown,
    }
}

fn method(words: &str) -> LoginMethod {
    LoginMethod::parse(&name(words.split('/').next().unwrap_or(words).as_bytes()))
}

fn name(bytes: &[u8]) -> Arc<str> {
    let text = printable(bytes);
    if text.len() <= NAME_MAX { text } else { cut(&text, NAME_MAX).into() }
}

/// Linux-PAM's return values (`security/_pam_types.h`).
fn pam_error(value: i32) -> Arc<str> {
    match value {
        4 => "PAM_SYSTEM_ERR".into(),
        6 => "PAM_PERM_DENIED".into(),
        7 => "PAM_AUTH_ERR".into(),
        8 => "PAM_CRED_INSUFFICIENT".into(),
        9 => "PAM_AUTHINFO_UNAVAIL".into(),
        10 => "PAM_USER_UNKNOWN".into(),
        11 => "PAM_MAXTRIES".into(),
        12 => "PAM_NEW_AUTHTOK_REQD".into(),
        13 => "PAM_ACCT_EXPIRED".into(),
        14 => "PAM_SESSION_ERR".into(),
        19 => "PAM_CONV_ERR".into(),
        26 => "PAM_ABORT".into(),
        27 => "PAM_AUTHTOK_EXPIRED".into(),
        other => format!("PAM error {other}").into(),
    }
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
