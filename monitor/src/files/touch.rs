//! What happened to a file, by the kernel's word: the fact that the pipeline is handed.

use super::raw::mask;
use crate::event::FileAction;

/// What a mask comes to. Where the kernel joined several things that one process did to one name, the one that says most;
/// `exists` is asked where both of its making and its removal are in there, and their order is not.
pub(super) fn action(mask: u64, exists: impl FnOnce() -> bool) -> Option<FileAction> {
    let has = |bits: u64| mask & bits != 0;
    let made = has(mask::CREATE | mask::MOVED_TO);
    Some(match () {
        () if has(mask::RENAME) => FileAction::Renamed,
        () if has(mask::DELETE) && made => {
            if exists() {
                FileAction::Changed
            } else {
                FileAction::Passed
            }
        }
        () if has(mask::DELETE | mask::MOVED_FROM) => FileAction::Deleted,
        () if made => FileAction::Created,
        () if has(mask::CLOSE_WRITE) => FileAction::Changed,
        () if has(mask::ATTRIB) => FileAction::AttributesChanged,
        () => return None,
    })
}

/// Something that a process did to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    /// The process; it may be gone.
    pub pid: u32,
    /// What it did.
    pub action: FileAction,
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
        let of = |mask| action(mask, || true);
        assert_eq!(of(mask::CREATE | mask::CLOSE_WRITE | mask::ATTRIB), Some(FileAction::Created));
        assert_eq!(of(mask::CLOSE_WRITE | mask::ATTRIB), Some(FileAction::Changed));
        assert_eq!(of(mask::ATTRIB | mask::ONDIR), Some(FileAction::AttributesChanged));
        assert_eq!(of(mask::DELETE | mask::CLOSE_WRITE), Some(FileAction::Deleted));
        assert_eq!(of(mask::RENAME), Some(FileAction::Renamed));
        assert_eq!(of(mask::Q_OVERFLOW), None);
        // Removed and made again, or made and removed again.
        assert_eq!(of(mask::CREATE | mask::DELETE), Some(FileAction::Changed));
        assert_eq!(action(mask::CREATE | mask::DELETE, || false), Some(FileAction::Passed));
    }
}
