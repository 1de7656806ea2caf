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

/// A session as its client wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateSession {
    /// How long it lives without a sign of life, in milliseconds: 500 to 86400000.
    #[serde(default = "usual_ttl")]
    #[schema(example = 3000, default = 3000, minimum = 500, maximum = 86_400_000)]
    pub ttl_ms: u64,
    /// What the client calls itself, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "pod-a")]
    pub client: Option<String>,
    /// At most 4 KiB, unless the members are set otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

fn usual_ttl() -> u64 {
    3000
}

/// A new session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionCreated {
    /// Name it in every call that uses it.
    #[schema(example = "5d3c1a2b-17")]
    pub session: String,
    #[schema(example = 3000)]
    pub ttl_ms: u64,
    /// How long the client may act on it, counted from when it sent the request, by its own monotonic clock.
    #[schema(example = 2970)]
    pub valid_for_ms: u64,
}

/// A session that was heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeptAlive {
    /// How long the client may act on the session and on what it holds, counted from when it sent the request, by its own
    /// monotonic clock.
    #[schema(example = 2970)]
    pub valid_for_ms: u64,
    /// What it holds.
    pub holds: Vec<Fence>,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    #[schema(example = "5d3c1a2b-17")]
    pub session: String,
    #[schema(example = 3000)]
    pub ttl_ms: u64,
    #[schema(example = "pod-a")]
    pub client: Option<String>,
    pub metadata: BTreeMap<String, String>,
    #[schema(example = "2026-01-31T12:00:00.000Z")]
    pub created_at: String,
    /// What it holds.
    pub holds: Vec<Fence>,
    /// For what it waits.
    pub waits: Vec<Contest>,
}

/// An election or a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Contest {
    pub kind: FenceKind,
    #[schema(example = "shop")]
    pub namespace: String,
    #[schema(example = "scheduler")]
    pub name: String,
}

/// An election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Election {
    /// The oldest grant first.
    pub leaders: Vec<ElectionLeader>,
    /// How many leaders it may have at a time.
    #[schema(example = 1)]
    pub seats: u32,
    /// How long its candidates' sessions should live without a sign of life, when its resource says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 3000)]
    pub session_ttl_ms: Option<u64>,
    /// How many candidates wait.
    #[schema(example = 3)]
    pub waiting: u32,
    /// The first of them in the order in which they will lead, at most 100.
    pub queue: Vec<Candidate>,
    /// How many grants have come to an end.
    #[schema(example = 9)]
    pub transitions: u64,
    pub last_transition: Option<Transition>,
    /// The last 20 of them, the newest first.
    pub recent_transitions: Vec<Transition>,
}

/// A leader of an election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ElectionLeader {
    #[schema(example = "pod-a")]
    pub candidate: Option<String>,
    #[schema(example = "5d3c1a2b-17")]
    pub session: String,
    #[schema(example = 17)]
    pub fencing_token: u64,
    #[schema(example = "2026-01-31T12:00:00.000Z")]
    pub since: String,
    pub metadata: BTreeMap<String, String>,
}

/// A candidate that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    #[schema(example = "pod-b")]
    pub candidate: Option<String>,
    #[schema(example = "5d3c1a2b-18")]
    pub session: String,
    #[schema(example = 0)]
    pub priority: i32,
    pub metadata: BTreeMap<String, String>,
}

/// The end of a grant, and what came after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    #[schema(example = "2026-01-31T12:00:00.000Z")]
    pub at: String,
    /// `resigned`, `session-expired`, `session-ended`, `client-exited`, `removed`.
    #[schema(example = "session-expired")]
    pub cause: String,
    #[schema(example = "pod-a")]
    pub candidate: Option<String>,
    /// The grant that ended.
    #[schema(example = 17)]
    pub fencing_token: u64,
    /// How long nobody led before the next grant, from the deadline of the one that ended; absent while nobody does.
    #[schema(example = 41)]
    pub leaderless_ms: Option<u64>,
}

/// A candidate on its way into an election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Campaign {
    #[schema(example = "5d3c1a2b-17")]
    pub session: String,
    /// What the candidate calls itself, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "pod-a")]
    pub candidate: Option<String>,
    /// The greater leads first; equals in the order in which they came.
    #[serde(default)]
    #[schema(example = 0)]
    pub priority: i32,
    /// How long to wait for a grant, 0 to 60000; a stream waits for as long as it is open.
    #[serde(default = "usual_wait")]
    #[schema(example = 30000, default = 30000, maximum = 60000)]
    pub wait_ms: u64,
    /// Whether to resign at once when the stream is closed.
    #[serde(default)]
    pub release_on_disconnect: bool,
    /// At most 4 KiB, unless the members are set otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

fn usual_wait() -> u64 {
    30_000
}

/// What was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Granted {
    /// Greater than that of every grant before it; show it to whatever is to be protected.
    #[schema(example = 17)]
    pub fencing_token: u64,
    #[schema(example = "2026-01-31T12:00:00.000Z")]
    pub since: String,
    /// How long the holder may act on it, counted from when it sent the request, by its own monotonic clock.
    #[schema(example = 2970)]
    pub valid_for_ms: u64,
}

/// What a stream says while its candidate waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StillWaiting {
    /// How many are before it in the queue.
    #[schema(example = 2)]
    pub ahead: u64,
}

/// What a stream says last: the grant, or the place in the queue, has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimLost {
    /// Why, where it is known still.
    #[schema(example = "session-expired")]
    pub cause: Option<String>,
    /// The grant that ended; absent when there was none yet.
    #[schema(example = 17)]
    pub fencing_token: Option<u64>,
}

/// What is given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Release {
    #[schema(example = "5d3c1a2b-17")]
    pub session: String,
    /// The grant; without it, whatever the session has there, a place in the queue too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 17, maximum = 9007199254740991_u64)]
    pub fencing_token: Option<u64>,
    /// Why.
    #[serde(default)]
    pub cause: ReleaseCause,
}

/// Why something is given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseCause {
    /// It is not wanted any more.
    #[default]
    Resigned,
    /// The process for which it was held has come to its end.
    ClientExited,
}

/// What was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Released {
    /// The grant; absent when it was a place in the queue, or nothing.
    #[schema(example = 17)]
    pub fencing_token: Option<u64>,
    #[schema(example = 120)]
    pub revision: u64,
}

/// A lock. One that nobody holds is the same as one that never was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lock {
    /// The oldest grant first.
    pub holders: Vec<LockHolder>,
    /// How many permits a semaphore has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 3)]
    pub capacity: Option<u32>,
    /// How many wait.
    #[schema(example = 3)]
    pub waiting: u32,
    /// The first of them in the order in which they will be served, at most 100.
    pub queue: Vec<LockWaiter>,
}

/// A holder of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LockHolder {
    #[schema(example = "5d3c1a2b-17")]
    pub session: String,
    #[schema(example = "pod-a")]
    pub client: Option<String>,
    #[schema(example = 17)]
    pub fencing_token: u64,
    #[schema(example = "2026-01-31T12:00:00.000Z")]
    pub since: String,
    pub mode: LockMode,
    /// How many permits of a semaphore it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permits: Option<u32>,
}

/// One that waits for a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LockWaiter {
    #[schema(example = "5d3c1a2b-18")]
    pub session: String,
    #[schema(example = "pod-b")]
    pub client: Option<String>,
    pub mode: LockMode,
    /// How many permits of a semaphore it wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permits: Option<u32>,
}

/// Whether a holder is alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum LockMode {
    /// Nobody else holds it.
    #[default]
    Exclusive,
    /// Others may hold it, if they share it too.
    Shared,
}

/// What is wanted of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Acquire {
    #[schema(example = "5d3c1a2b-17")]
    pub session: String,
    /// How long to wait for it, 0 to 60000; with 0 the answer is a `conflict` when it is held.
    #[serde(default)]
    #[schema(example = 0, maximum = 60000)]
    pub wait_ms: u64,
    /// Exclusive unless it says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<LockMode>,
    /// How many permits of a semaphore; instead of `mode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 1, minimum = 1)]
    pub permits: Option<u32>,
    /// How many permits the semaphore has; the first use fixes it, until nobody holds it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 3, minimum = 1)]
    pub capacity: Option<u32>,
}

/// What was taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revoked {
    /// How many grants.
    #[schema(example = 1)]
    pub revoked: u64,
    #[schema(example = 120)]
    pub revision: u64,
}

/// Whether a grant is held still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    pub current: bool,
    /// The newest grant that there has been; absent when there was none, or it is not known any more.
    #[schema(example = 17)]
    pub newest: Option<u64>,
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
    pub ok: bool,
    pub message: String,
    #[schema(example = "2026-01-31T12:00:00.000Z")]
    pub at: String,
}

/// An event of a watch on an election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ElectionEvent {
    pub revision: u64,
    pub prev_revision: u64,
    /// The leader that an election has got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<ElectionLeader>,
    /// Whose grant has ended, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<ClaimLost>,
    /// The election as it is, in a snapshot; absent when it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub election: Option<Election>,
}
