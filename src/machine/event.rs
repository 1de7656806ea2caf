//! What happened: told to everybody who watches, in order, none twice, none missing.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::command::{ClusterSize, ConfigId, ContestId, MemberRecord, Steering};
use super::config::ConfigRecord;
use super::contest::{ClaimRecord, Grant};
use super::outcome::KeyMeta;
use crate::encoding::DecodeError;
use crate::types::{Key, Leadership, MemberId, Revision, SessionId, Term, Timestamp};

/// All changes of one revision, in the order in which they were made. Never empty: a revision is counted only for what
/// changed something, so revisions have no gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub revision: Revision,
    pub at: Timestamp,
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    KeyPut {
        key: Key,
        meta: KeyMeta,
        value: Bytes,
    },
    KeyDeleted {
        key: Key,
    },
    ConfigPut {
        config: ConfigId,
        record: Arc<ConfigRecord>,
    },
    ConfigDeleted {
        config: ConfigId,
    },
    SessionCreated {
        session: SessionId,
    },
    SessionEnded {
        session: SessionId,
        cause: Cause,
    },
    /// A claim has come into the queue, or what it says has changed.
    Waiting {
        contest: ContestId,
        session: SessionId,
    },
    Granted {
        contest: ContestId,
        grant: Grant,
        claim: Arc<ClaimRecord>,
    },
    Lost {
        contest: ContestId,
        grant: Grant,
        cause: Cause,
    },
    /// A claim has left the queue without a grant.
    Withdrawn {
        contest: ContestId,
        session: SessionId,
    },
    ElectionSet {
        election: ContestId,
    },
    ConsumerReported {
        config: ConfigId,
        session: SessionId,
    },
    LeadershipBegun {
        leadership: Leadership,
        member: MemberId,
        term: Term,
    },
    MemberAnnounced {
        member: MemberId,
        record: MemberRecord,
    },
    /// Whoever that was is in the membership no more.
    MemberForgotten {
        member: MemberId,
    },
    SizeSet(ClusterSize),
    Steered(Steering),
    ClusterFounded,
    Compacted {
        through: Revision,
    },
}

/// Why a session or a grant came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The holder gave it up.
    Resigned,
    /// The client was silent for too long.
    SessionExpired,
    /// The client ended its session.
    SessionEnded,
    /// The process for which it was held has come to its end.
    ClientExited,
    /// An administrator took it away, or there is no seat for it any more.
    Removed,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 5] =
        [Self::Resigned, Self::SessionExpired, Self::SessionEnded, Self::ClientExited, Self::Removed];

    /// As it is called everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resigned => "resigned",
            Self::SessionExpired => "session-expired",
            Self::SessionEnded => "session-ended",
            Self::ClientExited => "client-exited",
            Self::Removed => "removed",
        }
    }

    /// Its number in records.
    pub(super) const fn number(self) -> u64 {
        match self {
            Self::Resigned => 1,
            Self::SessionExpired => 2,
            Self::SessionEnded => 3,
            Self::ClientExited => 4,
            Self::Removed => 5,
        }
    }

    pub(super) fn from_number(number: u64) -> Result<Self, DecodeError> {
        let found = Self::ALL.into_iter().find(|cause| cause.number() == number);
        found.ok_or_else(|| DecodeError::unknown("cause", number))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
