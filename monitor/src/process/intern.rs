//! Texts that come again and again: a node runs few different programs in few directories.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use super::text::printable;
use crate::record::Components;

/// How many texts are remembered, and then none for a moment.
const MOST: usize = 4_096;
/// Longer ones are not: they do not come again, or somebody wants to fill memory.
const LONGEST: usize = 256;

/// Texts of the kernel's, each of which is one for all who have it.
#[derive(Debug, Default)]
pub(super) struct Texts {
    plain: Interned,
    paths: Interned,
}

impl Texts {
    /// As [`printable`] makes it.
    pub(super) fn get(&mut self, bytes: &[u8]) -> Arc<str> {
        self.plain.get(bytes, || printable(bytes))
    }

    /// The same of a path, which most often is known without being put together.
    pub(super) fn path(&mut self, components: Components<'_>) -> Arc<str> {
        self.paths.get(components.bytes(), || printable(&components.path()))
    }
}

/// Texts by the bytes that they came of. Whoever names programs and directories picks the keys, so the map's hash is seeded.
#[derive(Debug, Default)]
struct Interned(HashMap<Box<[u8]>, Arc<str>, RandomState>);

impl Interned {
    fn get(&mut self, bytes: &[u8], make: impl FnOnce() -> Arc<str>) -> Arc<str> {
        if let Some(text) = self.0.get(bytes) {
            return Arc::clone(text);
        }
        let text = make();
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
        assert!(texts.plain.0.len() <= MOST && texts.plain.0.keys().all(|key| key.len() <= LONGEST));
    }
}
