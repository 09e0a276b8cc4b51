//! Checks a line as it went out against the table of fields. Tests run it over every line that a real run emits, so
//! that no path through the agent can put out what the schema and the documentation do not say.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{
    escape,
    fields::{self, Field, Kind, REQUIRED, Values},
};

/// Checks one line of the stream, given without its newline: one JSON object without duplicate names and without raw
/// control characters, whose fields are all listed with their types, with every required one among them.
/// Returns everything that is wrong with it, each problem naming its field.
pub fn check_line(line: &str) -> Result<(), Vec<String>> {
    let tree = serde_json::from_str::<Tree>(line);
    let mut check = Check::default();
    if let Some(c) = line.chars().find(|c| escape::is_unsafe(*c)) {
        check.problems.push(format!("a raw U+{:04X}", u32::from(c)));
    }
    match &tree {
        Ok(Tree::Object(fields)) => {
            check.object("", fields);
            check.whole();
        }
        Ok(_) => check.problems.push("not a JSON object".to_owned()),
        Err(error) => check.problems.push(format!("no JSON: {error}")),
    }
    if check.problems.is_empty() { Ok(()) } else { Err(check.problems) }
}

/// What has been found on one line.
#[derive(Default)]
struct Check<'a> {
    problems: Vec<String>,
    present: BTreeSet<&'static str>,
    id: Option<&'a str>,
    run: Option<&'a str>,
    sequence: Option<u64>,
}

impl<'a> Check<'a> {
    fn object(&mut self, prefix: &str, fields: &'a [(String, Tree)]) {
        if fields.is_empty() {
            self.problems.push(format!("{prefix}: an empty object"));
        }
        let mut names = BTreeSet::new();
        for (name, value) in fields {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            if !names.insert(name) {
                self.problems.push(format!("{path}: twice in one object"));
            }
            match (fields::find(&path), value) {
                (Some(field), value) => self.field(field, value),
                (None, Tree::Object(inner)) => self.object(&path, inner),
                (None, _) => self.problems.push(format!("{path}: not in the table of fields")),
            }
        }
    }

    fn field(&mut self, field: &'static Field, value: &'a Tree) {
        self.present.insert(&field.name);
        match (field.values, value) {
            (Values::Array | Values::OneOrArray, Tree::Array(values)) => {
                if values.is_empty() {
                    self.problems.push(format!("{}: an empty array", field.name));
                }
                for value in values {
                    self.one(field, value);
                }
            }
            (Values::Array, _) => self.problems.push(format!("{}: must be an array", field.name)),
            (Values::One | Values::OneOrArray, value) => self.one(field, value),
        }
        match (field.name.as_str(), value) {
            ("event.id", Tree::Text(id)) => self.id = Some(id),
            ("agent.ephemeral_id", Tree::Text(run)) => self.run = Some(run),
            ("event.sequence", Tree::Whole(sequence)) => self.sequence = u64::try_from(*sequence).ok(),
            _ => {}
        }
    }

    fn one(&mut self, field: &'static Field, value: &'a Tree) {
        let fits = match (field.kind, value) {
            // An empty argument is an argument; any other empty text says nothing and must be left out.
            (Kind::Keyword | Kind::Wildcard | Kind::Text, Tree::Text(text)) => {
                field.values == Values::Array || !text.is_empty()
            }
            (Kind::OneOf(values), Tree::Text(text)) => values.contains(&text.as_str()),
            (Kind::Long, Tree::Whole(_)) | (Kind::Boolean, Tree::Boolean) => true,
            (Kind::Date, Tree::Text(text)) => text.ends_with('Z') && text.parse::<Timestamp>().is_ok(),
            (Kind::Ip, Tree::Text(text)) => text.parse::<IpAddr>().is_ok(),
            (Kind::Object, Tree::Object(inner)) => {
                self.object(&field.name, inner);
                true
            }
            (Kind::Flattened, Tree::Object(inner)) => {
                let names: BTreeSet<_> = inner.iter().map(|(name, _)| name).collect();
                let plain = |(name, value): &(String, Tree)| !name.contains('.') && matches!(value, Tree::Text(_));
                !inner.is_empty() && names.len() == inner.len() && inner.iter().all(plain)
            }
            _ => false,
        };
        if !fits {
            self.problems.push(format!("{}: {value:?} is no {}", field.name, field.kind.as_str()));
        }
    }

    /// What holds between fields.
    fn whole(&mut self) {
        for name in REQUIRED.iter().filter(|name| !self.present.contains(*name)) {
            self.problems.push(format!("{name}: missing"));
        }
        if let (Some(id), Some(run), Some(sequence)) = (self.id, self.run, self.sequence)
            && id != format!("{run}-{sequence}")
        {
            self.problems.push(format!("event.id: {id:?} is not made of {run} and {sequence}"));
        }
    }
}

/// A JSON value that keeps duplicate names, which `serde_json::Value` would drop.
#[derive(Debug)]
enum Tree {
    Null,
    Boolean,
    /// An integer between the limits of a `long`, or up to those of an unsigned one.
    Whole(i128),
    Fraction,
    Text(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Boolean)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Whole(value.into()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Fraction)
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = access.next_element()? {
            values.push(value);
        }
        Ok(Tree::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = access.next_entry()? {
            fields.push(field);
        }
        Ok(Tree::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::encode::{Encoder, samples};

    fn problems(change: impl Fn(String) -> String) -> String {
        let mut line = Vec::new();
        Encoder::new(samples::node()).encode(&samples::exec(), &mut line);
        check_line(&change(String::from_utf8(line).expect("UTF-8")))
            .err()
            .map(|problems| problems.join("; "))
            .unwrap_or_default()
    }

    #[test]
    fn a_line_of_the_encoder_passes() {
        assert_eq!(problems(|line| line), "");
    }

    #[test]
    fn what_is_wrong_with_a_line_is_named() {
        let cases = [
            (r#"{"@timestamp""#, r#"{"foo":1,"@timestamp""#, "foo: not in the table"),
            (r#""event":{"#, r#""event":{"kind":"event","#, "event.kind: twice in one object"),
            (r#""kind":"event""#, r#""kind":"vent""#, "event.kind: Text(\"vent\") is no keyword"),
            (r#""category":["process"]"#, r#""category":"process""#, "event.category: must be an array"),
            (r#""process":{"pid":"#, r#""process":{"pid":"x","ppid":"#, "process.pid: Text(\"x\") is no long"),
            (r#""module":"postern","#, "", "event.module: missing"),
            (r#""module":"postern""#, r#""module":"","outcome":null"#, "event.outcome: Null is no keyword"),
            (r#""sequence":"#, r#""sequence":9"#, "event.id: "),
            (r#"{"@timestamp""#, r#"{"labels":{},"@timestamp""#, "labels: an empty object"),
            ("}}", "}}\x1b", "a raw U+001B; no JSON"),
        ];
        for (from, to, expected) in cases {
            let found = problems(|line| {
                assert!(line.contains(from), "{from} is on the line");
                line.replacen(from, to, 1)
            });
            assert!(found.contains(expected), "{to}: {found}");
        }
    }
}
