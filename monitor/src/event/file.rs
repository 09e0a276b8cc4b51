//! What somebody did to a file of the node.

use std::sync::Arc;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileAction {
    /// It was made.
    Created,
    /// It was open for writing, and closed.
    Changed,
    /// Its owner, mode or times were changed.
    AttributesChanged,
    /// It has another name, or another folder.
    Renamed,
    /// It was removed.
    Deleted,
    /// It was made and removed at once.
    Passed,
}

impl FileAction {
    /// The ECS `event.action`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "file-created",
            Self::Changed => "file-changed",
            Self::AttributesChanged => "file-attributes-changed",
            Self::Renamed => "file-renamed",
            Self::Deleted | Self::Passed => "file-deleted",
        }
    }

    /// The ECS `event.type`.
    pub const fn types(self) -> &'static [&'static str] {
        match self {
            Self::Created => &["creation"],
            Self::Changed | Self::AttributesChanged | Self::Renamed => &["change"],
            Self::Deleted => &["deletion"],
            Self::Passed => &["creation", "deletion"],
        }
    }
}

/// A file, and what was done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// What was done.
    pub action: FileAction,
    /// Its path on the node; `None` where its folder was gone before anybody looked.
    pub path: Option<Arc<str>>,
    /// Its name in its folder.
    pub name: Arc<str>,
    /// Its path before it was renamed.
    pub from: Option<Arc<str>>,
    /// Whether it is a folder.
    pub is_directory: bool,
}

impl FileChange {
    /// The folder that it is in.
    pub fn directory(&self) -> Option<&str> {
        let (directory, _) = self.path.as_deref()?.rsplit_once('/')?;
        Some(if directory.is_empty() { "/" } else { directory })
    }

    /// What is behind the last dot of its name.
    pub fn extension(&self) -> Option<&str> {
        let (stem, extension) = self.name.rsplit_once('.')?;
        (!stem.is_empty() && !extension.is_empty() && !self.is_directory).then_some(extension)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_apart_as_ecs_does() {
        let parts = |path: &str| {
            let name = path.rsplit('/').next().unwrap_or_default().into();
            let file = FileChange {
                action: FileAction::Created,
                path: Some(path.into()),
                name,
                from: None,
                is_directory: false,
            };
            (file.directory().map(str::to_owned), file.extension().map(str::to_owned))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("/etc/cron.d/x.conf"), (some("/etc/cron.d"), some("conf")));
        assert_eq!(parts("/a"), (some("/"), None));
        assert_eq!(parts("/root/.bashrc"), (some("/root"), None));
    }
}
