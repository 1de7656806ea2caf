//! The durable and transmitted form of openraft's types, in Quorate's tagged encoding; openraft's structs are never
//! serialized by position, so that a new release of it changes nothing on disk or between members.
//!
//! openraft's types are foreign to this crate, so each travels inside a [`Wire`]. Field numbers are never used again for
//! another meaning; `tests/golden` holds the bytes of every release.

use std::collections::{BTreeMap, BTreeSet};

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::status::MemberNode;
use super::type_config::{
    Entry, EntryPayload, LeaderId, LogId, Membership, Proposal, SnapshotMeta, StoredMembership, TypeConfig, Vote,
};
use crate::encoding::{Decode, DecodeError, Encode, Reader, Writer, fields, required};
use crate::types::MemberId;

/// Gives a foreign type an encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire<T>(pub T);

/// Unwraps a field that may be absent.
fn bare<T>(value: Option<Wire<T>>) -> Option<T> {
    value.map(|Wire(value)| value)
}

fn optional(writer: &mut Writer, field: u32, log_id: &Option<LogId>) {
    if let Some(log_id) = log_id {
        writer.message(field, &Wire(*log_id));
    }
}

fn leader_id(term: Option<u64>, member: Option<u64>) -> Result<LeaderId, DecodeError> {
    Ok(LeaderId { term: required(term, "term")?, node_id: MemberId::new(required(member, "member")?) })
}

impl Encode for Wire<LogId> {
    fn encode(&self, writer: &mut Writer) {
        let leader = self.0.committed_leader_id();
        writer.number(1, leader.term);
        writer.number(2, leader.node_id.get());
        writer.number(3, self.0.index());
    }
}

impl Decode for Wire<LogId> {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 term: number, 2 member: number, 3 index: number);
        Ok(Self(LogId::new(leader_id(term, member)?, required(index, "index")?)))
    }
}

impl Encode for Wire<Vote> {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, self.0.leader_id.term);
        writer.number(2, self.0.leader_id.node_id.get());
        writer.number(3, u64::from(self.0.committed));
    }
}

impl Decode for Wire<Vote> {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 term: number, 2 member: number, 3 committed: flag);
        Ok(Self(Vote { leader_id: leader_id(term, member)?, committed: required(committed, "committed")? }))
    }
}

impl Encode for MemberNode {
    fn encode(&self, writer: &mut Writer) {
        writer.text(1, &self.name);
        writer.text(2, &self.address);
        writer.text(3, &self.incarnation);
    }
}

impl Decode for MemberNode {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 name: text, 2 address: text, 3 incarnation: text);
        Ok(Self {
            name: required(name, "name")?,
            address: required(address, "address")?,
            incarnation: required(incarnation, "incarnation")?,
        })
    }
}

/// One set of voters: a member id a field.
struct VoterSet(BTreeSet<MemberId>);

impl Encode for VoterSet {
    fn encode(&self, writer: &mut Writer) {
        for id in &self.0 {
            writer.number(1, id.get());
        }
    }
}

impl Decode for VoterSet {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let mut ids = BTreeSet::new();
        while let Some((field, value)) = reader.field()? {
            if field == 1 {
                ids.insert(MemberId::new(value.number()?));
            }
        }
        Ok(Self(ids))
    }
}

/// A member with its id.
struct NumberedNode(MemberId, MemberNode);

impl Encode for NumberedNode {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, self.0.get());
        writer.message(2, &self.1);
    }
}

impl Decode for NumberedNode {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 id: number, 2 node: message);
        Ok(Self(MemberId::new(required(id, "member")?), required(node, "node")?))
    }
}

impl Encode for Wire<Membership> {
    fn encode(&self, writer: &mut Writer) {
        for voters in self.0.get_joint_config() {
            writer.message(1, &VoterSet(voters.clone()));
        }
        for (id, node) in self.0.nodes() {
            writer.message(2, &NumberedNode(*id, node.clone()));
        }
    }
}

impl Decode for Wire<Membership> {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (mut voters, mut nodes) = (Vec::new(), BTreeMap::new());
        while let Some((field, value)) = reader.field()? {
            match field {
                1 => voters.push(value.message::<VoterSet>()?.0),
                2 => {
                    let NumberedNode(id, node) = value.message()?;
                    nodes.insert(id, node);
                }
                _ => {}
            }
        }
        if voters.is_empty() && nodes.is_empty() {
            return Ok(Self(Membership::default()));
        }
        Membership::new(voters, nodes).map(Self).map_err(|error| DecodeError::new(error.to_string()))
    }
}

impl Encode for Wire<StoredMembership> {
    fn encode(&self, writer: &mut Writer) {
        optional(writer, 1, self.0.log_id());
        writer.message(2, &Wire(self.0.membership().clone()));
    }
}

impl Decode for Wire<StoredMembership> {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 log_id: message, 2 membership: message);
        let Wire(membership) = required(membership, "membership")?;
        Ok(Self(StoredMembership::new(bare(log_id), membership)))
    }
}

impl Encode for Wire<SnapshotMeta> {
    fn encode(&self, writer: &mut Writer) {
        optional(writer, 1, &self.0.last_log_id);
        writer.message(2, &Wire(self.0.last_membership.clone()));
    }
}

impl Decode for Wire<SnapshotMeta> {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 log_id: message, 2 membership: message);
        let Wire(last_membership) = required(membership, "membership")?;
        Ok(Self(SnapshotMeta { last_log_id: bare(log_id), last_membership }))
    }
}

impl Encode for Wire<Entry> {
    fn encode(&self, writer: &mut Writer) {
        writer.message(1, &Wire(self.0.log_id));
        match &self.0.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(proposal) => writer.bytes(2, &proposal.0),
            EntryPayload::Membership(membership) => writer.message(3, &Wire(membership.clone())),
        }
    }
}

impl Decode for Wire<Entry> {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 log_id: message, 2 command: bytes, 3 membership: message);
        let Wire(log_id) = required(log_id, "log id")?;
        let payload = match (command, membership) {
            (None, None) => EntryPayload::Blank,
            (Some(command), None) => EntryPayload::Normal(Proposal(command)),
            (None, Some(Wire(membership))) => EntryPayload::Membership(membership),
            (Some(_), Some(_)) => return Err(DecodeError::new("an entry is both a command and a membership")),
        };
        Ok(Self(Entry { log_id, payload }))
    }
}

impl Encode for Wire<AppendEntriesRequest<TypeConfig>> {
    fn encode(&self, writer: &mut Writer) {
        writer.message(1, &Wire(self.0.vote));
        optional(writer, 2, &self.0.prev_log_id);
        optional(writer, 3, &self.0.leader_commit);
        for entry in &self.0.entries {
            writer.message(4, &Wire(entry.clone()));
        }
    }
}

impl Decode for Wire<AppendEntriesRequest<TypeConfig>> {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (mut vote, mut previous, mut commit, mut entries) = (None, None, None, Vec::new());
        while let Some((field, value)) = reader.field()? {
            match field {
                1 => vote = Some(value.message()?),
                2 => previous = Some(value.message()?),
                3 => commit = Some(value.message()?),
                4 => entries.push(value.message::<Wire<Entry>>()?.0),
                _ => {}
            }
        }
        let Wire(vote) = required(vote, "vote")?;
        let (prev_log_id, leader_commit) = (bare(previous), bare(commit));
        Ok(Self(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit }))
    }
}

impl Encode for Wire<AppendEntriesResponse<TypeConfig>> {
    fn encode(&self, writer: &mut Writer) {
        match &self.0 {
            AppendEntriesResponse::Success => writer.number(1, 1),
            AppendEntriesResponse::PartialSuccess(matching) => {
                writer.number(1, 2);
                optional(writer, 2, matching);
            }
            AppendEntriesResponse::Conflict => writer.number(1, 3),
            AppendEntriesResponse::HigherVote(vote) => {
                writer.number(1, 4);
                writer.message(3, &Wire(*vote));
            }
        }
    }
}

impl Decode for Wire<AppendEntriesResponse<TypeConfig>> {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 kind: number, 2 log_id: message, 3 vote: message);
        Ok(Self(match required(kind, "kind")? {
            1 => AppendEntriesResponse::Success,
            2 => AppendEntriesResponse::PartialSuccess(bare(log_id)),
            3 => AppendEntriesResponse::Conflict,
            4 => AppendEntriesResponse::HigherVote(required(bare(vote), "vote")?),
            other => return Err(DecodeError::unknown("append response", other)),
        }))
    }
}

impl Encode for Wire<VoteRequest<TypeConfig>> {
    fn encode(&self, writer: &mut Writer) {
        writer.message(1, &Wire(self.0.vote));
        optional(writer, 2, &self.0.last_log_id);
        writer.number(3, u64::from(self.0.leadership_transfer));
    }
}

impl Decode for Wire<VoteRequest<TypeConfig>> {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 vote: message, 2 log_id: message, 3 transfer: flag);
        let mut request = VoteRequest::new(required(bare(vote), "vote")?, bare(log_id));
        request.leadership_transfer = required(transfer, "transfer")?;
        Ok(Self(request))
    }
}

impl Encode for Wire<VoteResponse<TypeConfig>> {
    fn encode(&self, writer: &mut Writer) {
        writer.message(1, &Wire(self.0.vote));
        optional(writer, 2, &self.0.last_log_id);
        writer.number(3, u64::from(self.0.vote_granted));
    }
}

impl Decode for Wire<VoteResponse<TypeConfig>> {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 vote: message, 2 log_id: message, 3 granted: flag);
        let vote: Vote = required(bare(vote), "vote")?;
        Ok(Self(VoteResponse::new(vote, bare(log_id), required(granted, "granted")?)))
    }
}

impl Encode for Wire<TransferLeaderRequest<TypeConfig>> {
    fn encode(&self, writer: &mut Writer) {
        writer.message(1, &Wire(*self.0.from_leader()));
        writer.number(2, self.0.to_node_id().get());
        optional(writer, 3, &self.0.last_log_id().copied());
    }
}

impl Decode for Wire<TransferLeaderRequest<TypeConfig>> {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 vote: message, 2 member: number, 3 log_id: message);
        let to = MemberId::new(required(member, "member")?);
        Ok(Self(TransferLeaderRequest::new(required(bare(vote), "vote")?, to, bare(log_id))))
    }
}

impl Encode for Wire<TransferLeaderResponse<TypeConfig>> {
    fn encode(&self, writer: &mut Writer) {
        match &self.0 {
            Ok(()) => writer.number(1, 1),
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                writer.number(1, 2);
                writer.message(2, &Wire(*expected));
                writer.message(3, &Wire(*actual));
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                writer.number(1, 3);
                optional(writer, 4, expected);
                optional(writer, 5, actual);
            }
        }
    }
}

impl Decode for Wire<TransferLeaderResponse<TypeConfig>> {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 kind: number, 2 vote: message, 3 actual_vote: message, 4 log_id: message, 5 actual_log_id: message);
        Ok(Self(match required(kind, "kind")? {
            1 => Ok(()),
            2 => Err(TransferLeaderError::VoteChanged {
                expected: required(bare(vote), "expected vote")?,
                actual: required(bare(actual_vote), "actual vote")?,
            }),
            3 => Err(TransferLeaderError::LogNotFlushed { expected: bare(log_id), actual: bare(actual_log_id) }),
            other => return Err(DecodeError::unknown("transfer response", other)),
        }))
    }
}

impl Encode for Wire<SnapshotResponse<TypeConfig>> {
    fn encode(&self, writer: &mut Writer) {
        writer.message(1, &Wire(self.0.vote));
    }
}

impl Decode for Wire<SnapshotResponse<TypeConfig>> {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 vote: message);
        Ok(Self(SnapshotResponse::new(required(bare(vote), "vote")?)))
    }
}
