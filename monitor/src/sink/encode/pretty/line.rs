//! A line for a terminal: columns, colours, limits, and nothing of foreign origin that the terminal would obey.

use std::fmt::{Display, Write};

use crate::sink::encode::escape::Visible;

/// The longest cell and the longest text at the end of a line, in characters.
const CELL_LIMIT: usize = 64;
pub(super) const TEXT_LIMIT: usize = 300;

/// ANSI colours (ECMA-48, "select graphic rendition").
pub(super) const DIM: &str = "2";
pub(super) const RED: &str = "31";
pub(super) const GREEN: &str = "32";
pub(super) const YELLOW: &str = "33";
pub(super) const BLUE: &str = "34";
pub(super) const MAGENTA: &str = "35";
pub(super) const CYAN: &str = "36";
pub(super) const BOLD: &str = "1";
pub(super) const BOLD_RED: &str = "1;31";
pub(super) const BOLD_YELLOW: &str = "1;33";
pub(super) const RED_BAR: &str = "1;97;41";
pub(super) const YELLOW_BAR: &str = "1;30;43";

/// A line that is being written.
pub(super) struct Line<'a> {
    pub(super) out: &'a mut String,
    pub(super) colour: bool,
}

impl Line<'_> {
    /// Appends a text, whatever it contains.
    pub(super) fn put(&mut self, text: impl Display) {
        // Writing to a String cannot fail.
        let _ = write!(Visible(&mut *self.out), "{text}");
    }

    pub(super) fn pad(&mut self, width: usize) {
        self.out.extend(std::iter::repeat_n(' ', width));
    }

    /// Appends in a colour; an empty one is none.
    pub(super) fn styled(&mut self, style: &str, write: impl FnOnce(&mut Self)) {
        if !self.colour || style.is_empty() {
            return write(self);
        }
        let before = self.out.len();
        let _ = write!(self.out, "\x1b[{style}m");
        let begun = self.out.len();
        write(self);
        if self.out.len() == begun {
            self.out.truncate(before);
        } else {
            self.out.push_str("\x1b[0m");
        }
    }

    /// Appends a column: `width` wide at least, and a blank.
    pub(super) fn cell(&mut self, style: &str, width: usize, write: impl FnOnce(&mut Self)) {
        let mut used = 0;
        self.styled(style, |line| used = line.limited(CELL_LIMIT, write));
        self.pad(width.saturating_sub(used) + 1);
    }

    /// Appends at most `limit` characters of what is written, and how many more there were. Returns the width.
    pub(super) fn limited(&mut self, limit: usize, write: impl FnOnce(&mut Self)) -> usize {
        let (from, colour) = (self.out.len(), std::mem::take(&mut self.colour));
        write(self);
        self.colour = colour;
        let Some((cut, _)) = self.out[from..].char_indices().nth(limit) else {
            return self.out[from..].chars().count();
        };
        let more = self.out[from + cut..].chars().count();
        self.out.truncate(from + cut);
        let _ = write!(self.out, "… (+{more} chars)");
        self.out[from..].chars().count()
    }
}
