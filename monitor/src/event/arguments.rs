//! A process's arguments: one text that holds them all, since there is one list for each process that runs.

use std::sync::Arc;

/// Arguments, safe to print: bytes that are not UTF-8 are spelled `\xNN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments(
    /// Each ended by a zero character, which no argument can hold; the last one may lack it.
    Arc<str>,
);

impl Arguments {
    /// Takes them as the kernel keeps them: each ended by a zero character, but for the last where it was cut.
    pub const fn of_text(text: Arc<str>) -> Self {
        Self(text)
    }

    /// All of them. An empty argument is an argument.
    pub fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        let whole = self.0.strip_suffix('\0').unwrap_or(&self.0);
        let mut rest = (!self.is_empty()).then_some(whole);
        std::iter::from_fn(move || {
            let text = rest?;
            let (argument, after) = match end(text.as_bytes()) {
                Some(at) => (&text[..at], Some(&text[at + 1..])),
                None => (text, None),
            };
            rest = after;
            Some(argument)
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        let ended = self.0.bytes().filter(|&byte| byte == 0).count();
        ended + usize::from(!self.is_empty() && !self.0.ends_with('\0'))
    }

    /// All of them as one text, each ended by a zero character, but for the last where it was cut.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes they take, with a byte behind each.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Those that begin in the first `most` bytes, the last of them cut there.
    #[must_use]
    pub fn cut(&self, most: usize) -> Self {
        Self(self.0[..self.0.floor_char_boundary(most)].into())
    }
}

/// Where the first zero byte is. Most arguments are short, and the standard library's search is made for long ones.
fn end(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let (words, rest) = text.as_chunks::<8>();
    for (at, word) in (0..).step_by(8).zip(words) {
        // A byte's highest bit is set where subtracting has to borrow. That may come of the byte before it too, which is a zero itself
        // then: the first one is certain.
        let word = u64::from_le_bytes(*word);
        let found = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|&byte| byte == 0).map(|at| text.len() - rest.len() + at)
}

impl<T: AsRef<str>> FromIterator<T> for Arguments {
    fn from_iter<I: IntoIterator<Item = T>>(arguments: I) -> Self {
        let mut text = String::new();
        for argument in arguments {
            // Of a zero character the rest would become another argument.
            text.extend(argument.as_ref().chars().filter(|&c| c != '\0'));
            text.push('\0');
        }
        Self(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back_empty_ones_too() {
        for list in [&[][..], &[""], &["a"], &["a", "", "b", ""], &["", ""]] {
            let arguments: Arguments = list.iter().collect();
            assert_eq!(arguments.iter().collect::<Vec<_>>(), list);
            assert_eq!((arguments.count(), arguments.is_empty()), (list.len(), list.is_empty()));
        }
    }

    #[test]
    fn any_that_hold_no_zero_come_back_as_they_were() {
        for length in 0..40 {
            for lengths in [[length, 0, 3], [3, length, length], [length, 9, 0]] {
                let list = lengths.map(|length| "\u{1}aé\u{80}".chars().cycle().take(length).collect::<String>());
                assert!(list.iter().collect::<Arguments>().iter().eq(&list), "{list:?}");
            }
        }
    }

    #[test]
    fn the_last_one_may_be_cut_short() {
        let arguments = Arguments::of_text("find\0/et".into());
        assert_eq!(arguments.iter().collect::<Vec<_>>(), ["find", "/et"]);
        let long: Arguments = ["a", "bü", "c"].iter().collect();
        assert_eq!(long.cut(4).iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(long.cut(99), long);
    }
}
