//! Who may know whom: ARCHITECTURE.md's invariants, held by a scan of the source. A rule is a folder or file, and words that
//! must not stand in it. Test code is exempt.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// Words that must not stand in the files below a path.
struct Rule {
    below: &'static [&'static str],
    except: &'static [&'static str],
    words: &'static [&'static str],
    because: &'static str,
}

const PURE: [&str; 5] = ["record.rs", "process/", "event/", "detect/", "pipeline/"];

const RULES: [Rule; 7] = [
    Rule {
        below: &PURE,
        except: &["process/seed.rs"],
        words: &[
            "tokio",
            "std::fs",
            "fs::read",
            "File::",
            "std::thread",
            "SystemTime::now",
            "Instant::now",
            "TcpStream",
            "UdpSocket",
        ],
        because: "it is replayable: no runtime, no I/O, no clock but the times handed in",
    },
    Rule {
        below: &["detect/"],
        except: &[],
        words: &[
            "crate::agent",
            "crate::config",
            "crate::container",
            "crate::pipeline",
            "crate::pod",
            "crate::probe",
            "crate::process",
            "crate::record",
            "crate::sink",
        ],
        because: "detection sees events and nothing else",
    },
    Rule {
        below: &["sink/"],
        except: &[],
        words: &[
            "crate::agent",
            "crate::config",
            "crate::container",
            "crate::detect",
            "crate::pipeline",
            "crate::pod",
            "crate::probe",
            "crate::process",
            "crate::record",
        ],
        because: "sinks see events and nothing else",
    },
    Rule {
        below: &["probe/"],
        except: &[],
        words: &["crate::event", "crate::pipeline", "crate::process"],
        because: "the probe knows records and never events",
    },
    Rule {
        below: &["event/"],
        except: &[],
        words: &["crate::"],
        because: "the public model depends on nothing but the ABI's process key",
    },
    Rule {
        below: &["record.rs"],
        except: &[],
        words: &["crate::"],
        because: "decoding depends on nothing but the ABI",
    },
    Rule {
        below: &[""],
        except: &[],
        words: &["unsafe {", "unsafe fn", "unsafe impl"],
        because: "unsafe code lives in the kernel programs; aya maps the ring",
    },
];

const SPAWNERS: [&str; 4] = ["agent/", "admin.rs", "sink/", "process/seed.rs"];
const LINES_MAX: usize = 600;
/// Flat tables, which grow by a line for each thing in them.
const TABLES: [&str; 1] = ["fields.rs"];

/// Fails with every violation, each with its place.
pub(crate) fn check(root: &Path) -> Result<()> {
    let agent = root.join("monitor/src");
    let mut problems = Vec::new();
    for file in sources(&agent)? {
        let name = file.strip_prefix(&agent).unwrap_or(&file).display().to_string();
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        problems.extend(violations(&name, &text));
    }
    for folder in ["monitor", "monitor-ebpf", "xtask", "tests"] {
        for file in sources(&root.join(folder).join("src"))? {
            let lines = fs::read_to_string(&file)?.lines().count();
            let is_table = TABLES.iter().any(|table| file.ends_with(table));
            if lines > LINES_MAX && !is_table {
                problems.push(format!("{}: {lines} lines: more than {LINES_MAX} are two files", file.display()));
            }
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

/// What is wrong with one file of the agent.
fn violations(name: &str, text: &str) -> Vec<String> {
    let is_test = name.contains("tests");
    let mut problems = Vec::new();
    let spelled = spelled_out(text);
    let code = spelled.iter().map(String::as_str).enumerate().take_while(|(_, line)| line.trim() != "mod tests {");
    for (number, line) in code.filter(|(_, line)| !is_test && !line.trim_start().starts_with("//")) {
        for rule in &RULES {
            let applies = rule.below.iter().any(|below| name.starts_with(below)) && !rule.except.contains(&name);
            for word in rule.words.iter().filter(|word| applies && line.contains(**word)) {
                problems.push(format!("monitor/src/{name}:{}: `{word}`: {}", number + 1, rule.because));
            }
        }
        let spawns = line.contains("spawn(") && !SPAWNERS.iter().any(|allowed| name.starts_with(allowed));
        if spawns {
            problems.push(format!("monitor/src/{name}:{}: only the agent starts tasks and threads", number + 1));
        }
    }
    if name == "main.rs" && text.lines().count() >= 80 {
        problems.push("monitor/src/main.rs: 80 lines or more: it only puts parts in order".into());
    }
    problems
}

/// The lines, with `crate::` before each module of a grouped import: `use crate::{` hides it otherwise.
fn spelled_out(text: &str) -> Vec<String> {
    let mut in_group = false;
    text.lines()
        .map(|line| {
            let group = line.trim_start().strip_prefix("use crate::{");
            let modules = group.or(in_group.then_some(line));
            let ends = line.trim_end().ends_with("};");
            in_group = (in_group || group.is_some()) && !ends;
            match modules {
                // Names nested deeper gain a prefix as well, which no rule knows.
                Some(modules) => {
                    let names = modules.split([',', '{', '}']).map(str::trim).filter(|name| !name.is_empty());
                    names.fold(String::new(), |line, name| line + "crate::" + name + " ")
                }
                None => line.to_owned(),
            }
        })
        .collect()
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

    #[test]
    fn a_forbidden_word_is_named_with_its_place() {
        let found = violations("pipeline/mod.rs", "use std::sync::Arc;\nuse tokio::time;\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("monitor/src/pipeline/mod.rs:2: `tokio`"), "{found:?}");
        assert!(!violations("probe/mod.rs", "use crate::event::Event;").is_empty());
        assert!(!violations("cli.rs", "    thread::spawn(f);").is_empty());
        assert!(!violations("sink/mod.rs", "use crate::{event::Event, pod::PodTable};").is_empty());
        assert!(!violations("detect/mod.rs", "use crate::{\n    event::Event,\n    sink::Line,\n};").is_empty());
        assert!(violations("detect/mod.rs", "use crate::{\n    event::Event,\n};").is_empty());
    }

    #[test]
    fn tests_and_comments_are_exempt() {
        assert_eq!(violations("record.rs", "// tokio\n#[cfg(test)]\nmod tests {\n use crate::x;\n}\n"), [""; 0]);
    }
}
