//! Elections, their candidates and their leaders.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ClaimLost;

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
    #[schema(example = json!({"zone": "a"}))]
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
    #[schema(example = json!({"zone": "a"}))]
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
    #[schema(example = false)]
    pub release_on_disconnect: bool,
    /// At most 4 KiB, unless the members are set otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(example = json!({"zone": "a"}))]
    pub metadata: BTreeMap<String, String>,
}

fn usual_wait() -> u64 {
    30_000
}

/// An event of a watch on an election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ElectionEvent {
    #[schema(example = 120)]
    pub revision: u64,
    #[schema(example = 117)]
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
