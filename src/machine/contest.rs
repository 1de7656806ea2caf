//! Elections and locks: who holds them, and who is next.
//!
//! Both are contests for permits. An election has as many as it has seats, and each leader holds one. A semaphore has as many
//! as its first user said; a lock without such a number has more than anybody counts, of which a shared holder takes one
//! and an exclusive holder all. Claims are served by priority and then in the order in which they came, and nobody is
//! passed over because a smaller claim would fit.
//!
//! A session has at most one claim in a contest. A lock that nobody claims is forgotten; an election keeps its past.

use std::cmp::Reverse;

use imbl::OrdMap;

use super::by_session::BySession;
use super::codec::{decode_claim, decode_contest, encode_claim, encode_contest};
use super::command::{ContestId, ContestKind, ElectionSpec, Fence, Metadata};
use super::event::Cause;
use super::table::{Schema, Table};
use crate::encoding::{DecodeError, Reader, Writer, fields, required};
use crate::types::{ClientName, FencingToken, Namespace, Revision, SessionId, Timestamp};

/// What a winner gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    pub session: SessionId,
    pub token: FencingToken,
    pub since: Timestamp,
}

/// A session's claim in a contest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRecord {
    pub candidate: Option<ClientName>,
    pub priority: i32,
    pub permits: u32,
    pub metadata: Metadata,
    pub place: Place,
}

/// Where a claim stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the queue since this revision.
    Waiting {
        since: Revision,
    },
    Holding {
        token: FencingToken,
        since: Timestamp,
    },
}

/// What is known of a contest beside its claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContestRecord {
    /// How many permits there are.
    pub capacity: u32,
    /// How many of them are held.
    pub taken: u32,
    /// How many claims wait.
    pub waiting: u32,
    /// What its custom resource says, when it has one.
    pub spec: Option<ElectionSpec>,
    /// How many grants have come to an end.
    pub transitions: u64,
    /// The last of them, the newest first.
    pub recent: Vec<Transition>,
}

/// The end of a grant, and what came after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub at: Timestamp,
    pub cause: Cause,
    /// The grant that ended.
    pub token: FencingToken,
    pub candidate: Option<ClientName>,
    /// Since when its holder had to be still when it ended, in milliseconds.
    pub overdue_ms: u64,
    /// The grant that came next, and for how long nobody held anything before it (0 where others did), by the wall clocks
    /// of the members that proposed the changes.
    pub successor: Option<(FencingToken, u64)>,
}

pub(super) struct ContestRows;

impl Schema for ContestRows {
    type Key = ContestId;
    type Value = ContestRecord;
    const NUMBER: u32 = 10;

    fn encode(contest: &ContestId, record: &ContestRecord, writer: &mut Writer) {
        writer.message(1, contest);
        writer.nested(2, |writer| encode_contest(record, writer));
    }

    fn decode(mut reader: Reader) -> Result<(ContestId, ContestRecord), DecodeError> {
        fields!(reader => 1 contest: message, 2 record: bytes);
        Ok((required(contest, "contest")?, decode_contest(Reader::new(required(record, "record")?))?))
    }
}

pub(super) struct ClaimRows;

impl Schema for ClaimRows {
    type Key = (ContestId, SessionId);
    type Value = ClaimRecord;
    const NUMBER: u32 = 11;

    fn encode((contest, session): &Self::Key, claim: &ClaimRecord, writer: &mut Writer) {
        writer.message(1, contest);
        writer.number(2, session.get());
        writer.nested(3, |writer| encode_claim(claim, writer));
    }

    fn decode(mut reader: Reader) -> Result<(Self::Key, ClaimRecord), DecodeError> {
        fields!(reader => 1 contest: message, 2 session: number, 3 claim: bytes);
        let key = (required(contest, "contest")?, SessionId::new(required(session, "session")?));
        Ok((key, decode_claim(Reader::new(required(claim, "claim")?))?))
    }
}

/// Where a claim counts in its contest: holders first, the oldest grant first; then the queue, as it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Holding(FencingToken),
    Waiting(Reverse<i32>, Revision),
}

/// Permits of a lock whose first user named no number.
pub(super) const UNCOUNTED: u32 = u32::MAX;

impl ContestRecord {
    /// How many permits there are, where somebody said so.
    pub fn counted(&self) -> Option<u32> {
        (self.capacity != UNCOUNTED).then_some(self.capacity)
    }

    /// For how long nobody has held it: since the last holder had to be still.
    pub(super) fn vacant_ms(&self, now: Timestamp) -> u64 {
        if self.taken > 0 {
            return 0;
        }
        let open = self.recent.iter().filter(|transition| transition.successor.is_none());
        let since = open.map(|Transition { at, overdue_ms, .. }| {
            now.as_millis().saturating_sub(at.as_millis()).saturating_add(*overdue_ms)
        });
        since.min().unwrap_or_default()
    }
}

const FIRST: Rank = Rank::Holding(FencingToken::ZERO);
const FIRST_WAITING: Rank = Rank::Waiting(Reverse(i32::MAX), Revision::ZERO);
const LAST: Rank = Rank::Waiting(Reverse(i32::MIN), Revision::new(u64::MAX));

impl ClaimRecord {
    pub(super) fn rank(&self) -> Rank {
        match self.place {
            Place::Holding { token, .. } => Rank::Holding(token),
            Place::Waiting { since } => Rank::Waiting(Reverse(self.priority), since),
        }
    }

    /// The grant, when it is held.
    pub fn grant(&self, session: SessionId) -> Option<Grant> {
        match self.place {
            Place::Holding { token, since } => Some(Grant { session, token, since }),
            Place::Waiting { .. } => None,
        }
    }
}

/// All elections and locks.
#[derive(Debug, Clone, Default)]
pub struct Contests {
    pub(super) rows: Table<ContestRows>,
    pub(super) claims: Table<ClaimRows>,
    /// Derived from the claims.
    pub(super) by_rank: OrdMap<(ContestId, Rank), SessionId>,
    /// Derived from the claims.
    pub(super) by_session: BySession<ContestId>,
}

/// Reading.
impl Contests {
    /// What is known of a contest.
    pub fn get(&self, contest: &ContestId) -> Option<&ContestRecord> {
        self.rows.get(contest)
    }

    /// Every contest of one kind, or those of one namespace, in order of name.
    pub fn list<'a>(
        &'a self,
        kind: ContestKind,
        namespace: Option<&'a Namespace>,
    ) -> impl Iterator<Item = (&'a ContestId, &'a ContestRecord)> {
        let wanted = move |id: &ContestId| id.kind == kind && namespace.is_none_or(|wanted| id.namespace == *wanted);
        self.rows.iter().filter(move |(id, _)| wanted(id))
    }

    /// A session's claim.
    pub fn claim(&self, contest: &ContestId, session: SessionId) -> Option<&ClaimRecord> {
        self.claims.get(&(contest.clone(), session))
    }

    /// Who holds it, the oldest grant first.
    pub fn holders(&self, contest: &ContestId) -> impl Iterator<Item = (Grant, &ClaimRecord)> {
        self.ranks(contest, FIRST, FIRST_WAITING).filter_map(|(session, claim)| Some((claim.grant(session)?, claim)))
    }

    /// Who waits for it, the next first.
    pub fn waiting(&self, contest: &ContestId) -> impl Iterator<Item = (SessionId, &ClaimRecord)> {
        self.ranks(contest, FIRST_WAITING, LAST)
    }

    /// What a session claims, and where.
    pub fn of_session(&self, session: SessionId) -> impl Iterator<Item = (&ContestId, &ClaimRecord)> {
        self.by_session
            .of(session)
            .map(move |contest| (contest, self.claim(contest, session).expect("the index follows the claims")))
    }

    /// Whether that grant is still held.
    pub fn is_current(&self, fence: &Fence) -> bool {
        self.by_rank.contains_key(&(fence.contest.clone(), Rank::Holding(fence.token)))
    }

    /// The newest grant that there has been, as far as it is known still.
    pub fn newest(&self, contest: &ContestId) -> Option<FencingToken> {
        let held = self.holders(contest).map(|(grant, _)| grant.token).max();
        let ended = self.get(contest).and_then(|record| record.recent.iter().map(|transition| transition.token).max());
        held.max(ended)
    }

    /// How many claims there are in all contests.
    pub fn claims(&self) -> usize {
        self.claims.len()
    }

    /// Makes what is derived, once every row of a snapshot is back.
    pub(super) fn finish_loading(&mut self) {
        (self.by_rank, self.by_session) = self.indexes();
    }

    /// Whether the indexes say the same as the table, in which each claim has a rank of its own.
    pub(super) fn is_consistent(&self) -> bool {
        self.by_rank.len() == self.claims.len() && self.indexes() == (self.by_rank.clone(), self.by_session.clone())
    }

    fn indexes(&self) -> (OrdMap<(ContestId, Rank), SessionId>, BySession<ContestId>) {
        let rows = self.claims.iter();
        let by_rank = rows.map(|((contest, session), claim)| ((contest.clone(), claim.rank()), *session)).collect();
        let by_session = self.claims.iter().map(|((contest, session), _)| (*session, contest.clone())).collect();
        (by_rank, by_session)
    }

    fn ranks(
        &self,
        contest: &ContestId,
        from: Rank,
        to: Rank,
    ) -> impl Iterator<Item = (SessionId, &ClaimRecord)> + use<'_> {
        let range = (contest.clone(), from)..=(contest.clone(), to);
        self.by_rank.range(range).map(|((contest, _), session)| {
            (*session, self.claim(contest, *session).expect("the index follows the claims"))
        })
    }
}
