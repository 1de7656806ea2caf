//! Who leads, and who belongs to the cluster.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    #[schema(example = false)]
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
    #[schema(example = false)]
    pub stale: bool,
    /// Members that must not take part because of what is on their volumes; absent when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedMember>,
    /// Why the member that answers takes no part, and what to do; absent when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "no majority of the voters can be reached")]
    pub waiting: Option<String>,
}

/// A member that must not take part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedMember {
    #[schema(example = "quorate-1")]
    pub name: String,
    /// What is wrong, and what to do.
    #[schema(example = "its volume is that of another cluster: give it back its own, or an empty one")]
    pub reason: String,
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
    #[schema(example = 4711)]
    pub matched_index: Option<u64>,
    /// How many log entries it is behind.
    #[schema(example = 0)]
    pub lag_entries: Option<u64>,
    /// How long its last answer took, in milliseconds.
    #[schema(example = 12)]
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

/// An event of a watch on the Raft leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaderEvent {
    #[schema(example = 120)]
    pub revision: u64,
    #[schema(example = 117)]
    pub prev_revision: u64,
    /// Absent when there is none.
    pub leader: Option<Leader>,
}

/// Nothing has happened, and nothing was missed up to this revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    #[schema(example = 120)]
    pub revision: u64,
}
