//! What is made from something else, and must be the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::helm::{CHART, EVERYTHING, ROOT, built, documents, file, run, template};

/// The files of a folder, by their names.
fn folder(path: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let files = files.map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap())).collect()
}

/// That files are what they are made from; the first line that is not is told.
fn same(files: &BTreeMap<String, String>, made: &BTreeMap<String, String>) {
    assert!(files.keys().eq(made.keys()), "{:?}, made are {:?}", files.keys(), made.keys());
    for ((name, file), made) in files.iter().zip(made.values()) {
        for (line, made) in file.lines().zip(made.lines()) {
            assert_eq!(line, made, "{name}: `make manifests` writes it anew");
        }
        assert!(file == made, "{name}: one is longer; `make manifests` writes it anew");
    }
}

#[test]
fn the_manifests_are_the_chart_with_its_default_values() {
    let made = tempfile::tempdir().unwrap();
    run("charts/manifests.sh", &[made.path().to_str().unwrap()], "").unwrap();
    let committed = folder(&Path::new(ROOT).join("manifests"));
    same(&committed, &folder(made.path()));
    let listed = &documents(&committed["kustomization.yaml"])[0]["resources"];
    let others: Vec<_> = committed.keys().filter(|name| *name != "kustomization.yaml").collect();
    assert_eq!(listed, &Value::from_iter(others.into_iter().cloned()), "what the kustomization lists");
}

#[test]
fn the_charts_crds_are_those_of_the_repository() {
    let [own, copies] = ["crds", "charts/quorate/crds"].map(|path| folder(&Path::new(ROOT).join(path)));
    same(&copies, &own);
}

#[test]
fn chart_and_program_have_one_version() {
    let chart = &documents(&file("charts/quorate/Chart.yaml"))[0];
    for version in ["version", "appVersion"] {
        assert_eq!(chart[version], env!("CARGO_PKG_VERSION"), "{version}");
    }
}

#[test]
fn a_package_of_the_chart_is_the_chart() {
    let place = tempfile::tempdir().unwrap();
    let destination = place.path().to_str().unwrap();
    built("helm", &["package", CHART, "--destination", destination], "").unwrap();
    let package = format!("{destination}/quorate-{}.tgz", env!("CARGO_PKG_VERSION"));
    let arguments = ["--values", EVERYTHING, "--include-crds"];
    assert_eq!(template("quorate", &package, &arguments), template("quorate", CHART, &arguments));
    let listing = run("tar", &["--list", "--file", &package], "").unwrap();
    for part in ["values.yaml", "values.schema.json", "templates/NOTES.txt", "crds/quorateclusters.yaml"] {
        assert!(listing.lines().any(|line| line == format!("quorate/{part}")), "{part} is not in {listing}");
    }
}
