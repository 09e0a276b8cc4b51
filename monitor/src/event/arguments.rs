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
        // Most are short: the standard library's search is made for long ones.
        std::iter::from_fn(move || {
            let text = rest?;
            let (argument, after) = match text.bytes().position(|byte| byte == 0) {
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
    fn the_last_one_may_be_cut_short() {
        let arguments = Arguments::of_text("find\0/et".into());
        assert_eq!(arguments.iter().collect::<Vec<_>>(), ["find", "/et"]);
        let long: Arguments = ["a", "bü", "c"].iter().collect();
        assert_eq!(long.cut(4).iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(long.cut(99), long);
    }
}
