//! A source file as its words: without comments, string literals and test code, so that a rule about code is held against
//! code alone. This is no parser of Rust: it knows what a path and a `use` tree look like, which is all that the rules ask.

/// One word of the source: an identifier, `::`, or any other character by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// The line that it stands in, from 1.
    pub(super) line: usize,
    pub(super) text: String,
}

/// A path that the code names, such as `crate::event::Event`, and the line of its last part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) parts: Vec<String>,
}

/// The words of a file.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let text = blank(text);
    let mut tokens = Vec::new();
    let mut rest = text.as_str();
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) {
            rest.find(|next| !is_word(next)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if first == '\n' {
            line += 1;
        } else if !first.is_whitespace() {
            tokens.push(Token { line, text: rest[..length].to_owned() });
        }
        rest = &rest[length..];
    }
    tokens
}

/// The words that are no test's: what `#[cfg(test)]` stands before is left out.
pub(super) fn without_tests(tokens: &[Token]) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let marked = tokens[at..].iter().map(|token| token.text.as_str()).take(MARK.len()).eq(MARK);
        if marked {
            at = end_of_item(tokens, at + MARK.len());
        } else {
            kept.push(token.clone());
            at += 1;
        }
    }
    kept
}

/// Every path of two parts and more, those in `use` trees spelled out, and all made absolute for the module they stand in.
pub(super) fn paths(tokens: &[Token], module: &[&str]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let after_path = at > 0 && tokens[at - 1].text == "::";
        if token.text == "use" {
            at = tree(tokens, at + 1, &[], &mut found);
        } else if is_identifier(token) && !after_path {
            let mut named = Named { line: token.line, parts: vec![token.text.clone()] };
            while text(tokens, at + 1) == "::" && tokens.get(at + 2).is_some_and(is_identifier) {
                at += 2;
                named.parts.push(tokens[at].text.clone());
            }
            if named.parts.len() > 1 {
                found.push(named);
            }
            at += 1;
        } else {
            at += 1;
        }
    }
    for named in &mut found {
        absolute(&mut named.parts, module);
    }
    found
}

/// Reads one `use` tree below a prefix; returns where it ends.
fn tree(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<Named>) -> usize {
    let mut parts = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "{" => {
                at += 1;
                while !matches!(text(tokens, at), "}" | "") {
                    at = tree(tokens, at, &parts, found);
                    if text(tokens, at) == "," {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            // A name of its own changes nothing of what is named.
            "as" => at += 2,
            "::" => at += 1,
            part => {
                if part != "self" || parts.is_empty() {
                    parts.push(part.to_owned());
                }
                at += 1;
            }
        }
    }
    let line = tokens.get(at.saturating_sub(1)).map_or(0, |token| token.line);
    found.push(Named { line, parts });
    at
}

/// Spells `self::` and `super::` as what they stand for.
fn absolute(parts: &mut Vec<String>, module: &[&str]) {
    let supers = parts.iter().take_while(|part| matches!(part.as_str(), "self" | "super")).count();
    if supers == 0 {
        return;
    }
    let up = parts.drain(..supers).filter(|part| part == "super").count();
    let above = module[..module.len().saturating_sub(up)].iter().map(|part| (*part).to_owned());
    parts.splice(..0, std::iter::once("crate".to_owned()).chain(above));
}

/// Where the item that begins here ends: behind its semicolon, or behind the brace that closes it.
fn end_of_item(tokens: &[Token], from: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token.text == "}" {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// The same text with blanks for comments and for what literals hold; lines stay where they are.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let in_word = out.chars().next_back().is_some_and(is_word);
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => literal(rest, 1),
            'b' | 'c' if !in_word && rest[1..].starts_with('"') => literal(rest, 2),
            'r' | 'b' | 'c' if !in_word => raw_literal(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            // Two words that a comment parts stay two.
            out.push(' ');
            out.extend(rest[..length].chars().filter(|&blanked| blanked == '\n'));
            rest = &rest[length..];
        }
    }
    out
}

/// Length of a block comment, which may hold others.
fn block_comment(text: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Length of a string literal whose content begins so many bytes on.
fn literal(text: &str, content: usize) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(content) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of a raw string literal (`r"…"`, `br#"…"#`), 0 where none begins here.
fn raw_literal(text: &str) -> usize {
    let after_kind = text.trim_start_matches(['b', 'c']);
    let Some(after) = after_kind.strip_prefix('r') else { return 0 };
    let content = after.trim_start_matches('#');
    let hashes = after.len() - content.len();
    if text.len() - after_kind.len() > 1 || !content.starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let before = text.len() - content.len() + 1;
    text[before..].find(&end).map_or(text.len(), |length| before + length + end.len())
}

/// Length of a character literal, 0 where the quotation mark begins a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            // What is escaped may be a quotation mark itself.
            let after = chars.nth(1).map_or(text.len(), |(at, _)| at);
            text[after..].find('\'').map_or(text.len(), |length| after + length + 1)
        }
        Some((_, '\'')) | None => 0,
        Some(_) => chars.next().filter(|&(_, next)| next == '\'').map_or(0, |(at, _)| at + 1),
    }
}

fn text(tokens: &[Token], at: usize) -> &str {
    tokens.get(at).map_or("", |token| &token.text)
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn is_identifier(token: &Token) -> bool {
    token.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<String> {
        let tokens = without_tests(&tokens(text));
        paths(&tokens, &["sink", "queue"]).into_iter().map(|named| named.parts.join("::")).collect()
    }

    #[test]
    fn a_tree_is_spelled_out() {
        let found = named("pub(crate) use crate::{\n  a::{self, B as C, d::*},\n  e,\n};\nuse std::fs;");
        assert_eq!(found, ["crate::a", "crate::a::B", "crate::a::d::*", "crate::e", "std::fs"]);
    }

    #[test]
    fn relative_paths_are_made_absolute() {
        assert_eq!(named("use super::super::config::X;"), ["crate::config::X"]);
        assert_eq!(named("fn f() { super::y::z(); self::w::<u8>(); }"), ["crate::sink::y::z", "crate::sink::queue::w"]);
        assert_eq!(named("use {crate::a, super::b};"), ["crate::a", "crate::sink::b"]);
    }

    #[test]
    fn comments_literals_and_tests_are_no_code() {
        let text = r##"
            // crate::a::b
            /* crate::c /* nested */ crate::d */
            const T: &str = "crate::e \" crate::f"; const R: &str = r#"" crate::g"#; const B: &[u8] = b"crate::h";
            fn f<'a>(x: &'a str) -> char { if x == "'" { '"' } else { '\'' } }
            #[cfg(test)]
            mod tests { use crate::i::J; fn k() { let x = [1; 2]; } }
            #[cfg(test)]
            use crate::l::M;
            fn g() { crate::n::o(); }
        "##;
        assert_eq!(named(text), ["crate::n::o"]);
    }

    #[test]
    fn a_path_knows_its_line() {
        let found = paths(&tokens("use crate::{\n  a,\n  b,\n};\n/*\n*/ crate::c();"), &[]);
        let lines: Vec<usize> = found.iter().map(|named| named.line).collect();
        assert_eq!(lines, [2, 3, 6]);
    }
}
