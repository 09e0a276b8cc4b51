//! A command line out of its arguments, quoted so that a shell would read the same arguments back. Joined with bare
//! spaces, `rm 'a b'` and `rm a b` would look alike.

use std::fmt::{self, Write};

use super::escape;
use crate::event::Arguments;

/// How arguments with characters that must not be shown raw are quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoting {
    /// As they are, in single quotes: what is written to escapes them itself.
    Plain,
    /// In `$'...'`, spelled out, as bash and ksh would read them.
    Visible,
}

/// Writes `args` joined by spaces.
pub(super) fn write<'a, W: Write>(
    args: impl IntoIterator<Item = &'a str>,
    quoting: Quoting,
    out: &mut W,
) -> fmt::Result {
    for (position, arg) in args.into_iter().enumerate() {
        if position > 0 {
            out.write_char(' ')?;
        }
        if quoting == Quoting::Visible && arg.chars().any(escape::is_unsafe) {
            write_visible(arg, out)?;
        } else if !arg.is_empty() && arg.bytes().all(needs_no_quotes) {
            out.write_str(arg)?;
        } else {
            write_quoted(arg, out)?;
        }
    }
    Ok(())
}

/// The same of arguments that a shell reads as they are, and that need no escapes: nearly all, which are looked at and copied many
/// bytes at once. Nothing for any others.
pub(super) fn plain(args: &Arguments) -> Option<impl Iterator<Item = u8>> {
    let text = args.text().as_bytes();
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let [first, rest @ ..] = text else { return None };
    // An empty argument takes quotes.
    let is_quoted = |before: u8, byte: u8| quotes(byte) & (u8::from(byte != 0) | u8::from(before == 0));
    let any_quoted = text.iter().zip(rest).fold(0, |any, (&before, &byte)| any | is_quoted(before, byte));
    let is_plain = any_quoted | quotes(*first) | u8::from(text.last() == Some(&0)) == 0;
    is_plain.then(|| text.iter().map(|&byte| if byte == 0 { b' ' } else { byte }))
}

const fn needs_no_quotes(byte: u8) -> bool {
    byte >= 0x80 || quotes(byte) == 0
}

/// 1 for a byte that takes quotes, or may be a part of a character that has to be escaped, else 0. Without branches, so that the
/// compiler sees how to look at many at once.
const fn quotes(byte: u8) -> u8 {
    let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    // `+`, `,`, `-`, `.`, `/`, the digits and `:` stand in a row.
    let is_in_row = byte.wrapping_sub(b'+') <= b':' - b'+';
    let others = (byte == b'_') as u8 | (byte == b'=') as u8 | (byte == b'@') as u8 | (byte == b'%') as u8;
    1 ^ (is_letter as u8 | is_in_row as u8 | others)
}

fn write_quoted<W: Write>(arg: &str, out: &mut W) -> fmt::Result {
    out.write_char('\'')?;
    for (position, part) in arg.split('\'').enumerate() {
        if position > 0 {
            out.write_str("'\\''")?;
        }
        out.write_str(part)?;
    }
    out.write_char('\'')
}

fn write_visible<W: Write>(arg: &str, out: &mut W) -> fmt::Result {
    out.write_str("$'")?;
    for c in arg.chars() {
        match c {
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\x1b' => out.write_str("\\e")?,
            '\'' => out.write_str("\\'")?,
            '\\' => out.write_str("\\\\")?,
            c if escape::is_unsafe(c) && c.is_ascii() => write!(out, "\\x{:02x}", u32::from(c))?,
            c if escape::is_unsafe(c) => write!(out, "\\u{:04x}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('\'')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(args: &[&str], quoting: Quoting) -> String {
        let mut out = String::new();
        write(args.iter().copied(), quoting, &mut out).expect("a String takes everything");
        out
    }

    #[test]
    fn arguments_are_quoted_only_where_a_shell_needs_it() {
        assert_eq!(
            join(&["/bin/sh", "-c", "echo it's $HOME", "", "é"], Quoting::Plain),
            "/bin/sh -c 'echo it'\\''s $HOME' '' é"
        );
    }

    #[test]
    fn plain_arguments_are_the_same_whichever_way_they_are_written() {
        for byte in 1..0x80_u8 {
            let odd = char::from(byte).to_string();
            let in_a_long_one = format!("/usr/bin/an-ordinary_program{odd}@x=1,2+3:4%5");
            for args in [
                vec![&*odd],
                vec!["/bin/ls", "-l", &odd, "a"],
                vec![&in_a_long_one, "b"],
                vec![&odd, ""],
                vec!["", &odd],
            ] {
                let joined = join(&args, Quoting::Plain);
                let plain = plain(&args.iter().collect()).map(|it| it.map(char::from).collect::<String>());
                let expected = (!joined.contains('\'')).then_some(joined);
                assert_eq!(plain, expected);
            }
        }
        assert!(plain(&["é"].iter().collect()).is_none(), "it may need an escape");
        assert!(plain(&[""].iter().collect()).is_none() && plain(&["", ""].iter().collect()).is_none());
    }

    #[test]
    fn controls_are_spelled_as_bash_reads_them() {
        assert_eq!(join(&["a\x1b[0m\n'\\\u{9b}\x01"], Quoting::Visible), "$'a\\e[0m\\n\\'\\\\\\u009b\\x01'");
    }
}
