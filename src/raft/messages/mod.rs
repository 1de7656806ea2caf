//! What members say to one another: every request and its reply, whatever carries them.
//!
//! Each message is one field of an envelope, so that a member can tell a message that it does not know from one that is
//! garbled. Numbers are never used again for another meaning; `tests/golden` holds the bytes of every release.

mod encoding;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};

use super::founding::{Assignment, Stage};
use super::status::RaftRole;
use super::transport::Introduction;
use super::type_config::{SnapshotMeta, TypeConfig, Vote};
use super::{TransferError, Unavailable};
use crate::machine::Digest;
use crate::machine::outcome::Answer;
use crate::types::{LogIndex, MemberId, SessionId, Term};

/// What a member asks another.
#[derive(Debug, Clone)]
pub(super) enum Request {
    /// Raft's AppendEntries; a heartbeat when it has no entries.
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<TypeConfig>),
    /// Whether a vote would be granted; changes nothing.
    PreVote(VoteRequest<TypeConfig>),
    /// The Raft leader makes way for another member.
    MakeWay(TransferLeaderRequest<TypeConfig>),

    /// A snapshot of so many bytes will come in parts; one that was coming before is dropped.
    BeginSnapshot {
        vote: Vote,
        meta: SnapshotMeta,
        length: u64,
    },
    SnapshotPart {
        transfer: u64,
        offset: u64,
        bytes: Bytes,
    },
    /// All parts were sent: install it.
    EndSnapshot {
        transfer: u64,
    },

    /// An encoded command for the Raft leader.
    Propose {
        command: Bytes,
        patience: Duration,
    },
    /// From which log index on a state is fresh enough for a linearizable read that begins now; and a sign of life for
    /// sessions.
    ReadIndex {
        patience: Duration,
        sessions: Vec<SessionId>,
    },
    /// What the member knows of itself.
    Status,
    /// Make `to`, or the most caught-up voter, the Raft leader.
    Transfer {
        to: Option<MemberId>,
        patience: Duration,
    },

    /// Who the member is and how far it is in being founded.
    Introduce,
    /// The founder gives the member its place in the new cluster.
    Assign(Assignment),
    /// The state of most members at a log index, which the member's own contradicts.
    Diverged(DigestSample),
}

/// What a member answers.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Appended(AppendEntriesResponse<TypeConfig>),
    /// To a vote and a pre-vote.
    Voted(VoteResponse<TypeConfig>),
    MadeWay(TransferLeaderResponse<TypeConfig>),

    SnapshotBegun {
        transfer: u64,
    },
    SnapshotPartTaken,
    SnapshotInstalled(SnapshotResponse<TypeConfig>),

    Proposed {
        index: LogIndex,
        answer: Answer,
    },
    /// Not applied, and never will be; or not read, not transferred, not done.
    NotDone(Unavailable),
    /// It may or may not have been applied.
    Unknown(Unavailable),
    ReadIndex {
        index: LogIndex,
        /// Sessions whose sign of life came too late.
        ending: Vec<SessionId>,
    },
    Status(StatusReply),
    Transferred {
        to: MemberId,
    },
    NotTransferred(TransferError),

    Introduced {
        introduction: Introduction,
        stage: Stage,
    },
    /// To an assignment that was stored, and to a digest that was taken note of.
    Done,
    /// The request makes no sense to this member; the text says why.
    Refused(String),
}

/// For errors: what kind of reply it is, and why, but never a value.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Appended(_) => "the reply to an append",
            Self::Voted(_) => "the reply to a vote",
            Self::MadeWay(_) => "the reply to a transfer",
            Self::SnapshotBegun { .. } | Self::SnapshotPartTaken | Self::SnapshotInstalled(_) => {
                "the reply to a snapshot"
            }
            Self::Proposed { .. } => "the answer to a command",
            Self::ReadIndex { .. } => "a log index for a read",
            Self::Status(_) => "a status",
            Self::Transferred { .. } | Self::NotTransferred(_) => "the outcome of a transfer",
            Self::Introduced { .. } => "an introduction",
            Self::Done => "that it is done",
            Self::NotDone(cause) => return write!(f, "that it is not done: {cause}"),
            Self::Unknown(cause) => return write!(f, "that it is unknown whether it is done: {cause}"),
            Self::Refused(text) => return write!(f, "a refusal: {text}"),
        })
    }
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StatusReply {
    pub(super) role: RaftRole,
    pub(super) term: Term,
    pub(super) last_log: Option<LogIndex>,
    pub(super) applied: Option<LogIndex>,
    /// Its newest digests, oldest first.
    pub(super) digests: Vec<DigestSample>,
}

/// The digest of a member's state right after a log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DigestSample {
    pub(super) index: LogIndex,
    pub(super) digest: Digest,
}
