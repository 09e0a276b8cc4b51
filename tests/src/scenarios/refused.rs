//! Who is not let in, and what such people would have the log say.

use std::process::Child;

use serde_json::Value;

use super::{BY_KEY, Expected, NOBODY, Scenario, stage::Stage};
use crate::harness::{
    agent::{DEADLINE, action, text},
    program::wait,
    sshd::Sshd,
};

/// How many keys a client tries: it takes no more.
const KEYS: usize = 100;
/// How many clients do before somebody logs in, and how many after that.
const CLIENTS: usize = 5;

/// A name that would empty a terminal and ring its bell, and that ends what quotes it. OpenSSH 8.4's client cannot send a double
/// quote.
const CONTROL: &str = "\u{1b}[2J\u{7}'`$(id)'";
/// A name that reads like sshd's own line about somebody else. What comes after a colon sshd takes for the way in which whoever
/// has the name before it is to be asked.
const FORGED: &str = "Accepted publickey for root from 192.0.2.66 port 4242 ssh2: ED25519 SHA256:forged";
/// Whom that names.
const FORGED_USER: &str = "Accepted publickey for root from 192.0.2.66 port 4242 ssh2";
/// What is kept of a name that is longer than any.
const LONG: &str = match str::from_utf8(&[b'n'; 255]) {
    Ok(text) => text,
    Err(_) => panic!("it is ASCII"),
};
/// A name with a letter beyond ASCII, and a mark that turns what follows it about.
const FOREIGN: &str = "jörg\u{202e}";
/// A name that ends like sshd's own line.
const FORGED_END: &str = "root from 192.0.2.66 port 4242 ssh2";

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a wrong password",
        act: |s, _| drop(s.sshd.with_wrong_password()),
        expected: Expected { refused: &[("sshd", "USER")], ..NOBODY },
    },
    Scenario {
        name: "an unknown user",
        act: |s, _| drop(s.sshd.as_unknown("mallory")),
        expected: Expected { refused: &[("sshd", "mallory")], ..NOBODY },
    },
    Scenario {
        name: "a user's name of control characters and quotes",
        act: |s, _| drop(s.sshd.as_unknown(CONTROL)),
        expected: Expected { refused: &[("sshd", CONTROL)], ..NOBODY },
    },
    Scenario {
        name: "a user's name that reads like a login of root's",
        act: |s, _| drop(s.sshd.as_unknown(FORGED)),
        expected: Expected { refused: &[("sshd", FORGED_USER)], ..NOBODY },
    },
    Scenario {
        name: "a user's name that ends like a login from elsewhere",
        act: |s, _| drop(s.sshd.as_unknown(FORGED_END)),
        expected: Expected { refused: &[("sshd", FORGED_END)], ..NOBODY },
    },
    Scenario {
        name: "a user's name of letters beyond ASCII",
        act: |s, _| drop(s.sshd.as_unknown(FOREIGN)),
        expected: Expected { refused: &[("sshd", FOREIGN)], ..NOBODY },
    },
    Scenario {
        name: "a user's name of a thousand letters",
        act: |s, _| drop(s.sshd.as_unknown(&"n".repeat(1_000))),
        expected: Expected { refused: &[("sshd", LONG)], ..NOBODY },
    },
    Scenario {
        name: "a right login amid a thousand that are refused",
        act: amid_guesses,
        expected: Expected { refused: &[("sshd", "root")], ..BY_KEY },
    },
];

/// Logs in while others guess keys, and before as many more.
fn amid_guesses(stage: &mut Stage, marker: &str) {
    // Refused keys of a user who exists are logged at this level alone, or where there were half as many as there may be. Past ten
    // clients at once, whom sshd turns away is a matter of chance.
    let server = Sshd::start_with("LogLevel VERBOSE\nMaxAuthTries 200\nMaxStartups 50");
    let guess = |client: usize| server.guess_keys("root", client * KEYS..(client + 1) * KEYS);
    let mut guessers: Vec<Child> = (0..CLIENTS).map(guess).collect();
    let refused = |event: &Value| action(event) == "login-failed" && text(event, "/user/name") == "root";
    stage.agent.wait_for("the first guess", refused);
    stage.sshd.by_key_at(server.port(), &format!("/bin/echo {marker}")).succeeded();
    guessers.extend((CLIENTS..2 * CLIENTS).map(guess));
    for mut guesser in guessers {
        wait(&mut guesser, DEADLINE).expect("it gives up when it has no more keys");
    }
    let is_last = |event: &Value| refused(event) && event["postern"]["login"]["attempts"] == 2 * CLIENTS * KEYS;
    stage.agent.wait_for("the last guess", is_last);
}
