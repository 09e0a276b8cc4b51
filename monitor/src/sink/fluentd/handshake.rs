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
        // With our own name in it, the proof in PING is also that of PONG: whoever sends it back needs no key.
        if pong.hostname == self.hostname {
            return Err("it goes by our own host name, so its proof proves nothing: give it another".to_owned());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> FluentdSettings {
        FluentdSettings {
            host: "127.0.0.1".into(),
            port: 24224,
            tls: None,
            tag: "postern".into(),
            shared_key: Some(Secret::new("a key")),
            user: None,
            ack_timeout: std::time::Duration::from_secs(1),
        }
    }

    fn pong(hostname: &str, digest: String) -> Pong {
        Pong { accepted: true, reason: String::new(), hostname: hostname.to_owned(), digest }
    }

    #[test]
    fn a_server_that_has_the_key_is_believed() {
        let (settings, helo) = (settings(), Helo { nonce: b"nonce".to_vec(), auth: Vec::new() });
        let greeting = Greeting::new(&settings, &helo, [7; 16]);
        let proof = digest(&[greeting.salt.as_bytes(), b"the-server", b"nonce", b"a key"]);
        assert_eq!(greeting.check(&pong("the-server", proof)), Ok(()));
        let other = digest(&[greeting.salt.as_bytes(), b"the-server", b"nonce", b"another key"]);
        assert!(greeting.check(&pong("the-server", other)).is_err());
    }

    #[test]
    fn our_own_proof_sent_back_proves_nothing() {
        let (settings, helo) = (settings(), Helo { nonce: b"nonce".to_vec(), auth: Vec::new() });
        let greeting = Greeting::new(&settings, &helo, [7; 16]);
        // All that a server without the key has to do is to repeat what PING says.
        let ping: (String, String, String, String, String, String) =
            rmp_serde::from_slice(&greeting.ping()).expect("a PING");
        assert!(greeting.check(&pong(&ping.1, ping.3)).is_err());
    }
}
