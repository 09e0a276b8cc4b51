//! A JSON writer that appends to a buffer and allocates nothing. It leaves out what is empty, objects included, and
//! spells out every character that could act on a reader's terminal; serde's writer does neither.
//!
//! What takes a key is inlined: a key of known length is then written by a few moves. A call of the static build's `memcpy`
//! costs more than the rest of a short field, and there are a hundred keys in a line.
#![expect(clippy::inline_always, reason = "so that a key's length is known where it is written")]

use std::{
    fmt::{self, Display, Write},
    net::IpAddr,
};

use jiff::Timestamp;

use super::{escape, timestamp};

/// How many bytes a key has at most: each level of the names in [`super::fields`].
const KEY_MAX: usize = 24;
/// How many bytes of encoded fields are copied at once, by a few moves.
const PIECE: usize = 32;

/// An object that is being written: its fields, without the braces.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Writes the fields of an object; braces are up to the caller, so that encoded parts can be joined.
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, empty: true }
    }

    /// Goes on with an object that has fields already.
    pub(super) fn go_on(out: &'a mut Vec<u8>) -> Self {
        Self { out, empty: false }
    }

    /// Begins an object that is up to the caller to end.
    #[inline(always)]
    pub(super) fn open(&mut self, key: &'static str) -> Object<'_> {
        self.key(key);
        self.out.push(b'{');
        Object::new(self.out)
    }

    /// Adds fields that were encoded before; nothing if there are none.
    pub(super) fn splice(&mut self, fields: &Fields) {
        if !fields.is_empty() {
            self.separate();
            fields.append_to(self.out);
        }
    }

    /// Adds a text, unless it is empty.
    #[inline(always)]
    pub(super) fn text(&mut self, key: &'static str, value: &str) {
        if !value.is_empty() {
            self.key(key);
            string(self.out, value);
        }
    }

    /// Adds a text, where there is one.
    #[inline(always)]
    pub(super) fn maybe_text(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// Adds a text that is put together on the way.
    #[inline(always)]
    pub(super) fn display(&mut self, key: &'static str, value: impl Display) {
        self.written(key, |out| {
            // Writing to memory cannot fail, and the values' own Display do not.
            let _ = write!(out, "{value}");
        });
    }

    /// Adds a text that `write` writes.
    #[inline(always)]
    pub(super) fn written(&mut self, key: &'static str, write: impl FnOnce(&mut Escaped<'_>)) {
        self.key(key);
        self.out.push(b'"');
        write(&mut Escaped(self.out));
        self.out.push(b'"');
    }

    /// Adds a number.
    #[inline(always)]
    pub(super) fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        decimal(self.out, value);
    }

    /// Adds a number that may be below zero.
    #[inline(always)]
    pub(super) fn signed(&mut self, key: &'static str, value: i64) {
        self.key(key);
        if value < 0 {
            self.out.push(b'-');
        }
        decimal(self.out, value.unsigned_abs());
    }

    /// Adds a number as a text: an identifier, of which nobody computes anything.
    #[inline(always)]
    pub(super) fn identifier(&mut self, key: &'static str, value: u64) {
        self.key(key);
        self.out.push(b'"');
        decimal(self.out, value);
        self.out.push(b'"');
    }

    /// Adds two numbers as a text, with a colon between them.
    #[inline(always)]
    pub(super) fn numbers(&mut self, key: &'static str, (first, second): (u32, u32)) {
        self.key(key);
        self.out.push(b'"');
        decimal(self.out, first.into());
        self.out.push(b':');
        decimal(self.out, second.into());
        self.out.push(b'"');
    }

    /// Adds a text, a hyphen and a number.
    #[inline(always)]
    pub(super) fn numbered(&mut self, key: &'static str, text: &str, number: u64) {
        self.key(key);
        self.out.push(b'"');
        escape_into(self.out, text);
        self.out.push(b'-');
        decimal(self.out, number);
        self.out.push(b'"');
    }

    /// Adds bytes as a text of hexadecimal digits.
    #[inline(always)]
    pub(super) fn hexadecimal(&mut self, key: &'static str, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.key(key);
        self.out.push(b'"');
        for byte in bytes {
            self.out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        self.out.push(b'"');
    }

    /// Adds a truth value.
    #[inline(always)]
    pub(super) fn boolean(&mut self, key: &'static str, value: bool) {
        self.key(key);
        if value {
            self.out.extend_from_slice(b"true");
        } else {
            self.out.extend_from_slice(b"false");
        }
    }

    /// Adds a fact, unless it does not hold.
    #[inline(always)]
    pub(super) fn flag(&mut self, key: &'static str, value: bool) {
        if value {
            self.boolean(key, true);
        }
    }

    /// Adds a time, as RFC 3339 has it, in UTC and with nanoseconds.
    #[inline(always)]
    pub(super) fn time(&mut self, key: &'static str, value: Timestamp) {
        self.key(key);
        self.out.push(b'"');
        timestamp::write(self.out, value);
        self.out.push(b'"');
    }

    /// Adds an address.
    #[inline(always)]
    pub(super) fn ip(&mut self, key: &'static str, value: Option<IpAddr>) {
        if let Some(value) = value {
            self.display(key, value.to_canonical());
        }
    }

    /// Adds an array of texts, unless it has none. Its elements may be empty: an empty argument is an argument.
    #[inline(always)]
    pub(super) fn texts<T: AsRef<str>>(&mut self, key: &'static str, values: impl IntoIterator<Item = T>) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return;
        }
        self.key(key);
        let mut before = b'[';
        for value in values {
            self.out.push(before);
            string(self.out, value.as_ref());
            before = b',';
        }
        self.out.push(b']');
    }

    /// Adds an array of texts that are put together on the way, unless it has none.
    #[inline(always)]
    pub(super) fn displays(&mut self, key: &'static str, values: impl IntoIterator<Item = impl Display>) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return;
        }
        self.key(key);
        let mut before = b'[';
        for value in values {
            self.out.push(before);
            self.out.push(b'"');
            let _ = write!(Escaped(self.out), "{value}");
            self.out.push(b'"');
            before = b',';
        }
        self.out.push(b']');
    }

    /// Adds a value that was encoded before.
    #[inline(always)]
    pub(super) fn encoded(&mut self, key: &'static str, value: &[u8]) {
        self.key(key);
        self.out.extend_from_slice(value);
    }

    /// Adds an object, unless `fill` adds nothing to it.
    #[inline(always)]
    pub(super) fn object(&mut self, key: &'static str, fill: impl FnOnce(&mut Object<'_>)) {
        let (mark, empty) = (self.out.len(), self.empty);
        self.key(key);
        self.out.push(b'{');
        let mut inner = Object::new(self.out);
        fill(&mut inner);
        if inner.empty {
            self.out.truncate(mark);
            self.empty = empty;
        } else {
            self.out.push(b'}');
        }
    }

    /// Adds an array of objects, unless it has none.
    #[inline(always)]
    pub(super) fn objects<T>(&mut self, key: &'static str, values: &[T], fill: impl Fn(&mut Object<'_>, &T)) {
        if values.is_empty() {
            return;
        }
        self.key(key);
        let mut before = b'[';
        for value in values {
            self.out.push(before);
            self.out.push(b'{');
            fill(&mut Object::new(self.out), value);
            self.out.push(b'}');
            before = b',';
        }
        self.out.push(b']');
    }

    /// Adds a text under a name of foreign origin.
    pub(super) fn foreign(&mut self, key: impl Display, value: &str) {
        self.separate();
        self.out.push(b'"');
        let _ = write!(Escaped(self.out), "{key}");
        self.out.extend_from_slice(b"\":");
        string(self.out, value);
    }

    #[inline(always)]
    fn key(&mut self, key: &'static str) {
        self.separate();
        // All of it at once, which takes one look whether there is room.
        let end = self.out.len() + key.len() + 3;
        if let Some(text) = room(self.out, [b'"'; KEY_MAX + 3]) {
            text[1..=key.len()].copy_from_slice(key.as_bytes());
            text[key.len() + 2] = b':';
        }
        self.out.truncate(end);
    }

    fn separate(&mut self) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
    }
}

/// The fields of an object, in memory of their own: in pieces of a known length, the last one filled up, since a call of `memcpy`
/// has the next instructions wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pieces: Vec<[u8; PIECE]>,
    length: usize,
}

impl Fields {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn append_to(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.length;
        out.reserve(self.pieces.len() * PIECE);
        for piece in &self.pieces {
            out.extend_from_slice(piece);
        }
        out.truncate(end);
    }
}

/// The fields of an object, to be added to others.
pub(super) fn fields(write: impl FnOnce(&mut Object<'_>)) -> Fields {
    let mut out = Vec::new();
    write(&mut Object::new(&mut out));
    let length = out.len();
    out.resize(length.next_multiple_of(PIECE), 0);
    Fields { pieces: out.as_chunks().0.to_vec(), length }
}

/// Escapes what is written to it, for the inside of a JSON string.
pub(super) struct Escaped<'a>(&'a mut Vec<u8>);

impl Escaped<'_> {
    /// Writes ASCII that needs no escapes.
    pub(super) fn plain(&mut self, text: impl Iterator<Item = u8>) {
        self.0.extend(text);
    }
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape_into(self.0, text);
        Ok(())
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escape_into(out, text);
    out.push(b'"');
}

fn escape_into(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    loop {
        rest = copy_plain(out, rest);
        let Some(c) = rest.chars().next() else { break };
        if escape::is_unsafe(c) || c == '"' || c == '\\' {
            special(out, c);
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        rest = &rest[c.len_utf8()..];
    }
}

/// Copies what stands for itself, which is nearly every text as a whole; returns the rest. ASCII goes a word at a time, and the end
/// of a text as a word too, which overlaps the one before: a call of the static build's `memcpy` costs more than a short text.
fn copy_plain<'a>(out: &mut Vec<u8>, text: &'a str) -> &'a str {
    out.reserve(text.len());
    let bytes = text.as_bytes();
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk::<8>()
        && !escape::may_stop_in(*word)
    {
        out.extend_from_slice(word);
        rest = after;
    }
    if rest.len() < 8
        && let Some(last) = bytes.last_chunk::<8>()
        && !escape::may_stop_in(*last)
    {
        out.truncate(out.len() + rest.len() - 8);
        out.extend_from_slice(last);
        return "";
    }
    if bytes.len() < 8
        && let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>())
        && !escape::may_stop_in(zerocopy::transmute!([*first, *last]))
    {
        out.extend_from_slice(first);
        out.truncate(out.len() + bytes.len() - 8);
        out.extend_from_slice(last);
        return "";
    }
    while let Some((&byte, after)) = rest.split_first()
        && !escape::may_stop(byte)
    {
        out.push(byte);
        rest = after;
    }
    &text[text.len() - rest.len()..]
}

fn special(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        // No unsafe character lies beyond the basic plane, so four digits are enough.
        c => {
            let _ = write!(Plain(out), "\\u{:04x}", u32::from(c));
        }
    }
}

/// Writes what needs no escapes.
struct Plain<'a>(&'a mut Vec<u8>);

impl Write for Plain<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn decimal(out: &mut Vec<u8>, mut value: u64) {
    let count = value.checked_ilog10().map_or(1, |log| log as usize + 1);
    let end = out.len() + count;
    if let Some(digits) = room(out, [0; 20]) {
        for digit in digits[..count].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
    out.truncate(end);
}

/// Appends what a text begins as, for the rest of it to be written where it belongs: whoever puts it together elsewhere, byte by
/// byte, and copies it at once, waits until all that was written before has reached the cache.
#[inline(always)]
pub(super) fn room<const LENGTH: usize>(out: &mut Vec<u8>, text: [u8; LENGTH]) -> Option<&mut [u8; LENGTH]> {
    out.extend_from_slice(&text);
    out.last_chunk_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(fill: impl FnOnce(&mut Object<'_>)) -> String {
        let mut out = Vec::new();
        fields(fill).append_to(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn every_key_that_is_emitted_has_room() {
        for field in crate::sink::encode::fields::all() {
            assert!(field.name.split('.').all(|key| key.len() <= KEY_MAX), "{}", field.name);
        }
    }

    #[test]
    fn fields_of_any_length_are_whole() {
        for length in 0..3 * PIECE {
            let text = "x".repeat(length + 1);
            assert_eq!(object(|top| top.text("a", &text)), format!("\"a\":\"{text}\""));
        }
    }

    #[test]
    fn what_is_empty_is_left_out_with_everything_around_it() {
        let out = object(|top| {
            top.text("a", "");
            top.object("b", |b| b.object("c", |c| c.text("d", "")));
            top.texts::<&str>("e", []);
            top.objects::<u8>("f", &[], |_, _| {});
            top.flag("g", false);
            top.number("h", 0);
        });
        assert_eq!(out, "\"h\":0");
    }

    #[test]
    fn objects_nest_and_are_separated() {
        let out = object(|top| {
            top.object("a", |a| {
                a.signed("b", -12);
                a.boolean("c", false);
            });
            top.splice(&fields(|x| x.number("x", 1)));
            top.splice(&Fields::default());
            top.texts("d", ["", "e"]);
            top.objects("f", &[1, 2], |f, n| f.number("g", *n));
            top.identifier("h", u64::MAX);
        });
        assert_eq!(
            out,
            r#""a":{"b":-12,"c":false},"x":1,"d":["","e"],"f":[{"g":1},{"g":2}],"h":"18446744073709551615""#
        );
    }

    #[test]
    fn characters_that_act_on_a_reader_are_spelled_out() {
        let out = object(|top| top.text("a", "\"\\\n\x1b\x7f\u{85}\u{2028}\u{202e}\u{2066}\u{61c}é€😀\u{b5}"));
        assert_eq!(out, "\"a\":\"\\\"\\\\\\n\\u001b\\u007f\\u0085\\u2028\\u202e\\u2066\\u061cé€😀\u{b5}\"");
    }

    #[test]
    fn a_text_of_any_length_is_whole_and_its_odd_characters_are_escaped_wherever_they_stand() {
        for length in 0..40 {
            let plain: String = ('a'..='z').cycle().take(length).collect();
            for at in 0..=length {
                for (odd, escaped) in [("", ""), ("\n", "\\n"), ("\u{202e}", "\\u202e"), ("é", "é")] {
                    let text = [&plain[..at], odd, &plain[at..]].concat();
                    let expected = [&plain[..at], escaped, &plain[at..]].concat();
                    let mut out = b"before".to_vec();
                    escape_into(&mut out, &text);
                    assert_eq!(out, [b"before", expected.as_bytes()].concat());
                }
            }
        }
    }

    #[test]
    fn a_number_has_its_digits() {
        for value in [0, 7, 10, 99, 100, 12_345, 1_000_000, u64::MAX / 10, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, value);
            assert_eq!(String::from_utf8(out).expect("digits"), value.to_string());
        }
    }

    #[test]
    fn a_time_has_nine_decimals_and_a_zone() {
        let time = Timestamp::new(1_764_000_000, 5).expect("in range");
        assert_eq!(object(|top| top.time("t", time)), "\"t\":\"2025-11-24T16:00:00.000000005Z\"");
    }
}
