//! Files that are made from the code: each is what the code makes of it now.
//!
//! `QUORATE_REWRITE_GOLDEN=1 cargo test --test generated` makes them again. `crds/` are the CRDs, `docs/resources/reference/` the
//! pages that say the same for people.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod argocd;
mod reference;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use quorate::operator::crds;

/// Compares a folder with what it should hold: these files and no others.
fn compare(folder: &str, expected: &BTreeMap<String, String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    #[expect(clippy::disallowed_methods, reason = "the test's own setting")]
    if std::env::var("QUORATE_REWRITE_GOLDEN").is_ok() {
        fs::create_dir_all(&path).unwrap();
        for (name, text) in expected {
            fs::write(path.join(name), text).unwrap();
        }
    }
    let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for name in &names {
        assert!(expected.contains_key(name), "{folder}/{name} is not made from the code: remove it");
    }
    for (name, text) in expected {
        let there = fs::read_to_string(path.join(name)).unwrap_or_else(|error| panic!("{folder}/{name}: {error}"));
        for (line, (there, now)) in (1..).zip(there.lines().zip(text.lines())) {
            assert_eq!(there, now, "{folder}/{name}:{line}: {ADVICE}");
        }
        assert_eq!(there.len(), text.len(), "{folder}/{name} is longer or shorter than it should be: {ADVICE}");
    }
}

const ADVICE: &str = "the file is on the left, the code on the right; QUORATE_REWRITE_GOLDEN=1 writes the file again";

#[test]
fn the_crds_are_what_quorate_crds_prints() {
    compare("crds", &crds::files());
}

#[test]
fn the_reference_says_what_the_crds_say() {
    let pages = crds::definitions().map(|definition| {
        let definition = serde_json::to_value(definition).unwrap();
        (format!("{}.md", definition["spec"]["names"]["singular"].as_str().unwrap()), reference::page(&definition))
    });
    compare("docs/resources/reference", &pages.into());
}
