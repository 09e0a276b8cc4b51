//! From the API's Node object to the maintenance that its annotations announce. Whoever may change the Node object writes them: they
//! are bounded and held against what they must be, and what they are not is said by the annotation's name. No clock here: whether
//! a maintenance is over, whoever knows the time decides.

use std::sync::Arc;

use jiff::Timestamp;

use super::view::NodeView;

/// The longest ticket, in bytes.
const TICKET_BYTES: usize = 128;
/// The longest time, in bytes.
const UNTIL_BYTES: usize = 64;

/// The annotations that announce a maintenance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotationKeys {
    /// Names the ticket.
    pub ticket: Arc<str>,
    /// Says when it is over (RFC 3339).
    pub until: Arc<str>,
}

impl Default for AnnotationKeys {
    fn default() -> Self {
        Self { ticket: "postern.dev/maintenance-ticket".into(), until: "postern.dev/maintenance-until".into() }
    }
}

/// What is known of the node's own object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its UID.
    pub uid: Arc<str>,
    /// The maintenance that it announces.
    pub announced: Announced,
}

/// What a Node object says of a maintenance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Announced {
    /// Nothing.
    #[default]
    Nothing,
    /// One under a ticket, up to a time.
    Maintenance {
        /// The ticket.
        ticket: Arc<str>,
        /// When it is over.
        until: Timestamp,
        /// The annotation that says when.
        until_key: Arc<str>,
    },
    /// An annotation makes no sense, so that there is none.
    Senseless {
        /// The annotation.
        annotation: Arc<str>,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Reads a Node object; the error says why it is none.
pub(super) fn read(view: NodeView, keys: &AnnotationKeys) -> Result<NodeFacts, String> {
    let metadata = view.metadata;
    if metadata.uid.is_empty() || metadata.name.is_empty() {
        return Err("a node without a UID or a name".to_owned());
    }
    let value = |key: &str| metadata.annotations.get(key).map(String::as_str);
    let announced = announced(value(&keys.ticket), value(&keys.until), keys);
    Ok(NodeFacts { uid: metadata.uid.into(), announced })
}

fn announced(ticket: Option<&str>, until: Option<&str>, keys: &AnnotationKeys) -> Announced {
    let senseless =
        |annotation: &Arc<str>, problem| Announced::Senseless { annotation: Arc::clone(annotation), problem };
    let (ticket, until) = match (ticket, until) {
        (None, None) => return Announced::Nothing,
        (ticket, until) => (ticket.unwrap_or_default(), until.unwrap_or_default()),
    };
    if ticket.is_empty() {
        return senseless(&keys.ticket, "names no ticket");
    }
    if ticket.len() > TICKET_BYTES {
        return senseless(&keys.ticket, "is longer than 128 bytes");
    }
    // Tickets are compared and searched for: what cannot be seen in one has no business there.
    if ticket.trim() != ticket || ticket.chars().any(|it| it.is_control() || is_invisible(it)) {
        return senseless(&keys.ticket, "has blanks around it, or characters that do not show");
    }
    if until.is_empty() {
        return senseless(&keys.until, "names no time");
    }
    match until.parse() {
        Ok(until_time) if until.len() <= UNTIL_BYTES => {
            Announced::Maintenance { ticket: ticket.into(), until: until_time, until_key: Arc::clone(&keys.until) }
        }
        _ => senseless(&keys.until, "is no time of RFC 3339, such as 2026-11-23T18:00:00Z"),
    }
}

/// Direction marks and their like, with which a ticket could be made to look like another.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(annotations: &serde_json::Value) -> Announced {
        let given = annotations.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let annotations: serde_json::Map<_, _> = given.map(|(key, value)| (key.clone(), value.clone())).collect();
        let node = json!({ "metadata": { "uid": "u", "name": "node-1", "annotations": annotations } });
        let view = serde_json::from_value(node).expect("a node");
        read(view, &AnnotationKeys::default()).expect("a node").announced
    }

    const TICKET: &str = "postern.dev/maintenance-ticket";
    const UNTIL: &str = "postern.dev/maintenance-until";

    #[test]
    fn a_maintenance_has_a_ticket_and_an_end_and_all_else_is_said() {
        assert_eq!(of(&json!({ "else": "x" })), Announced::Nothing);
        let good = of(&json!({ TICKET: "OPS-7", UNTIL: "2026-11-23T18:00:00+01:00" }));
        let until = "2026-11-23T17:00:00Z".parse().expect("a time");
        assert_eq!(good, Announced::Maintenance { ticket: "OPS-7".into(), until, until_key: UNTIL.into() });
        let long = "x".repeat(100_000);
        for (ticket, until, wrong) in [
            (None, Some("2026-11-23T18:00:00Z"), TICKET),
            (Some(""), Some("2026-11-23T18:00:00Z"), TICKET),
            (Some(" "), Some("2026-11-23T18:00:00Z"), TICKET),
            (Some(&*long), Some("2026-11-23T18:00:00Z"), TICKET),
            (Some("a\u{1b}[31m"), Some("2026-11-23T18:00:00Z"), TICKET),
            (Some("a\u{202e}b"), Some("2026-11-23T18:00:00Z"), TICKET),
            (Some("OPS-7"), None, UNTIL),
            (Some("OPS-7"), Some("tomorrow"), UNTIL),
            (Some("OPS-7"), Some("2026-11-23"), UNTIL),
            (Some("OPS-7"), Some(&*long), UNTIL),
        ] {
            let Announced::Senseless { annotation, .. } = of(&json!({ TICKET: ticket, UNTIL: until })) else {
                panic!("{ticket:?} {until:?} pass")
            };
            assert_eq!(&*annotation, wrong, "{ticket:?} {until:?}");
        }
    }

    proptest! {
        #[test]
        fn any_annotations_are_borne(ticket in ".{0,300}", until in ".{0,100}") {
            if let Announced::Maintenance { ticket, .. } = of(&json!({ TICKET: ticket, UNTIL: until })) {
                prop_assert!(!ticket.is_empty() && ticket.len() <= TICKET_BYTES);
            }
        }
    }
}
