//! What a `LeaderElection` has done to other objects of Kubernetes, so that they know who leads: a label on the leader's pod, a
//! Lease, and which writers are fenced.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Check, mark_rules};
use crate::settings::duration;

/// A label that the leaders' pods have, and no other pod that is selected.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LeaderLabel {
    /// The pods of the candidates. No other pod is ever labelled.
    pub pod_selector: PodSelector,
    /// The key of the label; `quorate.io/leader` when left out. On pods that are selected it is the election's own: it is
    /// removed from whoever does not lead, whatever its value.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 317))]
    #[x_kube(validation = mark_rules::is_a_label_key())]
    pub key: String,
    /// The value of the label; `true` when left out. At most 63 characters.
    #[serde(default = "default_value")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = mark_rules::is_a_label_value())]
    pub value: String,
}

/// Pods of the election's namespace, by their labels.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodSelector {
    /// Labels that a pod must have, all of them; 1 to 16.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16), schema_with = "labels_schema")]
    #[x_kube(validation = mark_rules::has_keys_and_values_of_labels())]
    pub match_labels: BTreeMap<String, String>,
}

/// A Lease that says who leads, for tools that read nothing else.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MirrorLease {
    /// The name of the Lease, in the election's namespace; that of the election when left out. A Lease that is there already
    /// and is not this election's is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = mark_rules::is_a_dns_subdomain())]
    pub name: Option<String>,
    /// Its `leaseDurationSeconds`: 3s to 1h, 15s when left out. It is renewed at a third of that, which is one write to the API
    /// server each time.
    #[serde(default = "default_duration")]
    #[schemars(length(min = 2, max = 20))]
    #[x_kube(validation = mark_rules::is_a_lease_duration())]
    pub duration: String,
}

/// Whose writes to other objects are refused when they name an older fencing token. See the chart's value `fencing`.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Fencing {
    /// The ServiceAccounts of the candidates, at most 16: each as NAME, of the election's namespace, or NAMESPACE/NAME.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 317)))]
    #[x_kube(validation = mark_rules::has_names_of_service_accounts())]
    pub service_accounts: Vec<String>,
}

/// A Lease as it is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLease {
    pub name: String,
    pub duration: Duration,
}

fn default_key() -> String {
    "quorate.io/leader".to_owned()
}

fn default_value() -> String {
    "true".to_owned()
}

fn default_duration() -> String {
    "15s".to_owned()
}

fn labels_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": { "description": "The value that the label must have.", "type": "string", "maxLength": 63 },
    })
}

impl LeaderLabel {
    pub(super) fn check(&self, check: &mut Check) {
        let path = |field| ["spec", "leaderLabel", field];
        check.require(&path("key"), is_label_key(&self.key), NO_KEY);
        check.require(&path("value"), is_label_value(&self.value), NO_VALUE);
        let labels = &self.pod_selector.match_labels;
        let selector = path("podSelector");
        check.require(&selector, (1..=16).contains(&labels.len()), "it must have 1 to 16 labels");
        let are_labels = labels.iter().all(|(key, value)| is_label_key(key) && is_label_value(value));
        check.require(&selector, are_labels, "it must have keys and values of labels");
        check.require(&path("key"), !labels.contains_key(&self.key), "it must not be a label that selects the pods");
    }
}

impl MirrorLease {
    /// The Lease that is asked for, when that can be.
    pub(super) fn accept(&self, election: &str, check: &mut Check) -> Option<KeptLease> {
        let name = self.name.as_deref().unwrap_or(election);
        check.require(&["spec", "mirrorLease", "name"], is_dns_subdomain(name), "it must be the name of an object");
        let allowed = Duration::from_secs(3)..=Duration::from_hours(1);
        // A Lease says it in whole seconds.
        let is_whole = !self.duration.ends_with("ms");
        let duration = duration(&self.duration).ok().filter(|duration| is_whole && allowed.contains(duration));
        let what = "it must be 3s to 1h, such as 15s";
        check.require(&["spec", "mirrorLease", "duration"], duration.is_some(), what);
        Some(KeptLease { name: name.to_owned(), duration: duration? })
    }
}

impl Fencing {
    pub(super) fn check(&self, check: &mut Check) {
        let path = ["spec", "fencing", "serviceAccounts"];
        check.require(&path, (1..=16).contains(&self.service_accounts.len()), "there must be 1 to 16");
        let is_account = |name: &String| match name.split_once('/') {
            Some((namespace, name)) => is_dns_label(namespace) && are_dns_parts(name),
            None => are_dns_parts(name),
        };
        let what = "each must be the name of a ServiceAccount, NAME or NAMESPACE/NAME";
        check.require(&path, self.service_accounts.iter().all(is_account), what);
    }
}

const NO_KEY: &str = "it must be the key of a label: a name of at most 63 letters, digits, '-', '_' or '.', after a prefix such as \
                      example.com/ if you like";
const NO_VALUE: &str = "it must be the value of a label: at most 63 letters, digits, '-', '_' or '.'";

fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_name(name),
        None => is_label_name(key),
    }
}

fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_label_name(value)
}

/// Letters and digits at its ends, and between them also `-`, `_` and `.`.
fn is_label_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = [name.bytes().next(), name.bytes().last()];
    name.len() <= 63
        && ends.into_iter().all(|end| end.is_some_and(|end| end.is_ascii_alphanumeric()))
        && name.bytes().all(is_inner)
}

fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253 && are_dns_parts(name)
}

fn are_dns_parts(name: &str) -> bool {
    let is_end = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        let ends = [part.bytes().next(), part.bytes().last()];
        ends.into_iter().all(|end| end.is_some_and(is_end)) && part.bytes().all(|byte| is_end(byte) || byte == b'-')
    };
    name.split('.').all(is_part)
}

fn is_dns_label(name: &str) -> bool {
    name.len() <= 63 && !name.contains('.') && is_dns_subdomain(name)
}
