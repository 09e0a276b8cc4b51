//! The `sinks` section: where events go.

use std::{collections::HashMap, time::Duration};

use super::{
    Surroundings,
    problem::quoted,
    reader::{Located, Reader, Section, choice, within},
    tree::Value,
    values::{duration, forward_address, name, path, size},
};
use crate::{
    event::Kind,
    sink::settings::{FluentdSettings, Format, Secret, SinkSettings, Target, TlsSettings},
};

const COMMON: [&str; 4] = ["events", "name", "queue_size", "type"];
const STDOUT: [&str; 1] = ["format"];
const FILE: [&str; 3] = ["keep", "max_size", "path"];
const FLUENTD: [&str; 12] = [
    "ack_timeout",
    "address",
    "ca_file",
    "cert_file",
    "key_file",
    "password",
    "password_file",
    "server_name",
    "shared_key",
    "shared_key_file",
    "tag",
    "username",
];
#[cfg(test)]
pub(super) const ALL_KEYS: [&[&str]; 4] = [&COMMON, &STDOUT, &FILE, &FLUENTD];

const QUEUE_BYTES: usize = 16 << 20;

/// Which kind of sink: the `type` key.
#[derive(Clone, Copy, Debug)]
enum Type {
    Stdout,
    File,
    Fluentd,
}

const TYPES: [(&str, Type); 3] = [("fluentd", Type::Fluentd), ("file", Type::File), ("stdout", Type::Stdout)];

/// The sink that is there when the file names none.
pub(super) fn stdout(format: Format) -> SinkSettings {
    let target = Target::Stdout { format };
    SinkSettings { name: "stdout".into(), events: Vec::new(), queue_bytes: QUEUE_BYTES, target }
}

pub(super) fn read(reader: &mut Reader, found: &Located<'_>, surroundings: &Surroundings) -> Vec<SinkSettings> {
    let items = reader.items(found);
    if items.is_empty() && matches!(found.node.value, Value::List(_)) {
        reader.problem(&found.spot, "names no sink: leave `sinks` out for standard output");
    }
    let mut taken = Taken::default();
    let mut sinks = Vec::new();
    for (index, item) in items.iter().enumerate() {
        if let Some(sink) = sink(reader, item, index + 1, surroundings) {
            taken.check(reader, item, &sink);
            sinks.push(sink);
        }
    }
    sinks
}

/// What only one sink may have.
#[derive(Default)]
struct Taken {
    lines: HashMap<String, usize>,
}

impl Taken {
    fn check(&mut self, reader: &mut Reader, item: &Located<'_>, sink: &SinkSettings) {
        self.claim(reader, item, format!("the name {}", quoted(&sink.name)));
        match &sink.target {
            Target::Stdout { .. } => self.claim(reader, item, "standard output".into()),
            Target::File { path, .. } => {
                self.claim(reader, item, format!("the file {}", quoted(&path.to_string_lossy())));
            }
            Target::Fluentd(_) => {}
        }
    }

    fn claim(&mut self, reader: &mut Reader, item: &Located<'_>, what: String) {
        if let Some(line) = self.lines.get(&what) {
            reader.problem(&item.spot, format!("{what} is taken by the sink on line {line}"));
        } else {
            self.lines.insert(what, item.spot.at.line);
        }
    }
}

fn sink(reader: &mut Reader, item: &Located<'_>, position: usize, surroundings: &Surroundings) -> Option<SinkSettings> {
    // Which keys are known depends on the type, so that one is looked at first.
    let kind = item.entry("type").and_then(|found| reader.value(&found, "a type of sink", choice(&TYPES)));
    let known = match kind {
        Some(Type::Stdout) => [&COMMON[..], &STDOUT].concat(),
        Some(Type::File) => [&COMMON[..], &FILE].concat(),
        Some(Type::Fluentd) => [&COMMON[..], &FLUENTD].concat(),
        None => [&COMMON[..], &STDOUT, &FILE, &FLUENTD].concat(),
    };
    let section = reader.section(item, &known)?;
    if section.get("type").is_none() {
        reader.problem(&item.spot, "`type` is missing: one of `stdout`, `file`, `fluentd`");
    }
    let given = reader.get(&section, "name", "a name", name);
    let events = events(reader, &section);
    let queue = within(1 << 20..=1 << 30, "1MiB to 1GiB", size);
    let queue_bytes = reader.get(&section, "queue_size", "a size", queue).map_or(QUEUE_BYTES, |bytes| bytes as usize);
    let (word, target) = match kind? {
        Type::Stdout => ("stdout", Some(standard_output(reader, &section))),
        Type::File => ("file", file(reader, &section)),
        Type::Fluentd => ("fluentd", fluentd(reader, &section, surroundings)),
    };
    let name = given.unwrap_or_else(|| format!("{word}-{position}"));
    Some(SinkSettings { name, events, queue_bytes, target: target? })
}

fn events(reader: &mut Reader, section: &Section<'_>) -> Vec<Kind> {
    let kinds = [Kind::Alert, Kind::Event, Kind::Metric, Kind::State].map(|kind| (kind.as_str(), kind));
    let Some(found) = section.get("events") else { return Vec::new() };
    let items = reader.items(&found);
    if items.is_empty() && matches!(found.node.value, Value::List(_)) {
        reader.problem(&found.spot, "names no kind of event: leave the key out for all of them");
    }
    items.iter().filter_map(|item| reader.value(item, "a kind of event", choice(&kinds))).collect()
}

fn standard_output(reader: &mut Reader, section: &Section<'_>) -> Target {
    let formats = [("auto", Format::Auto), ("pretty", Format::Pretty), ("json", Format::Json)];
    let format = reader.get(section, "format", "a format", choice(&formats)).unwrap_or(Format::Auto);
    Target::Stdout { format }
}

fn file(reader: &mut Reader, section: &Section<'_>) -> Option<Target> {
    let max = within(64 << 10..=1 << 40, "64KiB to 1024GiB", size);
    let max_bytes = reader.get(section, "max_size", "a size", max).unwrap_or(100 << 20);
    let number = |text: &str| text.parse().map_err(|_| format!("expected a whole number, found {}", quoted(text)));
    let keep = reader.get(section, "keep", "a number", within(0..=1000, "0 to 1000", number)).unwrap_or(5);
    let path = reader.required(section, "path").and_then(|found| reader.value(&found, "a path", path))?;
    Some(Target::File { path, max_bytes, keep })
}

fn fluentd(reader: &mut Reader, section: &Section<'_>, surroundings: &Surroundings) -> Option<Target> {
    let shared_key = secret(reader, section, "shared_key", "shared_key_file", surroundings);
    let user = user(reader, section, surroundings);
    let tls = tls(reader, section);
    let range = within(Duration::from_millis(100)..=Duration::from_mins(10), "100ms to 10m", duration);
    let ack_timeout = reader.get(section, "ack_timeout", "a time", range).unwrap_or(Duration::from_secs(30));
    let tag = reader.get(section, "tag", "a tag", name).unwrap_or_else(|| "postern".into());
    let found = reader.required(section, "address")?;
    let address = reader.value(&found, "an address", forward_address)?;
    if !address.tls && tls != TlsSettings::default() {
        let message = "certificates and names are checked with TLS only, and this address is `tcp://`";
        reader.problem(&found.spot, message);
    }
    let tls = address.tls.then_some(tls);
    let (host, port) = (address.host, address.port);
    Some(Target::Fluentd(Box::new(FluentdSettings { host, port, tls, tag, shared_key, user, ack_timeout })))
}

fn tls(reader: &mut Reader, section: &Section<'_>) -> TlsSettings {
    let mut file = |key| reader.get(section, key, "a path", path);
    let ca_file = file("ca_file");
    let (cert, key) = (file("cert_file"), file("key_file"));
    let identity = pair(reader, section, ("cert_file", cert), ("key_file", key));
    let server_name = reader.get(section, "server_name", "a host name", name);
    TlsSettings { ca_file, identity, server_name }
}

fn user(reader: &mut Reader, section: &Section<'_>, surroundings: &Surroundings) -> Option<(String, Secret)> {
    let named = reader.get(section, "username", "a user name", |text| Ok(text.to_owned()));
    let password = secret(reader, section, "password", "password_file", surroundings);
    match (section.get("username"), section.get("password").or_else(|| section.get("password_file"))) {
        (Some(found), None) => reader.problem(&found.spot, "needs `password` or `password_file` beside it"),
        (None, Some(found)) => reader.problem(&found.spot, "needs `username` beside it"),
        _ => {}
    }
    named.zip(password)
}

/// Two keys that make sense only together.
fn pair<T>(
    reader: &mut Reader,
    section: &Section<'_>,
    (first, one): (&str, Option<T>),
    (second, other): (&str, Option<T>),
) -> Option<(T, T)> {
    for (there, missing) in [(first, second), (second, first)] {
        if let Some(found) = section.get(there)
            && section.get(missing).is_none()
        {
            reader.problem(&found.spot, format!("needs `{missing}` beside it"));
        }
    }
    one.zip(other)
}

/// A secret that stands in the file itself, or in one of its own. No message repeats it.
fn secret(
    reader: &mut Reader,
    section: &Section<'_>,
    key: &str,
    file_key: &str,
    surroundings: &Surroundings,
) -> Option<Secret> {
    match (section.get(key), section.get(file_key)) {
        (Some(_), Some(found)) => {
            reader.problem(&found.spot, format!("`{key}` is given as well: only one of the two can hold"));
            None
        }
        (Some(found), None) => reader.value(&found, "a text", |text| Ok(Secret::new(text))),
        (None, Some(found)) => {
            let file = reader.value(&found, "a path", path)?;
            match (surroundings.read_secret)(&file) {
                Ok(secret) => Some(Secret::new(secret)),
                Err(error) => {
                    let shown = quoted(&file.to_string_lossy());
                    reader.problem(&found.spot, format!("{shown} cannot be read: {error}"));
                    None
                }
            }
        }
        (None, None) => None,
    }
}
