//! What a member knows of consensus, in Quorate's own words.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::types::{ClusterId, Incarnation, LogIndex, MemberId, MemberName, Term};

/// Where a member is between an empty volume and a served request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It cannot take part yet; the text says what it waits for or what is wrong, and what to do.
    Waiting(String),
    /// It must not take part, because its volume is not the one that belongs to it; the text says what is wrong, and what to do.
    Refused(String),
    /// Its Raft runs.
    Running,
    /// Its Raft has ended and it serves nothing any more; the text says why.
    Stopped(String),
}

/// A member's role in consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaftRole {
    Leader,
    Follower,
    Candidate,
    Learner,
}

/// Whether a change of the membership is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipPhase {
    /// The newest one that this member knows is committed, as far as it knows, and no joint one.
    Settled,
    Changing,
}

/// A member as the membership names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberNode {
    pub name: String,
    /// `host:port` of its member port, resolved on every dial.
    pub address: String,
    pub incarnation: String,
}

/// What this member knows now. Cheap to clone; a new one is published on every change.
#[derive(Debug, Clone)]
pub struct RaftStatus {
    pub phase: Phase,
    pub name: MemberName,
    pub incarnation: Incarnation,
    /// `None` until the cluster has given it one.
    pub member: Option<MemberId>,
    pub cluster: Option<ClusterId>,
    pub role: RaftRole,
    pub term: Term,
    pub raft_leader: Option<MemberId>,
    pub last_log: Option<LogIndex>,
    pub committed: Option<LogIndex>,
    pub applied: Option<LogIndex>,
    pub snapshot: Option<LogIndex>,
    pub purged: Option<LogIndex>,
    pub voters: BTreeMap<MemberId, MemberNode>,
    pub learners: BTreeMap<MemberId, MemberNode>,
    pub membership: MembershipPhase,
    /// On the Raft leader: when a quorum last acknowledged it. A time and not an age, so that it stays true while nothing
    /// changes.
    pub quorum_acknowledged: Option<Instant>,
    /// On the Raft leader: the last log index that each other member has.
    pub matched: BTreeMap<MemberId, Option<LogIndex>>,
}

/// What another member says of itself when asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    pub member: MemberId,
    pub role: RaftRole,
    pub term: Term,
    pub last_log: Option<LogIndex>,
    pub applied: Option<LogIndex>,
    /// How long the answer took.
    pub round_trip: Duration,
}
