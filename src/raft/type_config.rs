//! openraft's type parameters: what an entry holds, how a member is named, which runtime runs it.

use std::fmt;

use bytes::Bytes;
use openraft::impls::{OneshotResponder, leader_id_adv};
use openraft::vote::RaftLeaderId;

use super::status::MemberNode;
use crate::encoding::{DecodeError, Encode};
use crate::machine::command::Command;
use crate::machine::outcome::Answer;
use crate::types::MemberId;

/// A command as bytes: encoded once by whoever proposes it, then forwarded, stored and replicated as it is, and decoded
/// once when it is applied.
#[derive(Clone, PartialEq, Eq)]
pub struct Proposal(pub Bytes);

impl Proposal {
    /// Encodes `command`.
    pub fn of(command: &Command) -> Self {
        Self(command.to_bytes())
    }

    /// The command inside.
    ///
    /// # Errors
    /// When this release cannot read it.
    pub fn command(&self) -> Result<Command, DecodeError> {
        crate::encoding::Decode::from_bytes(self.0.clone())
    }
}

/// Never shows the content: commands hold values.
impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How the machine's answer travels through openraft to the caller on the Raft leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The entry was a command.
    Answer(Answer),
    /// The entry was openraft's own: a blank or a membership.
    Nothing,
}

/// The runtime of a member; in the simulator, one whose randomness comes from a seed.
#[cfg(not(quorate_sim))]
pub type Runtime = openraft_rt_tokio::TokioRuntime;
/// The runtime of a simulated member.
#[cfg(quorate_sim)]
pub type Runtime = openraft_rt::deterministic_rng::DeterministicRng<openraft_rt_tokio::TokioRuntime>;

/// Advanced leader ids: two members may lead in one term, one after the other, and a split vote ends sooner.
pub type LeaderId = leader_id_adv::LeaderId<u64, MemberId>;

/// Quorate's openraft.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Proposal;
    type R = Applied;
    type NodeId = MemberId;
    type Node = MemberNode;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = openraft::Vote<LeaderId>;
    type Payload = openraft::EntryPayload<Proposal, MemberId, MemberNode>;
    type Entry = openraft::Entry<<LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::AnyError;
}

pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub type Vote = openraft::Vote<LeaderId>;
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
pub type EntryPayload = openraft::EntryPayload<Proposal, MemberId, MemberNode>;
pub type Membership = openraft::Membership<MemberId, MemberNode>;
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
