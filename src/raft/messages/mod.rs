//! What members say to one another: every request and its reply, whatever carries them.
//!
//! Each message is one field of an envelope, so that a member can tell a message that it does not know from one that is
//! garbled. Numbers are never used again for another meaning; `tests/golden` holds the bytes of every release.

mod encoding;
mod standing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};

use super::belonging::Belonging;
use super::failover::Account;
use super::fitness::Fitness;
use super::founding::{Assignment, Stage};
use super::standing::Papers;
use super::status::RaftRole;
use super::transport::{Introduction, Seat};
use super::type_config::{LogId, SnapshotMeta, TypeConfig, Vote};
use super::{TransferError, Unavailable};
use crate::machine::Digest;
use crate::machine::command::MemberRecord;
use crate::machine::outcome::Answer;
use crate::types::{ClusterId, Life, LogIndex, MemberId, SessionId, Term};

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

    /// To be answered when that time is over: it keeps a connection, whose end is told at once.
    Hold {
        patience: Duration,
    },
    /// What the member sees of the process of the Raft leader that has this vote.
    Look {
        vote: Vote,
    },

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

    /// An encoded command for the Raft leader, and the session whose sign of life it is.
    Propose {
        command: Bytes,
        patience: Duration,
        alive: Option<SessionId>,
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
    /// A member-to-be asks for a place in a cluster that exists, itself or by a member that passes it on.
    Join(Join),
    /// The state of most members at a log index, which the member's own contradicts.
    Diverged(DigestSample),
    /// Whether the member would lead.
    WouldLead,
    /// Whether the member knows the one that asks as a member.
    Belonging,
    /// A member that has just started asks whether its volume is the newest of its own, itself or by a member that passes it
    /// on.
    Stand(Stand),
    /// Why the member that sends this cannot take part, and what to do.
    Report(String),
}

/// What a member answers.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Appended(AppendEntriesResponse<TypeConfig>),
    /// To a vote and a pre-vote.
    Voted(VoteResponse<TypeConfig>),
    MadeWay(TransferLeaderResponse<TypeConfig>),
    /// What it sees of the Raft leader.
    Account(Account),

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
    /// The place of a member-to-be.
    Seated {
        member: MemberId,
    },
    Belonging(Belonging),
    /// It would lead, but others that can should be preferred.
    Reluctant,
    /// What is known of a member that has just started.
    Vouched(Vouched),
    /// To an assignment that was stored, to a digest or a report that was taken note of, to what was held, and of one that would
    /// lead.
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
            Self::Account(_) => "what it sees of the Raft leader",
            Self::SnapshotBegun { .. } | Self::SnapshotPartTaken | Self::SnapshotInstalled(_) => {
                "the reply to a snapshot"
            }
            Self::Proposed { .. } => "the answer to a command",
            Self::ReadIndex { .. } => "a log index for a read",
            Self::Status(_) => "a status",
            Self::Transferred { .. } | Self::NotTransferred(_) => "the outcome of a transfer",
            Self::Introduced { .. } => "an introduction",
            Self::Seated { .. } => "a place in the cluster",
            Self::Belonging(_) => "whether this is a member",
            Self::Reluctant => "that it would lead only if nobody else can",
            Self::Vouched(_) => "what it knows of this member",
            Self::Done => "that it is done",
            Self::NotDone(cause) => return write!(f, "that it is not done: {cause}"),
            Self::Unknown(cause) => return write!(f, "that it is unknown whether it is done: {cause}"),
            Self::Refused(text) => return write!(f, "a refusal: {text}"),
        })
    }
}

/// Who wants to join, which cluster, and where others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Join {
    pub(super) cluster: ClusterId,
    pub(super) record: MemberRecord,
    /// `host:port` of its member port.
    pub(super) address: String,
    pub(super) patience: Duration,
}

/// Who has just started, and what it has on its volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) seat: Seat,
    pub(super) record: MemberRecord,
    /// The lives of the volume before the present one, as far as they may be the recorded one.
    pub(super) before: Vec<Life>,
    /// What it has found of its promises; `None` once it has run.
    pub(super) papers: Option<Papers>,
    pub(super) patience: Duration,
}

/// What is known of a member that has just started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vouched {
    /// Who says so; `None` when it is in no cluster.
    pub(super) by: Option<Seat>,
    /// Whether that one takes part in consensus itself.
    pub(super) takes_part: bool,
    /// Whether it has just heard of a Raft leader, or leads with a quorum.
    pub(super) hears_leader: bool,
    pub(super) verdict: Verdict,
}

/// What to make of a member that has just started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is known against it.
    Unknown,
    /// The Raft leader knows it as a member, and the cluster has recorded its new life in this entry or before.
    Confirmed { through: LogId },
    /// The Raft leader, confirmed by a quorum, says that it was removed.
    Removed,
    /// It must not take part; the text says why, and what to do.
    Refused(String),
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
    /// Whether its disk or its processor is too slow for a Raft leader.
    pub(super) ails: bool,
    /// Whether it should lead while another can.
    pub(super) fitness: Fitness,
}

/// The digest of a member's state right after a log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DigestSample {
    pub(super) index: LogIndex,
    pub(super) digest: Digest,
}
