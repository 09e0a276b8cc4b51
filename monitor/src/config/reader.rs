//! Reads typed values from the tree and collects what is wrong instead of stopping at it.

use std::{fmt::Display, sync::Arc};

use super::{
    problem::{Place, Problem, printable, quoted, suggestion},
    tree::{Entry, Finding, Node, Value},
    values::Parsed,
};

/// So many problems are listed; what is beyond them is counted.
const MAX_PROBLEMS: usize = 200;
/// No value of this file needs to be longer, in bytes.
const MAX_TEXT: usize = 4096;

/// Where a value stands: its key's path, and its place in the file.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) path: String,
    pub(super) at: Place,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Located<'a> {
    pub(super) spot: Spot,
    pub(super) node: &'a Node,
}

impl<'a> Located<'a> {
    /// The value of `key`, where this is a mapping and names it, before anything has been checked.
    pub(super) fn entry(&self, key: &str) -> Option<Located<'a>> {
        let Value::Map(entries) = &self.node.value else { return None };
        Section { spot: self.spot.clone(), entries }.get(key)
    }
}

/// A mapping whose keys are all known.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) spot: Spot,
    entries: &'a [Entry],
}

impl<'a> Section<'a> {
    /// The value of `key`, where the file names the key.
    pub(super) fn named(&self, key: &str) -> Option<Located<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        // An empty value has no place of its own worth showing: the key's is better.
        let at = if matches!(entry.node.value, Value::Null) { entry.at } else { entry.node.at };
        Some(Located { spot: Spot { path: join(&self.spot.path, key), at }, node: &entry.node })
    }

    /// The value of `key`, where it is not empty.
    pub(super) fn get(&self, key: &str) -> Option<Located<'a>> {
        self.named(key).filter(|found| !matches!(found.node.value, Value::Null))
    }

    /// The place of `key` itself, or of the section where the file does not name it.
    pub(super) fn key_spot(&self, key: &str) -> Spot {
        let at = self.entries.iter().find(|entry| entry.key == key).map_or(self.spot.at, |entry| entry.at);
        Spot { path: join(&self.spot.path, key), at }
    }
}

/// Collects what is wrong.
#[derive(Debug)]
pub(super) struct Reader {
    file: Arc<str>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    unlisted: usize,
}

impl Reader {
    /// A reader of the file called `name`, which starts with what the tree's parser found.
    pub(super) fn new(name: &str, findings: Vec<Finding>) -> Self {
        let file: Arc<str> = printable(name).into();
        let mut reader = Self { file, problems: Vec::new(), warnings: Vec::new(), unlisted: 0 };
        for (at, message) in findings {
            reader.problem(&Spot { path: String::new(), at }, message);
        }
        reader
    }

    /// Notes a problem.
    pub(super) fn problem(&mut self, spot: &Spot, message: impl Display) {
        if self.problems.len() == MAX_PROBLEMS {
            self.unlisted += 1;
            return;
        }
        let problem = self.made(spot, message);
        self.problems.push(problem);
    }

    /// Notes something that is allowed and doubtful.
    pub(super) fn warning(&mut self, spot: &Spot, message: impl Display) {
        let problem = self.made(spot, message);
        self.warnings.push(problem);
    }

    fn made(&self, spot: &Spot, message: impl Display) -> Problem {
        let Spot { path, at } = spot.clone();
        Problem { file: Arc::clone(&self.file), line: at.line, column: at.column, path, message: message.to_string() }
    }

    /// The warnings where nothing is wrong, else every problem in the order of the file.
    pub(super) fn finish(mut self) -> Result<Vec<Problem>, Vec<Problem>> {
        if self.problems.is_empty() {
            return Ok(self.warnings);
        }
        self.problems.sort_by(|a, b| (a.line, a.column, &a.path).cmp(&(b.line, b.column, &b.path)));
        if self.unlisted > 0 {
            let spot = Spot { path: String::new(), at: Place::START };
            let more = self.made(&spot, format!("{} more problems are not listed", self.unlisted));
            self.problems.push(more);
        }
        Err(self.problems)
    }

    /// `found` as a mapping; keys that are not in `known` are problems.
    pub(super) fn section<'a>(&mut self, found: &Located<'a>, known: &[&str]) -> Option<Section<'a>> {
        let Value::Map(entries) = &found.node.value else {
            self.wrong_kind(found, "a mapping of keys to values");
            return None;
        };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let spot = Spot { path: found.spot.path.clone(), at: entry.at };
            self.problem(&spot, format!("unknown key {}: {}", quoted(&entry.key), suggestion(&entry.key, known)));
        }
        Some(Section { spot: found.spot.clone(), entries })
    }

    /// The section at `key` of `parent`, where there is one.
    pub(super) fn subsection<'a>(&mut self, parent: &Section<'a>, key: &str, known: &[&str]) -> Option<Section<'a>> {
        parent.get(key).and_then(|found| self.section(&found, known))
    }

    /// The items of the list `found`.
    pub(super) fn items<'a>(&mut self, found: &Located<'a>) -> Vec<Located<'a>> {
        let Value::List(items) = &found.node.value else {
            self.wrong_kind(found, "a list");
            return Vec::new();
        };
        let item = |(index, node): (usize, &'a Node)| Located {
            spot: Spot { path: format!("{}[{index}]", found.spot.path), at: node.at },
            node,
        };
        items.iter().enumerate().map(item).collect()
    }

    /// The text of a scalar. `what` names what is expected, for the message.
    pub(super) fn text<'a>(&mut self, found: &Located<'a>, what: &str) -> Option<&'a str> {
        let Value::Scalar(text) = &found.node.value else {
            self.wrong_kind(found, what);
            return None;
        };
        if text.len() > MAX_TEXT {
            self.problem(&found.spot, format!("longer than {MAX_TEXT} bytes"));
            return None;
        }
        if text.is_empty() {
            self.problem(&found.spot, format!("expected {what}, found an empty text"));
            return None;
        }
        if text.chars().any(char::is_control) {
            self.problem(&found.spot, "has control characters, or a line break, in it");
            return None;
        }
        Some(text)
    }

    /// The scalar `found`, understood by `parse`.
    pub(super) fn value<T>(
        &mut self,
        found: &Located<'_>,
        what: &str,
        parse: impl FnOnce(&str) -> Parsed<T>,
    ) -> Option<T> {
        match parse(self.text(found, what)?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problem(&found.spot, message);
                None
            }
        }
    }

    /// The scalar at `key`, understood by `parse`.
    pub(super) fn get<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        what: &str,
        parse: impl FnOnce(&str) -> Parsed<T>,
    ) -> Option<T> {
        section.get(key).and_then(|found| self.value(&found, what, parse))
    }

    /// The value of `key`, which has to be there.
    pub(super) fn required<'a>(&mut self, section: &Section<'a>, key: &str) -> Option<Located<'a>> {
        let found = section.get(key);
        if found.is_none() {
            self.problem(&section.spot, format!("`{key}` is missing"));
        }
        found
    }

    fn wrong_kind(&mut self, found: &Located<'_>, expected: &str) {
        let kind = match &found.node.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            // Noted when the tree was built.
            Value::Refused => return,
        };
        self.problem(&found.spot, format!("expected {expected}, found {kind}"));
    }
}

/// A parser of one of a few words.
pub(super) fn choice<T: Copy>(choices: &[(&str, T)]) -> impl Fn(&str) -> Parsed<T> {
    move |text| {
        choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            format!("{} is not known here: {}", quoted(text), suggestion(text, &names))
        })
    }
}

/// A parser that also holds the value to a range; `show` writes a bound for the message.
pub(super) fn within<T: PartialOrd + Copy>(
    range: std::ops::RangeInclusive<T>,
    shown: &str,
    parse: impl Fn(&str) -> Parsed<T>,
) -> impl Fn(&str) -> Parsed<T> {
    move |text| match parse(text)? {
        value if range.contains(&value) => Ok(value),
        _ => Err(format!("{} is out of range: expected {shown}", quoted(text))),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
