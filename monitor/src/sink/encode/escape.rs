//! Which characters never reach an output raw, and how each output spells them. A terminal obeys C0 and C1 controls, a
//! log viewer turns text around on a bidirectional control, and U+2028 ends a line for some readers: all of that would
//! let whoever names a process or a user forge what an analyst sees.

use std::fmt::{self, Write};

/// Whether `c` must be spelled out: C0 and C1 controls, DEL, line and paragraph separators, and bidirectional controls
/// (Unicode Standard Annex 9, table 4).
pub(super) const fn is_unsafe(c: char) -> bool {
    matches!(
        c,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// Bytes at which an unsafe character, a quotation mark or a backslash may begin in UTF-8. All others are copied as
/// they are, which is nearly everything that a node runs.
const STOPS: [bool; 256] = {
    let mut stops = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        stops[byte] = true;
        byte += 1;
    }
    stops[b'"' as usize] = true;
    stops[b'\\' as usize] = true;
    stops[0x7f] = true;
    stops[0xc2] = true; // U+0080 to U+00BF
    stops[0xd8] = true; // U+0600 to U+063F
    stops[0xe2] = true; // U+2000 to U+2FFF
    stops
};

/// Whether something that may not stand for itself can begin with this byte: an unsafe character, a quotation mark or a
/// backslash. Every other byte is copied as it is.
pub(super) const fn may_stop(byte: u8) -> bool {
    STOPS[byte as usize]
}

/// Whether it is not certain that [`may_stop`] holds for none of eight bytes. All of them are looked at together: those outside
/// ASCII count as if they might.
pub(super) const fn may_stop_in(bytes: [u8; 8]) -> bool {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    // Of eight bytes in ASCII none has its highest bit set. Here it is set where subtracting has to borrow, and where adding carries into
    // it. A borrow may come of the byte before too: then that one is one that stops already.
    let word = u64::from_ne_bytes(bytes);
    let found = word
        | word.wrapping_sub(each(0x20))
        | (word ^ each(b'"')).wrapping_sub(each(1))
        | (word ^ each(b'\\')).wrapping_sub(each(1))
        | word.wrapping_add(each(1));
    found & each(0x80) != 0
}

/// Spells unsafe characters the way a person reads them (`\n`, `\e`, `\u{9b}`) and passes on all else.
pub(super) struct Visible<W>(pub(super) W);

impl<W: Write> Write for Visible<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut from = 0;
        for (at, c) in text.char_indices().filter(|(_, c)| is_unsafe(*c)) {
            self.0.write_str(&text[from..at])?;
            from = at + c.len_utf8();
            match c {
                '\n' => self.0.write_str("\\n")?,
                '\r' => self.0.write_str("\\r")?,
                '\t' => self.0.write_str("\\t")?,
                '\x1b' => self.0.write_str("\\e")?,
                c => write!(self.0, "\\u{{{:x}}}", u32::from(c))?,
            }
        }
        self.0.write_str(&text[from..])
    }
}

/// A text of foreign origin inside a sentence of ours: one line, whatever it contains.
pub(crate) struct Foreign<'a>(pub(crate) &'a str);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Visible(f).write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_escape_is_spelled_out() {
        assert_eq!(Foreign("a\x1b[31mb\n\u{9b}c\u{202e}").to_string(), "a\\e[31mb\\n\\u{9b}c\\u{202e}");
    }

    #[test]
    fn eight_bytes_together_stop_where_one_of_them_does() {
        for byte in 0..=u8::MAX {
            for at in 0..8 {
                for others in [b' ', b'!', b'a', b'~'] {
                    let mut word = [others; 8];
                    word[at] = byte;
                    assert_eq!(may_stop_in(word), may_stop(byte) || byte >= 0x80, "{word:x?}");
                }
            }
        }
    }

    #[test]
    fn every_unsafe_character_begins_with_a_byte_that_stops_the_copy() {
        for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32).filter(|c| is_unsafe(*c)) {
            let mut buffer = [0; 4];
            assert!(STOPS[usize::from(c.encode_utf8(&mut buffer).as_bytes()[0])], "U+{:04X}", u32::from(c));
        }
    }
}
