//! Reads Rust just well enough to see what a file names: comments and texts are dropped, the rest is words and marks.

use std::collections::BTreeSet;

pub type ModuleName = &'static str;
pub type CrateName = &'static str;

/// The words (identifiers and keywords), `::` and single other characters of a source text, in order.
pub fn words(source: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_text(rest) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(length);
        let is_text = word.len() > 1 && word.contains(['"', '\'', '/']);
        if !is_text && !first.is_whitespace() {
            words.push(word.to_owned());
        }
        rest = after;
    }
    words
}

/// The length of the comment at the start of `rest`; comments nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let left = &rest.as_bytes()[at..];
        if left.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if left.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of the raw text (`r"..."`, `br#"..."#`) at the start of `rest`, if there is one.
fn raw_text(rest: &str) -> Option<usize> {
    let marks = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = marks.len() - marks.trim_start_matches('#').len();
    let content = marks[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - content.len();
    Some(content.find(&end).map_or(rest.len(), |at| start + at + end.len()))
}

/// Whether the apostrophe at the start of `rest` begins a character and not a lifetime.
fn is_character(rest: &str) -> bool {
    let mut following = rest.chars().skip(1);
    match following.next() {
        Some('\\') => true,
        Some(_) => following.next() == Some('\''),
        None => false,
    }
}

/// The length of the text or character at the start of `rest`.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The top-level modules that paths in `words` go through: after `crate::`, or after as many `super::` as it takes to climb
/// out of a file that stands `depth` modules deep. Names that are no modules (a macro at the root) are the caller's to
/// sort out.
pub fn imported_modules(words: &[String], depth: usize) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for start in 0..words.len() {
        let mut next = start;
        let mut climbed = 0;
        while words[next..].starts_with(&["super".to_owned(), "::".to_owned()]) {
            climbed += 1;
            next += 2;
        }
        if words[next..].starts_with(&["crate".to_owned(), "::".to_owned()]) {
            climbed = depth;
            next += 2;
        }
        if climbed >= depth {
            modules.extend(first_words_of_tree(&words[next..]));
        }
    }
    modules
}

/// The first words of a path or of every path in a group: of `{a::b, c::{d}}`, `a` and `c`.
fn first_words_of_tree(words: &[String]) -> Vec<String> {
    if words.first().is_none_or(|word| word != "{") {
        return words.first().cloned().into_iter().collect();
    }
    let mut firsts = Vec::new();
    let mut depth = 0;
    for pair in words.windows(2) {
        match pair[0].as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && (pair[0] == "{" || pair[0] == ",") && pair[1] != "}" {
            firsts.push(pair[1].clone());
        }
    }
    firsts
}

/// The words that may name a crate: those that begin a path.
pub fn named_crates(words: &[String]) -> BTreeSet<String> {
    let begins_path = |at: usize| match at.checked_sub(1).map(|before| words[before].as_str()) {
        // A leading `::` begins a path unless it continues one.
        Some("::") => at < 2 || !words[at - 2].starts_with(|c: char| c.is_alphanumeric() || "_>})".contains(c)),
        _ => true,
    };
    let is_path = |at: usize| {
        words.get(at + 1).is_some_and(|next| next == "::")
            || at.checked_sub(1).is_some_and(|before| words[before] == "use" || words[before] == "crate")
    };
    (0..words.len()).filter(|at| begins_path(*at) && is_path(*at)).map(|at| words[at].clone()).collect()
}
