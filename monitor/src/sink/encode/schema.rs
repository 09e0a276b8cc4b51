//! The stream's JSON Schema (draft 2020-12), made from the table of fields, and the files of the repository that are
//! made from that table. A test compares the files with what would be made now;
//! `POSTERN_REGENERATE=1 cargo test -p postern --lib sink::encode::schema` writes them anew.

use serde_json::{Map, Value, json};

use super::fields::{self, Field, Kind, REQUIRED, Values};

/// The files made from the table of fields: path from the root of the repository, content.
pub fn generated() -> [(&'static str, String); 2] {
    [("deploy/schema/postern-events.schema.json", format!("{:#}\n", json_schema())), ("docs/fields.md", fields::page())]
}

/// The JSON Schema that every line of the stream meets. It is closed: a field that it does not list is an error.
pub fn json_schema() -> Value {
    let mut root = level("");
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("Postern event");
    root["description"] =
        json!(format!("One line of Postern's stream, in the Elastic Common Schema {}.", fields::ECS_VERSION));
    root
}

/// The object whose fields' names begin with `prefix` (empty, or ending in a dot).
fn level(prefix: &str) -> Value {
    let mut properties = Map::new();
    for field in fields::all() {
        let Some(rest) = field.name.strip_prefix(prefix) else { continue };
        match rest.split_once('.') {
            None => {
                properties.insert(rest.to_owned(), of(field));
            }
            Some((name, _)) if !properties.contains_key(name) => {
                properties.insert(name.to_owned(), level(&format!("{prefix}{name}.")));
            }
            Some(_) => {}
        }
    }
    let mut schema = json!({"type": "object", "additionalProperties": false, "minProperties": 1});
    let mut required: Vec<&str> =
        REQUIRED.iter().filter_map(|name| name.strip_prefix(prefix)?.split('.').next()).collect();
    required.dedup();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema["properties"] = Value::Object(properties);
    schema
}

fn of(field: &Field) -> Value {
    let mut value = match field.kind {
        // An empty argument is an argument; any other empty text would have been left out.
        Kind::Keyword | Kind::Wildcard | Kind::Text if field.values == Values::Array => json!({"type": "string"}),
        Kind::Keyword | Kind::Wildcard | Kind::Text => json!({"type": "string", "minLength": 1}),
        Kind::OneOf(values) => json!({"enum": values}),
        Kind::Long => json!({"type": "integer"}),
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Date => json!({"type": "string", "format": "date-time"}),
        Kind::Ip => json!({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
        Kind::Object => level(&format!("{}.", field.name)),
        Kind::Flattened => json!({"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}}),
    };
    let array = |items: &Value| json!({"type": "array", "minItems": 1, "items": items});
    match field.values {
        Values::One => {}
        Values::Array => value = array(&value),
        Values::OneOrArray => value = json!({"anyOf": [value, array(&value)]}),
    }
    value["description"] = json!(field.about);
    value
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    #[test]
    fn the_generated_files_are_up_to_date() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (path, content) in generated() {
            let file = root.join(path);
            if env::var_os("POSTERN_REGENERATE").is_some() {
                fs::create_dir_all(file.parent().expect("a file is in a folder")).expect("the folder can be made");
                fs::write(&file, &content).expect("the file can be written");
            }
            let found = fs::read_to_string(&file).unwrap_or_default();
            assert!(
                found == content,
                "{path} is out of date: POSTERN_REGENERATE=1 cargo test -p postern --lib sink::encode::schema"
            );
        }
    }

    #[test]
    fn the_schema_nests_closes_and_requires() {
        let schema = json_schema();
        let process = &schema["properties"]["process"]["properties"];
        assert_eq!(process["args"]["type"], "array");
        assert_eq!(process["entry_leader"]["properties"]["entry_meta"]["additionalProperties"], false);
        assert_eq!(schema["required"], json!(["@timestamp", "agent", "ecs", "event", "host", "postern"]));
        assert_eq!(
            schema["properties"]["postern"]["properties"]["counters"]["items"]["properties"]["seen"]["type"],
            "integer"
        );
    }
}
