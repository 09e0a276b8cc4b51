//! The messages of the Forward Protocol, in `MessagePack`. Pure: bytes to values and back.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rmp_serde::decode::Error;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Visitor},
};

use super::super::Line;
use crate::event::Timestamp;

/// What the server says first, where it wants to be convinced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Helo {
    pub(super) nonce: Vec<u8>,
    /// Not empty where user and password are wanted.
    pub(super) auth: Vec<u8>,
}

/// What the server answers to PING.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pong {
    pub(super) accepted: bool,
    pub(super) reason: String,
    pub(super) hostname: String,
    pub(super) digest: String,
}

/// A chunk's id, as the protocol spells it.
pub(super) fn chunk_id(bytes: [u8; 16]) -> String {
    STANDARD.encode(bytes)
}

/// `[tag, entries, {"chunk": id, "size": n}]`: `PackedForward` mode.
pub(super) fn message(tag: &str, batch: &[Line], chunk: &str) -> Vec<u8> {
    let (mut entries, mut line_text) = (Vec::new(), Vec::new());
    for line in batch {
        line_text.clear();
        line.write(&mut line_text);
        entry(&mut entries, line.time, &line_text);
    }
    let mut message = Vec::with_capacity(entries.len() + tag.len() + 128);
    array(&mut message, 3);
    text(&mut message, tag);
    // Writing to memory cannot fail.
    let _ = rmp::encode::write_bin(&mut message, &entries);
    let _ = rmp::encode::write_map_len(&mut message, 2);
    text(&mut message, "chunk");
    text(&mut message, chunk);
    text(&mut message, "size");
    let _ = rmp::encode::write_uint(&mut message, batch.len() as u64);
    message
}

/// `[EventTime, record]`; `EventTime` is extension 0: seconds and nanoseconds.
fn entry(into: &mut Vec<u8>, time: Timestamp, line: &[u8]) {
    array(into, 2);
    let _ = rmp::encode::write_ext_meta(into, 8, 0);
    into.extend_from_slice(&(time.as_second() as u32).to_be_bytes());
    into.extend_from_slice(&(time.subsec_nanosecond() as u32).to_be_bytes());
    let start = into.len();
    let record = serde_json::from_slice::<serde_json::Value>(line);
    let written = record.is_ok_and(|record| rmp_serde::encode::write(into, &record).is_ok());
    if !written {
        // A line that is no JSON object still has to arrive.
        into.truncate(start);
        let _ = rmp::encode::write_map_len(into, 1);
        text(into, "message");
        text(into, &String::from_utf8_lossy(line));
    }
}

pub(super) fn array(into: &mut Vec<u8>, length: u32) {
    let _ = rmp::encode::write_array_len(into, length);
}

pub(super) fn text(into: &mut Vec<u8>, text: &str) {
    let _ = rmp::encode::write_str(into, text);
}

/// `{"ack": id}`
pub(super) fn ack(bytes: &[u8]) -> Result<Option<(String, usize)>, String> {
    #[derive(Deserialize)]
    struct Ack {
        ack: String,
    }
    Ok(read::<Ack>(bytes)?.map(|(ack, length)| (ack.ack, length)))
}

/// `["HELO", {"nonce": ..., "auth": ..., "keepalive": ...}]`
pub(super) fn helo(bytes: &[u8]) -> Result<Option<(Helo, usize)>, String> {
    #[derive(Deserialize)]
    struct Options {
        nonce: Octets,
        #[serde(default)]
        auth: Octets,
    }
    let Some(((word, options), length)) = read::<(String, Options)>(bytes)? else { return Ok(None) };
    if word != "HELO" {
        return Err(format!("it said {word:?} instead of HELO"));
    }
    Ok(Some((Helo { nonce: options.nonce.0, auth: options.auth.0 }, length)))
}

/// `["PONG", accepted, reason, hostname, digest]`
pub(super) fn pong(bytes: &[u8]) -> Result<Option<(Pong, usize)>, String> {
    let Some(((word, accepted, reason, hostname, digest), length)) =
        read::<(String, bool, String, String, String)>(bytes)?
    else {
        return Ok(None);
    };
    if word != "PONG" {
        return Err(format!("it said {word:?} instead of PONG"));
    }
    Ok(Some((Pong { accepted, reason, hostname, digest }, length)))
}

/// The message at the start of the bytes and its length; `None` if there is more to come.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<(T, usize)>, String> {
    let mut rest = bytes;
    match rmp_serde::decode::from_read::<_, T>(&mut rest) {
        Ok(message) => Ok(Some((message, bytes.len() - rest.len()))),
        Err(Error::InvalidMarkerRead(error) | Error::InvalidDataRead(error))
            if error.kind() == std::io::ErrorKind::UnexpectedEof =>
        {
            Ok(None)
        }
        Err(error) => Err(format!("its answer makes no sense: {error}")),
    }
}

/// Bytes that a server may send as a string or as binary.
#[derive(Default)]
struct Octets(Vec<u8>);

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Octets;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or bytes")
            }

            fn visit_str<E>(self, text: &str) -> Result<Octets, E> {
                Ok(Octets(text.as_bytes().to_vec()))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Octets, E> {
                Ok(Octets(bytes.to_vec()))
            }

            // Some servers say that no password is wanted with `false` or nil.
            fn visit_bool<E>(self, _: bool) -> Result<Octets, E> {
                Ok(Octets::default())
            }

            fn visit_unit<E>(self) -> Result<Octets, E> {
                Ok(Octets::default())
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Kind, Timestamp};

    #[test]
    fn a_message_has_tag_entries_and_options() {
        let time = Timestamp::new(1_700_000_000, 5).expect("a time");
        let line = Line { time, ..Line::for_test(1, Kind::Event, r#"{"a":{"b":[1,-2,"x"]}}"#) };
        let bytes = message("postern", &[line], "id");
        // fixarray 3, "postern", bin 8.
        assert_eq!(bytes[..9], *b"\x93\xa7postern");
        assert_eq!(bytes[9], 0xc4);
        let length = usize::from(bytes[10]);
        let entry = &bytes[11..11 + length];
        // fixarray 2, fixext 8 of type 0, then the time.
        assert_eq!(entry[..3], [0x92, 0xd7, 0x00]);
        assert_eq!(entry[3..11], [&1_700_000_000u32.to_be_bytes()[..], &5u32.to_be_bytes()].concat());
        let record: serde_json::Value = rmp_serde::from_slice(&entry[11..]).expect("a record");
        assert_eq!(record, serde_json::json!({"a": {"b": [1, -2, "x"]}}));
        let options: serde_json::Value = rmp_serde::from_slice(&bytes[11 + length..]).expect("options");
        assert_eq!(options, serde_json::json!({"chunk": "id", "size": 1}));
    }

    #[test]
    fn an_answer_may_come_in_pieces() {
        let whole = rmp_serde::to_vec_named(&serde_json::json!({"ack": "id"})).expect("encoded");
        for length in 0..whole.len() {
            assert_eq!(ack(&whole[..length]), Ok(None));
        }
        assert_eq!(ack(&whole), Ok(Some(("id".to_owned(), whole.len()))));
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (ack(&bytes), helo(&bytes), pong(&bytes));
        }
    }
}
