//! What a dependency must be: free to use under the licences of `deny.toml`, from the registry, and there only once when
//! its types cross our own borders.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// Crates whose values or traits our layers hand to one another; two versions would not fit together.
const ONCE: &[&str] = &[
    "axum",
    "bytes",
    "http",
    "hyper",
    "imbl",
    "openraft",
    "redb",
    "reqwest",
    "rustls",
    "serde",
    "serde_json",
    "tokio",
];

#[test]
fn every_dependency_has_an_allowed_licence() {
    let allowed = allowed_licences();
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or("none stated");
        assert!(
            is_allowed(licence, &allowed),
            "{} {} is under {licence}, which deny.toml does not allow",
            package["name"],
            package["version"]
        );
    }
}

#[test]
fn every_dependency_comes_from_the_registry() {
    for package in packages() {
        let source = package["source"].as_str();
        let is_registry = source.is_some_and(|source| source.starts_with("registry+"));
        assert!(is_registry || package["name"] == "quorate", "{} comes from {source:?}", package["name"]);
    }
}

#[test]
fn no_crate_whose_types_cross_our_borders_is_there_twice() {
    let mut versions = BTreeMap::<String, Vec<String>>::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap().to_owned();
        versions.entry(name).or_default().push(package["version"].to_string());
    }
    for name in ONCE {
        assert!(versions[*name].len() == 1, "{name} is there in versions {:?}", versions[*name]);
    }
}

#[test]
fn an_expression_of_licences_is_read_as_it_is_meant() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned()];
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT AND ISC", "(GPL-3.0 OR MIT) AND ISC", "GPL-3.0/MIT"] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR BSD) AND ISC", "none stated", "MIT WITH exception"] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}

/// Everything that is compiled into Quorate or its tests on this platform.
fn packages() -> Vec<Value> {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The list `allow` of the table `[licenses]` in `deny.toml`.
fn allowed_licences() -> Vec<String> {
    let text = include_str!("../../deny.toml");
    let (_, list) = text.split_once("allow = [").unwrap();
    let (list, _) = list.split_once("\n]").unwrap();
    let lines = list.lines().map(str::trim).filter(|line| line.starts_with('"'));
    lines.map(|line| line.trim_matches(['"', ',']).to_owned()).collect()
}

/// Whether one may choose the licences of an SPDX expression so that all of them are allowed. `/` is an old `OR`.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let (all, rest) = any_of(&words, allowed);
    all && rest.is_empty()
}

/// `a OR b`, with what follows it.
fn any_of<'a>(words: &'a [&'a str], allowed: &[String]) -> (bool, &'a [&'a str]) {
    let (mut holds, mut rest) = all_of(words, allowed);
    while let ["OR", after @ ..] = rest {
        let (other, after) = all_of(after, allowed);
        (holds, rest) = (holds || other, after);
    }
    (holds, rest)
}

/// `a AND b`, which binds closer.
fn all_of<'a>(words: &'a [&'a str], allowed: &[String]) -> (bool, &'a [&'a str]) {
    let (mut holds, mut rest) = one(words, allowed);
    while let ["AND", after @ ..] = rest {
        let (other, after) = one(after, allowed);
        (holds, rest) = (holds && other, after);
    }
    (holds, rest)
}

/// A licence, perhaps with an exception, or a group in brackets.
fn one<'a>(words: &'a [&'a str], allowed: &[String]) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => {
            let (holds, rest) = any_of(inner, allowed);
            (holds, rest.strip_prefix(&[")"]).unwrap_or(rest))
        }
        [licence, "WITH", exception, rest @ ..] => (allowed.contains(&format!("{licence} WITH {exception}")), rest),
        [licence, rest @ ..] => (allowed.iter().any(|one| one == licence), rest),
        [] => (false, words),
    }
}
