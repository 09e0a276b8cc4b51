//! Who may know whom: ARCHITECTURE.md's invariants, held against the paths that the code names, however its imports are
//! written. A layer lists what it may see, so that a module that is new is seen by nobody until somebody decides.

mod names;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use self::source::{Named, Token};
use crate::command::say;

/// A part of the agent, by its folder or file in `monitor/src`, and the modules of the agent that it may name beside itself.
struct Layer {
    name: &'static str,
    sees: &'static [&'static str],
    because: &'static str,
}

const LAYERS: [Layer; 11] = [
    Layer { name: "record", sees: &[], because: "decoding depends on nothing but the ABI" },
    Layer { name: "event", sees: &[], because: "the public model depends on nothing but the ABI's process key" },
    Layer { name: "process", sees: &["record", "event"], because: "processes are made of records and told as events" },
    Layer { name: "detect", sees: &["event"], because: "detection sees events and nothing else" },
    Layer {
        name: "pipeline",
        // Of containers and pods only what is pure: the parser of paths, the facts, and the table that they are put into.
        sees: &[
            "record",
            "process",
            "event",
            "detect",
            "container::cgroup",
            "pod::Announced",
            "pod::ContainerKind",
            "pod::Found",
            "pod::NodeUpdate",
            "pod::PodFacts",
            "pod::PodTable",
            "pod::PodUpdate",
            "pod::parse_image",
            "files::Touch",
        ],
        because: "its facts are handed in",
    },
    // Beside events, the figures that it counts in.
    Layer { name: "sink", sees: &["event", "metrics::Figures"], because: "sinks see events and nothing else" },
    Layer {
        name: "story",
        // The time, and how text of foreign origin is spelled.
        sees: &["event", "sink::encode"],
        because: "it reads lines back, wherever they come from",
    },
    Layer {
        name: "files",
        // Its second process is the program once more, which ends as the program does and keeps its own privileges.
        // What can be done to a file is the same list there and in events.
        sees: &["event::FileAction", "exit", "privileges"],
        because: "it knows the kernel's word of files and never events",
    },
    Layer { name: "probe", sees: &["record"], because: "the probe knows records and never events" },
    Layer {
        name: "container",
        sees: &["event", "pod"],
        because: "it answers the agent, and asks nobody but the runtime",
    },
    Layer { name: "pod", sees: &["event"], because: "it answers the agent, and asks nobody but the API server" },
];

/// Layers that are replayable, and what reads /proc for them.
const PURE: [&str; 5] = ["record", "process", "event", "detect", "pipeline"];
const READS_PROC: &str = "process/seed";
/// Runtimes, files, threads, the network and other programs, by the beginnings of their paths.
const IMPURE: [&str; 15] = [
    "tokio",
    "tokio_util",
    "futures",
    "aya",
    "axum",
    "kube",
    "tonic",
    "hyper_util",
    "rustix",
    "std::fs",
    "std::net",
    "std::os::unix::net",
    "std::thread",
    "std::process",
    "std::env",
];
/// What a pure layer may name below those.
const VALUES: [&str; 4] = ["std::net::IpAddr", "std::net::Ipv4Addr", "std::net::Ipv6Addr", "std::net::SocketAddr"];

const SPAWNERS: [&str; 5] = ["agent/", "admin.rs", "sink/", "files/marker.rs", READS_PROC];
const SPAWNS: [&str; 5] = ["spawn", "spawn_blocking", "spawn_local", "spawn_scoped", "spawn_unchecked"];
/// Where `unsafe` lives: the kernel programs, three system calls, and the load generator's `vfork(2)`.
const UNSAFE: [&str; 3] = ["monitor-ebpf/", "monitor/src/files/calls.rs", "tests/src/bench/spawn.rs"];
const LINES_MAX: usize = 600;
const MAIN_LINES_MAX: usize = 80;
/// Flat tables, which grow by a line for each thing in them.
const TABLES: [&str; 1] = ["fields.rs"];

/// Fails with every violation, each with its place.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut problems = Vec::new();
    let mut lengths = Vec::new();
    for folder in ["monitor", "monitor-ebpf", "xtask", "tests"] {
        for file in sources(&root.join(folder).join("src"))? {
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let place = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            let lines = text.lines().count();
            lengths.push(lines);
            let is_table = TABLES.iter().any(|table| file.ends_with(table));
            if lines > LINES_MAX && !is_table {
                problems.push(format!("{place}: {lines} lines: more than {LINES_MAX} are two files"));
            }
            problems.extend(violations(&place, &text));
        }
    }
    lengths.sort_unstable();
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or_default();
    say(&format!("structure: {} files, half of them up to {median} lines", lengths.len()));
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

/// What is wrong with one file; its place is relative to the workspace's root.
fn violations(place: &str, text: &str) -> Vec<String> {
    let tokens = source::tokens(text);
    let mut problems = Vec::new();
    if !UNSAFE.iter().any(|allowed| place.starts_with(allowed)) {
        let uses = tokens.iter().filter(|token| token.text == "unsafe");
        problems.extend(uses.map(|token| {
            format!("{place}:{}: `unsafe`: it lives in the kernel programs; aya maps the ring", token.line)
        }));
    }
    if is_test(place) {
        return problems;
    }
    let code = source::without_tests(&tokens);
    problems.extend(names::violations(place, &code));
    let Some(name) = place.strip_prefix("monitor/src/") else { return problems };
    let module = module(name);
    let paths = source::paths(&code, &module);
    if let Some(layer) = LAYERS.iter().find(|layer| module.first() == Some(&layer.name)) {
        problems
            .extend(paths.iter().filter(|path| !may_name(layer, path)).map(|path| wrong(place, path, layer.because)));
    }
    if PURE.iter().any(|pure| module.first() == Some(pure)) && !name.starts_with(READS_PROC) {
        let because = "it is replayable: no runtime, no I/O, no clock but the times handed in";
        problems.extend(paths.iter().filter(|path| is_impure(path)).map(|path| wrong(place, path, because)));
    }
    if !SPAWNERS.iter().any(|allowed| name.starts_with(allowed)) {
        problems.extend(spawns(&code).map(|token| {
            format!("{place}:{}: `{}`: only the agent starts tasks, threads and programs", token.line, token.text)
        }));
    }
    if name == "main.rs" && text.lines().count() >= MAIN_LINES_MAX {
        problems.push(format!("{place}: {MAIN_LINES_MAX} lines or more: it only puts parts in order"));
    }
    problems
}

fn wrong(place: &str, path: &Named, because: &str) -> String {
    format!("{place}:{}: `{}`: {because}", path.line, path.parts.join("::"))
}

fn may_name(layer: &Layer, path: &Named) -> bool {
    let Some(("crate", within)) = path.parts.split_first().map(|(first, rest)| (first.as_str(), rest)) else {
        return true;
    };
    within.first().is_some_and(|module| module == layer.name) || layer.sees.iter().any(|seen| is_below(within, seen))
}

fn is_impure(path: &Named) -> bool {
    let reads_clock = path.parts.last().is_some_and(|last| last == "now");
    let is_below_any = |of: &[&str]| of.iter().any(|above| is_below(&path.parts, above));
    reads_clock || is_below_any(&IMPURE) && !is_below_any(&VALUES)
}

/// Whether a path is another, or something in it.
fn is_below(parts: &[String], above: &str) -> bool {
    let mut parts = parts.iter();
    above.split("::").all(|part| parts.next().is_some_and(|own| own == part))
}

fn spawns(code: &[Token]) -> impl Iterator<Item = &Token> {
    let calls = code.windows(2).filter(|pair| pair[1].text == "(");
    calls.map(|pair| &pair[0]).filter(|token| SPAWNS.contains(&token.text.as_str()))
}

/// Files that hold unit tests alone. The crate of behaviour tests is code as any other.
fn is_test(place: &str) -> bool {
    place.trim_end_matches(".rs").split('/').skip(1).any(|part| part == "tests" || part.ends_with("_tests"))
}

/// The module that a file of the agent is.
fn module(name: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = name.trim_end_matches(".rs").split('/').collect();
    if matches!(parts.last(), Some(&("mod" | "lib" | "main"))) {
        parts.pop();
    }
    parts
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one violation of a file of the agent.
    fn one(name: &str, text: &str) -> String {
        let mut found = violations(&format!("monitor/src/{name}"), text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        found.remove(0)
    }

    #[test]
    fn this_source_holds_the_lines() {
        check(&crate::command::root()).expect("no violation");
    }

    #[test]
    fn a_layer_is_held_however_an_import_is_written() {
        let found = one("pipeline/mod.rs", "use std::sync::Arc;\nuse tokio::time;\n");
        assert!(found.starts_with("monitor/src/pipeline/mod.rs:2: `tokio::time`"), "{found}");
        let found = one("detect/rules.rs", "use crate::{\n    event::Event,\n    process::ProcessTable,\n};");
        assert!(found.starts_with("monitor/src/detect/rules.rs:3: `crate::process::ProcessTable`"), "{found}");
        one("sink/queue.rs", "use super::super::config::Config;");
        one("sink/mod.rs", "fn f() { crate::config::read(); }");
        one("probe/mod.rs", "use crate::event::Event;");
        one("process/table.rs", "use crate::{event::Event, pipeline::Pipeline};");
        one("event/mod.rs", "use crate::record::Record;");
        one("record.rs", "use crate::*;");
        one("detect/mod.rs", "use crate::one_that_is_new::Thing;");
        one("pipeline/mod.rs", "use crate::pod::{PodTable, Watch};");
    }

    #[test]
    fn a_pure_layer_reads_no_clock_and_no_file() {
        one("pipeline/mod.rs", "use std::{fs, sync::Arc};");
        one("pipeline/mod.rs", "use std::net::{IpAddr, TcpListener};");
        one("detect/mod.rs", "fn f() { jiff::Timestamp::now(); }");
        one("event/mod.rs", "fn f() { Instant::now(); }");
        assert_eq!(violations("monitor/src/process/seed.rs", "use std::fs;"), [""; 0]);
        assert_eq!(violations("monitor/src/agent/mod.rs", "use std::fs; fn f() { Instant::now(); }"), [""; 0]);
    }

    #[test]
    fn only_some_start_anything_and_nobody_is_unsafe() {
        one("cli.rs", "fn f() { thread::spawn(g); }");
        one("pod/watch.rs", "fn f() { tokio::task::spawn_blocking(g); }");
        one("agent/mod.rs", "fn f() { unsafe { g() } }");
        let in_a_test = violations("tests/src/harness/sshd.rs", "fn f() { unsafe { g() } }");
        assert_eq!(in_a_test.len(), 1, "{in_a_test:?}");
        for allowed in ["monitor-ebpf/src/kernel.rs", "tests/src/bench/spawn.rs"] {
            assert_eq!(violations(allowed, "fn f() { unsafe { g() } }"), [""; 0]);
        }
    }

    #[test]
    fn tests_and_comments_are_exempt() {
        let text = "// tokio::spawn(f)\n#[cfg(test)]\nmod tests {\n use crate::agent::Agent;\n}\n";
        assert_eq!(violations("monitor/src/record.rs", text), [""; 0]);
        assert_eq!(violations("monitor/src/sink/encode/ecs/tests.rs", "use crate::agent::Agent;"), [""; 0]);
        one("record.rs", &format!("{text}use crate::agent::Agent;"));
    }
}
