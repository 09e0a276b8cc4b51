//! What siblings hang from is the same for all of them: a shell's thousand children share it, and so does whatever is made of it
//! later, such as the end of their lines.

use std::sync::Arc;

use crate::event::{Entry, Process, Relatives};

/// How many parents are remembered with what their last child hung from: more than are busy at once.
const REMEMBERED: usize = 1_024;

/// See the module.
#[derive(Debug)]
pub(super) struct Siblings(Box<[Option<Arc<Relatives>>; REMEMBERED]>);

/// Those that a process hangs from, as they were found: borrowed, since most often they are shared already and need not be counted.
pub(super) struct Found<'a> {
    pub(super) parent: Option<&'a Arc<Process>>,
    pub(super) group_leader: Option<&'a Arc<Process>>,
    pub(super) session_leader: Option<&'a Arc<Process>>,
    pub(super) entry_leader: &'a Arc<Process>,
    pub(super) entry: &'a Arc<Entry>,
}

impl Default for Siblings {
    fn default() -> Self {
        Self(Box::new([const { None }; REMEMBERED]))
    }
}

impl Siblings {
    /// They, as the last child of the same parent has them if they are the same.
    pub(super) fn share(&mut self, found: Found<'_>) -> Arc<Relatives> {
        let pid = found.parent.map_or(0, |parent| parent.key.tgid);
        let place = &mut self.0[pid as usize % REMEMBERED];
        match place {
            Some(known) if found.is(known) => Arc::clone(known),
            _ => Arc::clone(place.insert(Arc::new(found.into()))),
        }
    }
}

impl Found<'_> {
    fn is(&self, known: &Relatives) -> bool {
        same(self.parent, known.parent.as_ref())
            && same(self.group_leader, known.group_leader.as_ref())
            && same(self.session_leader, known.session_leader.as_ref())
            && same(Some(self.entry_leader), known.entry_leader.as_ref())
            && same(Some(self.entry), known.entry.as_ref())
    }
}

impl From<Found<'_>> for Relatives {
    fn from(found: Found<'_>) -> Self {
        Self {
            parent: found.parent.cloned(),
            group_leader: found.group_leader.cloned(),
            session_leader: found.session_leader.cloned(),
            entry_leader: Some(Arc::clone(found.entry_leader)),
            entry: Some(Arc::clone(found.entry)),
        }
    }
}

/// Whether both are one and the same.
fn same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    one.map(Arc::as_ptr) == other.map(Arc::as_ptr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::EntryType,
        replay::{key, process},
    };

    #[test]
    fn siblings_share_them_for_as_long_as_they_are_the_same() {
        let [shell, leader, other] = [5, 1, 7].map(|pid| Arc::new(process(pid, "/bin/sh", &[])));
        let entry = Arc::new(Entry::new(EntryType::Init, key(1)));
        let found = || Found {
            parent: Some(&shell),
            group_leader: Some(&shell),
            session_leader: Some(&leader),
            entry_leader: &leader,
            entry: &entry,
        };
        // One that is equal and not the same: what comes of the parent's next program.
        let next = Arc::new(Process::clone(&shell));
        let renewed = Arc::new(Entry::clone(&entry));
        let others = [
            Found { parent: Some(&next), ..found() },
            Found { parent: None, ..found() },
            Found { group_leader: Some(&other), ..found() },
            Found { session_leader: None, ..found() },
            Found { entry_leader: &other, ..found() },
            Found { entry: &renewed, ..found() },
        ];
        let mut siblings = Siblings::default();
        let first = siblings.share(found());
        assert!(Arc::ptr_eq(&first, &siblings.share(found())));
        for other in others {
            let known = siblings.share(found());
            let one = siblings.share(other);
            assert!(!Arc::ptr_eq(&known, &one), "{one:?}");
        }
    }

    #[test]
    fn a_thousand_parents_each_have_their_own() {
        let mut siblings = Siblings::default();
        let leader = Arc::new(process(1, "/sbin/init", &[]));
        let entry = Arc::new(Entry::new(EntryType::Init, key(1)));
        let parents: Vec<_> = (2..1_002).map(|pid| Arc::new(process(pid, "/bin/sh", &[]))).collect();
        let mut share = || -> Vec<_> {
            let found = |parent| Found {
                parent: Some(parent),
                group_leader: None,
                session_leader: None,
                entry_leader: &leader,
                entry: &entry,
            };
            parents.iter().map(|parent| siblings.share(found(parent))).collect()
        };
        let (first, second) = (share(), share());
        assert!(first.iter().zip(&second).all(|(first, second)| Arc::ptr_eq(first, second)));
    }
}
