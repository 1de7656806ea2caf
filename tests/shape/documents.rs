//! Whether the documents tell the truth about what can be looked up: the files and headings that they lead to, the paths, tests,
//! metrics, conditions and alerts that they name.
//!
//! Commands are checked by `tests/cli`, which has the program; the calls of `docs/concepts.md` and the rules for Prometheus by
//! `tests/process`, which has members.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::markdown::{Markdown, anchors};

/// What people read first, beside everything in `docs/`.
const AT_THE_ROOT: [&str; 2] = ["README.md", "CONTRIBUTING.md"];

/// Folders whose files are named by their path from the root.
const FOLDERS: [&str; 6] = ["src/", "tests/", "docs/", "examples/", "charts/", "crds/"];

const ALERTS: &str = "examples/prometheus/alerts.yaml";

/// What Prometheus adds to the name of a histogram.
const PARTS_OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Words of Kubernetes itself, which nothing here defines.
const WORDS_OF_KUBERNETES: [&str; 8] = [
    "CrashLoopBackOff",
    "DiskPressure",
    "MemoryPressure",
    "NotReady",
    "OOMKilled",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "StorageClass",
];

#[test]
fn every_link_of_a_document_leads_to_a_file_and_a_heading_that_exist() {
    let mut wrong = Vec::new();
    for document in documents() {
        for link in document.markdown.links() {
            wrong.extend(document.misled_by(&link).map(|why| format!("{}: {link}: {why}", document.path)));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_path_that_a_document_names_exists() {
    let mut wrong = Vec::new();
    for document in documents().iter().chain(&[alerts()]) {
        let paths = paths_in(&document.text).filter(|path| !root().join(path).exists());
        wrong.extend(paths.map(|path| format!("{}: there is no {path}", document.path)));
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_test_that_a_document_names_is_in_the_file_that_it_names() {
    let functions = functions();
    let (mut wrong, mut named) = (Vec::new(), 0);
    for document in documents() {
        for (file, test) in document.markdown.spans_by_paragraph().iter().flat_map(|spans| tests_named_in(spans)) {
            named += 1;
            let found = functions.iter().any(|(path, names)| {
                file.is_none_or(|file| path.as_str() == file || path.starts_with(&format!("{file}/")))
                    && names.contains(test)
            });
            if !found {
                wrong.push(format!("{}: {test} is not in {}", document.path, file.unwrap_or("src or tests")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(named >= 50, "only {named} tests were found in the documents: are they still looked for?");
}

#[test]
fn every_metric_that_a_document_or_an_alert_names_is_explained() {
    let explained = explained_metrics();
    let mut wrong = Vec::new();
    for document in documents().iter().chain(&[alerts()]) {
        let unknown = metrics_in(&document.text).into_iter().filter(|name| !explained.contains(name.as_str()));
        wrong.extend(unknown.map(|name| format!("{}: docs/metrics.md does not explain {name}", document.path)));
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_condition_reason_and_alert_that_a_runbook_names_is_one_that_is_told() {
    let sources = ["src", "charts", "examples"].into_iter().flat_map(texts_under).map(|(_, text)| text);
    let sources: String = sources.collect();
    let told: BTreeSet<_> = sources.split(|c: char| !c.is_alphanumeric()).collect();
    let mut wrong = Vec::new();
    for document in documents().iter().filter(|document| document.path.starts_with("docs/runbooks/")) {
        let spans = document.markdown.spans_by_paragraph().concat();
        let words = spans.into_iter().filter(|span| is_camel_case(span));
        let unknown = words.filter(|word| !told.contains(word) && !WORDS_OF_KUBERNETES.contains(word));
        wrong.extend(unknown.map(|word| format!("{}: nobody says {word}", document.path)));
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_alert_names_its_runbook_and_every_runbook_has_an_alert() {
    let rules: serde_yaml::Value = serde_yaml::from_str(&alerts().text).unwrap();
    let groups = rules["groups"].as_sequence().unwrap().iter();
    let alerts: Vec<_> = groups.flat_map(|group| group["rules"].as_sequence().unwrap()).collect();
    let mut runbooks = BTreeSet::new();
    for alert in &alerts {
        let (name, runbook) = (alert["alert"].as_str().unwrap(), alert["annotations"]["runbook"].as_str());
        let runbook = runbook.unwrap_or_else(|| panic!("{name} names no runbook"));
        assert!(root().join(runbook).is_file(), "the runbook {runbook} of {name} does not exist");
        runbooks.insert(runbook.to_owned());
    }
    for (path, text) in texts_under("docs/runbooks").into_iter().filter(|(path, _)| !path.ends_with("README.md")) {
        assert!(runbooks.contains(&path), "no alert leads to {path}");
        let named = alerts.iter().filter(|alert| alert["annotations"]["runbook"] == path.as_str());
        let named = named.map(|alert| alert["alert"].as_str().unwrap());
        let unnamed: Vec<_> = named.filter(|name| !text.contains(&format!("`{name}`"))).collect();
        assert!(unnamed.is_empty(), "{path} does not say that it is the runbook of {unnamed:?}");
    }
}

/// A page, with its path from the root of the repository.
struct Document {
    path: String,
    text: String,
    markdown: Markdown,
}

impl Document {
    fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap();
        Self { path: path.to_owned(), markdown: Markdown::parse(&text), text }
    }

    /// Why a link leads nowhere, if it does; links out of the repository are not followed.
    fn misled_by(&self, link: &str) -> Option<String> {
        if link.contains("://") || link.starts_with("mailto:") {
            return None;
        }
        let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
        let here = root().join(&self.path);
        let target = if file.is_empty() { here } else { here.parent().unwrap().join(file) };
        if !target.exists() {
            return Some("there is no such file".to_owned());
        }
        let anchor = anchor?;
        let known = anchors(&fs::read_to_string(target).unwrap());
        (!known.contains(anchor)).then(|| format!("there is no such heading, only {known:?}"))
    }
}

fn documents() -> Vec<Document> {
    let pages = texts_under("docs").into_keys().filter(|path| path.ends_with(".md"));
    let found: Vec<_> = pages.chain(AT_THE_ROOT.map(str::to_owned)).map(|path| Document::read(&path)).collect();
    assert!(found.len() > 10, "where are the documents?");
    found
}

fn alerts() -> Document {
    Document::read(ALERTS)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every text in a folder, by its path from the root.
fn texts_under(folder: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.insert(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text);
            }
        }
    }
    found
}

/// The functions of every Rust file, by its path.
fn functions() -> BTreeMap<String, BTreeSet<String>> {
    let files = texts_under("src").into_iter().chain(texts_under("tests"));
    let rust = files.filter(|(path, _)| Path::new(path).extension().is_some_and(|extension| extension == "rs"));
    rust.map(|(path, text)| {
        let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next()).map(str::to_owned);
        (path, names.collect())
    })
    .collect()
}

/// Paths from the root, wherever they stand in a text. One with a pattern in it is nobody's.
fn paths_in(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || "/._-*#".contains(c)));
    words
        .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)) && !word.contains('*'))
        .map(|word| word.split('#').next().unwrap_or(word).trim_end_matches(['.', '/']))
}

/// The tests among code spans, each with the path before it, if there is one.
fn tests_named_in<'a>(spans: &'a [&'a str]) -> Vec<(Option<&'a str>, &'a str)> {
    let (mut file, mut found) = (None, Vec::new());
    for span in spans {
        if span.starts_with("src/") || span.starts_with("tests/") {
            file = Some(span.trim_end_matches('/'));
        } else if is_test_name(span) {
            found.push((file, *span));
        }
    }
    found
}

/// A test's name is a sentence.
fn is_test_name(span: &str) -> bool {
    let is_snake_case = span.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let is_metric = ["quorate_", "process_", "kube_", "kubelet_"].iter().any(|prefix| span.starts_with(prefix));
    is_snake_case && !is_metric && span.matches('_').count() >= 4
}

fn is_camel_case(span: &str) -> bool {
    let humps = span.chars().filter(char::is_ascii_uppercase).count();
    span.chars().all(|c| c.is_ascii_alphanumeric())
        && span.starts_with(|c: char| c.is_ascii_uppercase())
        && humps >= 2
        && span.chars().any(|c| c.is_ascii_lowercase())
}

fn explained_metrics() -> BTreeSet<&'static str> {
    let lines = include_str!("../../docs/metrics.md").lines();
    lines.filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0)).collect()
}

/// The metrics of members in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names = words.filter(|word| word.starts_with("quorate_"));
    names
        .map(|name| PARTS_OF_HISTOGRAMS.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name).to_owned())
        .collect()
}

#[test]
fn what_is_looked_for_in_a_text_is_found() {
    let text = "See `tests/raft` and tests/kube/run, not tests/*.rs (docs/metrics.md).";
    assert_eq!(paths_in(text).collect::<Vec<_>>(), ["tests/raft", "tests/kube/run", "docs/metrics.md"]);
    let spans = ["tests/a.rs", "one_two_three_four_five", "quorate_a_b_c_d", "get kv", "six_seven_eight_nine_ten"];
    let expected = [(Some("tests/a.rs"), "one_two_three_four_five"), (Some("tests/a.rs"), "six_seven_eight_nine_ten")];
    assert_eq!(tests_named_in(&spans), expected);
    assert_eq!(
        metrics_in("rate(quorate_a_seconds_bucket[5m]) / quorate_b").into_iter().collect::<Vec<_>>(),
        ["quorate_a_seconds", "quorate_b"]
    );
    assert!(is_camel_case("NoQuorum") && !is_camel_case("Ready") && !is_camel_case("TTL") && !is_camel_case("noRoom"));
}

#[test]
fn links_headings_and_spans_are_found_and_code_is_left_alone() {
    let text = "# What it *is*, and why\n\nSee [a](b.md#c), `x[1](2)` and `src/a.rs`:\n`one`.\n\n```sh\n# no heading\n[no](link)\n```\n| `two` | [d](e) |\n";
    let page = Markdown::parse(text);
    assert_eq!(page.blocks("sh"), ["# no heading\n[no](link)\n"]);
    assert_eq!(page.links(), ["b.md#c", "e"]);
    let spans: Vec<_> = page.spans_by_paragraph().into_iter().filter(|spans| !spans.is_empty()).collect();
    assert_eq!(spans, [vec!["x[1](2)", "src/a.rs", "one"], vec!["two"]]);
    assert_eq!(anchors(text).into_iter().collect::<Vec<_>>(), ["what-it-is-and-why"]);
}
