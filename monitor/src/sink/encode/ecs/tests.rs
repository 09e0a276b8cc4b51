use std::{collections::BTreeSet, env, fs};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    event::{Entry, EntryType, Lineage, Process, Relatives},
    sink::encode::{check_line, escape, fields, fields::Kind, samples},
};

fn encode(event: &Event) -> String {
    encode_on(samples::node(), event)
}

fn encode_on(node: Arc<Node>, event: &Event) -> String {
    let mut line = Vec::new();
    Encoder::new(node).encode(event, &mut line);
    String::from_utf8(line).expect("UTF-8")
}

/// Makes another event of one.
type Change = fn(&mut Event);

fn lineage(event: &mut Event) -> &mut Lineage {
    event.lineage.as_mut().expect("it has one")
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The names of the table's fields in a value.
fn names(prefix: &str, value: &Value, found: &mut BTreeSet<String>) {
    if fields::find(prefix).is_some() {
        found.insert(prefix.to_owned());
    }
    match value {
        Value::Object(inner) => {
            for (name, value) in inner {
                names(&if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") }, value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names(prefix, value, found)),
        _ => {}
    }
}

#[test]
fn every_sample_conforms() {
    for event in samples::all() {
        for node in [samples::node(), samples::bare_node()] {
            let line = encode_on(node, &event);
            assert_eq!(check_line(&line), Ok(()), "{line}");
        }
    }
}

#[test]
fn a_line_is_the_same_whatever_was_encoded_before() {
    fn relatives(event: &mut Event) -> &mut Relatives {
        Arc::make_mut(&mut lineage(event).relatives)
    }
    let changes: [Change; 9] = [
        |_| {},
        |event| lineage(event).process = Arc::clone(lineage(&mut samples::exec()).parent.as_ref().expect("it has one")),
        |event| relatives(event).parent = None,
        |event| relatives(event).group_leader = Some(Arc::clone(&lineage(event).process)),
        |event| relatives(event).session_leader = None,
        |event| relatives(event).entry_leader = None,
        |event| event.container = samples::all().into_iter().find_map(|event| event.container),
        |event| {
            let entry = lineage(event).entry.as_deref().expect("it has one").clone();
            relatives(event).entry = Some(Arc::new(Entry { observed: EntryType::At, source_ip: None, ..entry }));
        },
        |event| event.body = Body::End(samples::end(1)),
    ];
    let base = samples::exec();
    let mut encoder = Encoder::new(samples::node());
    let mut shared = 0;
    for (first, second) in (0..81).map(|number| (number / 9, number % 9)) {
        let mut event = base.clone();
        changes[first](&mut event);
        changes[second](&mut event);
        // The first of its family, the one whose tail is kept, and one that gets that.
        let is_shared = [(); 3].map(|()| {
            let mut line = Vec::new();
            let tail = encoder.encode_own(&event, &mut line);
            line.extend_from_slice(tail.as_deref().unwrap_or_default());
            assert_eq!(String::from_utf8(line).expect("UTF-8"), encode(&event), "{first} {second}");
            tail.is_some()
        });
        shared += usize::from(is_shared == [false, true, true]);
    }
    assert!(shared > 20, "{shared}");
}

#[test]
fn a_line_is_the_same_whoever_ran_the_program_before() {
    fn process(event: &mut Event) -> &mut Process {
        Arc::make_mut(&mut lineage(event).process)
    }
    fn entry(event: &mut Event) -> &mut Entry {
        let entry = &mut Arc::make_mut(&mut lineage(event).relatives).entry;
        Arc::make_mut(entry.as_mut().expect("it has one"))
    }
    fn of<T>(find: impl FnMut(Event) -> Option<T>) -> Option<T> {
        samples::all().into_iter().find_map(find)
    }
    let changes: [Change; 19] = [
        |_| {},
        |event| event.body = Body::Exec { end: Some(samples::end(1)) },
        |event| event.body = Body::End(samples::end(1)),
        |event| event.body = Body::ContainerEscaped,
        |event| event.container = of(|event| event.container),
        |event| event.enrichment = Enrichment::Partial,
        |event| event.alert = of(|event| event.alert),
        |event| event.maintenance = of(|event| event.maintenance),
        |event| event.attached = of(|event| (!event.attached.is_empty()).then_some(event.attached)).expect("one has"),
        |event| entry(event).own_session = of(|event| event.session().map(|session| Arc::new(session.clone()))),
        |event| entry(event).source_ip = Some([192, 0, 2, 8].into()),
        |event| process(event).args_cut = true,
        |event| process(event).args_unreadable = true,
        |event| process(event).args_redacted = true,
        |event| process(event).seeded = true,
        |event| process(event).inner_pid = Some(3),
        |event| process(event).args = ["ls", "\n"].into_iter().collect(),
        |event| Arc::make_mut(&mut process(event).program).name = "another".into(),
        |event| {
            let parent = samples::process(9, "/bin/sh", &["sh", &"x".repeat(800), &"y".repeat(800)]);
            Arc::make_mut(&mut lineage(event).relatives).parent = Some(Arc::new(parent));
        },
    ];
    let mut base = samples::exec();
    *entry(&mut base) = Entry::new(EntryType::Init, samples::process(1, "/sbin/init", &[]).key);
    // Two more run the same.
    let _others = [(); 2].map(|()| Arc::clone(&lineage(&mut base).process.program));
    let mut encoder = Encoder::new(samples::node());
    let mut remembered = 0;
    for first in &changes {
        for second in &changes {
            let mut event = base.clone();
            first(&mut event);
            second(&mut event);
            remembered += usize::from(of_program(&event).is_some());
            let mut line = Vec::new();
            encoder.encode(&event, &mut line);
            assert_eq!(String::from_utf8(line).expect("UTF-8"), encode(&event), "{event:?}");
        }
    }
    assert!(remembered > 10, "{remembered}");
}

#[test]
fn the_samples_use_every_field_of_the_table() {
    let mut found = BTreeSet::new();
    for event in samples::all() {
        names("", &parse(&encode(&event)), &mut found);
    }
    let unused: Vec<_> = fields::all().iter().map(|field| &field.name).filter(|name| !found.contains(*name)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn the_table_agrees_with_the_whole_common_schema() {
    let Some(path) = env::var_os("POSTERN_ECS_CSV") else {
        eprintln!("skipped: POSTERN_ECS_CSV does not name a file with ECS's fields (field,type,normalization)");
        return;
    };
    let csv = fs::read_to_string(&path).expect("the file that POSTERN_ECS_CSV names can be read");
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    for field in fields::all().iter().filter(|field| !field.is_own()) {
        let row = rows.iter().find(|row| row[0] == field.name).unwrap_or_else(|| panic!("ECS has no {}", field.name));
        assert_eq!(row[1], field.kind.as_str(), "{}", field.name);
        assert_eq!(row[2] == "array", field.values == fields::Values::Array, "{}", field.name);
    }
    for field in fields::all().iter().filter(|field| field.is_own()) {
        assert!(rows.iter().all(|row| row[0] != field.name), "ECS has a {} of its own", field.name);
    }
}

#[test]
fn a_process_is_placed_in_its_tree() {
    let event = parse(&encode(&samples::exec()));
    let process = &event["process"];
    assert_eq!(event["event"]["action"], "exec");
    assert_eq!(event["event"]["id"], "01JD0Z6V7Q8R9S0T1V2W3X4Y5Z-1");
    assert_eq!(process["name"], "find");
    assert_eq!(process["command_line"], "find /etc -name '*.key files'");
    assert_eq!(process["parent"]["pid"], 4250);
    assert_eq!(process["entry_leader"]["entry_meta"]["type"], "sshd");
    assert_eq!(process["entry_leader"]["entry_meta"]["source"]["ip"], "192.0.2.7");
    assert_eq!(process["entry_leader"]["same_as_process"], false);
    assert_eq!(event["postern"]["session"]["user"], "ops");
    assert_eq!(event["related"], serde_json::json!({"user": ["ops", "root"], "ip": ["192.0.2.7"]}));
}

#[test]
fn one_line_says_both_where_a_process_ended_before_it_went_out() {
    let events = samples::all();
    let event = events.iter().find(|event| matches!(event.body, Body::Exec { end: Some(_) })).expect("a sample");
    let line = parse(&encode(event));
    assert_eq!(line["event"]["action"], serde_json::json!(["exec", "end"]));
    assert_eq!(line["event"]["type"], serde_json::json!(["start", "end"]));
    assert_eq!(line["process"]["exit_code"], 1);
    assert_eq!(line["event"]["duration"].as_u64(), event.end().map(|end| end.lived_ns));
}

#[test]
fn long_arguments_of_a_parent_are_cut_and_said_to_be() {
    let event = samples::all().swap_remove(3);
    let line = parse(&encode(&event));
    assert_eq!(line["process"]["parent"]["args"].as_array().map(Vec::len), Some(2));
    assert_eq!(line["process"]["parent"]["args_count"], 3);
    assert_eq!(line["postern"]["process"]["relative_args_cut"], true);
}

#[test]
fn a_sub_technique_hangs_from_its_technique() {
    let events = samples::all();
    let alert = events.iter().find(|event| event.alert.is_some()).expect("a sample is an alert");
    let line = parse(&encode(alert));
    assert_eq!(line["event"]["kind"], "alert");
    assert_eq!(line["event"]["severity"], 73);
    assert_eq!(line["threat"]["technique"]["id"], serde_json::json!(["T1078", "T1021"]));
    assert_eq!(line["threat"]["technique"]["subtechnique"]["id"], serde_json::json!(["T1021.004"]));
    assert_eq!(line["postern"]["alert"]["trigger"], "01JD0Z6V7Q8R9S0T1V2W3X4Y5Z-39");
}

#[test]
fn labels_that_look_alike_without_dots_make_one_field() {
    let events = samples::all();
    let event = events.iter().find(|event| event.container.is_some()).expect("a sample is in a container");
    let line = parse(&encode(event));
    let labels = &line["kubernetes"]["labels"];
    assert_eq!(*labels, serde_json::json!({"a_b": "1", "app": "web", "app_kubernetes_io/name": "web", "empty": ""}));
    assert_eq!(line["orchestrator"]["resource"]["label"].as_array().map(Vec::len), Some(5));
}

fn any_text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        any::<char>(),
        (0_u32..0x100).prop_map(|c| char::from_u32(c).unwrap_or(' ')),
        (0x2000_u32..0x2070).prop_map(|c| char::from_u32(c).unwrap_or(' ')),
        Just('\u{61c}'),
    ];
    proptest::collection::vec(character, 0..40).prop_map(String::from_iter)
}

proptest! {
    #[test]
    fn any_text_comes_back_and_no_control_character_goes_out(
        // Of an argument only a zero character cannot be: it ends one.
        args in proptest::collection::vec(any_text().prop_map(|text| text.replace('\0', "")), 1..5),
        path in any_text(), user in any_text(), key in any_text(),
    ) {
        let mut event = samples::exec();
        if let Some(lineage) = &mut event.lineage {
            let process = Arc::make_mut(&mut lineage.process);
            process.args = args.iter().collect();
            process.executable.path = path.as_str().into();
        }
        let mut container = samples::container();
        if let Some(pod) = &mut container.pod {
            Arc::make_mut(pod).labels = [(key.as_str().into(), user.as_str().into())].into();
        }
        event.container = Some(Arc::new(container));
        let line = encode(&event);
        prop_assert!(!line.chars().any(escape::is_unsafe));
        prop_assert_eq!(check_line(&line), Ok(()));
        let value = parse(&line);
        prop_assert_eq!(value["process"]["args"].clone(), serde_json::json!(args));
        prop_assert_eq!(value["process"]["executable"].as_str().unwrap_or(""), path);
        prop_assert_eq!(value["kubernetes"]["labels"][key.replace('.', "_")].as_str(), Some(user.as_str()));

        let mut login = samples::login();
        login.user = user.as_str().into();
        let line = encode(&samples::event(1, Body::LoginFailed(Arc::new(login)), None));
        prop_assert_eq!(check_line(&line), Ok(()));
        let value = parse(&line);
        prop_assert_eq!(value["user"]["name"].as_str().unwrap_or(""), user);
        prop_assert!(!value["message"].as_str().unwrap_or("\n").contains(char::is_control));
    }
}

#[test]
fn the_closed_lists_hold_what_the_model_can_say() {
    let values = |name: &str| match fields::find(name).map(|field| field.kind) {
        Some(Kind::OneOf(values)) => values,
        _ => panic!("{name} is a closed list"),
    };
    for event in samples::all() {
        assert!(values("event.action").contains(&event.categorization().action));
        assert!(values("event.kind").contains(&event.kind().as_str()));
    }
    for door in [
        EntryType::Init,
        EntryType::Sshd,
        EntryType::Console,
        EntryType::Terminal,
        EntryType::Kubelet,
        EntryType::KubectlExec,
        EntryType::KubectlDebug,
        EntryType::DebugNode,
        EntryType::Probe,
        EntryType::RuntimeExec,
        EntryType::Ssm,
        EntryType::CloudAgent,
        EntryType::Cron,
        EntryType::At,
        EntryType::ContainerEscape,
        EntryType::Unknown,
    ] {
        assert!(values("process.entry_leader.entry_meta.type").contains(&door.as_str()));
    }
}
