//! The bytes of the messages.

use std::time::Duration;

use super::{DigestSample, Join, Reply, Request, StatusReply};
use crate::encoding::{Decode, DecodeError, Encode, Reader, Writer, fields, required};
use crate::machine::Digest;
use crate::raft::belonging::Belonging;
use crate::raft::codec::Wire;
use crate::raft::failover::{Account, Sight};
use crate::raft::fitness::Fitness;
use crate::raft::founding::Stage;
use crate::raft::status::RaftRole;
use crate::raft::{TransferError, Unavailable};
use crate::types::{LogIndex, MemberId, SessionId, Term};

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Encode for Request {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Append(request) => writer.message(1, &Wire(request.clone())),
            Self::Vote(request) => writer.message(2, &Wire(request.clone())),
            Self::PreVote(request) => writer.message(3, &Wire(request.clone())),
            Self::MakeWay(request) => writer.message(4, &Wire(request.clone())),
            Self::BeginSnapshot { vote, meta, length } => writer.nested(5, |writer| {
                writer.message(1, &Wire(*vote));
                writer.message(2, &Wire(meta.clone()));
                writer.number(3, *length);
            }),
            Self::SnapshotPart { transfer, offset, bytes } => writer.nested(6, |writer| {
                writer.number(1, *transfer);
                writer.number(2, *offset);
                writer.bytes(3, bytes);
            }),
            Self::EndSnapshot { transfer } => writer.nested(7, |writer| writer.number(1, *transfer)),
            Self::Propose { command, patience, alive } => writer.nested(8, |writer| {
                writer.bytes(1, command);
                writer.number(2, millis(*patience));
                if let Some(session) = alive {
                    writer.number(3, session.get());
                }
            }),
            Self::ReadIndex { patience, sessions } => writer.nested(9, |writer| {
                writer.number(1, millis(*patience));
                encode_sessions(writer, 2, sessions);
            }),
            Self::Status => writer.nested(10, |_| {}),
            Self::Transfer { to, patience } => writer.nested(11, |writer| {
                if let Some(to) = to {
                    writer.number(1, to.get());
                }
                writer.number(2, millis(*patience));
            }),
            Self::Introduce => writer.nested(12, |_| {}),
            Self::Assign(assignment) => writer.message(13, assignment),
            Self::Diverged(sample) => writer.message(14, sample),
            Self::Join(join) => writer.message(15, join),
            Self::WouldLead => writer.nested(18, |_| {}),
            Self::Belonging => writer.nested(19, |_| {}),
            Self::Stand(stand) => writer.message(16, stand),
            Self::Report(text) => writer.text(17, text),
            Self::Hold { patience } => writer.nested(20, |writer| writer.number(1, millis(*patience))),
            Self::Look { vote } => writer.nested(21, |writer| writer.message(1, &Wire(*vote))),
        }
    }
}

impl Decode for Request {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (number, value) = required(reader.field()?, "request")?;
        Ok(match number {
            1 => Self::Append(value.message::<Wire<_>>()?.0),
            2 => Self::Vote(value.message::<Wire<_>>()?.0),
            3 => Self::PreVote(value.message::<Wire<_>>()?.0),
            4 => Self::MakeWay(value.message::<Wire<_>>()?.0),
            5 => {
                let mut reader = Reader::new(value.bytes()?);
                fields!(reader => 1 vote: message, 2 meta: message, 3 length: number);
                let (Wire(vote), Wire(meta)) = (required(vote, "vote")?, required(meta, "meta")?);
                Self::BeginSnapshot { vote, meta, length: required(length, "length")? }
            }
            6 => {
                let mut reader = Reader::new(value.bytes()?);
                fields!(reader => 1 transfer: number, 2 offset: number, 3 bytes: bytes);
                Self::SnapshotPart {
                    transfer: required(transfer, "transfer")?,
                    offset: required(offset, "offset")?,
                    bytes: required(bytes, "bytes")?,
                }
            }
            7 => {
                let mut reader = Reader::new(value.bytes()?);
                fields!(reader => 1 transfer: number);
                Self::EndSnapshot { transfer: required(transfer, "transfer")? }
            }
            8 => {
                let mut reader = Reader::new(value.bytes()?);
                fields!(reader => 1 command: bytes, 2 patience: number, 3 alive: number);
                let (command, patience) = (required(command, "command")?, patience_of(patience)?);
                Self::Propose { command, patience, alive: alive.map(SessionId::new) }
            }
            9 => {
                let mut reader = Reader::new(value.bytes()?);
                let (mut patience, mut sessions) = (None, Vec::new());
                while let Some((field, value)) = reader.field()? {
                    match field {
                        1 => patience = Some(value.number()?),
                        2 => sessions.push(SessionId::new(value.number()?)),
                        _ => {}
                    }
                }
                Self::ReadIndex { patience: patience_of(patience)?, sessions }
            }
            10 => Self::Status,
            11 => {
                let mut reader = Reader::new(value.bytes()?);
                fields!(reader => 1 to: number, 2 patience: number);
                Self::Transfer { to: to.map(MemberId::new), patience: patience_of(patience)? }
            }
            12 => Self::Introduce,
            13 => Self::Assign(value.message()?),
            14 => Self::Diverged(value.message()?),
            15 => Self::Join(value.message()?),
            18 => Self::WouldLead,
            19 => Self::Belonging,
            16 => Self::Stand(value.message()?),
            17 => Self::Report(value.text()?),
            20 => {
                let mut reader = Reader::new(value.bytes()?);
                fields!(reader => 1 patience: number);
                Self::Hold { patience: patience_of(patience)? }
            }
            21 => {
                let mut reader = Reader::new(value.bytes()?);
                fields!(reader => 1 vote: message);
                let Wire(vote) = required(vote, "vote")?;
                Self::Look { vote }
            }
            other => return Err(DecodeError::unknown("request", u64::from(other))),
        })
    }
}

pub(super) fn patience_of(millis: Option<u64>) -> Result<Duration, DecodeError> {
    Ok(Duration::from_millis(required(millis, "patience")?))
}

impl Encode for Reply {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Appended(response) => writer.message(1, &Wire(response.clone())),
            Self::Voted(response) => writer.message(2, &Wire(response.clone())),
            Self::MadeWay(response) => writer.message(3, &Wire(response.clone())),
            Self::SnapshotBegun { transfer } => writer.nested(4, |writer| writer.number(1, *transfer)),
            Self::SnapshotPartTaken => writer.nested(5, |_| {}),
            Self::SnapshotInstalled(response) => writer.message(6, &Wire(response.clone())),
            Self::Proposed { index, answer } => writer.nested(7, |writer| {
                writer.number(1, index.get());
                writer.message(2, answer);
            }),
            Self::NotDone(cause) => writer.message(8, cause),
            Self::Unknown(cause) => writer.message(9, cause),
            Self::ReadIndex { index, ending } => writer.nested(10, |writer| {
                writer.number(1, index.get());
                encode_sessions(writer, 2, ending);
            }),
            Self::Status(status) => writer.message(11, status),
            Self::Transferred { to } => writer.nested(12, |writer| writer.number(1, to.get())),
            Self::NotTransferred(error) => writer.message(13, error),
            Self::Introduced { introduction, stage } => writer.nested(14, |writer| {
                writer.message(1, introduction);
                let stage = match stage {
                    Stage::Empty => 1,
                    Stage::Assigned => 2,
                    Stage::Founded => 3,
                };
                writer.number(2, stage);
            }),
            Self::Done => writer.nested(15, |_| {}),
            Self::Refused(text) => writer.text(16, text),
            Self::Seated { member } => writer.nested(17, |writer| writer.number(1, member.get())),
            Self::Belonging(belonging) => writer.nested(19, |writer| {
                let belonging = match belonging {
                    Belonging::Member => 1,
                    Belonging::Removed => 2,
                    Belonging::Wanted => 3,
                };
                writer.number(1, belonging);
            }),
            Self::Vouched(vouched) => writer.message(18, vouched),
            Self::Account(account) => writer.message(20, account),
            Self::Reluctant => writer.nested(21, |_| {}),
        }
    }
}

impl Decode for Reply {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (number, value) = required(reader.field()?, "reply")?;
        Ok(match number {
            1 => Self::Appended(value.message::<Wire<_>>()?.0),
            2 => Self::Voted(value.message::<Wire<_>>()?.0),
            3 => Self::MadeWay(value.message::<Wire<_>>()?.0),
            4 => {
                let mut reader = Reader::new(value.bytes()?);
                fields!(reader => 1 transfer: number);
                Self::SnapshotBegun { transfer: required(transfer, "transfer")? }
            }
            5 => Self::SnapshotPartTaken,
            6 => Self::SnapshotInstalled(value.message::<Wire<_>>()?.0),
            7 => {
                let mut reader = Reader::new(value.bytes()?);
                fields!(reader => 1 index: number, 2 answer: message);
                let index = LogIndex::new(required(index, "index")?);
                Self::Proposed { index, answer: required(answer, "answer")? }
            }
            8 => Self::NotDone(value.message()?),
            9 => Self::Unknown(value.message()?),
            10 => {
                let mut reader = Reader::new(value.bytes()?);
                let (mut index, mut ending) = (None, Vec::new());
                while let Some((field, value)) = reader.field()? {
                    match field {
                        1 => index = Some(value.number()?),
                        2 => ending.push(SessionId::new(value.number()?)),
                        _ => {}
                    }
                }
                Self::ReadIndex { index: LogIndex::new(required(index, "index")?), ending }
            }
            11 => Self::Status(value.message()?),
            12 => {
                let mut reader = Reader::new(value.bytes()?);
                fields!(reader => 1 to: number);
                Self::Transferred { to: MemberId::new(required(to, "to")?) }
            }
            13 => Self::NotTransferred(value.message()?),
            14 => {
                let mut reader = Reader::new(value.bytes()?);
                fields!(reader => 1 introduction: message, 2 stage: number);
                let stage = match required(stage, "stage")? {
                    1 => Stage::Empty,
                    2 => Stage::Assigned,
                    3 => Stage::Founded,
                    other => return Err(DecodeError::unknown("stage", other)),
                };
                Self::Introduced { introduction: required(introduction, "introduction")?, stage }
            }
            15 => Self::Done,
            16 => Self::Refused(value.text()?),
            17 => {
                let mut reader = Reader::new(value.bytes()?);
                fields!(reader => 1 member: number);
                Self::Seated { member: MemberId::new(required(member, "member")?) }
            }
            19 => {
                let mut reader = Reader::new(value.bytes()?);
                fields!(reader => 1 belonging: number);
                Self::Belonging(match required(belonging, "belonging")? {
                    1 => Belonging::Member,
                    2 => Belonging::Removed,
                    3 => Belonging::Wanted,
                    other => return Err(DecodeError::unknown("belonging", other)),
                })
            }
            18 => Self::Vouched(value.message()?),
            20 => Self::Account(value.message()?),
            21 => Self::Reluctant,
            other => return Err(DecodeError::unknown("reply", u64::from(other))),
        })
    }
}

impl Encode for Unavailable {
    fn encode(&self, writer: &mut Writer) {
        if let Self::NoRoom { free, total } = self {
            writer.number(3, *free);
            writer.number(4, *total);
        }
        let (kind, text) = match self {
            Self::NoRaftLeader => (1, None),
            Self::Timeout => (2, None),
            Self::NotRaftLeader => (3, None),
            Self::Waiting(text) => (4, Some(text)),
            Self::Overloaded => (5, None),
            Self::Stopping => (6, None),
            Self::Failed(text) => (7, Some(text)),
            Self::NoRoom { .. } => (8, None),
            Self::Removed => (9, None),
        };
        writer.number(1, kind);
        if let Some(text) = text {
            writer.text(2, text);
        }
    }
}

impl Decode for Unavailable {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 kind: number, 2 text: text, 3 free: number, 4 total: number);
        let text = text.unwrap_or_default();
        Ok(match required(kind, "kind")? {
            1 => Self::NoRaftLeader,
            2 => Self::Timeout,
            3 => Self::NotRaftLeader,
            4 => Self::Waiting(text),
            5 => Self::Overloaded,
            6 => Self::Stopping,
            7 => Self::Failed(text),
            8 => Self::NoRoom { free: required(free, "free")?, total: required(total, "total")? },
            9 => Self::Removed,
            other => return Err(DecodeError::unknown("cause", other)),
        })
    }
}

impl Encode for TransferError {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::NotAVoter(member) => writer.number(1, member.get()),
            Self::NobodyElse => writer.nested(2, |_| {}),
            Self::Unavailable(cause) => writer.message(3, cause),
            Self::NotTaken { wanted, leader } => writer.nested(4, |writer| {
                writer.text(1, wanted);
                writer.text(2, leader);
            }),
        }
    }
}

impl Decode for TransferError {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (number, value) = required(reader.field()?, "transfer error")?;
        Ok(match number {
            1 => Self::NotAVoter(MemberId::new(value.number()?)),
            2 => Self::NobodyElse,
            3 => Self::Unavailable(value.message()?),
            4 => {
                let mut reader = Reader::new(value.bytes()?);
                fields!(reader => 1 wanted: text, 2 leader: text);
                Self::NotTaken { wanted: required(wanted, "wanted")?, leader: required(leader, "leader")? }
            }
            other => return Err(DecodeError::unknown("transfer error", u64::from(other))),
        })
    }
}

impl Encode for Join {
    fn encode(&self, writer: &mut Writer) {
        writer.text(1, self.cluster.as_str());
        writer.message(2, &self.record);
        writer.text(3, &self.address);
        writer.number(4, millis(self.patience));
    }
}

impl Decode for Join {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 cluster: parse, 2 record: message, 3 address: text, 4 patience: number);
        let (cluster, record) = (required(cluster, "cluster")?, required(record, "record")?);
        Ok(Self { cluster, record, address: required(address, "address")?, patience: patience_of(patience)? })
    }
}

impl Encode for StatusReply {
    fn encode(&self, writer: &mut Writer) {
        let role = match self.role {
            RaftRole::Leader => 1,
            RaftRole::Follower => 2,
            RaftRole::Candidate => 3,
            RaftRole::Learner => 4,
        };
        writer.number(1, role);
        writer.number(2, self.term.get());
        if let Some(index) = self.last_log {
            writer.number(3, index.get());
        }
        if let Some(index) = self.applied {
            writer.number(4, index.get());
        }
        for sample in &self.digests {
            writer.message(5, sample);
        }
        if self.ails {
            writer.number(6, 1);
        }
        encode_fitness(writer, 7, self.fitness);
    }
}

impl Decode for StatusReply {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (mut role, mut term, mut last_log, mut applied, mut digests) = (None, None, None, None, Vec::new());
        let (mut ails, mut unfit) = (false, false);
        while let Some((field, value)) = reader.field()? {
            match field {
                1 => {
                    role = Some(match value.number()? {
                        1 => RaftRole::Leader,
                        2 => RaftRole::Follower,
                        3 => RaftRole::Candidate,
                        4 => RaftRole::Learner,
                        other => return Err(DecodeError::unknown("role", other)),
                    });
                }
                2 => term = Some(Term::new(value.number()?)),
                3 => last_log = Some(LogIndex::new(value.number()?)),
                4 => applied = Some(LogIndex::new(value.number()?)),
                5 => digests.push(value.message()?),
                6 => ails = value.flag()?,
                7 => unfit = value.flag()?,
                _ => {}
            }
        }
        let (role, term, fitness) = (required(role, "role")?, required(term, "term")?, fitness_of(unfit));
        Ok(Self { role, term, last_log, applied, digests, ails, fitness })
    }
}

impl Encode for Account {
    fn encode(&self, writer: &mut Writer) {
        let sight = match self.sight {
            Sight::Dead => 1,
            Sight::Alive => 2,
            Sight::Unsure => 3,
        };
        writer.number(1, sight);
        writer.message(2, &Wire(self.vote));
        if let Some(last_log) = self.last_log {
            writer.message(3, &Wire(last_log));
        }
        encode_fitness(writer, 4, self.fitness);
    }
}

impl Decode for Account {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 sight: number, 2 vote: message, 3 last_log: message, 4 unfit: flag);
        let sight = match required(sight, "sight")? {
            1 => Sight::Dead,
            2 => Sight::Alive,
            // What a later release says in finer words is no evidence for this one.
            _ => Sight::Unsure,
        };
        let Wire(vote) = required(vote, "vote")?;
        let fitness = fitness_of(unfit.unwrap_or_default());
        Ok(Self { sight, vote, last_log: last_log.map(|Wire(last_log)| last_log), fitness })
    }
}

impl Encode for DigestSample {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, self.index.get());
        writer.bytes(2, &self.digest.bits().to_be_bytes());
    }
}

impl Decode for DigestSample {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 index: number, 2 digest: bytes);
        let digest = <[u8; 16]>::try_from(required(digest, "digest")?.as_ref())
            .map_err(|_| DecodeError::new("a digest has 16 bytes"))?;
        let digest = Digest::from_bits(u128::from_be_bytes(digest));
        Ok(Self { index: LogIndex::new(required(index, "index")?), digest })
    }
}

/// A field only where it says something: a release that does not know it takes everybody for fit.
fn encode_fitness(writer: &mut Writer, field: u32, fitness: Fitness) {
    match fitness {
        Fitness::Fit => {}
        Fitness::Unfit => writer.number(field, 1),
    }
}

fn fitness_of(unfit: bool) -> Fitness {
    if unfit { Fitness::Unfit } else { Fitness::Fit }
}

/// One field for each session.
fn encode_sessions(writer: &mut Writer, field: u32, sessions: &[SessionId]) {
    sessions.iter().for_each(|session| writer.number(field, session.get()));
}
