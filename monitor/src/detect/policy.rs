//! Who may come in. The first rule that matches decides; where none does, the login is an alert.

use std::sync::Arc;

use ipnet::IpNet;

use crate::event::{Door, Login};

/// The configuration's `access` section.
#[derive(Clone, Debug, Default)]
pub struct AccessPolicy {
    /// In the order of the file.
    pub allow: Vec<AccessRule>,
}

/// One entry of `access.allow`: all that it names must match; what it does not name, matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRule {
    /// The door.
    pub door: Option<Door>,
    /// User names; empty for any.
    pub users: Vec<Arc<str>>,
    /// Key fingerprints (`SHA256:...`); empty for any way to authenticate.
    pub keys: Vec<Arc<str>>,
    /// Source networks; empty for any.
    pub from: Vec<IpNet>,
}

impl AccessPolicy {
    /// The position of the first rule that covers `login`, if one does.
    pub fn decide(&self, login: &Login) -> Option<usize> {
        self.allow.iter().position(|rule| rule.covers(login))
    }
}

impl AccessRule {
    fn covers(&self, login: &Login) -> bool {
        self.door.is_none_or(|door| door == login.door)
            && (self.users.is_empty() || self.users.contains(&login.user))
            && (self.keys.is_empty() || login.key_fingerprint.as_ref().is_some_and(|key| self.keys.contains(key)))
            && (self.from.is_empty() || login.source.ip.is_some_and(|ip| self.from.iter().any(|net| net.contains(&ip))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EntryType, Source};

    fn login(user: &str, key: Option<&str>, ip: Option<&str>) -> Login {
        Login {
            door: EntryType::Sshd,
            user: user.into(),
            user_known: Some(true),
            source: Source { ip: ip.map(|ip| ip.parse().expect("an address")), ..Source::default() },
            method: None,
            key_fingerprint: key.map(Into::into),
            key_type: None,
            terminal: None,
            service: "sshd".into(),
            reason: None,
            session: None,
            attempts: 0,
            summary: None,
        }
    }

    #[test]
    fn all_that_a_rule_names_must_match_and_the_first_that_matches_decides() {
        let by_key = AccessRule {
            door: Some(EntryType::Sshd),
            users: vec!["ops".into()],
            keys: vec!["SHA256:a".into()],
            from: vec!["192.0.2.0/24".parse().expect("a network")],
        };
        let console = AccessRule { door: Some(EntryType::Console), ..AccessRule::default() };
        let anything_of_root = AccessRule { users: vec!["root".into()], ..AccessRule::default() };
        let policy = AccessPolicy { allow: vec![by_key, console, anything_of_root] };
        for (user, key, ip, decided) in [
            ("ops", Some("SHA256:a"), Some("192.0.2.7"), Some(0)),
            ("ops", Some("SHA256:b"), Some("192.0.2.7"), None),
            ("ops", None, Some("192.0.2.7"), None),
            ("ops", Some("SHA256:a"), Some("198.51.100.7"), None),
            ("ops", Some("SHA256:a"), None, None),
            ("root", None, None, Some(2)),
        ] {
            assert_eq!(policy.decide(&login(user, key, ip)), decided, "{user} {key:?} {ip:?}");
        }
        assert_eq!(AccessPolicy::default().decide(&login("root", None, None)), None);
    }
}
