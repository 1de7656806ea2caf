//! Replicated configuration documents: versions, history, rollback.

use std::collections::BTreeMap;

use crate::types::{DocumentKey, Revision, Timestamp, Version};

/// One version of a config, as served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRecord {
    pub data: BTreeMap<DocumentKey, String>,
    pub version: Version,
    /// The revision in which this version was made.
    pub revision: Revision,
    /// SHA-256 over the data, in hexadecimal.
    pub content_hash: String,
    pub updated_at: Timestamp,
    /// The version whose content this is, when it was made by a rollback.
    pub rollback_of: Option<Version>,
    pub owner: ConfigOwner,
}

/// Who may change a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOwner {
    /// Written over HTTP.
    Clients,
    /// Written for a custom resource; HTTP is refused.
    Resource,
}
