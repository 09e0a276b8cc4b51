//! The tail that the lines of siblings have in common, letter for letter: whom they hang from, which container they are in, what
//! every line says of the node. That is two thirds of a line, so it is encoded once and shared by them instead of copied into each.

use std::{mem, ptr, sync::Arc};

use rustc_hash::FxHashMap;

use crate::event::{Body, Container, EntryType, Event, Relatives};

/// The tail of some lines.
pub type Tail = Arc<[u8]>;

/// How many are remembered.
const REMEMBERED: usize = 1_024;
/// How many bytes they may have: arguments and labels make a tail as long as others like.
const REMEMBERED_BYTES: usize = 2 << 20;

/// Of how many it is known that their tail was made once.
const SEEN: usize = 512;

/// The tails that were made before.
#[derive(Clone, Debug, Default)]
pub(super) struct Families {
    /// With what their keys point at, which is held on to, so that nothing else can be there.
    made: FxHashMap<Key, (Held, Tail)>,
    bytes: usize,
    seen: Seen,
}

/// Where those were whose tail was made last, one at each place. Nobody holds on to them: at worst a tail is kept that is never asked
/// for again.
#[derive(Clone, Debug)]
struct Seen([usize; SEEN]);

impl Default for Seen {
    fn default() -> Self {
        Self([0; SEEN])
    }
}

/// What a key points at.
type Held = (Arc<Relatives>, Option<Arc<Container>>);

/// All that such a tail depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Where they are.
    relatives: usize,
    /// Where it is.
    container: usize,
    /// The entry's, which is found out after its first event was made.
    entry_type: Option<EntryType>,
}

impl Families {
    pub(super) fn get(&self, key: &Key) -> Option<Tail> {
        self.made.get(key).map(|(.., tail)| Arc::clone(tail))
    }

    /// Whether the tail for this key is the first of those relatives. Many parents have but one child in a long while: to keep its
    /// tail would cost more than to make it.
    pub(super) fn is_first(&mut self, key: &Key) -> bool {
        let place = &mut self.seen.0[key.relatives / align_of::<Relatives>() % SEEN];
        mem::replace(place, key.relatives) != key.relatives
    }

    /// Remembers what was made for the key of this event.
    pub(super) fn put(&mut self, key: Key, event: &Event, tail: &[u8]) -> Tail {
        let tail = Tail::from(tail);
        // Begins anew when there are too many: simpler than to forget the oldest, and as cheap over time.
        if self.made.len() >= REMEMBERED || self.bytes + tail.len() > REMEMBERED_BYTES {
            self.made.clear();
            self.bytes = 0;
        }
        if let Some(lineage) = &event.lineage {
            self.bytes += tail.len();
            self.made.insert(key, ((Arc::clone(&lineage.relatives), event.container.clone()), Arc::clone(&tail)));
        }
        tail
    }
}

impl Key {
    /// None where an event's line has a tail of its own.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let lineage = event.lineage.as_ref()?;
        let Relatives { group_leader, session_leader, entry_leader, entry, .. } = &*lineage.relatives;
        let own = match event.body {
            Body::End(_) | Body::ContainerStarted(_) | Body::ContainerEntered(_) => true,
            _ => [group_leader, session_leader, entry_leader]
                .into_iter()
                .flatten()
                .any(|it| it.key == lineage.process.key),
        };
        (!own).then(|| Self {
            relatives: Arc::as_ptr(&lineage.relatives).addr(),
            container: event.container.as_ref().map_or(ptr::null(), Arc::as_ptr).addr(),
            entry_type: entry.as_ref().map(|entry| entry.entry_type()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::Process, sink::encode::samples};

    fn child_of_another() -> Event {
        let mut event = samples::exec();
        let lineage = event.lineage.as_mut().expect("it has one");
        let parent = Some(Arc::new(Process::clone(&lineage.process)));
        lineage.relatives = Arc::new(Relatives { parent, ..Relatives::default() });
        event
    }

    #[test]
    fn a_tail_is_the_first_once_for_each_family() {
        let mut families = Families::default();
        // Both live, so that neither is where the other was.
        let (one, other) = (child_of_another(), child_of_another());
        let [one, other] = [&one, &other].map(|event| Key::of(event).expect("one in common"));
        assert_eq!([one, one, one].map(|key| families.is_first(&key)), [true, false, false]);
        assert!(families.is_first(&other));
    }

    #[test]
    fn they_are_bounded_and_nothing_else_is_taken_for_them() {
        let mut families = Families::default();
        for number in 0..3 * REMEMBERED {
            let event = child_of_another();
            let key = Key::of(&event).expect("one in common");
            assert_eq!(families.get(&key), None, "its parent is new");
            // Many short ones, and then long ones.
            let tail = vec![number as u8; number.saturating_sub(REMEMBERED) * 200];
            families.put(key, &event, &tail);
            assert_eq!(families.get(&key).as_deref(), Some(&tail[..]));
            let bytes: usize = families.made.values().map(|(.., tail)| tail.len()).sum();
            assert!(families.made.len() <= REMEMBERED && bytes <= REMEMBERED_BYTES);
        }
    }
}
