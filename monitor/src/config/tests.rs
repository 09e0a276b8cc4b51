use proptest::prelude::*;

use super::*;
use crate::event::{EntryType, Kind};

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    Config::parse(text, "t.yaml", &Surroundings::none())
}

/// What is wrong with `text`, a line each.
fn problems(text: &str) -> Vec<String> {
    parse(text).expect_err("a configuration with problems").iter().map(ToString::to_string).collect()
}

#[track_caller]
fn assert_problem(text: &str, expected: &str) {
    let found = problems(text);
    assert!(found.iter().any(|problem| problem.contains(expected)), "no {expected:?} in {found:#?}");
}

#[test]
fn an_empty_file_is_the_default() {
    let default = format!("{:?}", Config::default());
    for empty in
        ["", "\n", "---\n", "# nothing\n", "{}", "access:\nsinks_are: #\n".split("sinks").next().expect("text")]
    {
        assert_eq!(format!("{:?}", parse(empty).expect(empty)), default, "{empty:?}");
    }
}

/// The example in the documentation holds every key, and is valid.
#[test]
fn the_documented_example_is_valid_and_complete() {
    let page = include_str!("../../../docs/configuration.md");
    let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let files = Surroundings { node_name: None, read_secret: |_| Ok("secret".into()) };
    let config = Config::parse(example, "docs/configuration.md", &files).unwrap_or_else(|found| panic!("{found:#?}"));
    assert_eq!(config.sinks.len(), 3);
    let default = Config::default();
    assert_eq!((config.ring_bytes, config.typed_tracepoints), (default.ring_bytes, default.typed_tracepoints));
    assert_eq!(config.admin, default.admin);
    assert_eq!(config.shutdown_deadline, default.shutdown_deadline);
    assert_eq!(config.host_root, Some("/proc/1/root".into()));
    let rule = &config.access.allow[0];
    assert_eq!((rule.door, rule.users.len(), rule.keys.len(), rule.from.len()), (Some(EntryType::Sshd), 2, 1, 2));
    for key in sinks::ALL_KEYS.iter().copied().flatten() {
        assert!(example.contains(&format!("{key}:")), "{key} is not in the example");
    }
}

#[test]
fn every_problem_is_listed_with_its_line() {
    let text = "\
cluster: {nam: prod}
host_root: relative
admin:
  address: localhost
probe: {ring_bytes: 3MiB}
access:
  allow:
    - {door: sshd, user: [ops]}
    - {door: ssh, keys: [nope], from: [192.0.2.300]}
sinks:
  - {type: flunetd}
  - {type: file, keep: many}
  - {type: fluentd, address: ftp://x, username: me}
shutdown: 10s
admin: {}
";
    let found: Vec<(usize, String)> =
        parse(text).expect_err("many problems").into_iter().map(|problem| (problem.line, problem.path)).collect();
    let expected = [
        (1, "cluster"),
        (2, "host_root"),
        (4, "admin.address"),
        (5, "probe.ring_bytes"),
        (8, "access.allow[0]"),
        (9, "access.allow[1].door"),
        (9, "access.allow[1].keys[0]"),
        (9, "access.allow[1].from[0]"),
        (11, "sinks[0].type"),
        (12, "sinks[1]"),
        (12, "sinks[1].keep"),
        (13, "sinks[2].address"),
        (13, "sinks[2].username"),
        (14, "shutdown"),
        (15, ""),
    ];
    assert_eq!(found, expected.map(|(line, path)| (line, path.to_owned())));
}

#[test]
fn a_problem_reads_as_file_line_column_path_message() {
    assert_eq!(problems("a: 1\nsink: []\n")[1], "t.yaml:2:1: unknown key `sink`: did you mean `sinks`?");
    assert_eq!(
        problems("sinks:\n  - type: file\n    path: /x\n    max_size: 1PiB\n"),
        ["t.yaml:4:15: sinks[0].max_size: expected a size such as `8MiB` (units B, KiB, MiB, GiB), found `1PiB`"]
    );
}

#[test]
fn wrong_kinds_are_named() {
    assert_problem("sinks: {}", "sinks: expected a list, found a mapping");
    assert_problem("sinks:\n", "sinks: expected a list, found nothing");
    assert_problem("sinks: []", "names no sink");
    assert_problem("cluster: prod", "cluster: expected a mapping of keys to values, found a single value");
    assert_problem("cluster: {name: [a]}", "cluster.name: expected a name, found a list");
    assert_problem("- a\n- b", "expected a mapping of keys to values, found a list");
    assert_problem("just text", "found a single value");
}

/// What a rule does not name, matches. So nothing that looks like "nobody" may pass for "anybody".
#[test]
fn no_rule_lets_everyone_in_by_accident() {
    for (rule, expected) in [
        ("{}", "would let everyone in"),
        ("{users: []}", "an empty list matches any"),
        ("{users: }", "expected a list, found nothing"),
        ("{users: ops}", "expected a list, found a single value"),
        ("{users: ['*']}", "leave `users` out"),
        ("{door: sshd, froom: [192.0.2.0/24]}", "did you mean `from`?"),
        ("{door: }", "expected a door, found nothing"),
        ("{door: cron}", "`cron` is not known here"),
        ("{from: [192.0.2.9/24]}", "bits set behind its prefix"),
        ("", "expected a mapping"),
    ] {
        assert_problem(&format!("access:\n  allow:\n    - {rule}\n"), expected);
    }
}

#[test]
fn sinks_are_named_by_type_and_position_and_share_nothing() {
    let config =
        parse("sinks: [{type: stdout}, {type: fluentd, address: 'tcp://127.0.0.1', events: [alert]}]").expect("valid");
    assert_eq!(config.sinks.iter().map(|sink| &*sink.name).collect::<Vec<_>>(), ["stdout-1", "fluentd-2"]);
    assert_eq!(config.sinks[1].events, [Kind::Alert]);
    assert_problem("sinks: [{type: stdout}, {type: stdout}]", "standard output is taken by the sink on line 1");
    assert_problem("sinks: [{type: file, path: /a}, {type: file, path: /a}]", "the file `/a` is taken");
    assert_problem("sinks: [{type: file, path: /a, name: x}, {type: stdout, name: x}]", "the name `x` is taken");
    assert_problem("sinks: [{path: /a}]", "`type` is missing");
    assert_problem("sinks: [{type: stdout, path: /a}]", "unknown key `path`");
    assert_problem("sinks: [{type: file}]", "`path` is missing");
    assert_problem("sinks: [{type: fluentd}]", "`address` is missing");
}

#[test]
fn secrets_come_from_files_and_reach_no_message() {
    let files = Surroundings { node_name: None, read_secret: |path| Ok(format!("hunter2 of {}", path.display())) };
    let text = "sinks: [{type: fluentd, address: 'tls://h', shared_key_file: /k, username: u, password_file: /p}]";
    let config = Config::parse(text, "t.yaml", &files).expect("valid");
    let Target::Fluentd(settings) = &config.sinks[0].target else { panic!("a fluentd sink") };
    assert_eq!(settings.shared_key.as_ref().expect("a key").reveal(), "hunter2 of /k");
    assert_eq!(settings.user.as_ref().expect("a user").1.reveal(), "hunter2 of /p");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_problem(text, "sinks[0].shared_key_file: `/k` cannot be read");
    for wrong in [
        "{shared_key: hunter2, shared_key_file: /k}",
        "{password: hunter2}",
        "{password: [hunter2]}",
        "{shared_key: \"hunter2\\0\"}",
        "{address: 'tls://u:hunter2@h'}",
    ] {
        let text = format!("sinks: [{}]", wrong.replacen('{', "{type: fluentd, ", 1));
        let found = problems(&text).join("\n");
        assert!(!found.contains("hunter2"), "{found}");
    }
}

#[test]
fn tls_settings_need_tls_and_their_other_half() {
    assert_problem("sinks: [{type: fluentd, address: 'tcp://h', ca_file: /c}]", "this address is `tcp://`");
    assert_problem("sinks: [{type: fluentd, address: 'tls://h', cert_file: /c}]", "needs `key_file` beside it");
    assert_problem("sinks: [{type: fluentd, address: 'tls://h', username: u}]", "needs `password`");
}

#[test]
fn an_admin_address_for_all_to_reach_is_taken_with_a_warning() {
    let config = parse("admin: {address: '0.0.0.0:9464'}").expect("valid");
    assert_eq!(config.warnings.len(), 1);
    assert_eq!(config.warnings[0].path, "admin.address");
    assert!(parse("admin: {address: off}").expect("valid").admin.is_none());
    assert!(parse("admin: {address: '[::1]:0'}").expect("valid").warnings.is_empty());
}

#[test]
fn the_node_is_named_by_the_file_first_and_the_pod_second() {
    let pod = Surroundings { node_name: Some("from-pod".into()), ..Surroundings::none() };
    let name = |text| Config::parse(text, "t.yaml", &pod).expect("valid").node;
    assert_eq!(name("").as_deref(), Some("from-pod"));
    assert_eq!(name("node: {name: from-file}").as_deref(), Some("from-file"));
    let cluster = parse("cluster: {name: 'arn:aws:eks:eu-west-1:123456789012:cluster/a b'}").expect("valid").cluster;
    assert_eq!(cluster.as_deref(), Some("arn:aws:eks:eu-west-1:123456789012:cluster/a b"));
    let hostile = Surroundings { node_name: Some("a\nb".into()), ..Surroundings::none() };
    assert_eq!(Config::parse("", "t.yaml", &hostile).expect_err("no name")[0].path, "node.name");
}

#[test]
fn output_overrides_standard_output_or_adds_it() {
    let mut config = parse("sinks: [{type: file, path: /a}]").expect("valid");
    config.set_output(Format::Json);
    config.set_output(Format::Pretty);
    assert_eq!(config.sinks[1..], [sinks::stdout(Format::Pretty)]);
}

#[test]
fn hostile_yaml_is_refused_with_a_place() {
    let laughs = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n";
    assert_problem(laughs, "2:8: aliases (`*name`) are not supported");
    assert_problem("access: *nobody", "aliases");
    assert_problem(&"[".repeat(100_000), "cannot be read as YAML");
    assert_problem(&"- ".repeat(100_000), "cannot be read as YAML");
    assert_problem(&"{a: ".repeat(64), "cannot be read as YAML");
    assert_problem(&"x".repeat(tree::MAX_BYTES + 1), "larger than 1048576 bytes");
    assert_problem(&format!("sinks: [{}]", "1,".repeat(200_000)), "more than 100000 values");
    assert_problem(&format!("sinks: [{}]", "1,".repeat(5_000)), "4800 more problems are not listed");
    assert_problem("cluster:\n\tname: x\n", "2:");
    assert_problem("cluster: {name: \"a\\0b\"}", "control characters");
    assert_problem("cluster: {name: a\0b}", "1:");
    assert_problem("cluster: !!binary aGk=\n", "tags (`!name`) are not supported");
    assert_problem("%YAML 1.2\n---\n", "1:1");
    assert_problem("a: 1\n---\nb: 2\n", "a second document");
    assert_problem("{[a]: 1}", "a key must be a word");
    assert_problem("? {a: b}\n: 1\n", "a key must be a word");
    assert_problem("cluster: {name: a}\ncluster: {name: b}\n", "2:1: `cluster` is given twice: first on line 1");
    assert_problem("\"\\e[31m\": 1", "unknown key `\\u{1b}[31m`");
}

#[test]
fn text_that_is_not_utf_8_is_refused_at_its_line() {
    let found =
        Config::parse_bytes(b"cluster:\n  name: \xff\xfe\n", "t.yaml", &Surroundings::none()).expect_err("not text");
    assert_eq!((found[0].line, found[0].column), (2, 9));
}

#[test]
fn only_the_default_file_may_be_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("none.yaml");
    let found = Config::load(Some(&missing), &Surroundings::none()).expect_err("a missing file");
    assert!(found[0].message.starts_with("cannot be read"), "{found:?}");
    assert!(Config::load(Some(folder.path()), &Surroundings::none()).is_err(), "a folder is no file");
}

#[test]
fn a_secret_file_is_one_line() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let read = |bytes: &[u8]| {
        std::fs::write(file.path(), bytes).expect("written");
        read_secret(file.path())
    };
    assert_eq!(read(b"key\n").expect("a secret"), "key");
    assert_eq!(read(b" k y ").expect("a secret"), " k y ");
    assert!(read(b"").is_err());
    assert!(read(b"a\nb").is_err());
    assert!(read(b"\xff").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = parse(&text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Config::parse_bytes(&bytes, "t.yaml", &Surroundings::none());
    }

    #[test]
    fn nothing_like_a_configuration_makes_it_panic(words in proptest::collection::vec(prop_oneof![
        Just("sinks: "), Just("access:\n  allow:\n    - "), Just("{type: fluentd, address: "), Just("'tls://[::1"), Just("]:"),
        Just("}"), Just("\n"), Just("  "), Just("- "), Just("["), Just("]"), Just("\""), Just("&a "), Just("*a"), Just("? "),
        Just(": "), Just("|\n"), Just("door: sshd"), Just("from: [::/"), Just("99999999999999999999"), Just("MiB"), Just("\t"),
    ], 0..40)) {
        let _ = parse(&words.concat());
    }
}
