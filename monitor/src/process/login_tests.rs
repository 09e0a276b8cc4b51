//! Logins, told by records in the order in which a real sshd causes them.

use postern_ebpf::abi::{LogBody, LoginBody, LoginCall, ProcessKey};
use zerocopy::FromZeros as _;

use super::*;

const MONITOR: ProcessKey = ProcessKey::new(100, 5_000_000_000);
const LISTENER: ProcessKey = ProcessKey::new(10, 1_000_000_000);
const SECOND: u64 = 1_000_000_000;

/// One connection's records, one after the other.
#[derive(Default)]
struct Told {
    tracker: LoginTracker,
    now_ns: u64,
}

impl Told {
    fn call_by(&mut self, process: ProcessKey, call: LoginCall, value: i32, text: &str, user: &str) -> Option<Outcome> {
        let mut body = LoginBody::new_zeroed();
        body.caller.process = process;
        body.caller.parent = if process == MONITOR { LISTENER } else { MONITOR };
        body.value = value;
        let login = record::Login { body: &body, call, text: text.as_bytes(), user: user.as_bytes() };
        self.tracker.call(&login, self.now_ns)
    }

    fn call(&mut self, call: LoginCall, value: i32, text: &str) -> Option<Outcome> {
        self.call_by(MONITOR, call, value, text, "")
    }

    fn start(&mut self, user: &str) {
        assert!(self.call_by(MONITOR, LoginCall::Start, 0, "sshd", user).is_none());
        let coming = self.call(LoginCall::SetItem, PAM_RHOST, "192.0.2.7");
        assert!(matches!(coming, Some(Outcome::Coming { ip, .. }) if ip == IpAddr::from([192, 0, 2, 7])), "{coming:?}");
    }

    fn log_by(&mut self, process: ProcessKey, line: &str) -> Option<Outcome> {
        let mut body = LogBody::new_zeroed();
        body.caller.process = process;
        self.tracker.log(&record::Log { body: &body, text: line.as_bytes() }, self.now_ns)
    }

    fn log(&mut self, line: &str) -> Option<Outcome> {
        self.log_by(MONITOR, line)
    }
}

fn failed(outcome: Option<Outcome>) -> (Login, bool) {
    match outcome {
        Some(Outcome::Failed { login, partial, .. }) => (login, partial),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_login_by_key_opens_with_all_its_details_and_closes_with_its_process() {
    let mut told = Told::default();
    told.start("ops");
    assert!(told.call(LoginCall::AccountChecked, 0, "").is_none());
    assert!(told.log("Accepted publickey for ops from 192.0.2.7 port 50022 ssh2: ED25519 SHA256:abc").is_none());
    let Some(Outcome::Opening { login, .. }) = told.call(LoginCall::OpenSession, 0, "") else { panic!("not opening") };
    assert_eq!((&*login.user, login.door), ("ops", EntryType::Sshd));
    assert_eq!(
        (login.source.ip.map(|ip| ip.to_string()).as_deref(), login.source.port),
        (Some("192.0.2.7"), Some(50022))
    );
    assert_eq!((login.method, login.key_fingerprint.as_deref()), (Some(LoginMethod::PublicKey), Some("SHA256:abc")));
    assert!(matches!(told.call(LoginCall::SessionOpened, 0, ""), Some(Outcome::Opened { process: MONITOR })));
    assert!(matches!(told.tracker.end(MONITOR), Some(Outcome::Closed { process: MONITOR })));
    assert!(told.tracker.end(MONITOR).is_none(), "once");
}

#[test]
fn a_refused_password_is_one_failure_however_it_is_told() {
    let mut told = Told::default();
    told.start("ops");
    assert!(told.call(LoginCall::Authenticated, 7, "").is_none());
    let (login, partial) = failed(told.log("Failed password for ops from 192.0.2.7 port 50022 ssh2"));
    assert_eq!(
        (login.reason.as_deref(), login.method, partial),
        (Some("PAM_AUTH_ERR"), Some(LoginMethod::Password), false)
    );
    assert!(told.log("Connection closed by authenticating user ops 192.0.2.7 port 50022 [preauth]").is_none());
    assert!(told.tracker.overdue(60 * SECOND).is_empty());
    assert!(told.tracker.end(MONITOR).is_none());
}

#[test]
fn a_refusal_that_no_line_explains_goes_out_partial_after_a_while() {
    let mut told = Told::default();
    told.start("ops");
    assert!(told.call(LoginCall::Authenticated, 7, "").is_none());
    assert!(told.tracker.overdue(SECOND / 2).is_empty());
    let (login, partial) = failed(told.tracker.overdue(2 * SECOND).pop());
    assert_eq!((&*login.user, login.method, partial), ("ops", None, true));
    assert!(told.tracker.overdue(4 * SECOND).is_empty(), "once");
}

#[test]
fn an_unknown_user_is_told_before_pam_is_asked() {
    let mut told = Told::default();
    assert!(told.log("Invalid user bob from 192.0.2.7 port 50022").is_none());
    told.start("bob");
    let (login, _) = failed(told.log("Failed password for invalid user bob from 192.0.2.7 port 50022 ssh2"));
    assert_eq!((&*login.user, login.user_known), ("bob", Some(false)));
}

#[test]
fn a_helper_process_speaks_for_the_login_it_was_forked_from() {
    let helper = ProcessKey::new(101, 6_000_000_000);
    let mut told = Told::default();
    told.start("ops");
    assert!(told.call_by(helper, LoginCall::Authenticated, 7, "", "").is_none());
    assert_eq!(told.tracker.overdue(2 * SECOND).len(), 1);
}

#[test]
fn a_forged_line_opens_nothing() {
    let forger = ProcessKey::new(666, 7_000_000_000);
    let mut told = Told::default();
    told.start("ops");
    assert!(
        told.log_by(forger, "Accepted publickey for root from 203.0.113.9 port 1 ssh2: ED25519 SHA256:evil").is_none()
    );
    let Some(Outcome::Opening { login, .. }) = told.call(LoginCall::OpenSession, 0, "") else { panic!("not opening") };
    assert_eq!((&*login.user, login.key_fingerprint), ("ops", None));
    assert!(told.tracker.end(forger).is_none());
}

#[test]
fn a_pid_that_is_used_again_ends_nobody_elses_login() {
    let mut told = Told::default();
    told.start("ops");
    told.call(LoginCall::OpenSession, 0, "");
    told.call(LoginCall::SessionOpened, 0, "");
    assert!(told.tracker.end(ProcessKey::new(MONITOR.tgid, 99_000_000_000)).is_none());
    assert!(matches!(told.tracker.end(MONITOR), Some(Outcome::Closed { .. })));
}

#[test]
fn logins_under_way_are_bounded() {
    let mut told = Told::default();
    for pid in 0..ATTEMPTS_MAX as u32 + 5 {
        told.now_ns += 1;
        told.call_by(ProcessKey::new(1_000 + pid, SECOND), LoginCall::Start, 0, "sshd", "x");
    }
    assert_eq!((told.tracker.attempts.len(), told.tracker.given_up()), (ATTEMPTS_MAX, 5));
}

#[test]
fn a_name_is_told_as_it_was_sent_and_whole() {
    let mut told = Told::default();
    told.start("j\u{f6}rg");
    let (login, _) = failed(told.log(r"Failed password for j\303\266rg from 192.0.2.7 port 50022 ssh2"));
    assert_eq!(&*login.user, "j\u{f6}rg");
    // sshd's line has less of it than PAM was told.
    let long = "n".repeat(255);
    told.start(&long);
    let line = format!("Failed password for invalid user {} from 192.0.2.7 port 50022 ssh2", &long[..Spelled::MOST]);
    assert_eq!(*failed(told.log(&line)).0.user, *long);
    // And where it names another, it is the last word.
    let line = format!("Failed password for invalid user {} from 192.0.2.7 port 50022 ssh2", "m".repeat(Spelled::MOST));
    assert_eq!(&*failed(told.log(&line)).0.user, "m".repeat(Spelled::MOST));
}
