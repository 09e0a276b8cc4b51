//! Texts that come again and again: a node runs few different programs in few directories.

use std::{collections::HashMap, sync::Arc};

use super::text::printable;

/// How many texts are remembered, and then none for a moment.
const MOST: usize = 4_096;
/// Longer ones are not: they do not come again, or somebody wants to fill memory.
const LONGEST: usize = 256;

/// Texts by the bytes that they came of. Whoever names programs and directories picks the keys, so the map's hash is seeded.
#[derive(Debug, Default)]
pub(super) struct Texts(HashMap<Box<[u8]>, Arc<str>>);

impl Texts {
    /// As [`printable`] makes it.
    pub(super) fn get(&mut self, bytes: &[u8]) -> Arc<str> {
        if let Some(text) = self.0.get(bytes) {
            return Arc::clone(text);
        }
        let text = printable(bytes);
        if bytes.len() <= LONGEST {
            if self.0.len() >= MOST {
                self.0.clear();
            }
            self.0.insert(bytes.into(), Arc::clone(&text));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_are_one_text() {
        let mut texts = Texts::default();
        let first = texts.get(b"/bin/sh");
        assert!(Arc::ptr_eq(&first, &texts.get(b"/bin/sh")));
        assert_eq!(&*texts.get(b"/bin/\xff"), "/bin/\\xff");
    }

    #[test]
    fn it_is_bounded() {
        let mut texts = Texts::default();
        for number in 0..10_000 {
            texts.get(format!("/{number}").as_bytes());
            texts.get("x".repeat(LONGEST + 1).as_bytes());
        }
        assert!(texts.0.len() <= MOST && texts.0.keys().all(|key| key.len() <= LONGEST));
    }
}
