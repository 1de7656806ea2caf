//! What the checkers of charts and objects say.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helm::{CASES, CHART, ROOT, built, documents, file, rendered, word};

/// The releases of Kubernetes whose schemas every object meets.
const RELEASES: [&str; 5] = ["1.33.0", "1.34.0", "1.35.0", "1.36.0", "1.37.0"];

/// What kube-score asks for and does not get.
const EXCEPTIONS: [&str; 5] = [
    // A throttled member misses heartbeats, and the others elect.
    "--ignore-container-cpu-limit",
    // A member must come back while the registry is away, and on nodes into which its image was loaded.
    "--ignore-test=container-image-pull-policy",
    // It is a value, off until a network that enforces it is part of the tests; pods of hooks listen on nothing.
    "--ignore-test=pod-networkpolicy",
    // The rest asks for more than kube-score does by itself.
    "--enable-optional-test=container-seccomp-profile",
    "--enable-optional-test=container-ports-check",
];

#[test]
fn helm_has_nothing_to_warn_of() {
    for arguments in CASES {
        built("helm", &[&["lint", "--strict", CHART], arguments].concat(), "").unwrap();
    }
}

#[test]
fn every_object_is_what_each_release_of_kubernetes_knows_field_by_field() {
    let objects = CASES.map(|arguments| rendered(&[arguments, &["--include-crds"]].concat()).unwrap()).concat();
    for release in RELEASES {
        Conform::to(release).check(&objects).unwrap();
    }
}

#[test]
fn a_field_that_nobody_knows_is_noticed_wherever_it_is() {
    let conform = Conform::to(RELEASES[0]);
    let right = rendered(&[]).unwrap();
    for (field, typo) in
        [("podManagementPolicy:", "podManagmentPolicy:"), ("runAsNonRoot:", "runAsNonroot:"), ("voters:", "votes:")]
    {
        let said = conform.check(&right.replace(field, typo)).unwrap_err();
        assert!(said.contains(typo.trim_end_matches(':')), "{said}");
    }
}

/// What values have of Kubernetes, by its place in the schema of the values.
const OF_KUBERNETES: [(&str, &str); 12] = [
    ("/properties/affinity", "api.core.v1.Affinity"),
    ("/properties/affinity/properties/nodeAffinity", "api.core.v1.NodeAffinity"),
    ("/properties/tolerations/items", "api.core.v1.Toleration"),
    ("/properties/topologySpreadConstraints/items", "api.core.v1.TopologySpreadConstraint"),
    ("/definitions/podAffinity", "api.core.v1.PodAntiAffinity"),
    ("/definitions/podAffinityTerm", "api.core.v1.PodAffinityTerm"),
    ("/definitions/nodeSelectorTerm", "api.core.v1.NodeSelectorTerm"),
    ("/definitions/nodeRequirements/items", "api.core.v1.NodeSelectorRequirement"),
    ("/definitions/labelSelector", "apimachinery.pkg.apis.meta.v1.LabelSelector"),
    (
        "/definitions/labelSelector/properties/matchExpressions/items",
        "apimachinery.pkg.apis.meta.v1.LabelSelectorRequirement",
    ),
    ("/definitions/peers/items", "api.networking.v1.NetworkPolicyPeer"),
    ("/definitions/peers/items/properties/ipBlock", "api.networking.v1.IPBlock"),
];

#[test]
fn values_may_have_what_the_newest_release_of_kubernetes_has_of_the_same_kind() {
    let newest = format!("v{}-local-strict/_definitions.json", RELEASES[RELEASES.len() - 1]);
    let known: Value = serde_json::from_str(&fs::read_to_string(installed_schemas().join(newest)).unwrap()).unwrap();
    let schema: Value = serde_json::from_str(&file("charts/quorate/values.schema.json")).unwrap();
    let names = |object: &Value| object["properties"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    for (place, kind) in OF_KUBERNETES {
        let kind = &known["$defs"][format!("io.k8s.{kind}")];
        assert_eq!(names(schema.pointer(place).unwrap()), names(kind), "{place}");
    }
}

#[test]
fn kube_score_finds_nothing_but_what_is_meant() {
    // The last case leaves the user to OpenShift, which kube-score does not know of.
    for arguments in &CASES[..CASES.len() - 1] {
        let options = [&["score", "--exit-one-on-warning", "--kubernetes-version=v1.33"][..], &EXCEPTIONS, &["-"]];
        built("kube-score", &options.concat(), &rendered(arguments).unwrap()).unwrap();
    }
}

/// kubeconform with the schemas of one release of Kubernetes and of the chart's CRDs.
struct Conform {
    schemas: TempDir,
    release: &'static str,
}

impl Conform {
    fn to(release: &'static str) -> Self {
        let conform = Self { schemas: tempfile::tempdir().unwrap(), release };
        let folder = installed_schemas().join(format!("v{release}-local-strict"));
        for file in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let file = file.unwrap();
            let schema = fs::read_to_string(file.path()).unwrap();
            // They name each other by addresses in the network, where nobody is to look.
            let local =
                schema.replace("\"/api/_definitions.json", "\"_definitions.json").replace("\"$id\"", "\"$comment\"");
            fs::write(conform.schemas.path().join(file.file_name()), local).unwrap();
        }
        definitions().iter().for_each(|definition| conform.add(definition));
        conform
    }

    /// Adds what a CRD says of its kind, as a schema that knows nothing else.
    fn add(&self, definition: &Value) {
        let spec = &definition["spec"];
        let version = &spec["versions"][0];
        let mut schema = version["schema"]["openAPIV3Schema"].clone();
        for name in ["apiVersion", "kind", "metadata"] {
            schema["properties"][name] = json!({});
        }
        close(&mut schema);
        let (group, _) = word(&spec["group"]).split_once('.').unwrap();
        let kind = word(&spec["names"]["kind"]).to_lowercase();
        let name = format!("{kind}-{group}-{}.json", word(&version["name"]));
        fs::write(self.schemas.path().join(name), schema.to_string()).unwrap();
    }

    fn check(&self, objects: &str) -> Result<(), String> {
        let version = format!("-kubernetes-version={}", self.release);
        let schemas = self.schemas.path().join("{{.ResourceKind}}{{.KindSuffix}}.json");
        let location = format!("-schema-location={}", schemas.display());
        // The Prometheus Operator's own kind, which Kubernetes does not know.
        let skip = "-skip=ServiceMonitor";
        let said = built("kubeconform", &["-strict", "-summary", &version, skip, &location], objects)?;
        if said.contains("Invalid: 0, Errors: 0") { Ok(()) } else { Err(said) }
    }
}

/// The CRDs that come with the chart.
fn definitions() -> Vec<Value> {
    let mut files: Vec<_> =
        fs::read_dir(Path::new(ROOT).join(CHART).join("crds")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|path| documents(&file(path.to_str().unwrap()))).collect()
}

/// Lets every object of a schema have only the properties that it names.
fn close(schema: &mut Value) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().filter(|property| **property != json!({})).for_each(close);
        schema["additionalProperties"] = false.into();
    }
    if let Some(items) = schema.get_mut("items") {
        close(items);
    }
}

/// Where the schemas of all releases are.
fn installed_schemas() -> PathBuf {
    let libraries = fs::read_dir(Path::new(ROOT).join("target/tools/lib"));
    let mut pythons = libraries.into_iter().flatten().map(|python| python.unwrap().path());
    let schemas = |python: PathBuf| {
        let schemas = python.join("site-packages/kubernetes_validate/kubernetes-json-schema");
        schemas.is_dir().then_some(schemas)
    };
    pythons.find_map(schemas).expect("the schemas are not installed: run `make chart`")
}
