//! `ReplicatedConfig`: one document of texts, replicated to every member and pushed to who watches it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::conditions::conditions_schema;
use super::schema::TextSchema;
use super::{Check, Invalid, rules};
use crate::machine::command::{ConfigDocument, ConfigId};
use crate::types::{ConfigName, DocumentKey, Namespace, Version};

/// What the document should be.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "quorate.io",
    version = "v1alpha1",
    kind = "ReplicatedConfig",
    plural = "replicatedconfigs",
    shortname = "rcfg",
    category = "quorate",
    namespaced,
    doc = "A document of texts that a Quorate cluster replicates to its members and pushes to whoever watches it. Applications \
           read it over HTTP as NAMESPACE/NAME.",
    status = "ReplicatedConfigStatus",
    validation = rules::has_parts_of_63(),
    validation = rules::rolls_back_to_a_past_version(),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether what is declared is served"
    ),
    printcolumn(
        name = "Version",
        type_ = "integer",
        json_path = ".status.version",
        description = "The version that is served"
    ),
    printcolumn(
        name = "Replicated",
        type_ = "string",
        json_path = ".status.replicatedTo",
        description = "How many members hold it, of all"
    ),
    printcolumn(
        name = "Consumers",
        type_ = "integer",
        json_path = ".status.consumers.registered",
        description = "How many applications report which version they run"
    ),
    printcolumn(
        name = "Applied",
        type_ = "integer",
        json_path = ".status.consumers.applied",
        description = "How many of them run the version that is served"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = ".spec.cluster",
        priority = 1,
        description = "The Quorate cluster that serves it"
    ),
    printcolumn(
        name = "Rollback",
        type_ = "integer",
        json_path = ".spec.rollbackTo",
        priority = 1,
        description = "The version that is served instead of data"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1,
        description = "Why it is ready or not"
    ),
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct ReplicatedConfigSpec {
    /// The name of the Quorate cluster that serves it, as in the `spec.cluster` of its QuorateCluster; the others ignore it. A
    /// DNS label of at most 63 characters; `default` when left out. It cannot be changed.
    #[serde(default = "super::default_cluster")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::is_dns_label(), validation = rules::stays_the_same())]
    pub cluster: String,
    /// The texts by name, as in a ConfigMap; none when left out. At most 256, together at most 1 MiB (1,048,576 bytes of keys and
    /// texts). A key has 1 to 253 letters, digits, '-', '_' or '.'.
    ///
    /// Never put secrets here: they would stay in the history, on the disk of every member, unencrypted, and whoever reaches the
    /// HTTP API or may read this resource would read them. Put the secret into a Secret, and its name here.
    #[serde(default)]
    #[schemars(schema_with = "data_schema")]
    #[x_kube(validation = rules::has_keys_of_a_config_map(), validation = rules::is_small())]
    pub data: BTreeMap<String, String>,
    /// A JSON Schema that every text of `data`, read as YAML or JSON, must meet; without one every text is accepted. Its
    /// references begin with `#/` and lead to its own parts, never back to where they stand. With these written out it has at
    /// most 10,000 values and 100 levels. Its patterns look neither around nor back. What does not meet it is told in the
    /// condition Accepted, and the last good version goes on being served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object_schema")]
    pub schema: Option<Map<String, Value>>,
    /// How many versions are kept, the one that is served included: 1 to 100; 20 when left out. Only these can be rolled back to.
    /// A smaller number than before takes effect with the next version.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 1, max = 100))]
    pub history_limit: i32,
    /// While set, the content of this version is served, as a new version, and `data` is only validated. It must be one of the
    /// versions that are kept when it is set. Remove it, and `data` is served again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub rollback_to: Option<i64>,
}

pub(in crate::operator) fn default_history_limit() -> i32 {
    20
}

/// What became of the declaration, written by the cluster's Raft leader.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = rules::nobody_yet(rules::NO_CLUSTER)))]
#[x_kube(validation = rules::is_not_of_an_older_leadership(), validation = rules::says_whose_leadership_it_is())]
pub struct ReplicatedConfigStatus {
    /// The cluster that serves it: `status.clusterId` of its QuorateCluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^[0-9a-f]{32}$"))]
    pub cluster_id: Option<String>,
    /// The leadership in which this status was written: the index in the log at which that Raft leader began. It only grows,
    /// and the API server refuses a status of an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub observed_leadership: Option<i64>,
    /// The `metadata.generation` of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// The cluster's revision in which the served version was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub revision: Option<i64>,
    /// The version that is served: 1 for the first, one more with each change of the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub version: Option<i64>,
    /// SHA-256 of the keys and texts that are served, as the HTTP API tells it: `sha256:` and 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub content_hash: Option<String>,
    /// How many members hold the served version, of all members: `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub replicated_to: Option<String>,
    /// The applications that report which version they run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumers: Option<ConsumersStatus>,
    /// Up to 20 consumers that do not run the served version, by the names of their sessions' clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 253)), extend("x-kubernetes-list-type" = "atomic"))]
    pub stragglers: Vec<String>,
    /// Accepted: what is declared is valid. Ready: it is accepted and committed by a majority, so that it is served. Replicated:
    /// every member holds it. Applied: every registered consumer runs it; True without consumers. Stalled: only while it waits
    /// for a change of this resource. Each is of a type of its own; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// Consumers of a config, counted.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ConsumersStatus {
    /// How many report which version they run.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub registered: i32,
    /// How many of them run the served version.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub applied: i32,
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
    json_schema!({
        "type": "object",
        "nullable": true,
        "maxProperties": 64,
        "x-kubernetes-preserve-unknown-fields": true,
    })
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

    /// Every text must meet the schema, if there is one.
    fn check_schema(&self, check: &mut Check) {
        let Some(schema) = &self.schema else { return };
        let mut schema = match TextSchema::compile(schema) {
            Ok(schema) => schema,
            Err(what) => return check.refuse(&["spec", "schema"], &what),
        };
        for (key, text) in &self.data {
            check.parse(&["spec", "data", key], schema.check(text));
        }
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
    fn a_schema_that_is_none_is_refused() {
        let problems = problems(serde_json::json!({ "schema": { "type": 5 } }));
        assert!(problems[0].starts_with("spec.schema: it is no valid JSON Schema, at \"/type\": "), "{problems:?}");
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
