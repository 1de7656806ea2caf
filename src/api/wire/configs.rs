//! Configs, and who runs them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A config as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[schema(example = json!({"app.yaml": "logLevel: info\n"}))]
    pub data: BTreeMap<String, String>,
    /// +1 for each change of this config.
    #[schema(example = 3)]
    pub version: u64,
    /// The revision that made this version.
    #[schema(example = 120)]
    pub revision: u64,
    #[schema(example = "sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b")]
    pub content_hash: String,
    #[schema(example = "2026-01-31T12:00:00.000Z")]
    pub updated_at: String,
    /// The version whose content this is, when it was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 2)]
    pub rollback_of: Option<u64>,
    /// Whether a custom resource owns it, so that it cannot be written over HTTP.
    #[schema(example = false)]
    pub managed: bool,
}

/// What a config should be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PutConfig {
    /// Texts by name, as in a ConfigMap. Never put secrets here.
    #[schema(example = json!({"app.yaml": "logLevel: info\n"}))]
    pub data: BTreeMap<String, String>,
    /// How many versions to keep, from 1 to 100; 20 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 20)]
    pub history_limit: Option<u32>,
    /// Serve the content of this version while it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 2)]
    pub rollback_to: Option<u64>,
}

/// What a put of a config did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigPut {
    #[schema(example = 3)]
    pub version: u64,
    #[schema(example = 120)]
    pub revision: u64,
    /// False when the content was there already.
    pub changed: bool,
}

/// The versions of a config that are kept, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigHistory {
    pub versions: Vec<Config>,
}

/// A config without its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigSummary {
    #[schema(example = "default")]
    pub namespace: String,
    #[schema(example = "shop")]
    pub name: String,
    #[schema(example = 3)]
    pub version: u64,
    #[schema(example = 120)]
    pub revision: u64,
    #[schema(example = "sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b")]
    pub content_hash: String,
    #[schema(example = "2026-01-31T12:00:00.000Z")]
    pub updated_at: String,
    #[schema(example = false)]
    pub managed: bool,
}

/// The configs of a namespace, in order of name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigList {
    pub configs: Vec<ConfigSummary>,
    #[schema(example = 120)]
    pub revision: u64,
}

/// An event of a watch on a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigEvent {
    #[schema(example = 120)]
    pub revision: u64,
    #[schema(example = 117)]
    pub prev_revision: u64,
    /// Absent when the config was deleted, or does not exist.
    pub config: Option<Config>,
}

/// What a consumer says of a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Applied {
    #[schema(example = "5d3c1a2b-17")]
    pub session: String,
    /// The version that it has taken in.
    #[schema(example = 3)]
    pub version: u64,
    /// Whether it could use it.
    pub ok: bool,
    /// Why not, at most 1024 bytes.
    #[serde(default)]
    #[schema(example = "")]
    pub message: String,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedNoted {
    #[schema(example = 120)]
    pub revision: u64,
}

/// Who runs a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consumers {
    /// The version that is served.
    #[schema(example = 3)]
    pub version: u64,
    /// How many have said what they run.
    #[schema(example = 5)]
    pub registered: u64,
    /// How many of them run the version that is served.
    #[schema(example = 4)]
    pub applied: u64,
    /// The others, at most 100.
    pub stragglers: Vec<Consumer>,
}

/// One consumer of a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consumer {
    #[schema(example = "5d3c1a2b-17")]
    pub session: String,
    #[schema(example = "pod-a")]
    pub client: Option<String>,
    #[schema(example = 2)]
    pub version: u64,
    #[schema(example = false)]
    pub ok: bool,
    #[schema(example = "unknown field logLevel")]
    pub message: String,
    #[schema(example = "2026-01-31T12:00:00.000Z")]
    pub at: String,
}
