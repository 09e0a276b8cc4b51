//! What is wrong with a configuration: where, and in words that say what to write instead.

use std::{fmt, sync::Arc};

/// At most so many characters of a wrong value are repeated in a message.
const QUOTED_CHARACTERS: usize = 64;

/// One thing that is wrong, or doubtful, in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name, as it was given.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Which key (`sinks[1].address`); empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// A place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Place {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// Text as a terminal may see it: what is not printable is escaped, quotes are left alone.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// A value as a message may repeat it: printable, and cut.
pub(super) fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(QUOTED_CHARACTERS).collect();
    let rest = if cut.len() < text.len() { "..." } else { "" };
    format!("`{}{rest}`", printable(&cut))
}

/// `: did you mean ...?` where one of `known` is close to `written`, else the list of them.
pub(super) fn suggestion(written: &str, known: &[&str]) -> String {
    // Long input is no typing mistake; the bound also keeps the comparison cheap.
    let close = (written.len() <= QUOTED_CHARACTERS)
        .then(|| known.iter().map(|name| (distance(written, name), *name)).min())
        .flatten()
        .filter(|(edits, name)| *edits <= 1 + name.len() / 4);
    match close {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => {
            format!("expected one of {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Edits (insert, delete, replace) between two words, upper and lower case taken as equal.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(!from.eq_ignore_ascii_case(to));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_suggested_and_a_far_one_is_not() {
        assert_eq!(suggestion("sink", &["access", "sinks"]), "did you mean `sinks`?");
        assert_eq!(suggestion("Format", &["format", "type"]), "did you mean `format`?");
        assert_eq!(suggestion("banana", &["a", "sinks"]), "expected one of `a`, `sinks`");
    }

    #[test]
    fn a_repeated_value_is_escaped_and_cut() {
        assert_eq!(quoted("a\u{1b}[31m"), "`a\\u{1b}[31m`");
        assert_eq!(quoted("it's \"so\"\u{202e}"), "`it's \"so\"\\u{202e}`");
        assert_eq!(quoted(&"x".repeat(100)).len(), 64 + 3 + 2);
    }
}
