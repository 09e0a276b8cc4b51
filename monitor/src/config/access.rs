//! The `access` section: who may come in. What a rule does not name, matches; so whatever could be meant as "nobody"
//! and would be read as "anybody" is refused.

use std::sync::Arc;

use super::{
    problem::quoted,
    reader::{Located, Reader, Section, choice},
    tree::Value,
    values::{Parsed, fingerprint, network},
};
use crate::{
    detect::{AccessPolicy, AccessRule},
    event::{Door, EntryType},
};

/// The entry types that a person can come in by.
const DOORS: [EntryType; 8] = [
    EntryType::Sshd,
    EntryType::Console,
    EntryType::Terminal,
    EntryType::KubectlExec,
    EntryType::KubectlDebug,
    EntryType::DebugNode,
    EntryType::RuntimeExec,
    EntryType::Ssm,
];

pub(super) fn read(reader: &mut Reader, found: &Located<'_>) -> AccessPolicy {
    let Some(section) = reader.section(found, &["allow"]) else { return AccessPolicy::default() };
    let items = section.get("allow").map(|list| reader.items(&list)).unwrap_or_default();
    AccessPolicy { allow: items.iter().filter_map(|item| rule(reader, item)).collect() }
}

fn rule(reader: &mut Reader, item: &Located<'_>) -> Option<AccessRule> {
    const KEYS: [&str; 4] = ["door", "from", "keys", "users"];
    let section = reader.section(item, &KEYS)?;
    if !KEYS.iter().any(|key| section.named(key).is_some()) {
        reader.problem(&item.spot, "a rule that names nothing would let everyone in: name a door, users, keys or from");
    }
    let doors = DOORS.map(|door| (door.as_str(), door));
    Some(AccessRule {
        door: section.named("door").and_then(|door| reader.value(&door, "a door", choice::<Door>(&doors))),
        users: list(reader, &section, "users", "a user name", user),
        keys: list(reader, &section, "keys", "a fingerprint", |text| fingerprint(text).map(Arc::from)),
        from: list(reader, &section, "from", "a network", network),
    })
}

/// The list at `key`; a key that is there and has nothing in it is a problem.
fn list<T>(
    reader: &mut Reader,
    section: &Section<'_>,
    key: &str,
    what: &str,
    parse: impl Fn(&str) -> Parsed<T>,
) -> Vec<T> {
    let Some(found) = section.named(key) else { return Vec::new() };
    let items = reader.items(&found);
    if items.is_empty() && matches!(&found.node.value, Value::List(_)) {
        reader
            .problem(&found.spot, format!("an empty list matches any of `{key}`: leave the key out if that is meant"));
    }
    items.iter().filter_map(|item| reader.value(item, what, &parse)).collect()
}

fn user(text: &str) -> Parsed<Arc<str>> {
    match text {
        "*" | "any" | "all" => Err(format!("{} is not a user name: leave `users` out to match any", quoted(text))),
        text => Ok(text.into()),
    }
}
