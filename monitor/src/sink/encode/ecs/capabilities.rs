//! Sets of capabilities as JSON arrays. Root has forty-one, twice on every event; a node sees few different sets, so
//! each is encoded once.

use crate::{event::Capabilities, sink::encode::json::Object};

/// How many sets are remembered. Processes choose their own sets, so there must be a bound.
const REMEMBERED: usize = 16;

/// Sets that were encoded before.
#[derive(Clone, Debug, Default)]
pub(super) struct Sets {
    encoded: Vec<(Capabilities, Vec<u8>)>,
    /// The place that the next new set takes when all are taken.
    oldest: usize,
}

impl Sets {
    /// Adds the names in `set` as an array, unless it has none.
    pub(super) fn write(&mut self, key: &'static str, set: Capabilities, fields: &mut Object<'_>) {
        if set.names().next().is_none() {
            return;
        }
        let known = self.encoded.iter().position(|(known, _)| *known == set);
        let at = known.unwrap_or_else(|| self.remember(set));
        fields.encoded(key, &self.encoded[at].1);
    }

    fn remember(&mut self, set: Capabilities) -> usize {
        let mut text = vec![b'['];
        for (position, name) in set.names().enumerate() {
            text.extend_from_slice(if position == 0 { b"\"" } else { b",\"" });
            // Names are ours: letters and underscores.
            text.extend_from_slice(name.as_bytes());
            text.push(b'"');
        }
        text.push(b']');
        if self.encoded.len() < REMEMBERED {
            self.encoded.push((set, text));
            return self.encoded.len() - 1;
        }
        let at = self.oldest;
        self.encoded[at] = (set, text);
        self.oldest = (at + 1) % REMEMBERED;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_come_out_the_same_however_many_there_are() {
        let mut sets = Sets::default();
        for round in 0..3 {
            for bit in 0..40 {
                let (set, mut out) = (Capabilities(3 << bit), Vec::new());
                sets.write("c", set, &mut Object::new(&mut out));
                let names: Vec<_> = set.names().map(|name| format!("\"{name}\"")).collect();
                assert_eq!(String::from_utf8(out), Ok(format!("\"c\":[{}]", names.join(","))), "round {round}");
            }
        }
        assert_eq!(sets.encoded.len(), REMEMBERED);
    }
}
