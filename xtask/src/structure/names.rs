//! Names that say nothing: a thing called a manager could be anything, and becomes it.

use super::source::Token;

const SAY_NOTHING: [&str; 8] = ["manager", "handler", "helper", "helpers", "util", "utils", "data", "info"];
/// Names that are another's: `OpenMetrics` has a type of metric that is called so.
const TAKEN: [(&str, &str); 1] = [("monitor/src/metrics.rs", "info")];
/// The words that stand before a name that the code itself chooses.
const DEFINE: [&str; 8] = ["struct", "enum", "trait", "type", "fn", "mod", "const", "static"];

/// Files and items with such a name. Tests are named as sentences, which may speak of anything.
pub(super) fn violations(place: &str, tokens: &[Token]) -> Vec<String> {
    let because = "says nothing of what it is";
    let file = place.rsplit('/').next().unwrap_or(place).trim_end_matches(".rs");
    let in_place = word(file).map(|word| format!("{place}: `{word}` {because}"));
    let chosen =
        |pair: &&[Token]| DEFINE.contains(&pair[0].text.as_str()) && !TAKEN.contains(&(place, pair[1].text.as_str()));
    let defined = tokens.windows(2).filter(chosen).filter_map(|pair| {
        word(&pair[1].text).map(|word| format!("{place}:{}: `{word}` in `{}` {because}", pair[1].line, pair[1].text))
    });
    in_place.into_iter().chain(defined).collect()
}

/// The word of a name that says nothing, in `snake_case`, `CamelCase` and `UPPER_CASE` alike.
fn word(name: &str) -> Option<&'static str> {
    let mut spaced = String::new();
    let mut after_lower = false;
    for character in name.chars() {
        if character == '_' || character.is_uppercase() && after_lower {
            spaced.push(' ');
        }
        after_lower = character.is_lowercase();
        spaced.extend(character.to_lowercase().filter(|lower| *lower != '_'));
    }
    spaced.split(' ').find_map(|part| SAY_NOTHING.into_iter().find(|nothing| *nothing == part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structure::source::tokens;

    #[test]
    fn a_name_that_says_nothing_is_found_in_every_style() {
        for name in ["EventManager", "pod_util", "PROCESS_INFO", "data", "FileHelpers"] {
            assert!(word(name).is_some(), "{name}");
        }
        for name in ["Database", "inform", "Information", "metadata", "utility_pole"] {
            assert_eq!(word(name), None, "{name}");
        }
    }

    #[test]
    fn only_names_that_are_chosen_here_count() {
        let found =
            violations("monitor/src/pod/mod.rs", &tokens("use x::Info;\nfn f() { let d = y.data; }\nstruct PodInfo;"));
        assert_eq!(found, ["monitor/src/pod/mod.rs:3: `info` in `PodInfo` says nothing of what it is"]);
        assert_eq!(violations("monitor/src/util.rs", &[]).len(), 1);
    }
}
