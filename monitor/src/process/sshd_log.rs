//! What sshd's own lines say (OpenSSH auth.c `auth_log`, `auth_allowed`, and packet.c `sshpkt_vfatal`). The user name in
//! a line is whatever the client sent, so lines are read from their end, where sshd alone writes.

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
    /// `Connection closed by authenticating user USER IP port PORT [preauth]` and its like: the client went, or was
    /// sent away, before it was let in.
    Gone(Peer<'a>),
    /// `User USER from HOST not allowed because REASON`
    NotAllowed {
        /// The user.
        user: &'a str,
        /// The reason.
        reason: &'a str,
    },
}

/// One try to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// `publickey`, `password`, `keyboard-interactive/pam` and so on.
    pub method: &'a str,
    /// Who, and from where.
    pub peer: Peer<'a>,
    /// Type of the key.
    pub key_type: Option<&'a str>,
    /// Its fingerprint.
    pub fingerprint: Option<&'a str>,
}

/// Who came, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer<'a> {
    /// As the client sent it, with what is not printable escaped by sshd.
    pub user: &'a str,
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
        let (user, _host) = left.rsplit_once(" from ")?;
        return Some(Line::NotAllowed { user, reason });
    }
    let rest = ["Connection closed by ", "Connection reset by ", "Disconnected from ", "Disconnecting "]
        .iter()
        .find_map(|start| line.strip_prefix(start))?;
    let (invalid, rest) = match rest.strip_prefix("authenticating user ") {
        Some(rest) => (false, rest),
        None => (true, rest.strip_prefix("invalid user ")?),
    };
    let peer = peer(rest.strip_suffix(" [preauth]").unwrap_or(rest), " ")?;
    Some(Line::Gone(Peer { invalid, ..peer }))
}

fn attempt(rest: &str) -> Option<Attempt<'_>> {
    let (method, rest) = rest.split_once(" for ")?;
    let (rest, key) = rest.rsplit_once(" ssh2")?;
    let (invalid, rest) = match rest.strip_prefix("invalid user ") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    // `: ED25519 SHA256:...`, for a certificate followed by ` ID ... (serial ...) CA ...`.
    let mut words = key.strip_prefix(": ").unwrap_or_default().split(' ');
    let key_type = words.next().filter(|word| !word.is_empty());
    let fingerprint = words.next().filter(|word| word.starts_with("SHA256:") || word.starts_with("MD5:"));
    Some(Attempt { method, peer: Peer { invalid, ..peer(rest, " from ")? }, key_type, fingerprint })
}

/// `USER<separator>IP port PORT`, and behind it, for a disconnection, `: REASON`.
fn peer<'a>(text: &'a str, separator: &str) -> Option<Peer<'a>> {
    let (left, right) = text.rsplit_once(" port ")?;
    let digits = right.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(right.len());
    let (user, ip) = left.rsplit_once(separator)?;
    Some(Peer { user, invalid: false, ip: ip.parse().ok()?, port: right[..digits].parse().ok()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from(user: &str, invalid: bool) -> Peer<'_> {
        Peer { user, invalid, ip: "192.0.2.7".parse().expect("an address"), port: 50022 }
    }

    #[test]
    fn an_accepted_key_names_its_fingerprint() {
        let line = "Accepted publickey for ops from 192.0.2.7 port 50022 ssh2: ED25519 SHA256:abc";
        let expected = Attempt {
            method: "publickey",
            peer: from("ops", false),
            key_type: Some("ED25519"),
            fingerprint: Some("SHA256:abc"),
        };
        assert_eq!(parse(line), Some(Line::Accepted(expected)));
    }

    #[test]
    fn a_certificate_names_its_own_fingerprint() {
        let line = "Accepted publickey for ops from 192.0.2.7 port 50022 ssh2: ED25519-CERT SHA256:abc ID x (serial 1) \
                    CA ED25519 SHA256:def";
        let Some(Line::Accepted(attempt)) = parse(line) else { panic!("not accepted") };
        assert_eq!((attempt.key_type, attempt.fingerprint), (Some("ED25519-CERT"), Some("SHA256:abc")));
    }

    #[test]
    fn refusals_name_user_and_source() {
        let Some(Line::Failed(attempt)) = parse("Failed password for invalid user bob from 192.0.2.7 port 50022 ssh2")
        else {
            panic!("not failed")
        };
        assert_eq!((attempt.method, attempt.peer), ("password", from("bob", true)));
        assert_eq!(parse("Invalid user bob from 192.0.2.7 port 50022"), Some(Line::InvalidUser(from("bob", true))));
        for line in [
            "Connection closed by authenticating user ops 192.0.2.7 port 50022 [preauth]",
            "Disconnecting authenticating user ops 192.0.2.7 port 50022: Too many authentication failures [preauth]",
        ] {
            assert_eq!(parse(line), Some(Line::Gone(from("ops", false))));
        }
    }

    #[test]
    fn a_user_name_cannot_forge_a_source() {
        let line = "Failed password for invalid user x from 203.0.113.9 port 1 ssh2 from 192.0.2.7 port 50022 ssh2";
        let Some(Line::Failed(attempt)) = parse(line) else { panic!("not failed") };
        assert_eq!(attempt.peer, from("x from 203.0.113.9 port 1 ssh2", true));
        assert_eq!(parse("Invalid user  from 192.0.2.7 port 50022"), Some(Line::InvalidUser(from("", true))));
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
    }
}
