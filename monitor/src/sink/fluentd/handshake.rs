//! The handshake by which client and server show each other that they have the same key, without sending it.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha512};

use super::{
    super::settings::{FluentdSettings, Secret},
    wire::{Helo, Pong, array, text},
};

/// One handshake, from our side.
pub(super) struct Greeting<'a> {
    hostname: String,
    salt: String,
    nonce: &'a [u8],
    key: &'a str,
    user: Option<(&'a str, String)>,
}

impl<'a> Greeting<'a> {
    /// `salt` is to be another one each time.
    pub(super) fn new(settings: &'a FluentdSettings, helo: &'a Helo, salt: [u8; 16]) -> Self {
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let user = settings.user.as_ref().filter(|_| !helo.auth.is_empty());
        Self {
            hostname,
            salt: hex(&salt),
            nonce: &helo.nonce,
            key: settings.shared_key.as_ref().map_or("", Secret::reveal),
            user: user.map(|(name, password)| {
                (name.as_str(), digest(&[&helo.auth, name.as_bytes(), password.reveal().as_bytes()]))
            }),
        }
    }

    /// `["PING", hostname, salt, digest, user, password digest]`
    pub(super) fn ping(&self) -> Vec<u8> {
        let (user, password) = self.user.as_ref().map_or(("", ""), |(user, password)| (user, password));
        let mut message = Vec::new();
        array(&mut message, 6);
        for part in ["PING", &self.hostname, &self.salt, &self.prove(&self.hostname), user, password] {
            text(&mut message, part);
        }
        message
    }

    /// Whether the server lets us in, and has the key itself.
    pub(super) fn check(&self, pong: &Pong) -> Result<(), String> {
        if !pong.accepted {
            return Err(format!("it refused the handshake: {:?}", pong.reason));
        }
        if pong.digest != self.prove(&pong.hostname) {
            return Err("it does not have the shared key".to_owned());
        }
        Ok(())
    }

    fn prove(&self, hostname: &str) -> String {
        digest(&[self.salt.as_bytes(), hostname.as_bytes(), self.nonce, self.key.as_bytes()])
    }
}

fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha512::new();
    for part in parts {
        hash.update(part);
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
