//! What sshd's own lines say (OpenSSH auth.c `auth_log`, `auth_allowed`, and packet.c `sshpkt_vfatal`). The user name in
//! a line is whatever the client sent, so lines are read from their end, where sshd alone writes. Where the end is the
//! client's too (the id in a certificate, a name in a reason), and the line can be read in two ways, it names nobody:
//! PAM was told who came, and from where.

use std::net::IpAddr;

/// A line that speaks of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// `Accepted METHOD for USER from IP port PORT ssh2[: KEYTYPE FINGERPRINT]`
    Accepted(Attempt<'a>),
    /// `Failed METHOD for [invalid user ]USER from IP port PORT ssh2[: KEYTYPE FINGERPRINT]`
    Failed(Attempt<'a>),
    /// `Invalid user USER from IP port PORT`
    InvalidUser(Peer<'a>),
    /// `Connection closed by authenticating user USER IP port PORT [preauth]` and its like: the client went before it
    /// was let in.
    Gone(Peer<'a>),
    /// `Disconnecting authenticating user USER IP port PORT: REASON [preauth]`: sshd sent the client away before it was
    /// let in. The reason can hold another name that the client sent, so nothing in the line can be relied on.
    SentAway,
    /// `fatal: Access denied for user USER by PAM account configuration [preauth]`
    AccountRefused,
    /// `User USER from HOST not allowed because REASON`, or without the host.
    NotAllowed {
        /// The user.
        user: Spelled<'a>,
        /// The reason.
        reason: &'a str,
    },
}

/// One try to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// `publickey`, `password`, `keyboard-interactive/pam` and so on.
    pub method: &'a str,
    /// Who, and from where; `None` where the line can be read in more than one way.
    pub peer: Option<Peer<'a>>,
    /// Type of the key.
    pub key_type: Option<&'a str>,
    /// Its fingerprint.
    pub fingerprint: Option<&'a str>,
    /// The id in the certificate, as whoever signed it wrote it.
    pub certificate: Option<Spelled<'a>>,
}

/// Text of others in sshd's line, which spells what is not printable, and each byte of what is no ASCII, by strnvis(3)
/// (log.c `do_log`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spelled<'a> {
    text: &'a str,
    /// Lines of the part of sshd that nobody has logged in to yet go through the one above it, which spells them once more.
    twice: bool,
}

/// Who came, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer<'a> {
    /// As sshd spells what the client sent.
    pub user: Spelled<'a>,
    /// Whether sshd said that it does not know the user.
    pub invalid: bool,
    /// Address.
    pub ip: IpAddr,
    /// TCP port.
    pub port: u16,
}

/// What a line says of a login, if it does.
pub fn parse(line: &str) -> Option<Line<'_>> {
    if let Some(rest) = line.strip_prefix("Accepted ") {
        return attempt(rest).map(Line::Accepted);
    }
    if let Some(rest) = line.strip_prefix("Failed ") {
        return attempt(rest).map(Line::Failed);
    }
    if let Some(rest) = line.strip_prefix("Invalid user ") {
        let peer = peer(rest, " from ")?;
        return Some(Line::InvalidUser(Peer { invalid: true, ..peer }));
    }
    if let Some(rest) = line.strip_prefix("User ") {
        let (left, reason) = rest.rsplit_once(" not allowed because ")?;
        let user = left.rsplit_once(" from ").map_or(left, |(user, _host)| user);
        return Some(Line::NotAllowed { user: Spelled::once(user), reason });
    }
    if let Some(rest) = line.strip_prefix("fatal: Access denied for user ") {
        return rest.ends_with(" by PAM account configuration [preauth]").then_some(Line::AccountRefused);
    }
    if let Some(rest) = line.strip_prefix("Disconnecting ") {
        return unauthenticated(rest).map(|_| Line::SentAway);
    }
    let rest = ["Connection closed by ", "Connection reset by ", "Disconnected from "]
        .iter()
        .find_map(|start| line.strip_prefix(start))?;
    let (invalid, rest) = unauthenticated(rest)?;
    let before = rest.strip_suffix(" [preauth]");
    let peer = peer(before.unwrap_or(rest), " ")?;
    Some(Line::Gone(Peer { invalid, user: Spelled { twice: before.is_some(), ..peer.user }, ..peer }))
}

impl<'a> Spelled<'a> {
    /// How much of a name sshd writes, in bytes: its `%.100s`.
    pub const MOST: usize = 100;

    fn once(text: &'a str) -> Self {
        Self { text, twice: false }
    }

    /// What it was before sshd spelled it.
    pub fn bytes(self) -> Vec<u8> {
        let once = unspelled(self.text.as_bytes());
        if self.twice { unspelled(&once) } else { once }
    }
}

/// The bytes that strnvis(3) has spelled, with `VIS_CSTYLE` and `VIS_OCTAL`. What it does not write stays as it is.
fn unspelled(mut text: &[u8]) -> Vec<u8> {
    let octal = |digit: u8| matches!(digit, b'0'..=b'7').then(|| u32::from(digit - b'0'));
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((&first, rest)) = text.split_first() {
        let by_number = || match rest {
            [a @ b'0'..=b'3', b, c, ..] => Some((octal(*a)? << 6 | octal(*b)? << 3 | octal(*c)?, 4)),
            _ => None,
        };
        let by_letter = || {
            let letter = b"nrbavtfs0\\".iter().position(|letter| Some(letter) == rest.first())?;
            Some((u32::from(b"\n\r\x08\x07\x0b\t\x0c \0\\"[letter]), 2))
        };
        let spelled = (first == b'\\').then(|| by_number().or_else(by_letter)).flatten();
        let (byte, length) = spelled.unwrap_or((u32::from(first), 1));
        bytes.push(byte as u8);
        text = &text[length..];
    }
    bytes
}

/// What follows `authenticating user ` or `invalid user `, and whether it was the second.
fn unauthenticated(rest: &str) -> Option<(bool, &str)> {
    match rest.strip_prefix("authenticating user ") {
        Some(rest) => Some((false, rest)),
        None => rest.strip_prefix("invalid user ").map(|rest| (true, rest)),
    }
}

#[derive(Default)]
struct Credential<'a> {
    key_type: Option<&'a str>,
    fingerprint: Option<&'a str>,
    certificate: Option<Spelled<'a>>,
}

fn attempt(rest: &str) -> Option<Attempt<'_>> {
    let (method, rest) = rest.split_once(" for ")?;
    let (invalid, rest) = match rest.strip_prefix("invalid user ") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let mut readings = rest.match_indices(" ssh2").filter_map(|(at, mark)| {
        let Credential { key_type, fingerprint, certificate } = credential(&rest[at + mark.len()..])?;
        let peer = Peer { invalid, ..peer(&rest[..at], " from ")? };
        Some(Attempt { method, peer: Some(peer), key_type, fingerprint, certificate })
    });
    let first = readings.next()?;
    match readings.next() {
        None => Some(first),
        Some(_) => Some(Attempt { method, peer: None, key_type: None, fingerprint: None, certificate: None }),
    }
}

/// What follows ` ssh2`: nothing, or `: TYPE FINGERPRINT`, for a certificate followed by ` ID ... (serial N) CA TYPE
/// FINGERPRINT`, for a host's key by `, client user "...", client host "..."`.
fn credential(text: &str) -> Option<Credential<'_>> {
    if text.is_empty() {
        return Some(Credential::default());
    }
    let (key_type, rest) = text.strip_prefix(": ")?.split_once(' ')?;
    let (fingerprint, more) = rest.split_at(rest.find([' ', ',']).unwrap_or(rest.len()));
    let of_certificate = more.starts_with(" ID ") && more.rsplit(' ').nth(2) == Some("CA");
    // The id may hold anything, what follows it may not.
    let certificate = more.strip_prefix(" ID ").and_then(|more| Some(more.rsplit_once(" (serial ")?.0));
    let of_host = more.starts_with(", client user \"") && more.ends_with('"');
    let is_fingerprint = fingerprint.starts_with("SHA256:") || fingerprint.starts_with("MD5:");
    (is_fingerprint && (more.is_empty() || of_certificate || of_host)).then_some(Credential {
        key_type: Some(key_type),
        fingerprint: Some(fingerprint),
        certificate: certificate.filter(|_| of_certificate).map(Spelled::once),
    })
}

/// `USER<separator>IP port PORT` and nothing behind it.
fn peer<'a>(text: &'a str, separator: &str) -> Option<Peer<'a>> {
    let (left, port) = text.rsplit_once(" port ")?;
    let (user, ip) = left.rsplit_once(separator)?;
    Some(Peer { user: Spelled::once(user), invalid: false, ip: ip.parse().ok()?, port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from(user: &str, invalid: bool) -> Peer<'_> {
        Peer { user: Spelled::once(user), invalid, ip: "192.0.2.7".parse().expect("an address"), port: 50022 }
    }

    fn before(user: &str, invalid: bool) -> Peer<'_> {
        Peer { user: Spelled { text: user, twice: true }, ..from(user, invalid) }
    }

    #[test]
    fn an_accepted_key_names_its_fingerprint() {
        let line = "Accepted publickey for ops from 192.0.2.7 port 50022 ssh2: ED25519 SHA256:abc";
        let expected = Attempt {
            method: "publickey",
            peer: Some(from("ops", false)),
            key_type: Some("ED25519"),
            fingerprint: Some("SHA256:abc"),
            certificate: None,
        };
        assert_eq!(parse(line), Some(Line::Accepted(expected)));
    }

    #[test]
    fn a_certificate_names_its_own_fingerprint() {
        let line = "Accepted publickey for ops from 192.0.2.7 port 50022 ssh2: ED25519-CERT SHA256:abc ID x (serial 1) \
                    CA ED25519 SHA256:def";
        let Some(Line::Accepted(attempt)) = parse(line) else { panic!("not accepted") };
        assert_eq!((attempt.key_type, attempt.fingerprint), (Some("ED25519-CERT"), Some("SHA256:abc")));
        assert_eq!(attempt.certificate, Some(Spelled::once("x")));
    }

    #[test]
    fn refusals_name_user_and_source() {
        let Some(Line::Failed(attempt)) = parse("Failed password for invalid user bob from 192.0.2.7 port 50022 ssh2")
        else {
            panic!("not failed")
        };
        assert_eq!((attempt.method, attempt.peer), ("password", Some(from("bob", true))));
        assert_eq!(parse("Invalid user bob from 192.0.2.7 port 50022"), Some(Line::InvalidUser(from("bob", true))));
        let line = "Connection closed by authenticating user ops 192.0.2.7 port 50022 [preauth]";
        assert_eq!(parse(line), Some(Line::Gone(before("ops", false))));
        let line =
            "Disconnecting authenticating user ops 192.0.2.7 port 50022: Too many authentication failures [preauth]";
        assert_eq!(parse(line), Some(Line::SentAway));
        let line = "fatal: Access denied for user ops by PAM account configuration [preauth]";
        assert_eq!(parse(line), Some(Line::AccountRefused));
        let line = "User ops not allowed because account is locked";
        assert_eq!(parse(line), Some(Line::NotAllowed { user: Spelled::once("ops"), reason: "account is locked" }));
    }

    #[test]
    fn a_name_is_what_it_was_before_sshd_spelled_it() {
        let name = b"\x1b[2J\x07\"'\\n\xc3\xbc\xff 7";
        let once = r#"\033[2J\a"'\\n\303\274\377 7"#;
        assert_eq!(Spelled::once(once).bytes(), name);
        let line = format!("Invalid user {once} from 192.0.2.7 port 50022");
        let Some(Line::InvalidUser(peer)) = parse(&line) else { panic!("not invalid") };
        assert_eq!(peer.user.bytes(), name);
        // As the part of sshd that nobody has logged in to has it written.
        let twice = once.replace('\\', r"\\");
        let line = format!("Connection closed by invalid user {twice} 192.0.2.7 port 50022 [preauth]");
        let Some(Line::Gone(peer)) = parse(&line) else { panic!("not gone") };
        assert_eq!(peer.user.bytes(), name);
        // Nothing that sshd writes.
        assert_eq!(Spelled::once(r"a\9\x\40\").bytes(), br"a\9\x\40\");
    }

    #[test]
    fn a_user_name_cannot_forge_a_source() {
        let line = "Failed password for invalid user x from 203.0.113.9 port 1 ssh2 from 192.0.2.7 port 50022 ssh2";
        let Some(Line::Failed(attempt)) = parse(line) else { panic!("not failed") };
        assert_eq!(attempt.peer, Some(from("x from 203.0.113.9 port 1 ssh2", true)));
        assert_eq!(parse("Invalid user  from 192.0.2.7 port 50022"), Some(Line::InvalidUser(from("", true))));
    }

    #[test]
    fn a_user_name_cannot_forge_a_key() {
        let line = "Accepted publickey for x from 203.0.113.9 port 1 ssh2: ED25519 SHA256:forged from 192.0.2.7 port 50022 \
                    ssh2: ED25519 SHA256:true";
        let Some(Line::Accepted(attempt)) = parse(line) else { panic!("not accepted") };
        assert_eq!(attempt.peer.map(|peer| peer.port), Some(50022));
        assert_eq!(attempt.fingerprint, Some("SHA256:true"));
    }

    #[test]
    fn what_a_client_wrote_at_the_end_of_a_line_names_nobody() {
        // The id in a certificate is chosen by whoever signed it, for a refused one by anybody.
        let line = "Failed publickey for ops from 192.0.2.7 port 50022 ssh2: ED25519-CERT SHA256:a ID b from 203.0.113.9 \
                    port 1 ssh2: ED25519-CERT SHA256:c ID d (serial 0) CA ED25519 SHA256:e";
        let Some(Line::Failed(attempt)) = parse(line) else { panic!("not failed") };
        assert_eq!((attempt.peer, attempt.fingerprint), (None, None));
        let line = "Failed publickey for ops from 192.0.2.7 port 50022 ssh2: ED25519-CERT SHA256:a ID b from 203.0.113.9 \
                    port 1 ssh2 (serial 0) CA ED25519 SHA256:e";
        let Some(Line::Failed(attempt)) = parse(line) else { panic!("not failed") };
        assert_eq!((attempt.peer, attempt.fingerprint), (Some(from("ops", false)), Some("SHA256:a")));
        // The reason quotes the second name that the client sent.
        let line = "Disconnecting authenticating user ops 192.0.2.7 port 50022: Change of username or service not \
                    allowed: (ops,ssh-connection) -> (x 203.0.113.9 port 99,ssh-connection) [preauth]";
        assert_eq!(parse(line), Some(Line::SentAway));
    }

    #[test]
    fn lines_that_openssh_9_2_logged_are_read() {
        let peer = |user, invalid, port| Peer { ip: [127, 0, 0, 1].into(), port, ..from(user, invalid) };
        let line = "Accepted keyboard-interactive/pam for ops from 127.0.0.1 port 40434 ssh2";
        let Some(Line::Accepted(attempt)) = parse(line) else { panic!("not accepted") };
        assert_eq!((attempt.method, attempt.peer), ("keyboard-interactive/pam", Some(peer("ops", false, 40434))));
        let line = r#"Invalid user a "b" from 9.9.9.9 port 1 from 127.0.0.1 port 35772"#;
        let name = r#"a "b" from 9.9.9.9 port 1"#;
        assert_eq!(parse(line), Some(Line::InvalidUser(peer(name, true, 35772))));
        let line = r#"Connection closed by invalid user a "b" from 9.9.9.9 port 1 127.0.0.1 port 35772 [preauth]"#;
        let gone = Peer { ip: [127, 0, 0, 1].into(), port: 35772, ..before(name, true) };
        assert_eq!(parse(line), Some(Line::Gone(gone)));
        for line in [
            "Received disconnect from 127.0.0.1 port 60924:11: disconnected by user",
            "Disconnected from user ops 127.0.0.1 port 60924",
            "Postponed publickey for ops from 127.0.0.1 port 57552 ssh2 [preauth]",
            "Connection closed by 127.0.0.1 port 48712",
            "error: kex_exchange_identification: Connection closed by remote host",
            "banner exchange: Connection from 127.0.0.1 port 48736: invalid format",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn other_lines_say_nothing() {
        for line in
            ["", "Server listening on 0.0.0.0 port 22.", "Accepted", "Accepted x for y", "Failed password for a"]
        {
            assert_eq!(parse(line), None);
        }
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in "(Accepted |Failed |Invalid user |User |Connection closed by )?.{0,80}") {
            let _ = parse(&line);
        }

        #[test]
        fn any_spelling_is_survived(text in r"(\\|[0-9]|.){0,80}") {
            assert!(unspelled(text.as_bytes()).len() <= text.len());
        }
    }
}
