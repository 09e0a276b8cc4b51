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
