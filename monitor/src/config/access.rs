//! The `access` section: who may come in. What a rule does not name, matches; so whatever could be meant as "nobody"
//! and would be read as "anybody" is refused.

use std::sync::Arc;

use jiff::tz::Offset;

use super::{
    problem::quoted,
    reader::{Located, Reader, Section, choice},
    tree::Value,
    values::{Parsed, fingerprint, minutes, network, offset},
};
use crate::{
    detect::{AccessPolicy, AccessRule, OnViolation, Window},
    event::{Door, EntryType},
};

/// The entry types that a person can come in by.
pub const DOORS: [EntryType; 9] = [
    EntryType::Sshd,
    EntryType::Console,
    EntryType::Terminal,
    EntryType::KubectlExec,
    EntryType::KubectlDebug,
    EntryType::DebugNode,
    EntryType::RuntimeExec,
    EntryType::Ssm,
    EntryType::CloudAgent,
];

const DAYS: [(&str, usize); 7] = [("mon", 0), ("tue", 1), ("wed", 2), ("thu", 3), ("fri", 4), ("sat", 5), ("sun", 6)];

pub(super) fn read(reader: &mut Reader, found: &Located<'_>) -> AccessPolicy {
    let Some(section) = reader.section(found, &["allow", "on_violation"]) else { return AccessPolicy::default() };
    let items = section.get("allow").map(|list| reader.items(&list)).unwrap_or_default();
    let choices = [("alert", OnViolation::Alert), ("terminate", OnViolation::Terminate)];
    let on_violation = reader.get(&section, "on_violation", "`alert` or `terminate`", choice(&choices));
    AccessPolicy {
        allow: items.iter().filter_map(|item| rule(reader, item)).collect(),
        on_violation: on_violation.unwrap_or_default(),
    }
}

fn rule(reader: &mut Reader, item: &Located<'_>) -> Option<AccessRule> {
    const KEYS: [&str; 10] =
        ["certificates", "door", "during", "from", "groups", "keys", "namespaces", "pods", "users", "when"];
    let section = reader.section(item, &KEYS)?;
    if !KEYS.iter().any(|key| section.named(key).is_some()) {
        reader.problem(&item.spot, "a rule that names nothing would let everyone in: name a door, users, keys or from");
    }
    let doors = DOORS.map(|door| (door.as_str(), door));
    Some(AccessRule {
        line: item.spot.at.line,
        door: section.named("door").and_then(|door| reader.value(&door, "a door", choice::<Door>(&doors))),
        users: list(reader, &section, "users", "a user name", |text| one("user", "users", text)),
        groups: list(reader, &section, "groups", "a group name", |text| one("group", "groups", text)),
        keys: list(reader, &section, "keys", "a fingerprint", |text| fingerprint(text).map(Arc::from)),
        certificates: list(reader, &section, "certificates", "a certificate's id", |text| {
            one("certificate", "certificates", text)
        }),
        from: list(reader, &section, "from", "a network", network),
        namespaces: list(reader, &section, "namespaces", "a namespace", |text| one("namespace", "namespaces", text)),
        pods: list(reader, &section, "pods", "a pod's name", |text| one("pod", "pods", text)),
        when: section.named("when").and_then(|found| window(reader, &found)),
        during_maintenance: section
            .named("during")
            .is_some_and(|found| reader.value(&found, "`maintenance`", choice(&[("maintenance", ())])).is_some()),
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

fn one(what: &str, key: &str, text: &str) -> Parsed<Arc<str>> {
    match text {
        "*" | "any" | "all" => Err(format!("{} is not a {what} name: leave `{key}` out to match any", quoted(text))),
        text => Ok(text.into()),
    }
}

fn window(reader: &mut Reader, found: &Located<'_>) -> Option<Window> {
    let section = reader.section(found, &["days", "hours", "utc_offset"])?;
    let wanted = list(reader, &section, "days", "a day", choice(&DAYS));
    let mut days = [section.named("days").is_none(); 7];
    for day in wanted {
        days[day] = true;
    }
    let (from, until) = reader.get(&section, "hours", "hours such as `08:00-18:00`", minutes).unwrap_or_default();
    let offset = reader.get(&section, "utc_offset", "an offset such as `+01:00`", offset).unwrap_or(Offset::UTC);
    Some(Window { days, from, until, offset })
}
