//! Sessions, and what elections and locks have in common.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    #[schema(example = json!({"zone": "a"}))]
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

/// Sessions to keep alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeepAlive {
    /// 1 to 1000 of them.
    #[schema(example = json!(["5d3c1a2b-17", "5d3c1a2b-18"]), min_items = 1, max_items = 1000)]
    pub sessions: Vec<String>,
}

/// Sessions that were heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllKeptAlive {
    /// Those that live, in the order of the request.
    pub alive: Vec<OneKeptAlive>,
    /// Those that do not, and why.
    pub over: Vec<SessionOver>,
}

/// One of the sessions that live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OneKeptAlive {
    #[schema(example = "5d3c1a2b-17")]
    pub session: String,
    #[serde(flatten)]
    pub kept: KeptAlive,
}

/// A session that has ended, or never was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionOver {
    #[schema(example = "5d3c1a2b-18")]
    pub session: String,
    #[schema(
        example = "session 18 has ended (session-expired), and with it everything that it held: create a new one"
    )]
    pub detail: String,
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
    #[schema(example = json!({"zone": "a"}))]
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

/// Whether a grant is held still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    pub current: bool,
    /// The newest grant that there has been; absent when there was none, or it is not known any more.
    #[schema(example = 17)]
    pub newest: Option<u64>,
}
