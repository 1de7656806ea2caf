//! Whether every command that a document shows is one that the program knows, with its flags and the form of its values.

use std::fs;
use std::path::{Path, PathBuf};

use crate::markdown::Markdown;
use crate::{quorate, run};

/// How a line of a script, or what is before a command in it, shows that `quorate` is the program and not a name.
const BEFORE: [&str; 3] = ["-- quorate ", "target/debug/quorate ", "target/release/quorate "];

/// What ends a command in a script.
const AFTER: [&str; 8] = [" -- ", " | ", " > ", " && ", " || ", " #", ";", ")"];

#[test]
fn every_command_that_a_document_shows_is_one_that_the_program_knows() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for path in documents() {
        for command in commands(&fs::read_to_string(&path).unwrap()) {
            seen += 1;
            // It is read up to there, and not carried out.
            let arguments: Vec<_> = command.iter().map(String::as_str).chain(["--help"]).collect();
            let (code, message) = run(&mut quorate(&arguments));
            if code != 0 {
                wrong.push(format!("{}: {}: {message}", path.display(), command.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(seen >= 40, "only {seen} commands were found in the documents: are they still looked for?");
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "md" => found.push(path),
                Some(_) | None => {}
            }
        }
    }
    found
}

/// The arguments of every command: in the scripts, and in spans of code that begin with the program's name. What is
/// abbreviated is left out.
fn commands(text: &str) -> Vec<Vec<String>> {
    let page = Markdown::parse(text);
    let scripts = page.blocks("sh").concat().replace("\\\n", " ");
    let mut found: Vec<String> = Vec::new();
    for line in scripts.lines() {
        let begins = BEFORE.iter().flat_map(|before| line.match_indices(before).map(|(at, it)| at + it.len()));
        found.extend(begins.map(|at| line[at..].to_owned()));
        found.extend(line.strip_prefix("quorate ").map(str::to_owned));
    }
    let spans = page.spans_by_paragraph().concat();
    found.extend(spans.into_iter().filter_map(|span| span.strip_prefix("quorate ")).map(str::to_owned));
    let whole = found
        .iter()
        .map(|line| AFTER.iter().filter_map(|end| line.find(end)).min().map_or(&**line, |end| &line[..end]));
    whole.filter(|command| !command.contains("...")).map(words).collect()
}

/// The words of a command, as a shell would divide them.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in command.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            Some(_) | None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn commands_are_found_in_scripts_and_spans_and_divided_into_words() {
    let text = "Run `quorate status`, not `quorate get ... --stale`.\n\n```sh\nkubectl --namespace quorate get qc\n\
                kubectl exec quorate-0 -- quorate get kv --prefix '' \\\n  --stale > a.json\n\
                target/debug/quorate put kv \"a b\" c   # why\nquorate run --election a/b -- ./c.sh\n```\n";
    let found = commands(text);
    let expected: [&[&str]; 4] = [
        &["get", "kv", "--prefix", "", "--stale"],
        &["put", "kv", "a b", "c"],
        &["run", "--election", "a/b"],
        &["status"],
    ];
    assert_eq!(found, expected);
}
