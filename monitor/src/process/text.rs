//! Bytes from processes as text. What is not UTF-8 is spelled `\xNN`, so that nothing is lost and nothing is guessed;
//! encoders escape control characters.

use std::{fmt::Write as _, sync::Arc};

/// Text of any bytes.
pub fn printable(bytes: &[u8]) -> Arc<str> {
    match str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => spelled(bytes).into(),
    }
}

fn spelled(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The part of a text that fits into `most` bytes, cut between characters.
pub fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_spelled() {
        assert_eq!(&*printable("Grüße\n".as_bytes()), "Grüße\n");
        assert_eq!(&*printable(b"a\xff\xfeb"), "a\\xff\\xfeb");
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(cut("aü", 2), "a");
        assert_eq!(cut("aü", 3), "aü");
        assert_eq!(cut("aü", 99), "aü");
    }
}
