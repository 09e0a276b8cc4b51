//! What happened to a file, by the kernel's word: the fact that the pipeline is handed.

use super::raw::mask;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// It was made.
    Created,
    /// It was open for writing, and closed.
    Changed,
    /// Its owner, mode or times were changed.
    AttributesChanged,
    /// It has another name.
    Renamed,
    /// It was removed.
    Deleted,
    /// It was made, and removed before anybody looked.
    Passed,
}

impl Deed {
    /// What a mask comes to. Where the kernel joined several things that one process did to one name, the one that says most;
    /// `exists` is asked where both of its making and its removal are in there, and their order is not.
    pub(super) fn of(mask: u64, exists: impl FnOnce() -> bool) -> Option<Self> {
        let has = |bits: u64| mask & bits != 0;
        let made = has(mask::CREATE | mask::MOVED_TO);
        Some(match () {
            () if has(mask::RENAME) => Self::Renamed,
            () if has(mask::DELETE) && made => {
                if exists() {
                    Self::Changed
                } else {
                    Self::Passed
                }
            }
            () if has(mask::DELETE | mask::MOVED_FROM) => Self::Deleted,
            () if made => Self::Created,
            () if has(mask::CLOSE_WRITE) => Self::Changed,
            () if has(mask::ATTRIB) => Self::AttributesChanged,
            () => return None,
        })
    }
}

/// Something that a process did to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    /// The process; it may be gone.
    pub pid: u32,
    /// What it did.
    pub deed: Deed,
    /// The whole path; `None` where the directory is gone.
    pub path: Option<Box<[u8]>>,
    /// The name in its directory.
    pub name: Box<[u8]>,
    /// Where it was before it was renamed.
    pub from: Option<Box<[u8]>>,
    /// Whether it is a directory.
    pub is_directory: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_things_the_one_that_says_most_is_told() {
        let deed = |mask| Deed::of(mask, || true);
        assert_eq!(deed(mask::CREATE | mask::CLOSE_WRITE | mask::ATTRIB), Some(Deed::Created));
        assert_eq!(deed(mask::CLOSE_WRITE | mask::ATTRIB), Some(Deed::Changed));
        assert_eq!(deed(mask::ATTRIB | mask::ONDIR), Some(Deed::AttributesChanged));
        assert_eq!(deed(mask::DELETE | mask::CLOSE_WRITE), Some(Deed::Deleted));
        assert_eq!(deed(mask::RENAME), Some(Deed::Renamed));
        assert_eq!(deed(mask::Q_OVERFLOW), None);
        // Removed and made again, or made and removed again.
        assert_eq!(deed(mask::CREATE | mask::DELETE), Some(Deed::Changed));
        assert_eq!(Deed::of(mask::CREATE | mask::DELETE, || false), Some(Deed::Passed));
    }
}
