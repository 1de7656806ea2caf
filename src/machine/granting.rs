//! Who gets what, and who loses it: the only code that changes contests.

use std::sync::Arc;

use super::command::{ClaimLimits, ContestId, ContestKind, ElectionSpec, NewClaim, Otherwise, Permits};
use super::contest::{ClaimRecord, ContestRecord, Contests, Grant, Place, Transition, UNCOUNTED};
use super::event::{Cause, Change};
use super::outcome::{Claimed, Rejection};
use super::turn::Turn;
use crate::types::{FencingToken, SessionId};

/// Transitions that are kept of one contest.
pub(super) const RECENT: usize = 20;

/// Why a claim ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) cause: Cause,
    /// Since when its holder had to be still, in milliseconds.
    pub(super) overdue_ms: u64,
}

impl End {
    /// An end that nobody had to wait for.
    pub(super) fn at_once(cause: Cause) -> Self {
        Self { cause, overdue_ms: 0 }
    }
}

impl Contests {
    /// Enters the claim of a session that lives, or goes on with the one that it has.
    pub(super) fn enter(
        &mut self,
        contest: &ContestId,
        session: SessionId,
        new: &NewClaim,
        limits: ClaimLimits,
        turn: &mut Turn,
    ) -> Result<Claimed, Rejection> {
        let record = self.record_for(contest, new)?;
        let claim = ClaimRecord {
            candidate: new.candidate.clone(),
            priority: new.priority,
            permits: permits_of(contest, new, record.capacity)?,
            metadata: new.metadata.clone(),
            place: Place::Waiting { since: turn.revision },
        };
        let Some(present) = self.claim(contest, session) else {
            self.admit(contest, &record, &claim, new.otherwise, limits.waiting)?;
            if self.by_session.count(session) >= limits.claims as usize {
                return Err(Rejection::TooManyClaims { session, limit: limits.claims });
            }
            return Ok(self.come(contest, session, record, claim, turn));
        };
        match (present.grant(session), new.otherwise) {
            // It would wait for itself: whoever wants more than it holds gives that up first.
            (Some(holder), _) if claim.permits > present.permits => {
                Err(Rejection::Held { contest: contest.clone(), holder })
            }
            (Some(grant), _) => Ok(Claimed::Granted(grant)),
            (None, Otherwise::Refuse) => Err(self.held(contest)),
            (None, Otherwise::Wait) => {
                let claim = ClaimRecord { place: present.place, ..claim };
                Ok(self.go_on(contest, session, claim, turn))
            }
        }
    }

    /// Whether a new claim may come in: because it is served at once, or because it may wait.
    fn admit(
        &self,
        contest: &ContestId,
        record: &ContestRecord,
        claim: &ClaimRecord,
        otherwise: Otherwise,
        limit: u32,
    ) -> Result<(), Rejection> {
        let is_next = self.waiting(contest).next().is_none_or(|(_, first)| claim.rank() < first.rank());
        if is_next && claim.permits <= record.capacity - record.taken {
            return Ok(());
        }
        match otherwise {
            Otherwise::Refuse => Err(self.held(contest)),
            Otherwise::Wait if record.waiting >= limit => {
                Err(Rejection::TooManyWaiting { contest: contest.clone(), limit })
            }
            Otherwise::Wait => Ok(()),
        }
    }

    /// A new claim comes into the queue, and leaves it at once when it can be served.
    fn come(
        &mut self,
        contest: &ContestId,
        session: SessionId,
        record: ContestRecord,
        claim: ClaimRecord,
        turn: &mut Turn,
    ) -> Claimed {
        self.rows.insert(contest.clone(), ContestRecord { waiting: record.waiting + 1, ..record });
        self.put_claim(contest, session, claim);
        self.settle(contest, turn);
        let claimed = self.standing(contest, session);
        if claimed == Claimed::Waiting {
            turn.changes.push(Change::Waiting { contest: contest.clone(), session });
        }
        claimed
    }

    /// A session that waits asks again. Nothing is doubled and it keeps its place, but it may say something else, and
    /// that may let it be served, or whoever is behind it.
    fn go_on(&mut self, contest: &ContestId, session: SessionId, claim: ClaimRecord, turn: &mut Turn) -> Claimed {
        if self.claim(contest, session) != Some(&claim) {
            turn.changes.push(Change::Waiting { contest: contest.clone(), session });
            self.put_claim(contest, session, claim);
            self.settle(contest, turn);
        }
        self.standing(contest, session)
    }

    fn standing(&self, contest: &ContestId, session: SessionId) -> Claimed {
        let grant = self.claim(contest, session).and_then(|claim| claim.grant(session));
        grant.map_or(Claimed::Waiting, Claimed::Granted)
    }

    /// The contest as it is, or as its first claim makes it. Only its custom resource says how many seats an election has.
    fn record_for(&self, contest: &ContestId, new: &NewClaim) -> Result<ContestRecord, Rejection> {
        let (asked, usual) = match contest.kind {
            ContestKind::Election => (None, 1),
            ContestKind::Lock => (new.capacity.map(|capacity| capacity.max(1)), UNCOUNTED),
        };
        match self.get(contest) {
            Some(record) if asked.is_some_and(|asked| asked != record.capacity) => {
                Err(Rejection::OtherCapacity { contest: contest.clone(), capacity: record.capacity })
            }
            Some(record) => Ok(record.clone()),
            None => Ok(empty(asked.unwrap_or(usual))),
        }
    }

    /// Why a claim that will not wait is refused. Whenever a claim must wait, somebody holds something.
    fn held(&self, contest: &ContestId) -> Rejection {
        let newest = self.holders(contest).last().map(|(grant, _)| grant);
        Rejection::Held { contest: contest.clone(), holder: newest.expect("a claim waits only for a holder") }
    }

    /// Ends a session's claim; the token, when it held one. The next is served by [`Contests::settle`].
    pub(super) fn leave(
        &mut self,
        contest: &ContestId,
        session: SessionId,
        end: End,
        turn: &mut Turn,
    ) -> Option<FencingToken> {
        let claim = self.take_claim(contest, session)?;
        let mut record = self.get(contest).expect("a claim has a contest").clone();
        let grant = claim.grant(session);
        match grant {
            Some(grant) => {
                record.taken -= claim.permits;
                record.transitions += 1;
                let Grant { token, .. } = grant;
                let (at, End { cause, overdue_ms }) = (turn.at, end);
                let transition =
                    Transition { at, cause, token, candidate: claim.candidate, overdue_ms, successor: None };
                record.recent.insert(0, transition);
                record.recent.truncate(RECENT);
                turn.changes.push(Change::Lost { contest: contest.clone(), grant, cause });
            }
            None => {
                record.waiting -= 1;
                turn.changes.push(Change::Withdrawn { contest: contest.clone(), session });
            }
        }
        self.rows.insert(contest.clone(), record);
        grant.map(|grant| grant.token)
    }

    /// Grants what is free to whoever is next, and forgets a lock that nobody claims any more.
    pub(super) fn settle(&mut self, contest: &ContestId, turn: &mut Turn) {
        let Some(mut record) = self.get(contest).cloned() else { return };
        loop {
            let next = self.waiting(contest).next().map(|(session, claim)| (session, claim.clone()));
            let Some((session, claim)) = next else { break };
            if claim.permits > record.capacity.saturating_sub(record.taken) {
                break;
            }
            let grant = Grant { session, token: turn.token(), since: turn.at };
            let vacant_ms = record.vacant_ms(turn.at);
            if let Some(open) = record.recent.iter_mut().find(|transition| transition.successor.is_none()) {
                open.successor = Some((grant.token, vacant_ms));
            }
            record.taken += claim.permits;
            record.waiting -= 1;
            let place = Place::Holding { token: grant.token, since: grant.since };
            let claim = ClaimRecord { place, ..claim };
            self.put_claim(contest, session, claim.clone());
            turn.changes.push(Change::Granted { contest: contest.clone(), grant, claim: Arc::new(claim) });
        }
        if contest.kind == ContestKind::Lock && record.taken == 0 {
            self.rows.remove(contest);
        } else {
            self.rows.insert(contest.clone(), record);
        }
    }

    /// Sets what a custom resource says of an election; leaders that have no seat any more lose it, the newest first. One
    /// that has no resource any more keeps its seats.
    pub(super) fn set_spec(&mut self, election: &ContestId, spec: Option<ElectionSpec>, turn: &mut Turn) {
        let known = self.get(election).cloned();
        if known.as_ref().and_then(|record| record.spec) == spec {
            return;
        }
        let mut record = known.unwrap_or_else(|| empty(1));
        record.spec = spec;
        record.capacity = spec.map_or(record.capacity, |spec| spec.seats.max(1));
        let (capacity, is_used) = (record.capacity, record.taken > 0 || record.transitions > 0);
        turn.changes.push(Change::ElectionSet { election: election.clone() });
        if spec.is_none() && !is_used {
            self.rows.remove(election);
            return;
        }
        self.rows.insert(election.clone(), record);
        let seated: Vec<_> = self.holders(election).map(|(grant, _)| grant.session).collect();
        for session in seated.into_iter().skip(capacity as usize).rev() {
            self.leave(election, session, End::at_once(Cause::Removed), turn);
        }
        self.settle(election, turn);
    }

    fn put_claim(&mut self, contest: &ContestId, session: SessionId, claim: ClaimRecord) {
        let key = (contest.clone(), session);
        self.by_rank.insert((contest.clone(), claim.rank()), session);
        self.by_session.add(session, contest.clone());
        let rank = claim.rank();
        if let Some(before) = self.claims.insert(key, claim).filter(|before| before.rank() != rank) {
            self.by_rank.remove(&(contest.clone(), before.rank()));
        }
    }

    fn take_claim(&mut self, contest: &ContestId, session: SessionId) -> Option<ClaimRecord> {
        let claim = self.claims.remove(&(contest.clone(), session))?;
        self.by_rank.remove(&(contest.clone(), claim.rank()));
        self.by_session.remove(session, contest);
        Some(claim)
    }
}

fn empty(capacity: u32) -> ContestRecord {
    ContestRecord { capacity, taken: 0, waiting: 0, spec: None, transitions: 0, recent: Vec::new() }
}

fn permits_of(contest: &ContestId, new: &NewClaim, capacity: u32) -> Result<u32, Rejection> {
    match (contest.kind, new.permits) {
        (ContestKind::Election, _) => Ok(1),
        (ContestKind::Lock, Permits::All) => Ok(capacity),
        (ContestKind::Lock, Permits::Some(permits)) if permits > capacity => {
            Err(Rejection::TooManyPermits { contest: contest.clone(), permits, capacity })
        }
        (ContestKind::Lock, Permits::Some(permits)) => Ok(permits.max(1)),
    }
}
