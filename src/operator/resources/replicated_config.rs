//! `ReplicatedConfig`: one document of texts, replicated to every member and pushed to who watches it.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Check, Invalid};
use crate::machine::command::{ConfigDocument, ConfigId};
use crate::types::{ConfigName, DocumentKey, Namespace, Version};

/// One replicated configuration document.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "quorate.io",
    version = "v1alpha1",
    kind = "ReplicatedConfig",
    plural = "replicatedconfigs",
    shortname = "rcfg",
    namespaced,
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct ReplicatedConfigSpec {
    /// Name of the Quorate cluster that serves it; the others ignore it.
    #[serde(default = "super::default_cluster")]
    #[schemars(length(min = 1, max = 63))]
    pub cluster: String,
    /// The texts by name, as in a ConfigMap; together at most 1 MiB.
    #[serde(default)]
    #[schemars(schema_with = "data_schema")]
    pub data: BTreeMap<String, String>,
    /// A JSON Schema that every text, read as YAML or JSON, must meet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object_schema")]
    pub schema: Option<Map<String, Value>>,
    /// How many versions are kept, the current one included.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 1, max = 100))]
    pub history_limit: i32,
    /// While set, the content of this version is served, and `data` is only validated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub rollback_to: Option<i64>,
}

pub(in crate::operator) fn default_history_limit() -> i32 {
    20
}

/// More texts than this in one document are a sign of something else.
const MOST_TEXTS: usize = 256;
const MOST_BYTES: usize = 1 << 20;

fn data_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MOST_TEXTS,
        "additionalProperties": { "type": "string", "maxLength": MOST_BYTES },
    })
}

fn any_object_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true })
}

impl ReplicatedConfig {
    /// What the resource asks for, when it is valid.
    ///
    /// # Errors
    /// With everything that is wrong with it. No text tells a value of its data.
    pub fn accept(&self) -> Result<(ConfigId, ConfigDocument), Vec<Invalid>> {
        let mut check = Check::default();
        let name =
            check.parse(&["metadata", "name"], ConfigName::new(self.metadata.name.as_deref().unwrap_or_default()));
        let namespace = self.metadata.namespace.as_deref().unwrap_or("default");
        let namespace = check.parse(&["metadata", "namespace"], Namespace::new(namespace));
        check.parse(&["spec", "cluster"], Namespace::new(self.spec.cluster.as_str()));
        let history_limit = u32::try_from(self.spec.history_limit).ok().filter(|limit| (1..=100).contains(limit));
        check.require(&["spec", "historyLimit"], history_limit.is_some(), "it must be between 1 and 100");
        let rollback_to = self.spec.rollback_to.map(u64::try_from).transpose().ok().filter(|to| *to != Some(0));
        check.require(&["spec", "rollbackTo"], rollback_to.is_some(), "it must be the number of a version, from 1");
        let data = self.spec.check_data(&mut check);
        self.spec.check_schema(&mut check);
        match (name, namespace, history_limit, rollback_to) {
            (Some(name), Some(namespace), Some(history_limit), Some(rollback_to)) if check.0.is_empty() => {
                let document = ConfigDocument { data, history_limit, rollback_to: rollback_to.map(Version::new) };
                Ok((ConfigId { namespace, name }, document))
            }
            _ => Err(check.0),
        }
    }
}

impl ReplicatedConfigSpec {
    fn check_data(&self, check: &mut Check) -> BTreeMap<DocumentKey, String> {
        let bytes: usize = self.data.iter().map(|(key, text)| key.len() + text.len()).sum();
        let too_large = format!("it has {bytes} bytes, more than the limit of {MOST_BYTES}");
        check.require(&["spec", "data"], bytes <= MOST_BYTES, &too_large);
        let too_many = format!("it has {} texts, more than the limit of {MOST_TEXTS}", self.data.len());
        check.require(&["spec", "data"], self.data.len() <= MOST_TEXTS, &too_many);
        let keys = self.data.iter().filter_map(|(key, text)| {
            check.parse(&["spec", "data", key], DocumentKey::new(key.as_str())).map(|key| (key, text.clone()))
        });
        keys.collect()
    }

    /// Every text must meet the schema, if there is one. A schema refers to nothing outside itself.
    fn check_schema(&self, check: &mut Check) {
        let Some(schema) = &self.schema else { return };
        let validator = match jsonschema::validator_for(&Value::Object(schema.clone())) {
            Ok(validator) => validator,
            Err(error) => {
                let what = format!("it is no valid JSON Schema, at {:?}: {error}", error.instance_path().as_str());
                return check.refuse(&["spec", "schema"], &what);
            }
        };
        for (key, text) in &self.data {
            let path = ["spec", "data", key.as_str()];
            match serde_yaml::from_str::<Value>(text) {
                Err(error) => check
                    .refuse(&path, &format!("it is neither YAML nor JSON, which the schema needs: {}", place(&error))),
                Ok(value) => {
                    for error in validator.iter_errors(&value).take(MOST_ERRORS) {
                        let what = error.masked_with("the value");
                        check.refuse(
                            &path,
                            &format!("it does not meet the schema, at {:?}: {what}", error.instance_path().as_str()),
                        );
                    }
                }
            }
        }
    }
}

/// After so many errors in one text the next ones help nobody.
const MOST_ERRORS: usize = 10;

/// Where a text is wrong, without repeating any of it.
fn place(error: &serde_yaml::Error) -> String {
    match error.location() {
        Some(location) => format!("see line {}, column {} of the text", location.line(), location.column()),
        None => "it ends too early".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;

    use super::*;

    fn config(spec: Value) -> ReplicatedConfig {
        ReplicatedConfig::new("web", serde_json::from_value(spec).expect("a spec"))
    }

    fn problems(spec: Value) -> Vec<String> {
        config(spec).accept().expect_err("invalid").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let (id, document) = config(serde_json::json!({ "data": { "a": "1" } })).accept().expect("valid");
        assert_eq!(id.to_string(), "default/web");
        assert_eq!((document.history_limit, document.rollback_to), (20, None));
    }

    #[test]
    fn numbers_and_names_out_of_range_are_refused_together() {
        let problems = problems(serde_json::json!({
            "cluster": "A", "historyLimit": 0, "rollbackTo": -1, "data": { "no/slash": "" }
        }));
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[1].starts_with("spec.historyLimit: it must be between 1 and 100"), "{problems:?}");
        assert!(problems[3].starts_with("spec.data.no/slash: data key"), "{problems:?}");
    }

    #[test]
    fn every_text_must_meet_the_schema_and_an_error_never_tells_the_value() {
        let schema = serde_json::json!({
            "type": "object", "required": ["port"], "properties": { "port": { "type": "integer", "maximum": 65535 } }
        });
        let spec = |text: &str| serde_json::json!({ "data": { "app.yaml": text }, "schema": schema });
        assert!(config(spec("port: 80")).accept().is_ok());
        assert!(config(spec("{\"port\": 80}")).accept().is_ok());
        for (text, expected) in [
            ("port: secret", "at \"/port\": the value is not of type \"integer\""),
            ("{}", "\"port\" is a required property"),
            ("a: [", "it is neither YAML nor JSON"),
        ] {
            let problems = problems(spec(text));
            assert!(problems[0].starts_with("spec.data.app.yaml: "), "{problems:?}");
            assert!(problems[0].contains(expected) && !problems[0].contains("secret"), "{problems:?}");
        }
    }

    #[test]
    fn a_schema_that_is_none_or_points_outside_is_refused() {
        for schema in
            [serde_json::json!({ "type": 5 }), serde_json::json!({ "$ref": "https://example.com/schema.json" })]
        {
            let problems = problems(serde_json::json!({ "schema": schema }));
            assert!(problems[0].starts_with("spec.schema: it is no valid JSON Schema"), "{problems:?}");
        }
    }

    #[test]
    fn the_crd_is_made_from_this_type() {
        let crd = ReplicatedConfig::crd();
        assert_eq!(crd.metadata.name.as_deref(), Some("replicatedconfigs.quorate.io"));
        let text = serde_json::to_string(&crd).expect("a CRD is JSON");
        for part in
            ["\"maxProperties\":256", "\"x-kubernetes-preserve-unknown-fields\":true", "\"shortNames\":[\"rcfg\"]"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
