//! Consensus adapter: nobody outside this module sees openraft, redb or the wire between members.
//!
//! From the outside: [`RaftHandle`], which is started from its [`Parts`] and proposes, reads, and hands leadership over. It
//! must never show an openraft type, answer a linearizable read from a lease, or call an outcome known that is not.
//!
//! Inside, from the ground up: the disk (`volume.rs`, `record.rs`, `log_store.rs`, `snapshot_store.rs`), the state
//! (`state_machine.rs`), the wire (`transport`, `messages`), who a member is and how a cluster begins (`identity.rs`,
//! `beginning.rs`, `founding.rs`, `joining.rs`), whether its volume is what it should be (`standing.rs`, `weighing.rs`, `vouching.rs`,
//! `guard.rs`, `reports.rs`, `retiring.rs`), the life of a member (`start.rs`, `running.rs`, `leading.rs`), who else is one
//! (`membership/`, `tending.rs`, `belonging.rs`), who takes over when the Raft leader is gone (`failover/`), ails (`ailment.rs`,
//! `stepping_aside.rs`) or should not lead (`fitness.rs`), and what is asked of it (`proposals.rs`, `read_barrier.rs`, `transfer.rs`).

mod ailment;
mod alone;
mod attendance;
mod beginning;
mod belonging;
mod clock;
mod codec;
mod confirming;
mod digests;
mod failover;
mod fitness;
pub mod founding;
mod guard;
mod handle;
pub mod identity;
mod inbox;
mod joining;
mod journal;
mod leading;
mod log_store;
mod log_writer;
mod member;
mod membership;
mod messages;
mod metrics;
mod outbound;
mod present;
mod proposals;
mod read_barrier;
mod receiving;
pub mod record;
mod reports;
mod retiring;
mod room;
mod running;
mod snapshot_store;
mod standing;
mod start;
mod state_machine;
mod status;
mod stepping_aside;
mod tending;
mod transfer;
pub mod transport;
mod type_config;
pub mod volume;
mod vouching;
mod weighing;

#[cfg(test)]
mod tests;

use thiserror::Error;

pub use attendance::Attendance;
pub use beginning::{Beginning, ClusterRegistry, Known, Recorded, RegistryError};
pub use clock::Clock;
pub use fitness::Fitness;
pub use handle::RaftHandle;
pub use membership::{Held, Scaling, scaling};
pub use start::{Parts, SnapshotThresholds, StartError};
pub use status::{MemberNode, MembershipPhase, PeerStatus, Phase, RaftRole, RaftStatus};

use crate::machine::outcome::Answer;
use crate::types::{LogIndex, MemberId};

/// A command that was committed and applied on this member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub answer: Answer,
    pub index: LogIndex,
}

/// Why a proposal has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Certainly not applied, and never will be: it may be sent again.
    #[error("not applied: {0}")]
    NotApplied(Unavailable),
    /// It may or may not have been applied, now or later.
    #[error("unknown whether it was applied: {0}")]
    Unknown(Unavailable),
}

/// Why the cluster could not do it now.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unavailable {
    #[error("there is no Raft leader")]
    NoRaftLeader,
    #[error("no quorum answered in time")]
    Timeout,
    #[error("this member is not the Raft leader")]
    NotRaftLeader,
    #[error("this member cannot take part yet: {0}")]
    Waiting(String),
    #[error("too many calls are in flight")]
    Overloaded,
    #[error("this member is stopping")]
    Stopping,
    #[error("this member was removed from its cluster: ask another one")]
    Removed,
    #[error(
        "there is no room for more: {free} of {total} bytes are free on the volume of the Raft leader; make the volumes \
         larger; deletes, sessions, elections and locks go on"
    )]
    NoRoom { free: u64, total: u64 },
    #[error("this member has failed: {0}")]
    Failed(String),
}

/// Why leadership was not transferred.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransferError {
    #[error("member {0} is not a voter of this cluster")]
    NotAVoter(MemberId),
    #[error("there is no other voter that could lead")]
    NobodyElse,
    #[error(
        "{wanted} was given leadership and has not taken it, and {leader} leads: see how {wanted} is, and try again"
    )]
    NotTaken { wanted: String, leader: String },
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
