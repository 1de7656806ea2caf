//! The JSON shapes of the API, and nothing else: no rule of the cluster stands here. The client reads the same shapes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::object;

/// The Raft leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Leader {
    #[schema(example = "quorate-1")]
    pub name: String,
    #[schema(example = 3)]
    pub member_id: u64,
    /// Base URL of its HTTP API; absent while the member has not announced itself.
    #[schema(example = "http://quorate-1.quorate.default.svc:8080")]
    pub url: Option<String>,
    /// Raft's term: for people, never a fencing token.
    #[schema(example = 5)]
    pub term: u64,
    /// Since when it leads; absent while its leadership is not yet known here.
    #[schema(example = "2026-01-31T12:00:00.000Z")]
    pub since: Option<String>,
    /// Whether it is the member that answers.
    #[serde(rename = "self")]
    pub this: bool,
}

/// The name of the Raft leader, in the shape of the old leader-elector sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaderName {
    #[schema(example = "quorate-1")]
    pub name: String,
}

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Absent until the cluster is founded.
    #[schema(example = "5d3c1a2b4e6f708192a3b4c5d6e7f809")]
    pub cluster_id: Option<String>,
    #[schema(example = 120)]
    pub revision: u64,
    #[schema(example = 5)]
    pub term: u64,
    /// The Raft leader's name.
    #[schema(example = "quorate-1")]
    pub leader: Option<String>,
    pub members: Vec<Member>,
    pub quorum: Quorum,
    /// Whether no quorum confirmed this answer: all of it may be old.
    pub stale: bool,
    /// Why the member that answers takes no part, and what to do; absent when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    #[schema(example = 3)]
    pub member_id: u64,
    #[schema(example = "quorate-1")]
    pub name: String,
    #[schema(example = "http://quorate-1.quorate.default.svc:8080")]
    pub url: Option<String>,
    pub role: MemberRole,
    pub state: MemberState,
    /// The last log index that it is known to have.
    pub matched_index: Option<u64>,
    /// How many log entries it is behind.
    pub lag_entries: Option<u64>,
    /// How long its last answer took, in milliseconds.
    pub last_contact_ms: Option<u64>,
    /// Its release.
    #[schema(example = "0.1.0")]
    pub version: Option<String>,
}

/// A member's place in the membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    Voter,
    Learner,
}

/// What a member does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    Leader,
    Follower,
    Candidate,
    Unreachable,
}

/// How many voters there must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quorum {
    pub available: bool,
    /// Voters that make a quorum.
    #[schema(example = 2)]
    pub size: u64,
    /// Voters that may still fail.
    #[schema(example = 1)]
    pub failure_tolerance: u64,
}

/// Whom to move Raft leadership to.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Transfer {
    /// A member's name; absent for the most caught-up voter.
    #[serde(default)]
    #[schema(example = "quorate-2")]
    pub to: Option<String>,
}

/// A finished transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transferred {
    /// The new Raft leader.
    pub leader: Leader,
    /// Milliseconds from the request until the new leader's first commit was applied here.
    #[schema(example = 9)]
    pub took_ms: u64,
}

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
    pub rollback_of: Option<u64>,
    /// Whether a custom resource owns it, so that it cannot be written over HTTP.
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

/// What a delete did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    /// Whether there was something to delete.
    pub deleted: bool,
    #[schema(example = 121)]
    pub revision: u64,
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

/// A grant, as a resource that checks it is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fence {
    pub kind: FenceKind,
    #[schema(example = "shop")]
    pub namespace: String,
    #[schema(example = "scheduler")]
    pub name: String,
    /// At most 2^53 - 1, so that every JSON reader knows it exactly.
    #[schema(example = 17, maximum = 9007199254740991_u64)]
    pub fencing_token: u64,
}

/// What was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum FenceKind {
    Election,
    Lock,
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
        key: String,
    },
    Put {
        key: String,
        /// The bytes, in base64.
        value: String,
        /// The session that the key ends with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<String>,
    },
    Delete {
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
    pub revision: u64,
    /// The revision of the event before this one in this watch.
    pub prev_revision: u64,
    pub key: String,
    /// Absent for a deleted key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv: Option<KeyValue>,
}

/// The keys as they are now: the first event of a watch without a start, and of one that was too far behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeySnapshot {
    pub revision: u64,
    pub kvs: Vec<KeyValue>,
    /// Whether the snapshot goes on in the next event.
    pub more: bool,
}

/// An event of a watch on a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigEvent {
    pub revision: u64,
    pub prev_revision: u64,
    /// Absent when the config was deleted, or does not exist.
    pub config: Option<Config>,
}

/// An event of a watch on the Raft leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaderEvent {
    pub revision: u64,
    pub prev_revision: u64,
    /// Absent when there is none.
    pub leader: Option<Leader>,
}

/// Nothing has happened, and nothing was missed up to this revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    pub revision: u64,
}
