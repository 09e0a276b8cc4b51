//! A command line out of its arguments, quoted so that a shell would read the same arguments back. Joined with bare
//! spaces, `rm 'a b'` and `rm a b` would look alike.

use std::fmt::{self, Write};

use super::escape;

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

const fn needs_no_quotes(byte: u8) -> bool {
    byte >= 0x80
        || byte.is_ascii_alphanumeric()
        || matches!(byte, b'_' | b'-' | b'.' | b'/' | b':' | b'=' | b'@' | b'%' | b'+' | b',')
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
    fn controls_are_spelled_as_bash_reads_them() {
        assert_eq!(join(&["a\x1b[0m\n'\\\u{9b}\x01"], Quoting::Visible), "$'a\\e[0m\\n\\'\\\\\\u009b\\x01'");
    }
}
