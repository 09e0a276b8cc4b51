//! `file.*`: what somebody changed on the node.

use crate::{event::FileChange, sink::encode::json::Object};

/// `file`.
pub(super) fn fields(file: &FileChange, fields: &mut Object<'_>) {
    fields.maybe_text("path", file.path.as_deref());
    fields.text("name", &file.name);
    fields.maybe_text("directory", file.directory());
    fields.maybe_text("extension", file.extension());
    fields.text("type", if file.is_directory { "dir" } else { "file" });
}

/// `postern.file`.
pub(super) fn own(file: &FileChange, fields: &mut Object<'_>) {
    fields.maybe_text("from", file.from.as_deref());
}
