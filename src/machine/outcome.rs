//! What became of a command: an effect or a refusal. Both are outcomes: the command was applied, and every member came to
//! the same one.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use super::command::{ConfigId, ContestId};
use super::contest::Grant;
use super::event::Cause;
use crate::types::{ClusterId, FencingToken, IdempotencyKey, Key, Leadership, MemberId, Revision, SessionId, Version};

/// The machine's answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The revision in which the command took effect; for one that changed nothing, the revision then.
    pub revision: Revision,
    /// Whether this is the remembered answer to an earlier command with the same idempotency key.
    pub origin: Origin,
    pub outcome: Outcome,
}

/// Whether an outcome is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Fresh,
    Remembered,
}

/// What became of a command.
pub type Outcome = Result<Effect, Rejection>;

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    ClusterFounded,
    MemberAnnounced,
    MemberAllocated(MemberId),
    MemberForgotten {
        existed: bool,
    },
    /// `changed` is false when it was set so already.
    SizeSet {
        changed: bool,
    },
    /// `changed` is false when it was so already.
    Steered {
        changed: bool,
    },
    LeadershipBegun(Leadership),
    KeyPut(KeyMeta),
    /// The key as it was; `None` when there was none, which changes nothing.
    KeyDeleted(Option<KeyMeta>),
    Transacted {
        succeeded: bool,
        results: Vec<OperationResult>,
    },
    /// `changed` is false when the content was there already.
    ConfigPut {
        version: Version,
        revision: Revision,
        changed: bool,
    },
    ConfigDeleted {
        existed: bool,
    },
    /// Whether this consumer had said the same before.
    ConsumerReported {
        changed: bool,
    },
    SessionCreated(SessionId),
    /// False when it had ended before.
    SessionEnded {
        existed: bool,
    },
    SessionsExpired {
        count: u64,
    },
    Claimed(Claimed),
    /// What was given up: a grant, or a place in the queue.
    Released {
        token: Option<FencingToken>,
    },
    Revoked {
        count: u64,
    },
    ElectionSet,
    RequestsForgotten {
        count: u64,
    },
    Compacted {
        through: Revision,
    },
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    Granted(Grant),
    Waiting,
}

/// A key's numbers, as in etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyMeta {
    pub create_revision: Revision,
    pub mod_revision: Revision,
    /// 1 when created, +1 with each put since.
    pub version: Version,
}

/// What one operation of a transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationResult {
    Got(Option<(KeyMeta, Bytes)>),
    Put(KeyMeta),
    Deleted(Option<KeyMeta>),
}

/// Why a command changed nothing. The text says what was there and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Rejection {
    #[error("this is cluster {cluster} already; a cluster is founded once")]
    AlreadyFounded { cluster: ClusterId },
    #[error("no cluster is founded yet, and only a cluster gives ids to members: try again once it is")]
    NotFounded,
    #[error(
        "the volume of member {member} is a copy of an older one, or another process runs on a newer one: it has started \
         {present} times, and the cluster has recorded a start of that member, number {recorded}, which it does not know"
    )]
    OlderVolume { member: MemberId, recorded: u64, present: u64 },
    #[error(
        "decided in leadership {named}, but leadership {current} has begun: decide again on the present Raft leader"
    )]
    Superseded { named: Leadership, current: Leadership },
    #[error("key \"{key}\" is not in the state that the request requires: {}", describe_key(.current))]
    KeyMismatch { key: Key, current: Option<KeyMeta> },
    #[error("config {config} is not in the state that the request requires: {}", describe_config(.current))]
    ConfigMismatch { config: ConfigId, current: Option<Version> },
    #[error("config {config} is owned by a custom resource: change the resource instead")]
    Managed { config: ConfigId },
    #[error("config {config} has no version {version}: {}", describe_versions(*.oldest, *.newest))]
    /// The versions that there are; both zero when there is no such config.
    NoSuchVersion { config: ConfigId, version: Version, oldest: Version, newest: Version },
    #[error("idempotency key \"{key}\" was used for another request: use a new key for a new request")]
    RequestReused { key: IdempotencyKey },
    #[error("key \"{key}\" is written twice in one transaction: write each key once")]
    WrittenTwice { key: Key },
    #[error("{what}: {actual}, more than the limit of {limit}")]
    TooLarge { what: Measured, actual: u64, limit: u64 },
    #[error(
        "the state holds {used} bytes and the limit is {limit}: delete something first (deletes are always accepted)"
    )]
    StateFull { used: u64, limit: u64 },
    #[error("session {session} was never created in this cluster: create one first")]
    NoSuchSession { session: SessionId },
    /// Why it ended, unless that was long ago.
    #[error(
        "session {session} has ended ({}), and with it everything that it held: create a new one",
        .cause.map_or("long ago", Cause::as_str)
    )]
    SessionOver { session: SessionId, cause: Option<Cause> },
    #[error("there are {limit} sessions, and no more are allowed: end sessions that nobody needs, or raise the limit")]
    TooManySessions { limit: u32 },
    #[error("{limit} claims wait for {contest}, and no more are allowed: come back later")]
    TooManyWaiting { contest: ContestId, limit: u32 },
    #[error("session {session} has {limit} claims, and no more are allowed: use another session")]
    TooManyClaims { session: SessionId, limit: u32 },
    /// The newest of its holders.
    #[error("{contest} is held: its newest fencing token is {}", .holder.token)]
    Held { contest: ContestId, holder: Grant },
    #[error("{contest} has {capacity} permits, fixed by its first use: ask for the same, or wait until it is free")]
    OtherCapacity { contest: ContestId, capacity: u32 },
    #[error("{contest} has {capacity} permits and can never give {permits}")]
    TooManyPermits { contest: ContestId, permits: u32, capacity: u32 },
    /// What the session holds there, if anything.
    #[error("session {session} does not hold {contest} by that fencing token: {}", describe_grant(.current))]
    NotHeld { contest: ContestId, session: SessionId, current: Option<FencingToken> },
    #[error("revision {revision} is not between the compacted {compacted} and the present {present}")]
    CannotCompact { revision: Revision, compacted: Revision, present: Revision },
}

impl Rejection {
    /// Whether there was no room. Somebody else may make some, so the same request may succeed later: it is not
    /// remembered, and a retry is a new try.
    pub fn wants_room(&self) -> bool {
        matches!(
            self,
            Self::StateFull { .. }
                | Self::TooManySessions { .. }
                | Self::TooManyWaiting { .. }
                | Self::TooManyClaims { .. }
        )
    }

    /// Who holds what was refused.
    pub fn holder(&self) -> Option<&Grant> {
        if let Self::Held { holder, .. } = self { Some(holder) } else { None }
    }
}

/// What was too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    ValueBytes,
    ConfigBytes,
    Operations,
    HistoryLimit,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ValueBytes => "bytes in the value",
            Self::ConfigBytes => "bytes in the config's data",
            Self::Operations => "compares and operations in the transaction",
            Self::HistoryLimit => "versions to keep of the config",
        })
    }
}

fn describe_key(current: &Option<KeyMeta>) -> String {
    match current {
        Some(meta) => format!("it was last changed at revision {}", meta.mod_revision),
        None => "it does not exist".to_owned(),
    }
}

fn describe_grant(current: &Option<FencingToken>) -> String {
    match current {
        Some(token) => format!("its fencing token there is {token}"),
        None => "it holds nothing there".to_owned(),
    }
}

fn describe_versions(oldest: Version, newest: Version) -> String {
    match newest {
        Version::ZERO => "it does not exist".to_owned(),
        _ => format!("it keeps versions {oldest} to {newest}"),
    }
}

fn describe_config(current: &Option<Version>) -> String {
    match current {
        Some(version) => format!("it is at version {version}"),
        None => "it does not exist".to_owned(),
    }
}
