//! Helm and the other programs that look at the chart, and what they print.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

/// Where everything is.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

pub const CHART: &str = "charts/quorate";

/// Values that are all something else than the default.
pub const EVERYTHING: &str = "tests/chart/everything.yaml";

/// The namespace that the release `quorate` is rendered for.
pub const NAMESPACE: &str = "team";

/// Ways to set the values that together show every line of the templates.
pub const CASES: [&[&str]; 4] = [
    &[],
    &["--values", EVERYTHING],
    &["--values", EVERYTHING, "--set", "crds.upgrade=true,image.digest="],
    &[
        "--set",
        "voters=1",
        "--set-json",
        "podSecurityContext={\"runAsUser\":null,\"runAsGroup\":null,\"fsGroup\":null}",
    ],
];

/// Where the programs are, which are built when they are not there.
static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let build = |name| run("tests/kube/cluster/build.sh", &[name], "").unwrap();
    let folders = ["helm", "kubeconform", "kube-score"].map(build);
    folders[0].trim_end().into()
});

/// Runs a program in the root of the repository. The result is what it printed: its output, or all of it when it failed.
pub fn run(program: impl AsRef<Path>, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut command = Command::new(program.as_ref());
    // No cluster that somebody happens to use.
    command.args(arguments).current_dir(ROOT).env("KUBECONFIG", "/dev/null");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.as_ref().display()));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if status.success() { Ok(text(stdout)) } else { Err(text(stdout) + &text(stderr)) }
}

/// Runs one of the programs that are built for this ring.
pub fn built(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    run(PROGRAMS.join(program), arguments, input)
}

/// What Helm makes of the chart for the release `quorate`, as text.
pub fn rendered(arguments: &[&str]) -> Result<String, String> {
    template("quorate", CHART, arguments)
}

/// What Helm makes of a chart.
pub fn template(release: &str, chart: &str, arguments: &[&str]) -> Result<String, String> {
    built("helm", &[&["template", release, chart, "--namespace", NAMESPACE], arguments].concat(), "")
}

/// What Helm makes of the chart for the release `quorate`: every object by its kind and name.
pub fn objects(arguments: &[&str]) -> BTreeMap<String, Value> {
    let mut objects = BTreeMap::new();
    for object in documents(&rendered(arguments).unwrap()) {
        let name = format!("{}/{}", word(&object["kind"]), word(&object["metadata"]["name"]));
        assert!(objects.insert(name.clone(), object).is_none(), "{name} is there twice");
    }
    objects
}

pub fn documents(yaml: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(yaml).map(|document| Value::deserialize(document).unwrap());
    documents.filter(|document| !document.is_null()).collect()
}

/// A file of the repository.
pub fn file(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
