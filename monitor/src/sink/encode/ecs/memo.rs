//! What was encoded before. A shell's thousand children all name it as their parent, and a pod's processes all name the pod:
//! each is encoded once.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::sink::encode::json::{self, Fields, Object};

/// What `V` came of each `T`, at least for those that others hold. Keyed by where the `T` is, which is held on to, so that nothing else can be there.
#[derive(Clone, Debug)]
pub(super) struct Memo<T, V> {
    made: FxHashMap<usize, (Arc<T>, V)>,
    /// How many there may be before it is looked which of them nobody else holds any more.
    room: usize,
    most: usize,
}

impl<T, V> Memo<T, V> {
    /// So many are remembered in any case, held by others or not.
    const FEW: usize = 1_024;

    /// Remembers up to `most`. Where nearly as many are held by others, it begins anew: simpler than to forget the oldest.
    pub(super) fn new(most: usize) -> Self {
        Self { made: FxHashMap::default(), room: most.min(Self::FEW), most }
    }

    /// What comes of `of`.
    fn get(&mut self, of: &Arc<T>, make: impl FnOnce(&T) -> V) -> &V {
        let key = Arc::as_ptr(of).addr();
        if self.made.len() >= self.room && !self.made.contains_key(&key) {
            self.make_room();
        }
        &self.made.entry(key).or_insert_with(|| (Arc::clone(of), make(of))).1
    }

    /// Forgets what nobody else holds: nobody asks for it again. There is room for as many again as are left, so that each is looked
    /// at about once for each that comes.
    fn make_room(&mut self) {
        self.made.retain(|_, (of, _)| Arc::strong_count(of) > 1);
        if self.made.len() >= self.most - self.most / 4 {
            self.made.clear();
        }
        self.room = (2 * self.made.len()).clamp(self.most.min(Self::FEW), self.most);
        self.made.shrink_to(self.room);
    }
}

impl<T> Memo<T, Fields> {
    /// What `write` writes of `of`, or wrote the first time.
    pub(super) fn fields(&mut self, of: &Arc<T>, write: impl FnOnce(&T, &mut Object<'_>)) -> &Fields {
        self.get(of, |of| json::fields(|fields| write(of, fields)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often `get` had to make what comes of these, in turn.
    fn made(memo: &mut Memo<String, String>, of: &[Arc<String>]) -> usize {
        let mut made = 0;
        for of in of {
            let text = memo.get(of, |of| {
                made += 1;
                of.to_uppercase()
            });
            assert_eq!(*text, of.to_uppercase());
        }
        made
    }

    fn texts(count: usize) -> Vec<Arc<String>> {
        (0..count).map(|number| Arc::new(format!("text {number}"))).collect()
    }

    #[test]
    fn each_is_made_once_until_there_are_too_many() {
        let mut memo = Memo::new(2);
        let [a, b, c] = ["a", "b", "c"].map(|it| Arc::new(it.to_owned()));
        // a, b, then c begins anew, and so does a.
        assert_eq!(made(&mut memo, &[&a, &b, &a, &b, &c, &a].map(Arc::clone)), 4);
        assert!(memo.made.len() <= 2);
    }

    #[test]
    fn those_that_others_hold_are_made_once_however_many_come_and_go_beside_them() {
        const MOST: usize = 4 * Memo::<String, String>::FEW;
        let (mut memo, held) = (Memo::new(MOST), texts(MOST / 2));
        assert_eq!(made(&mut memo, &held), held.len());
        for _ in 0..10 {
            assert_eq!(made(&mut memo, &texts(MOST / 2)), MOST / 2);
            assert_eq!(made(&mut memo, &held), 0);
            assert!(memo.made.len() <= MOST);
        }
    }

    #[test]
    fn those_that_nobody_holds_any_more_make_room() {
        let few = Memo::<String, String>::FEW;
        let mut memo = Memo::new(16 * few);
        assert_eq!(made(&mut memo, &texts(5 * few)), 5 * few);
        for _ in 0..4 * few {
            assert_eq!(made(&mut memo, &texts(1)), 1);
        }
        assert!(memo.made.len() <= few, "{} are remembered", memo.made.len());
        assert!(memo.made.capacity() < 4 * few, "there is room for {}", memo.made.capacity());
    }
}
