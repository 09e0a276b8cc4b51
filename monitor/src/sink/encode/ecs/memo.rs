//! What was encoded before. A shell's thousand children all name it as their parent, and a pod's processes all name the pod:
//! each is encoded once.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// What `V` came of each `T`, for the last few. Keyed by where the `T` is, which is held on to, so that nothing else can be
/// there.
#[derive(Clone, Debug)]
pub(super) struct Memo<T, V> {
    made: FxHashMap<usize, (Arc<T>, V)>,
    most: usize,
}

impl<T, V> Memo<T, V> {
    /// Remembers up to `most`, and then begins anew: simpler than to forget the oldest, and as cheap over time.
    pub(super) fn new(most: usize) -> Self {
        Self { made: FxHashMap::default(), most }
    }

    /// What comes of `of`.
    pub(super) fn get(&mut self, of: &Arc<T>, make: impl FnOnce(&T) -> V) -> &V {
        let key = Arc::as_ptr(of).addr();
        if self.made.len() >= self.most && !self.made.contains_key(&key) {
            self.made.clear();
        }
        &self.made.entry(key).or_insert_with(|| (Arc::clone(of), make(of))).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_made_once_until_there_are_too_many() {
        let mut memo = Memo::new(2);
        let mut made = 0;
        let [a, b, c] = ["a", "b", "c"].map(|it| Arc::new(it.to_owned()));
        for of in [&a, &b, &a, &b, &c, &a] {
            let text = memo.get(of, |of| {
                made += 1;
                of.to_uppercase()
            });
            assert_eq!(*text, of.to_uppercase());
        }
        // a, b, then c begins anew, and so does a.
        assert_eq!(made, 4);
        assert!(memo.made.len() <= 2);
    }
}
