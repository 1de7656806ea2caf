//! YAML to resources. Pure: a text comes in, resources and problems go out.
//!
//! Each document of a file stands alone: one that is wrong is told with its number and line, and stops no other. Whatever
//! kubectl would refuse is refused here too: unknown fields, numbers where a text must be, the same key twice.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use kube::core::ObjectMeta;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::quoting::{optional_text, text, texts};
use super::resources::{
    API_VERSION, Fencing, Invalid, LeaderElection, LeaderElectionSpec, LeaderLabel, MirrorLease, ReplicatedConfig,
    ReplicatedConfigSpec,
};
use crate::machine::command::{ConfigDocument, ConfigId, ContestId, ElectionSpec};
use crate::operator::resources;

/// Something that is wrong with what was declared, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub file: PathBuf,
    /// Counted from 1; `None` when the file as a whole is wrong.
    pub document: Option<usize>,
    /// Counted from 1, in the file.
    pub line: Option<usize>,
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(document) = self.document {
            write!(f, ", document {document}")?;
        }
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// A valid resource and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared<Id, Wanted> {
    /// Which Quorate cluster it is for.
    pub cluster: String,
    pub id: Id,
    pub wanted: Wanted,
    pub place: Place,
}

pub type DeclaredConfig = Declared<ConfigId, ConfigDocument>;
pub type DeclaredElection = Declared<ContestId, ElectionSpec>;

/// Where a resource stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    pub document: usize,
    pub line: usize,
}

impl Place {
    /// Something that is wrong with the resource that stands here.
    pub fn problem(&self, what: String) -> Problem {
        Problem { file: self.file.clone(), document: Some(self.document), line: Some(self.line), what }
    }
}

/// What one file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileContent {
    pub configs: Vec<DeclaredConfig>,
    pub elections: Vec<DeclaredElection>,
    pub problems: Vec<Problem>,
    /// The texts of the documents that are wrong: whatever they may be about must be left as it is.
    pub broken: Vec<String>,
}

/// Reads a file's text.
pub fn read(file: &Path, text: &str) -> FileContent {
    let mut content = FileContent::default();
    for (number, (line, document)) in (1..).zip(split(text)) {
        let place = Place { file: file.to_owned(), document: number, line };
        match content.read_document(document, &place) {
            Ok(()) => {}
            Err(problems) => {
                content.problems.extend(problems);
                content.broken.push(document.to_owned());
            }
        }
    }
    content
}

/// The documents of a stream, each with the line on which it begins, without those that are empty. A line that starts with
/// `---` or `...` separates documents wherever it stands (YAML 1.2, section 9.1.2), so one that is broken ends there too.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut begin, mut begin_line, mut offset) = (0, 1, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let end = offset + line.len();
        let marker = line.strip_prefix("---").or_else(|| line.strip_prefix("..."));
        if marker.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            documents.push((begin_line, &text[begin..offset]));
            // What follows on the same line belongs to the document.
            (begin, begin_line) = (offset + 3, number);
        }
        offset = end;
    }
    documents.push((begin_line, &text[begin..]));
    let is_content = |line: &str| !line.trim_start().is_empty() && !line.trim_start().starts_with('#');
    documents.retain(|(_, document)| document.lines().any(is_content));
    for (line, document) in &mut documents {
        let blank = document.lines().take_while(|line| !is_content(line)).count();
        *document = skip_lines(document, blank);
        *line += blank;
    }
    documents
}

fn skip_lines(text: &str, count: usize) -> &str {
    let skipped: usize = text.split_inclusive('\n').take(count).map(str::len).sum();
    &text[skipped..]
}

impl FileContent {
    fn read_document(&mut self, text: &str, place: &Place) -> Result<(), Vec<Problem>> {
        let head: Head = parse(text, place)?;
        let known = head.api_version == API_VERSION;
        match head.kind.as_str() {
            "ReplicatedConfig" if known => {
                let Document { metadata, spec: Config(spec), .. } = parse(text, place)?;
                let cluster = spec.cluster.clone();
                let resource = ReplicatedConfig { metadata: metadata.into_meta(), spec, status: None };
                self.configs.push(declared(cluster, resource.accept(), text, place)?);
            }
            "LeaderElection" if known => {
                let Document { metadata, spec: Election(spec), .. } = parse(text, place)?;
                let cluster = spec.cluster.clone();
                let resource = LeaderElection { metadata: metadata.into_meta(), spec, status: None };
                self.elections.push(declared(cluster, resource.accept(), text, place)?);
            }
            _ => {
                let what = format!(
                    "{:?} of {:?} is not known; allowed: kind ReplicatedConfig or LeaderElection of apiVersion {API_VERSION}",
                    head.kind, head.api_version
                );
                return Err(vec![place.problem(what)]);
            }
        }
        Ok(())
    }
}

fn declared<Id, Wanted>(
    cluster: String,
    accepted: Result<(Id, Wanted), Vec<Invalid>>,
    text: &str,
    place: &Place,
) -> Result<Declared<Id, Wanted>, Vec<Problem>> {
    let problem = |invalid: Invalid| {
        let line = place.line + line_of(text, &invalid.path);
        Problem { line: Some(line), ..place.problem(invalid.to_string()) }
    };
    let (id, wanted) = accepted.map_err(|invalid| invalid.into_iter().map(problem).collect::<Vec<_>>())?;
    Ok(Declared { cluster, id, wanted, place: place.clone() })
}

fn parse<'de, T: Deserialize<'de>>(text: &'de str, place: &Place) -> Result<T, Vec<Problem>> {
    serde_yaml::from_str(text).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line() - 1);
        vec![Problem { line: Some(place.line + line), ..place.problem(message(&error)) }]
    })
}

/// The error without its place, which is told in terms of the file, and without what stands there, which may be a text of a
/// config.
fn message(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    let known = error.location().map(|at| format!(" at line {} column {}", at.line(), at.column()));
    let text = known.and_then(|known| text.strip_suffix(&known).map(str::to_owned)).unwrap_or(text);
    for kind in ["invalid type", "invalid value"] {
        if let Some((path, told)) = text.split_once(&format!("{kind}: ")) {
            let expected = told.rsplit_once(", expected ").map_or("something else", |(_, expected)| expected);
            return format!("{path}{kind}, expected {expected}");
        }
    }
    text
}

/// How many lines into the document the field at `path` stands: the first line with each part of the path in turn, as far
/// as they are found.
fn line_of(text: &str, path: &[String]) -> usize {
    let mut found = 0;
    for part in path {
        let is_field = |line: &str| {
            let rest = line.trim_start().trim_start_matches(['"', '\'']).strip_prefix(part.as_str());
            rest.is_some_and(|rest| rest.trim_start_matches(['"', '\'']).starts_with(':'))
        };
        match text.lines().skip(found).position(is_field) {
            Some(further) => found += further,
            None => break,
        }
    }
    found
}

/// What decides how a document is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(deserialize_with = "text")]
    api_version: String,
    #[serde(deserialize_with = "text")]
    kind: String,
}

/// A resource as people write it, strictly: in a resource that comes from the API server, unknown fields are of a later
/// release; in a file they are mistakes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "some fields are only checked")]
struct Document<Spec> {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
    status: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Config(#[serde(with = "StrictConfig")] ReplicatedConfigSpec);

#[derive(Deserialize)]
struct Election(#[serde(with = "StrictElection")] LeaderElectionSpec);

/// Metadata as people write it, and what `kubectl get -o yaml` adds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "some fields are only checked")]
struct Metadata {
    #[serde(deserialize_with = "text")]
    name: String,
    #[serde(default, deserialize_with = "optional_text")]
    namespace: Option<String>,
    #[serde(default, deserialize_with = "texts")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "texts")]
    annotations: BTreeMap<String, String>,
    creation_timestamp: Option<serde::de::IgnoredAny>,
    finalizers: Option<serde::de::IgnoredAny>,
    generation: Option<serde::de::IgnoredAny>,
    managed_fields: Option<serde::de::IgnoredAny>,
    owner_references: Option<serde::de::IgnoredAny>,
    resource_version: Option<serde::de::IgnoredAny>,
    uid: Option<serde::de::IgnoredAny>,
}

/// [`ReplicatedConfigSpec`], read strictly. The compiler keeps the fields of both the same.
#[derive(Deserialize)]
#[serde(remote = "ReplicatedConfigSpec", rename_all = "camelCase", deny_unknown_fields)]
struct StrictConfig {
    #[serde(default = "resources::default_cluster", deserialize_with = "text")]
    cluster: String,
    #[serde(default, deserialize_with = "texts")]
    data: BTreeMap<String, String>,
    #[serde(default)]
    schema: Option<Map<String, Value>>,
    #[serde(default = "resources::default_history_limit")]
    history_limit: i32,
    #[serde(default)]
    rollback_to: Option<i64>,
}

/// [`LeaderElectionSpec`], read strictly.
#[derive(Deserialize)]
#[serde(remote = "LeaderElectionSpec", rename_all = "camelCase", deny_unknown_fields)]
struct StrictElection {
    #[serde(default = "resources::default_cluster", deserialize_with = "text")]
    cluster: String,
    #[serde(default = "resources::default_seats")]
    seats: i32,
    #[serde(default, deserialize_with = "optional_text")]
    session_ttl: Option<String>,
    // These are for the API server's objects; a folder has none, so they are read and do nothing.
    #[serde(default)]
    leader_label: Option<LeaderLabel>,
    #[serde(default)]
    mirror_lease: Option<MirrorLease>,
    #[serde(default)]
    fencing: Option<Fencing>,
}

impl Metadata {
    fn into_meta(self) -> ObjectMeta {
        ObjectMeta { name: Some(self.name), namespace: self.namespace, ..ObjectMeta::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        read(Path::new("web.yaml"), text).problems.iter().map(ToString::to_string).collect()
    }

    const GOOD: &str = "apiVersion: quorate.io/v1alpha1\nkind: ReplicatedConfig\nmetadata:\n  name: web\n";

    #[test]
    fn several_documents_in_a_file_are_read_each_with_its_line() {
        let text = format!(
            "# a comment\n---\n{GOOD}spec: {{}}\n---\n\n# another\n---\n{GOOD}  namespace: shop\nspec:\n  data:\n    a: \"1\"\n"
        );
        let content = read(Path::new("web.yaml"), &text);
        assert_eq!(content.problems, []);
        let names: Vec<_> = content.configs.iter().map(|declared| declared.id.to_string()).collect();
        assert_eq!(names, ["default/web", "shop/web"]);
        let places: Vec<_> =
            content.configs.iter().map(|declared| (declared.place.document, declared.place.line)).collect();
        assert_eq!(places, [(1, 3), (2, 12)]);
    }

    #[test]
    fn what_is_wrong_is_told_with_document_and_line() {
        let wrong = [
            ("kind: x\n", "document 1, line 1: missing field `apiVersion`"),
            (
                "apiVersion: v1\nkind: ConfigMap\n",
                "document 1, line 1: \"ConfigMap\" of \"v1\" is not known; allowed: ",
            ),
            (
                &format!("{GOOD}spec:\n  data:\n    port: 8080\n"),
                "line 7: spec.data.port: a number where a text must be",
            ),
            (&format!("{GOOD}spec:\n  data:\n    on: true\n"), "line 7: spec.data.on: true or false where a text"),
            (&format!("{GOOD}spec:\n  data:\n    a:\n"), "line 7: spec.data.a: nothing where a text must be"),
            (
                &format!("{GOOD}spec:\n  dat: {{}}\n"),
                "line 6: spec: unknown field `dat`, expected one of `cluster`, `data`",
            ),
            (&format!("{GOOD}  nmae: x\nspec: {{}}\n"), "metadata: unknown field `nmae`"),
            (&format!("{GOOD}spec:\n  data: {{}}\n  data: {{}}\n"), "duplicate field `data`"),
            (&format!("{GOOD}spec:\n  data:\n    a: x\n    a: y\n"), "\"a\" comes twice"),
            (&format!("{GOOD}spec:\n  historyLimit: many\n"), "line 6: spec.historyLimit: invalid type"),
            (&format!("{GOOD}spec:\n  historyLimit: 101\n"), "line 6: spec.historyLimit: it must be between 1 and 100"),
            (&format!("{GOOD}spec:\n  data:\n    a/b: x\n"), "line 7: spec.data.a/b: data key \"a/b\" is not valid"),
            (&format!("{GOOD}spec:\n  data:\n    a: [\n"), "line 8: "),
            (&format!("{GOOD}spec:\n\tdata: x\n"), "line 6: "),
            (&GOOD.replace("web", "Web"), "missing field `spec`"),
            (
                &format!("{}spec: {{}}\n", GOOD.replace("web", "Web")),
                "line 4: metadata.name: config name \"Web\" is not valid",
            ),
            ("just text\n", "document 1, line 1: invalid type, expected struct Head"),
            (
                &format!("{GOOD}spec:\n  data: hunter2\n"),
                "spec.data: invalid type, expected a mapping of names to texts",
            ),
            (&format!("{GOOD}spec:\n  data: [a, hunter2]\n"), "spec.data: invalid type, expected a mapping of names"),
            (
                &format!("{GOOD}spec:\n  schema: \"hunter2, expected it\"\n"),
                "spec.schema: invalid type, expected a map",
            ),
        ];
        for (text, expected) in wrong {
            let problems = problems(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].starts_with("web.yaml, document 1, line "), "{text}: {problems:?}");
            assert!(problems[0].contains(expected), "{text}: {problems:?}");
            assert!(!problems[0].contains("hunter2"), "{problems:?}");
        }
    }

    #[test]
    fn a_broken_document_stops_no_other_and_leaves_its_text() {
        let text = format!(
            "{GOOD}spec: {{}}\n---\n{}spec: [\n---\n{}spec: {{}}\n",
            GOOD.replace("web", "bad"),
            GOOD.replace("web", "good")
        );
        let content = read(Path::new("web.yaml"), &text);
        let names: Vec<_> = content.configs.iter().map(|declared| declared.id.name.as_str()).collect();
        assert_eq!(names, ["web", "good"]);
        assert_eq!(content.problems.len(), 1, "{:?}", content.problems);
        assert_eq!(content.problems[0].document, Some(2));
        assert!(content.broken[0].contains("name: bad"));
    }

    #[test]
    fn a_text_that_does_not_meet_its_schema_is_told_with_the_line_of_its_key() {
        let text = format!(
            "---\n{GOOD}spec:\n  schema:\n    type: object\n  data:\n    first.yaml: \"{{}}\"\n    \"second.yaml\": |\n      - 1\n"
        );
        assert_eq!(problems(&text).len(), 1);
        assert!(
            problems(&text)[0]
                .starts_with("web.yaml, document 1, line 11: spec.data.second.yaml: it does not meet the schema"),
            "{:?}",
            problems(&text)
        );
    }

    #[test]
    fn an_election_stands_beside_configs_and_is_read_as_strictly() {
        let head = GOOD.replace("ReplicatedConfig", "LeaderElection");
        let content = read(
            Path::new("web.yaml"),
            &format!("{GOOD}spec: {{}}\n---\n{head}spec:\n  seats: 3\n  sessionTtl: 10s\n"),
        );
        assert_eq!(content.problems, []);
        assert_eq!((content.configs.len(), content.elections[0].wanted.seats), (1, 3));
        for (spec, expected) in [
            ("seats: 0", "line 6: spec.seats: it must be between 1 and 1000"),
            ("sessionTtl: 10", "spec.sessionTtl: a number where a text must be"),
            ("sessionTtl: 1ms", "line 6: spec.sessionTtl: \"1ms\" is not allowed; allowed: 500ms to 24h"),
            ("seat: 1", "unknown field `seat`, expected one of `cluster`, `seats`, `sessionTtl`"),
        ] {
            let problems = problems(&format!("{head}spec:\n  {spec}\n"));
            assert!(problems[0].contains(expected), "{problems:?}");
        }
    }

    #[test]
    fn what_kubectl_prints_is_read_back() {
        let text = format!(
            "{GOOD}  uid: 1-2\n  generation: 3\n  resourceVersion: \"5\"\n  creationTimestamp: null\nspec: {{}}\nstatus:\n  x: 1\n"
        );
        assert_eq!(problems(&text), [] as [String; 0]);
    }

    #[test]
    fn nothing_in_a_file_makes_the_reader_panic() {
        let deep = "[".repeat(5_000);
        let laughs = "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n<<: *a\n";
        for text in [
            "",
            "\n\n",
            "---",
            "---\n---\n...\n",
            "\u{feff}kind: x",
            "é: [",
            "--- x",
            "%YAML 9.9\n---\n",
            &deep,
            laughs,
        ] {
            let content = read(Path::new("web.yaml"), text);
            assert_eq!(content.configs, []);
        }
    }
}
