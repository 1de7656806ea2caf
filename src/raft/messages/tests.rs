//! The bytes of every message, hello and identity, against the golden files of each release; and bytes that are no message.

use std::collections::BTreeMap;
use std::fmt::Debug;

use openraft::vote::RaftLeaderId;

use super::*;
use crate::encoding::{Decode, Encode};
use crate::machine::outcome::{Effect, Origin, Rejection};
use crate::raft::belonging::Belonging;
use crate::raft::failover::Sight;
use crate::raft::fitness::Fitness;
use crate::raft::identity::{Identity, Place};
use crate::raft::status::MemberNode;
use crate::raft::tests::golden_file as file;
use crate::raft::transport::{Hello, Lane, Peer, Refusal, RefusalCause, Seat};
use crate::raft::type_config::{Entry, EntryPayload, LeaderId, LogId, Membership, Proposal, StoredMembership};
use crate::types::{FeatureLevel, Incarnation, Leadership, MemberName, Revision};

fn vote(committed: bool) -> Vote {
    Vote { leader_id: LeaderId { term: 3, node_id: MemberId::new(2) }, committed }
}

fn log_id(index: u64) -> LogId {
    LogId::new(LeaderId { term: 2, node_id: MemberId::new(1) }.to_committed(), index)
}

fn node(name: &str) -> MemberNode {
    let incarnation = Incarnation::from_random(7).to_string();
    MemberNode { name: name.to_owned(), address: format!("{name}:7400"), incarnation }
}

fn membership() -> Membership {
    let voters = vec![[MemberId::new(1)].into(), [MemberId::new(1), MemberId::new(2)].into()];
    let nodes = BTreeMap::from([(MemberId::new(1), node("a")), (MemberId::new(2), node("b"))]);
    Membership::new(voters, nodes).unwrap()
}

fn introduction(seated: bool) -> Introduction {
    let seat = Seat { cluster: ClusterId::from_random(5), member: MemberId::new(2) };
    Introduction {
        name: MemberName::new("b").unwrap(),
        incarnation: Incarnation::from_random(7),
        seat: seated.then_some(seat),
        life: seated.then_some(Life { number: 9, token: 7 }),
    }
}

fn assignment() -> Assignment {
    let seat = Seat { cluster: ClusterId::from_random(5), member: MemberId::new(2) };
    let roster = BTreeMap::from([(MemberId::new(1), node("a")), (MemberId::new(2), node("b"))]);
    Assignment { seat, founder: MemberId::new(1), roster }
}

fn join() -> Join {
    let Introduction { name, incarnation, .. } = introduction(false);
    let (url, version) = ("http://b:8080".to_owned(), "0.1.0".to_owned());
    let record = MemberRecord { name, incarnation, url, version, features: FeatureLevel::new(1), life: None };
    let (cluster, address) = (ClusterId::from_random(5), "b:7400".to_owned());
    Join { cluster, record, address, patience: Duration::from_millis(1500) }
}

fn stand() -> Stand {
    let (record, life) = (join().record, |number| Life { number, token: 7 });
    let (record, before) = (MemberRecord { life: Some(life(9)), ..record }, vec![life(7), life(8)]);
    let (seat, patience) = (assignment().seat, Duration::from_millis(700));
    let papers = Some(Papers { vote: Some(vote(true)), last_log: Some(log_id(9)) });
    Stand { seat, record, before, papers, patience }
}

fn vouched(verdict: Verdict) -> Reply {
    Reply::Vouched(Vouched { by: Some(assignment().seat), takes_part: true, hears_leader: true, verdict })
}

fn sample() -> DigestSample {
    DigestSample { index: LogIndex::new(4096), digest: Digest::from_bits(0xd1) }
}

fn vote_request(transfer: bool) -> VoteRequest<TypeConfig> {
    let mut request = VoteRequest::new(vote(false), Some(log_id(9)));
    request.leadership_transfer = transfer;
    request
}

fn requests() -> Vec<Request> {
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Proposal(Bytes::from_static(b"command"))),
        EntryPayload::Membership(membership()),
    ];
    let entries = (10..).zip(payloads).map(|(index, payload)| Entry { log_id: log_id(index), payload }).collect();
    let (vote, patience) = (vote(true), Duration::from_millis(1500));
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(9)),
        last_membership: StoredMembership::new(Some(log_id(4)), membership()),
    };
    vec![
        Request::Append(AppendEntriesRequest { vote, prev_log_id: None, entries: Vec::new(), leader_commit: None }),
        Request::Append(AppendEntriesRequest {
            vote,
            prev_log_id: Some(log_id(9)),
            entries,
            leader_commit: Some(log_id(8)),
        }),
        Request::Vote(vote_request(false)),
        Request::PreVote(vote_request(true)),
        Request::MakeWay(TransferLeaderRequest::new(vote, MemberId::new(2), Some(log_id(9)))),
        Request::BeginSnapshot { vote, meta, length: 300 },
        Request::SnapshotPart { transfer: 1, offset: 200, bytes: Bytes::from_static(b"part") },
        Request::EndSnapshot { transfer: 1 },
        Request::Propose { command: Bytes::from_static(b"command"), patience, alive: None },
        Request::Propose { command: Bytes::from_static(b"claim"), patience, alive: Some(SessionId::new(3)) },
        Request::ReadIndex { patience, sessions: Vec::new() },
        Request::ReadIndex { patience, sessions: vec![SessionId::new(3), SessionId::new(70_000)] },
        Request::Status,
        Request::Transfer { to: None, patience },
        Request::Transfer { to: Some(MemberId::new(2)), patience },
        Request::Introduce,
        Request::Assign(assignment()),
        Request::Diverged(sample()),
        Request::Join(join()),
        Request::WouldLead,
        Request::Belonging,
        Request::Stand(stand()),
        Request::Stand(Stand { before: Vec::new(), papers: None, ..stand() }),
        Request::Report("why".to_owned()),
        Request::Hold { patience },
        Request::Look { vote },
    ]
}

fn replies() -> Vec<Reply> {
    let answer = |outcome| Answer { revision: Revision::new(6), origin: Origin::Fresh, outcome };
    let begun = answer(Ok(Effect::LeadershipBegun(Leadership::new(4))));
    let full = answer(Err(Rejection::StateFull { used: 10, limit: 9 }));
    let index = LogIndex::new(12);
    let mut replies = vec![
        Reply::Appended(AppendEntriesResponse::Success),
        Reply::Appended(AppendEntriesResponse::PartialSuccess(Some(log_id(9)))),
        Reply::Appended(AppendEntriesResponse::Conflict),
        Reply::Appended(AppendEntriesResponse::HigherVote(vote(true))),
        Reply::Voted(VoteResponse::new(vote(false), Some(log_id(9)), true)),
        Reply::MadeWay(Ok(())),
        Reply::SnapshotBegun { transfer: 1 },
        Reply::SnapshotPartTaken,
        Reply::SnapshotInstalled(SnapshotResponse::new(vote(true))),
        Reply::Proposed { index, answer: begun },
        Reply::Proposed { index, answer: full },
        Reply::ReadIndex { index, ending: Vec::new() },
        Reply::ReadIndex { index, ending: vec![SessionId::new(3)] },
        Reply::Status(StatusReply {
            role: RaftRole::Follower,
            term: Term::new(3),
            last_log: Some(LogIndex::new(13)),
            applied: Some(index),
            digests: vec![sample(), sample()],
            ails: false,
            fitness: Fitness::Fit,
        }),
        Reply::Status(StatusReply {
            role: RaftRole::Leader,
            term: Term::new(3),
            last_log: None,
            applied: None,
            digests: Vec::new(),
            ails: true,
            fitness: Fitness::Fit,
        }),
        Reply::Transferred { to: MemberId::new(2) },
        Reply::NotTransferred(TransferError::NotAVoter(MemberId::new(9))),
        Reply::NotTransferred(TransferError::NobodyElse),
        Reply::NotTransferred(TransferError::NotTaken { wanted: "b".to_owned(), leader: "c".to_owned() }),
        Reply::NotTransferred(TransferError::Unavailable(Unavailable::Timeout)),
        Reply::Done,
        Reply::Vouched(Vouched { by: None, takes_part: false, hears_leader: false, verdict: Verdict::Unknown }),
        vouched(Verdict::Confirmed { through: log_id(12) }),
        vouched(Verdict::Removed),
        vouched(Verdict::Refused("why".to_owned())),
        Reply::Seated { member: MemberId::new(4) },
        Reply::Refused("why".to_owned()),
        Reply::Account(Account {
            sight: Sight::Dead,
            vote: vote(true),
            last_log: Some(log_id(9)),
            fitness: Fitness::Fit,
        }),
        Reply::Account(Account { sight: Sight::Alive, vote: vote(true), last_log: None, fitness: Fitness::Fit }),
        Reply::Account(Account { sight: Sight::Unsure, vote: vote(false), last_log: None, fitness: Fitness::Fit }),
    ];
    let status = StatusReply {
        role: RaftRole::Follower,
        term: Term::new(3),
        last_log: None,
        applied: None,
        digests: Vec::new(),
        ails: false,
        fitness: Fitness::Unfit,
    };
    let account = Account { sight: Sight::Dead, vote: vote(true), last_log: None, fitness: Fitness::Unfit };
    replies.extend([Reply::Status(status), Reply::Account(account), Reply::Reluctant]);
    for stage in [Stage::Empty, Stage::Assigned, Stage::Founded] {
        replies.push(Reply::Introduced { introduction: introduction(stage != Stage::Empty), stage });
    }
    replies.extend([Belonging::Member, Belonging::Removed, Belonging::Wanted].map(Reply::Belonging));
    let causes = [
        Unavailable::NoRaftLeader,
        Unavailable::Timeout,
        Unavailable::NotRaftLeader,
        Unavailable::Waiting("why".to_owned()),
        Unavailable::Overloaded,
        Unavailable::Stopping,
        Unavailable::Failed("why".to_owned()),
        Unavailable::NoRoom { free: 1, total: 20 },
        Unavailable::Removed,
    ];
    replies.extend(causes.clone().map(Reply::NotDone));
    replies.extend(causes.map(Reply::Unknown));
    replies
}

/// Compares with the golden file, and reads every line of it back to the same bytes.
fn agree<T: Debug + Encode + Decode>(name: &str, values: Vec<T>) {
    let bytes: Vec<_> = values.iter().map(Encode::to_bytes).collect();
    let samples: Vec<_> = values.into_iter().zip(bytes).collect();
    file::compare(name, &samples);
    for bytes in file::read(name) {
        assert_eq!(T::from_bytes(bytes.clone()).unwrap().to_bytes(), bytes, "{name}");
    }
}

#[test]
fn messages_have_the_bytes_of_every_release() {
    agree("0.1/requests.txt", requests());
    agree("0.1/replies.txt", replies());
}

#[test]
fn hellos_and_identities_have_the_bytes_of_every_release() {
    let peers = [
        Peer::Initial { name: MemberName::new("a").unwrap(), address: "a:7400".to_owned() },
        Peer::Member(MemberId::new(1), node("a")),
    ];
    let lanes = [Lane::Control, Lane::Replication, Lane::Snapshot, Lane::Forward];
    let hellos = peers.iter().flat_map(|peer| lanes.map(|lane| Hello::new(introduction(true), peer, lane))).collect();
    agree("0.1/hellos.txt", hellos);
    agree("0.1/introductions.txt", vec![introduction(false), introduction(true)]);
    let causes = [
        RefusalCause::Protocol,
        RefusalCause::Cluster,
        RefusalCause::Member,
        RefusalCause::Incarnation,
        RefusalCause::Superseded,
        RefusalCause::Seat,
        RefusalCause::Stopping,
    ];
    agree("0.1/refusals.txt", causes.map(|cause| Refusal::new(cause, "why")).into());
    let Introduction { name, incarnation, seat, life } = introduction(true);
    let (seat, lives) = (seat.unwrap(), stand().before.into_iter().chain(life));
    let places = [Place::Nowhere, Place::Prepared(assignment()), Place::Done(seat.clone()), Place::Retired(seat)];
    let lives: Vec<_> = lives.collect();
    let identity =
        |place| Identity { name: name.clone(), incarnation: incarnation.clone(), place, lives: lives.clone() };
    agree("0.1/identities.txt", places.map(identity).into());
}

#[test]
fn no_cut_and_no_flipped_bit_of_a_message_makes_a_member_panic() {
    let messages: Vec<_> =
        requests().iter().map(Encode::to_bytes).chain(replies().iter().map(Encode::to_bytes)).collect();
    for bytes in messages {
        for end in 0..bytes.len() {
            drop((Request::from_bytes(bytes.slice(..end)), Reply::from_bytes(bytes.slice(..end))));
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let damaged = Bytes::from(damaged);
            drop((Request::from_bytes(damaged.clone()), Reply::from_bytes(damaged)));
        }
    }
}
