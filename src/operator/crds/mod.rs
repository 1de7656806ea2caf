//! The CRDs: made from the types in `resources/`, printed for people and for `crds/`, and brought to the API server.
//!
//! Read next: `apply.rs` (server-side apply, and the wait until they are served).

mod apply;

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use super::resources::{LeaderElection, QuorateCluster, ReplicatedConfig};

pub use apply::{Applied, ApplyError, Change, apply};

/// The release that a CRD is of, as an annotation.
const RELEASE: &str = "quorate.io/release";
const THIS_RELEASE: &str = env!("CARGO_PKG_VERSION");

/// All of them, in the order of their names.
pub fn definitions() -> [CustomResourceDefinition; 3] {
    [LeaderElection::crd(), QuorateCluster::crd(), ReplicatedConfig::crd()].map(finished)
}

/// Each CRD as YAML, by the name of its file.
pub fn files() -> BTreeMap<String, String> {
    let file = |definition: CustomResourceDefinition| {
        let mut value = serde_json::to_value(&definition).expect("a CRD is JSON");
        write_whole(&mut value);
        let yaml = serde_yaml::to_string(&value).expect("JSON is YAML");
        // Without quotes, some programs would take it for a time instead of a text.
        let yaml = yaml.replace(" 1970-01-01T00:00:00Z\n", " \"1970-01-01T00:00:00Z\"\n");
        (format!("{}.yaml", definition.spec.names.plural), format!("{HEADING}{yaml}"))
    };
    definitions().map(file).into()
}

/// What stands above every CRD, for whoever would like to change it.
const HEADING: &str = "\
# Made by `quorate crds` from src/operator/resources/ of Quorate; a change here is lost. `quorate crds apply` brings the CRDs to
# the API server that kubectl uses.
";

/// What `kube` does not do: the release, and descriptions whose lines end where their paragraphs end.
fn finished(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let release = [(RELEASE.to_owned(), THIS_RELEASE.to_owned())];
    definition.metadata.annotations = Some(release.into());
    definition.metadata.labels = Some([("app.kubernetes.io/part-of".to_owned(), "quorate".to_owned())].into());
    let mut value = serde_json::to_value(&definition).expect("a CRD is JSON");
    join_lines(&mut value);
    serde_json::from_value(value).expect("it is a CRD still")
}

fn join_lines(value: &mut Value) {
    for_each(value, &mut |name, field| {
        if let ("description", Value::String(text)) = (name, field) {
            *text = paragraphs(text);
        }
    });
}

/// Bounds are fractions in the type of CRDs; as the API server gives them back they are whole numbers.
fn write_whole(value: &mut Value) {
    for_each(value, &mut |_, field| {
        #[expect(clippy::cast_possible_truncation, reason = "a bound is a whole number of less than 53 bits")]
        if let Some(number) = field.as_f64().filter(|number| field.is_f64() && number.fract() == 0.0) {
            *field = Value::from(number as i64);
        }
    });
}

/// Every field of every object in it, with its name.
fn for_each(value: &mut Value, change: &mut impl FnMut(&str, &mut Value)) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                change(name, field);
                for_each(field, change);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| for_each(item, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn paragraphs(text: &str) -> String {
    text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_has_a_line_for_each_paragraph() {
        assert_eq!(paragraphs("one\ntwo\n\nthree\nfour"), "one two\n\nthree four");
        for (name, yaml) in files() {
            assert!(yaml.starts_with("# Made by") && !yaml.contains("Auto-generated"), "{name}: {yaml}");
        }
    }

    #[test]
    fn every_text_list_and_number_has_a_bound() {
        for definition in definitions() {
            let schema = serde_json::to_value(&definition.spec.versions[0].schema).expect("JSON");
            let mut unbounded = Vec::new();
            find_unbounded("", &schema["openAPIV3Schema"], &mut unbounded);
            assert_eq!(unbounded, Vec::<String>::new(), "{:?}", definition.metadata.name);
        }
    }

    fn find_unbounded(path: &str, schema: &Value, unbounded: &mut Vec<String>) {
        let has = |bound: &str| !schema[bound].is_null();
        let bounded = match schema["type"].as_str() {
            Some("string") => has("maxLength") || has("enum") || schema["format"] == "date-time",
            Some("array") => has("maxItems"),
            Some("integer") => has("minimum") && (has("maximum") || path.ends_with("Generation")),
            Some("object") => has("properties") || has("maxProperties"),
            Some(_) | None => schema["type"] == "boolean",
        };
        let described = has("description") || path.is_empty() || path.ends_with("[]");
        if !bounded || !described {
            unbounded.push(path.to_owned());
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            if path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
                continue;
            }
            find_unbounded(&format!("{path}.{name}"), property, unbounded);
        }
        for (name, inner) in [("[]", &schema["items"]), ("[]", &schema["additionalProperties"])] {
            if inner.is_object() {
                find_unbounded(&format!("{path}{name}"), inner, unbounded);
            }
        }
    }
}
