//! The file as a tree in which everything has its line and column.
//!
//! A deserializer stops at the first thing that it cannot place. An operator wants all of them at once, so the
//! YAML parser's events become this tree, and `reader` walks it and collects what is wrong. Aliases, tags and
//! directives have no use in this file and are refused, which leaves nothing to blow a small file up with.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::problem::{Place, printable, quoted};

/// The largest file that is read, in bytes.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// The deepest nesting: the file itself needs five.
const MAX_DEPTH: usize = 16;
/// The most values: a hundred times what a large access policy needs.
const MAX_NODES: usize = 100_000;

/// A value and where it starts.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) value: Value,
}

/// A value as YAML has it. What a scalar means is decided by the key that it stands at.
#[derive(Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar's text.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, without its duplicates, in the order of the file.
    Map(Vec<Entry>),
    /// Something that a problem has been noted for already.
    Refused,
}

/// One key of a mapping.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Place,
    pub(super) node: Node,
}

/// A problem before it knows its file and its path.
pub(super) type Finding = (Place, String);

/// The tree of `text`, and what is wrong with the text as YAML. Without a tree, the text cannot be read at all.
pub(super) fn parse(text: &str) -> (Option<Node>, Vec<Finding>) {
    let mut findings = Vec::new();
    if text.len() > MAX_BYTES {
        findings.push((Place::START, format!("the file is larger than {MAX_BYTES} bytes")));
        return (None, findings);
    }
    let mut options = Options::default();
    options.disallow_directives = true;
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    options.set_emit_comments(false);
    // An unknown alias is then refused like a known one, instead of hiding the rest of the file.
    options.emit_unresolved_aliases = true;
    let mut builder = Builder { parser: Parser::new_from_str_with_options(text, options), nodes: 0, findings };
    let tree = builder.document();
    let mut findings = builder.findings;
    match tree {
        Ok(node) => (Some(node), findings),
        Err(stop) => {
            findings.push(stop);
            (None, findings)
        }
    }
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    nodes: usize,
    findings: Vec<Finding>,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Place), Finding> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place(span))),
            Some(Err(error)) => Err(unreadable(&error)),
            None => Ok((Event::StreamEnd, Place::START)),
        }
    }

    fn document(&mut self) -> Result<Node, Finding> {
        let mut root = Node { at: Place::START, value: Value::Null };
        let mut documents = 0;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        return Err((at, "a second document starts here; the configuration is one document".into()));
                    }
                }
                event => root = self.node(event, at, 0)?,
            }
        }
    }

    fn node(&mut self, event: Event<'a>, at: Place, depth: usize) -> Result<Node, Finding> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err((at, format!("the file has more than {MAX_NODES} values")));
        }
        if depth > MAX_DEPTH {
            return Err((at, format!("nested more than {MAX_DEPTH} deep")));
        }
        let tagged = event.tag().is_some();
        let value = match event {
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::SequenceStart(..) => Value::List(self.list(depth)?),
            Event::MappingStart(..) => Value::Map(self.map(depth)?),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.findings.push((at, "aliases (`*name`) are not supported: write the value out".into()));
                Value::Refused
            }
            _ => return Err((at, "this cannot be read as YAML".into())),
        };
        if tagged {
            self.findings.push((at, "tags (`!name`) are not supported".into()));
            return Ok(Node { at, value: Value::Refused });
        }
        Ok(Node { at, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Finding> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, at) => items.push(self.node(event, at, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Finding> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(entries);
            }
            let key = self.node(event, at, depth + 1)?;
            let (event, value_at) = self.next()?;
            let node = self.node(event, value_at, depth + 1)?;
            let key = match key.value {
                Value::Scalar(key) => key,
                Value::Null => "null".into(),
                Value::Refused => continue,
                Value::List(_) | Value::Map(_) => {
                    self.findings.push((at, "a key must be a word".into()));
                    continue;
                }
            };
            if let Some(line) = lines.get(&key) {
                self.findings.push((at, format!("{} is given twice: first on line {line}", quoted(&key))));
                continue;
            }
            lines.insert(key.clone(), at.line);
            entries.push(Entry { key, at, node });
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    match (style, text) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        _ => Value::Scalar(text.to_owned()),
    }
}

fn place(span: Span) -> Place {
    Place { line: span.start.line().max(1), column: span.start.col() + 1 }
}

fn unreadable(error: &ScanError) -> Finding {
    let marker = error.marker();
    let message = format!("this cannot be read as YAML: {}", printable(&error.info()));
    (Place { line: marker.line().max(1), column: marker.col() + 1 }, message)
}
