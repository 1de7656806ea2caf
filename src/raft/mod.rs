//! Consensus adapter: nobody outside this module sees openraft, redb or the wire between members.
//!
//! (Skeleton: signatures that other layers build against.)

mod clock;
mod codec;
mod log_store;
pub mod record;
mod snapshot_store;
mod state_machine;
mod status;
mod type_config;
pub mod volume;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

pub use clock::Clock;
pub use status::{MemberNode, PeerStatus, Phase, RaftRole, RaftStatus};

use crate::machine::Machine;
use crate::machine::command::Command;
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
    #[error("this member has failed: {0}")]
    Failed(String),
}

/// A finished change of the Raft leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    pub to: MemberId,
    pub took: Duration,
}

/// Why leadership was not transferred.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransferError {
    #[error("member {0} is not a voter of this cluster")]
    NotAVoter(MemberId),
    #[error("there is no other voter that could lead")]
    NobodyElse,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The cluster, as one member sees and uses it. Clones share it.
#[derive(Clone)]
pub struct RaftHandle {
    state: watch::Receiver<Arc<Machine>>,
    status: watch::Receiver<Arc<RaftStatus>>,
}

impl RaftHandle {
    /// The newest state that this member has applied. Never waits.
    pub fn state(&self) -> Arc<Machine> {
        self.state.borrow().clone()
    }

    /// Tells of every newly applied batch.
    pub fn state_changes(&self) -> watch::Receiver<Arc<Machine>> {
        self.state.clone()
    }

    /// What this member knows now. Never waits.
    pub fn status(&self) -> Arc<RaftStatus> {
        self.status.borrow().clone()
    }

    /// Tells of every change of the status.
    pub fn status_changes(&self) -> watch::Receiver<Arc<RaftStatus>> {
        self.status.clone()
    }

    /// Proposes a command through whichever member leads now, and waits until it is applied there **and here**, so that
    /// a read of this member sees it. Waits for a Raft leader until `deadline`.
    ///
    /// # Errors
    /// When it was not applied, or when that is unknown.
    pub async fn propose(&self, _command: Command, _deadline: Instant) -> Result<Committed, ProposeError> {
        Err(ProposeError::NotApplied(Unavailable::NoRaftLeader))
    }

    /// Proposes a duty's command on this member only; never forwarded.
    ///
    /// # Errors
    /// As [`RaftHandle::propose`], and at once when this member does not lead.
    pub async fn propose_here(&self, _command: Command, _deadline: Instant) -> Result<Committed, ProposeError> {
        Err(ProposeError::NotApplied(Unavailable::NotRaftLeader))
    }

    /// A linearizable read: the state of this member once it holds everything that was committed when the call began
    /// (ReadIndex; rounds are shared by all that wait).
    ///
    /// # Errors
    /// When leadership could not be confirmed before `deadline`.
    pub async fn read(&self, _deadline: Instant) -> Result<Arc<Machine>, Unavailable> {
        Err(Unavailable::NoRaftLeader)
    }

    /// Asks every other member for its status; those that do not answer before `deadline` are missing.
    pub async fn peers(&self, _deadline: Instant) -> BTreeMap<MemberId, PeerStatus> {
        BTreeMap::new()
    }

    /// Moves Raft leadership to `to`, or to the most caught-up voter, from whichever member leads now.
    ///
    /// # Errors
    /// When there is nobody to lead or it did not happen before `deadline`.
    pub async fn transfer(&self, _to: Option<MemberId>, _deadline: Instant) -> Result<Transferred, TransferError> {
        Err(TransferError::NobodyElse)
    }
}
