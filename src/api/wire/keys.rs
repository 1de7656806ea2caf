//! Keys, ranges and transactions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Fence;
use crate::api::object;

/// A key with its numbers and value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyValue {
    #[schema(example = "jobs/7/state")]
    pub key: String,
    /// The bytes, in base64.
    #[schema(example = "cnVubmluZw==")]
    pub value: String,
    #[schema(example = 17)]
    pub create_revision: u64,
    #[schema(example = 120)]
    pub mod_revision: u64,
    #[schema(example = 4)]
    pub version: u64,
}

/// One page of a range, in key order; all of it belongs to one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRange {
    pub kvs: Vec<KeyValue>,
    #[schema(example = 120)]
    pub revision: u64,
    /// Whether more keys follow: ask again with `after` set to the last key.
    #[schema(example = false)]
    pub more: bool,
}

/// A key's numbers after a write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyPut {
    #[schema(example = 17)]
    pub create_revision: u64,
    #[schema(example = 120)]
    pub mod_revision: u64,
    #[schema(example = 4)]
    pub version: u64,
}

/// What a delete did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    /// Whether there was something to delete.
    pub deleted: bool,
    #[schema(example = 121)]
    pub revision: u64,
}

/// If every compare holds, `success` is done, otherwise `failure`; all in one revision, or nothing. At most 128 compares and
/// operations.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Transaction {
    #[serde(default, deserialize_with = "object::list")]
    pub compare: Vec<Compare>,
    #[serde(default, deserialize_with = "object::list")]
    pub success: Vec<Operation>,
    #[serde(default, deserialize_with = "object::list")]
    pub failure: Vec<Operation>,
}

/// A test of one key, which takes `key`, `target`, `op` and `value`, or of a grant, which takes `fence` alone. A key that does
/// not exist has 0 for every number, and no value.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"key": "jobs/7/state", "target": "version", "op": "=", "value": 4}))]
pub struct Compare {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "jobs/7/state")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<CompareTarget>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<CompareOp>,
    /// A number, or for the target `value` the bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<CompareValue>,
    /// Holds while that grant is current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
}

/// Which property of a key is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum CompareTarget {
    Version,
    CreateRevision,
    ModRevision,
    Value,
}

/// How it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum CompareOp {
    #[serde(rename = "=")]
    Equal,
    #[serde(rename = "!=")]
    NotEqual,
    #[serde(rename = "<")]
    Less,
    #[serde(rename = ">")]
    Greater,
}

/// What it is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum CompareValue {
    Number(u64),
    Base64(String),
}

/// One step of a transaction. A key may be written once only in each list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "camelCase", deny_unknown_fields)]
pub enum Operation {
    Get {
        #[schema(example = "jobs/7/state")]
        key: String,
    },
    Put {
        #[schema(example = "jobs/7/state")]
        key: String,
        /// The bytes, in base64.
        #[schema(example = "cnVubmluZw==")]
        value: String,
        /// The session that the key ends with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(example = "5d3c1a2b-17")]
        session: Option<String>,
    },
    Delete {
        #[schema(example = "jobs/7/state")]
        key: String,
    },
}

/// What a transaction did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transacted {
    /// Whether every compare held, so that `success` was done.
    pub succeeded: bool,
    /// One for each operation of the list that was done.
    pub results: Vec<OperationResult>,
    #[schema(example = 120)]
    pub revision: u64,
}

/// What one operation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "camelCase")]
pub enum OperationResult {
    /// The key, when it exists.
    Get {
        kv: Option<KeyValue>,
    },
    Put(KeyPut),
    Delete {
        deleted: bool,
    },
}

/// An event of a watch on keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyEvent {
    #[schema(example = 120)]
    pub revision: u64,
    /// The revision of the event before this one in this watch.
    #[schema(example = 117)]
    pub prev_revision: u64,
    #[schema(example = "jobs/7/state")]
    pub key: String,
    /// Absent for a deleted key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv: Option<KeyValue>,
}

/// The keys as they are now: the first event of a watch without a start, and of one that was too far behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeySnapshot {
    #[schema(example = 120)]
    pub revision: u64,
    pub kvs: Vec<KeyValue>,
    /// Whether the snapshot goes on in the next event.
    #[schema(example = false)]
    pub more: bool,
}
