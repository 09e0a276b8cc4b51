//! `source.*` and `postern.login.*`: who came in, how, from where.

use super::known;
use crate::{
    event::{Attached, Attachment, Login, LoginMethod, Origin, Source, Summary},
    sink::encode::json::Object,
};

/// `source`.
pub(super) fn source(source: &Source, fields: &mut Object<'_>) {
    fields.maybe_text("address", source.address.as_deref());
    fields.ip("ip", source.ip);
    if let Some(port) = source.port {
        fields.number("port", u64::from(port));
    }
}

/// `postern.login`.
pub(super) fn own(login: &Login, fields: &mut Object<'_>) {
    fields.text("door", login.door.as_str());
    fields.maybe_text("method", login.method.as_ref().map(LoginMethod::as_str));
    fields.object("key", |key| {
        key.maybe_text("fingerprint", login.key_fingerprint.as_deref());
        key.maybe_text("type", login.key_type.as_deref());
    });
    fields.maybe_text("certificate", login.certificate.as_deref());
    fields.maybe_text("terminal", login.terminal.as_deref());
    fields.maybe_text("service", known(&login.service));
    if let Some(known) = login.user_known {
        fields.boolean("user_known", known);
    }
    if login.attempts > 0 {
        fields.number("attempts", login.attempts);
    }
    if let Some(refused) = &login.refused {
        fields.object("refused", |fields| {
            fields.number("users", refused.users);
            fields.number("sources", refused.sources);
            fields.texts("examples", refused.examples.iter().map(|example| &**example));
        });
    }
}

/// What `postern.session` adds at the session's end.
pub(super) fn summary(summary: &Summary, fields: &mut Object<'_>) {
    fields.number("commands", summary.commands);
    fields.number("alerts", summary.alerts);
    fields.texts("users", summary.users.iter().map(|user| &**user));
    fields.texts("containers", summary.containers.iter().map(|container| &**container));
    fields.number("files", summary.files);
    fields.texts("file_paths", summary.file_paths.iter().map(|path| &**path));
    fields.flag("cut", summary.cut);
}

/// `postern.session.from`.
pub(super) fn from(from: &Origin, fields: &mut Object<'_>) {
    fields.text("id", &from.id);
    fields.text("door", from.door.as_str());
    fields.maybe_text("user", known(&from.user));
    fields.text("confidence", from.confidence.as_str());
    fields.text("link", &from.reason);
}

/// One of `postern.attached`.
pub(super) fn attached(attached: &Attached, fields: &mut Object<'_>) {
    fields.text("id", &attached.session.id);
    fields.text("door", attached.session.door.as_str());
    fields.maybe_text("user", known(&attached.session.user));
    fields.text("confidence", attached.confidence.as_str());
    fields.text("link", &attached.reason);
}

/// `postern.attachment`.
pub(super) fn attachment(attachment: &Attachment, fields: &mut Object<'_>) {
    fields.text("program", &attachment.program);
    fields.number("server", u64::from(attachment.server));
    if let Some(session) = &attachment.to {
        fields.object("session", |fields| {
            fields.text("id", &session.id);
            fields.maybe_text("user", known(&session.user));
        });
    }
}
