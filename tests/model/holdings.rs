//! Sessions and what they hold, in the manner of the model: every queue is a list, every count is counted anew, and after
//! whatever was done each contest is looked at again.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate::machine::command::{
    ClaimLimits, ConfigId, ConsumerReport, ContestId, ContestKind, ElectionSpec, EndCause, Fence, NewClaim, NewSession,
    Otherwise, Permits, SilentSession,
};
use quorate::machine::contest::{ClaimRecord, Grant, Place, Transition};
use quorate::machine::event::{Cause, Change};
use quorate::machine::outcome::{Claimed, Effect, Rejection};
use quorate::machine::session::SessionRecord;
use quorate::types::{FencingToken, Key, Revision, SessionId, Timestamp};

use super::model::Moment;

#[derive(Clone, Default)]
pub struct Holdings {
    pub sessions: BTreeMap<SessionId, SessionRecord>,
    /// Of every session that ever was, in order: why it ended, if it has.
    pub fates: Vec<Option<Cause>>,
    pub contests: BTreeMap<ContestId, Contest>,
    pub consumers: BTreeMap<(ConfigId, SessionId), (ConsumerReport, Timestamp)>,
}

#[derive(Clone)]
pub struct Contest {
    pub capacity: u32,
    pub spec: Option<ElectionSpec>,
    /// The oldest grant first.
    pub holders: Vec<(Grant, Claim)>,
    /// In the order in which they came.
    pub queue: Vec<(SessionId, Claim)>,
    pub transitions: u64,
    /// The newest first.
    pub recent: Vec<Transition>,
}

/// What a session asked for, and how many permits that makes.
#[derive(Clone, PartialEq)]
pub struct Claim {
    pub asked: NewClaim,
    pub permits: u32,
}

impl Contest {
    fn new(capacity: u32) -> Self {
        Self { capacity, spec: None, holders: vec![], queue: vec![], transitions: 0, recent: vec![] }
    }

    pub fn taken(&self) -> u32 {
        self.holders.iter().map(|(_, claim)| claim.permits).sum()
    }

    /// Those who wait, as they are served: sorting keeps the order of those with one priority.
    pub fn in_line(&self) -> Vec<(SessionId, Claim)> {
        let mut line = self.queue.clone();
        line.sort_by_key(|(_, claim)| std::cmp::Reverse(claim.asked.priority));
        line
    }

    pub fn has(&self, session: SessionId) -> bool {
        self.holders.iter().any(|(grant, _)| grant.session == session) || self.queue.iter().any(|(s, _)| *s == session)
    }
}

/// Reading.
impl Holdings {
    pub fn alive(&self, session: SessionId) -> Result<(), Rejection> {
        match position(session).and_then(|position| self.fates.get(position)) {
            None => Err(Rejection::NoSuchSession { session }),
            Some(None) => Ok(()),
            Some(cause) => Err(Rejection::SessionOver { session, cause: *cause }),
        }
    }

    pub fn is_current(&self, fence: &Fence) -> bool {
        let holders = self.contests.get(&fence.contest).map_or(&[][..], |contest| &contest.holders);
        holders.iter().any(|(grant, _)| grant.token == fence.token)
    }
}

/// One command that is done to a copy.
pub struct Doing<'a> {
    pub holdings: Holdings,
    keys: &'a Moment,
    at: Timestamp,
    present: Revision,
    pub changes: Vec<Change>,
}

impl<'a> Doing<'a> {
    pub fn new(holdings: &Holdings, keys: &'a Moment, at: Timestamp, present: Revision) -> Self {
        Self { holdings: holdings.clone(), keys, at, present, changes: Vec::new() }
    }

    pub fn create(&mut self, new: &NewSession, limit: u32) -> Result<Effect, Rejection> {
        let Holdings { sessions, fates, .. } = &mut self.holdings;
        if sessions.len() as u64 >= u64::from(limit) {
            return Err(Rejection::TooManySessions { limit });
        }
        fates.push(None);
        let session = SessionId::new(fates.len() as u64);
        let NewSession { ttl, client, metadata } = new.clone();
        sessions.insert(session, SessionRecord { ttl, client, metadata, created_at: self.at });
        self.changes.push(Change::SessionCreated { session });
        Ok(Effect::SessionCreated(session))
    }

    pub fn end(&mut self, session: SessionId, cause: EndCause) -> Result<Effect, Rejection> {
        match self.holdings.alive(session) {
            Ok(()) => {}
            Err(Rejection::SessionOver { .. }) => return Ok(Effect::SessionEnded { existed: false }),
            Err(rejection) => return Err(rejection),
        }
        let cause = if cause == EndCause::ClientExited { Cause::ClientExited } else { Cause::SessionEnded };
        self.finish(session, cause, 0);
        self.serve();
        Ok(Effect::SessionEnded { existed: true })
    }

    pub fn expire(&mut self, silent: &[SilentSession]) -> Effect {
        let mut count = 0;
        for SilentSession { session, overdue_ms } in silent {
            if self.holdings.sessions.contains_key(session) {
                self.finish(*session, Cause::SessionExpired, *overdue_ms);
                count += 1;
            }
        }
        self.serve();
        Effect::SessionsExpired { count }
    }

    fn finish(&mut self, session: SessionId, cause: Cause, overdue_ms: u64) {
        let contests: Vec<_> = self.holdings.contests.keys().cloned().collect();
        for contest in &contests {
            self.leave(contest, session, cause, overdue_ms);
        }
        let bound = self.keys.iter().filter(|(_, record)| record.session == Some(session));
        let gone: Vec<Key> = bound.map(|(key, _)| key.clone()).collect();
        self.changes.extend(gone.into_iter().map(|key| Change::KeyDeleted { key }));
        self.holdings.consumers.retain(|(_, consumer), _| *consumer != session);
        self.holdings.sessions.remove(&session);
        self.holdings.fates[position(session).unwrap()] = Some(cause);
        self.changes.push(Change::SessionEnded { session, cause });
    }

    fn leave(&mut self, id: &ContestId, session: SessionId, cause: Cause, overdue_ms: u64) -> Option<FencingToken> {
        let (at, contest) = (self.at, self.holdings.contests.get_mut(id)?);
        if let Some(place) = contest.queue.iter().position(|(waiter, _)| *waiter == session) {
            contest.queue.remove(place);
            self.changes.push(Change::Withdrawn { contest: id.clone(), session });
            return None;
        }
        let place = contest.holders.iter().position(|(grant, _)| grant.session == session)?;
        let (grant, claim) = contest.holders.remove(place);
        contest.transitions += 1;
        let (token, candidate) = (grant.token, claim.asked.candidate);
        contest.recent.insert(0, Transition { at, cause, token, candidate, overdue_ms, successor: None });
        contest.recent.truncate(20);
        self.changes.push(Change::Lost { contest: id.clone(), grant, cause });
        Some(token)
    }

    /// Serves everybody who can be, and forgets locks without a holder.
    fn serve(&mut self) {
        for (id, contest) in &mut self.holdings.contests {
            while let Some((session, claim)) = contest.in_line().into_iter().next() {
                if u64::from(contest.taken()) + u64::from(claim.permits) > u64::from(contest.capacity) {
                    break;
                }
                // The first grant of a command is in its first revision, and each further one in the next.
                let earlier = self.changes.iter().filter(|change| matches!(change, Change::Granted { .. })).count();
                let token = FencingToken::new(self.present.get() + 1 + earlier as u64);
                let vacant_ms = if contest.holders.is_empty() { vacant(&contest.recent, self.at) } else { 0 };
                if let Some(open) = contest.recent.iter_mut().find(|transition| transition.successor.is_none()) {
                    open.successor = Some((token, vacant_ms));
                }
                let grant = Grant { session, token, since: self.at };
                contest.queue.retain(|(waiter, _)| *waiter != session);
                let granted = Arc::new(ClaimRecord {
                    candidate: claim.asked.candidate.clone(),
                    priority: claim.asked.priority,
                    permits: claim.permits,
                    metadata: claim.asked.metadata.clone(),
                    place: Place::Holding { token, since: grant.since },
                });
                contest.holders.push((grant, claim));
                self.changes.push(Change::Granted { contest: id.clone(), grant, claim: granted });
            }
        }
        self.holdings.contests.retain(|id, contest| id.kind == ContestKind::Election || !contest.holders.is_empty());
    }

    pub fn claim(
        &mut self,
        id: &ContestId,
        session: SessionId,
        asked: &NewClaim,
        limits: ClaimLimits,
    ) -> Result<Effect, Rejection> {
        self.holdings.alive(session)?;
        let (capacity, permits) = self.measure(id, asked)?;
        let contest = self.holdings.contests.get(id).cloned().unwrap_or_else(|| Contest::new(capacity));
        let claim = Claim { asked: asked.clone(), permits };
        let held = |grant: Grant| Err(Rejection::Held { contest: id.clone(), holder: grant });
        if let Some((grant, present)) = contest.holders.iter().find(|(grant, _)| grant.session == session) {
            let is_more = permits > present.permits;
            return if is_more { held(*grant) } else { Ok(Effect::Claimed(Claimed::Granted(*grant))) };
        }
        let newest = contest.holders.last().map(|(grant, _)| *grant);
        let place = contest.queue.iter().position(|(waiter, _)| *waiter == session);
        if place.is_none() {
            let is_beaten = contest.queue.iter().any(|(_, other)| other.asked.priority >= asked.priority);
            let is_served = !is_beaten && permits <= capacity - contest.taken();
            if !is_served && asked.otherwise == Otherwise::Refuse {
                return held(newest.unwrap());
            }
            if !is_served && contest.queue.len() as u64 >= u64::from(limits.waiting) {
                return Err(Rejection::TooManyWaiting { contest: id.clone(), limit: limits.waiting });
            }
            let claims = self.holdings.contests.values().filter(|contest| contest.has(session)).count();
            if claims as u64 >= u64::from(limits.claims) {
                return Err(Rejection::TooManyClaims { session, limit: limits.claims });
            }
        } else if asked.otherwise == Otherwise::Refuse {
            return held(newest.unwrap());
        }
        Ok(self.line_up(id, session, contest, place, claim))
    }

    /// How many permits the contest has, and how many of them are asked for.
    fn measure(&self, id: &ContestId, asked: &NewClaim) -> Result<(u32, u32), Rejection> {
        let known = self.holdings.contests.get(id).map(|contest| contest.capacity);
        if id.kind == ContestKind::Election {
            return Ok((known.unwrap_or(1), 1));
        }
        let wanted = asked.capacity.map(|capacity| capacity.max(1));
        let capacity = known.or(wanted).unwrap_or(u32::MAX);
        if wanted.is_some_and(|wanted| wanted != capacity) {
            return Err(Rejection::OtherCapacity { contest: id.clone(), capacity });
        }
        match asked.permits {
            Permits::All => Ok((capacity, capacity)),
            Permits::Some(permits) if permits > capacity => {
                Err(Rejection::TooManyPermits { contest: id.clone(), permits, capacity })
            }
            Permits::Some(permits) => Ok((capacity, permits.max(1))),
        }
    }

    fn line_up(
        &mut self,
        id: &ContestId,
        session: SessionId,
        mut contest: Contest,
        place: Option<usize>,
        claim: Claim,
    ) -> Effect {
        let waiting = Change::Waiting { contest: id.clone(), session };
        match place {
            Some(place) if says_the_same(&contest.queue[place].1, &claim) => {}
            Some(place) => {
                contest.queue[place].1 = claim;
                self.changes.push(waiting.clone());
            }
            None => contest.queue.push((session, claim)),
        }
        self.holdings.contests.insert(id.clone(), contest);
        self.serve();
        let holders = &self.holdings.contests[id].holders;
        match holders.iter().find(|(grant, _)| grant.session == session) {
            Some((grant, _)) => Effect::Claimed(Claimed::Granted(*grant)),
            None => {
                self.changes.extend(place.is_none().then_some(waiting));
                Effect::Claimed(Claimed::Waiting)
            }
        }
    }

    pub fn release(
        &mut self,
        id: &ContestId,
        session: SessionId,
        token: Option<FencingToken>,
        cause: EndCause,
    ) -> Result<Effect, Rejection> {
        self.holdings.alive(session)?;
        let holders = self.holdings.contests.get(id).map_or(&[][..], |contest| &contest.holders);
        let current = holders.iter().find(|(grant, _)| grant.session == session).map(|(grant, _)| grant.token);
        if token.is_some() && token != current {
            return Err(Rejection::NotHeld { contest: id.clone(), session, current });
        }
        let cause = if cause == EndCause::ClientExited { Cause::ClientExited } else { Cause::Resigned };
        let token = self.leave(id, session, cause, 0);
        self.serve();
        Ok(Effect::Released { token })
    }

    pub fn revoke(&mut self, id: &ContestId, token: Option<FencingToken>) -> Effect {
        let holders = self.holdings.contests.get(id).map_or(vec![], |contest| contest.holders.clone());
        let taken: Vec<_> =
            holders.iter().filter(|(grant, _)| token.is_none_or(|token| token == grant.token)).collect();
        for (grant, _) in &taken {
            self.leave(id, grant.session, Cause::Removed, 0);
        }
        self.serve();
        Effect::Revoked { count: taken.len() as u64 }
    }

    pub fn set_election(&mut self, id: &ContestId, spec: Option<ElectionSpec>) -> Effect {
        let known = self.holdings.contests.get(id);
        if known.and_then(|contest| contest.spec) == spec {
            return Effect::ElectionSet;
        }
        self.changes.push(Change::ElectionSet { election: id.clone() });
        let mut contest = known.cloned().unwrap_or_else(|| Contest::new(1));
        contest.spec = spec;
        if let Some(spec) = spec {
            contest.capacity = spec.seats.max(1);
        }
        let was_used = contest.transitions > 0 || !contest.holders.is_empty();
        let unseated = contest.holders.iter().skip(contest.capacity as usize).map(|(grant, _)| grant.session);
        let unseated: Vec<_> = unseated.collect();
        self.holdings.contests.insert(id.clone(), contest);
        for session in unseated.into_iter().rev() {
            self.leave(id, session, Cause::Removed, 0);
        }
        if spec.is_none() && !was_used {
            self.holdings.contests.remove(id);
        }
        self.serve();
        Effect::ElectionSet
    }

    pub fn report(&mut self, config: &ConfigId, session: SessionId, report: &ConsumerReport) -> Effect {
        let key = (config.clone(), session);
        let changed = self.holdings.consumers.get(&key).is_none_or(|(known, _)| known != report);
        if changed {
            self.holdings.consumers.insert(key, (report.clone(), self.at));
            self.changes.push(Change::ConsumerReported { config: config.clone(), session });
        }
        Effect::ConsumerReported { changed }
    }
}

/// Where a session is in the list of all: they are counted from 1.
fn position(session: SessionId) -> Option<usize> {
    usize::try_from(session.get()).unwrap().checked_sub(1)
}

/// Whether a claim is what it was, but for what it was to do when it could not be served.
fn says_the_same(one: &Claim, other: &Claim) -> bool {
    let (a, b) = (&one.asked, &other.asked);
    one.permits == other.permits && (&a.candidate, a.priority, &a.metadata) == (&b.candidate, b.priority, &b.metadata)
}

/// For how long nobody has held anything: since the last who did had to be still.
fn vacant(recent: &[Transition], now: Timestamp) -> u64 {
    let open = recent.iter().filter(|transition| transition.successor.is_none());
    let since = open.map(|it| now.as_millis().saturating_sub(it.at.as_millis()) + it.overdue_ms);
    since.min().unwrap_or(0)
}
