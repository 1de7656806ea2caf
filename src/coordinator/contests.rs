//! Elections and locks: claims, and how they are followed to a grant and beyond.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::bells::Bell;
use super::sessions::Alive;
use super::{Coordinator, CoordinatorError, Write, Written};
use crate::machine::command::{Action, ClaimLimits, ContestId, EndCause, NewClaim};
use crate::machine::contest::Grant;
use crate::machine::outcome::{Claimed, Effect, Origin};
use crate::types::{FencingToken, Revision, SessionId, Ttl};

/// The shortest and the longest time between two looks at a claim. Each is a sign of life of its session.
const LOOKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

fn between_looks(ttl: Ttl) -> Duration {
    (ttl.as_duration() / 3).clamp(LOOKS.0, LOOKS.1)
}

/// Where a claim stands, in a state that is as new as any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// How many are before it.
    Waiting { ahead: usize },
    Holding {
        grant: Grant,
        /// How long its holder may act on it, counted from when it sent the request, by its own clock.
        valid_for: Duration,
    },
}

/// A claim that is followed by the call that made it. Whoever follows keeps the session alive.
pub struct Following {
    coordinator: Coordinator,
    contest: ContestId,
    session: SessionId,
    began: Instant,
    /// When its session was heard of last, at the earliest, counted from `began`.
    heard: Duration,
    /// An older state knows nothing of the claim.
    since: Revision,
    bell: Bell,
    /// When to look again.
    look_again: Instant,
    /// What was granted, once it was.
    granted: Option<FencingToken>,
}

impl Coordinator {
    /// Campaigns in an election or asks for a lock.
    ///
    /// # Errors
    /// When its session has ended, the claim is refused, or the cluster cannot do it now.
    pub async fn claim(
        &self,
        contest: ContestId,
        session: SessionId,
        claim: NewClaim,
        write: Write,
    ) -> Result<Following, CoordinatorError> {
        self.check_metadata(&claim.metadata)?;
        let began = Instant::now();
        let bell = self.bells.listen(session);
        let limits = ClaimLimits { waiting: self.sessions.max_waiting, claims: self.sessions.max_holds };
        let action = Action::Claim { contest: contest.clone(), session, claim, limits };
        let written = self.propose_alive(action, session, write).await?;
        let Written { revision: since, origin, effect: claimed } =
            written.map(|effect| if let Effect::Claimed(claimed) = effect { Some(claimed) } else { None });
        let (granted, look_again) = match (origin, claimed) {
            // Then it is this grant that was answered before, whatever came after it.
            (Origin::Remembered, Claimed::Granted(grant)) => (Some(grant.token), began),
            (Origin::Remembered | Origin::Fresh, _) => {
                let ttl = self.state().sessions().get(session).map(|record| record.ttl);
                (None, began + ttl.map_or(Duration::ZERO, between_looks))
            }
        };
        let (coordinator, heard) = (self.clone(), Duration::ZERO);
        Ok(Following { coordinator, contest, session, began, heard, since, bell, look_again, granted })
    }

    /// Gives up a grant, or a place in the queue; what was given up.
    ///
    /// # Errors
    /// When the session does not hold that grant, or the cluster cannot do it now.
    pub async fn release(
        &self,
        contest: ContestId,
        session: SessionId,
        token: Option<FencingToken>,
        cause: EndCause,
        write: Write,
    ) -> Result<Written<Option<FencingToken>>, CoordinatorError> {
        let written = self.propose(Action::Release { contest, session, token, cause }, write).await?;
        Ok(written.map(|effect| if let Effect::Released { token } = effect { Some(token) } else { None }))
    }

    /// Takes one grant, or all of them, away from whoever holds them; how many there were.
    ///
    /// # Errors
    /// When the cluster cannot do it now.
    pub async fn revoke(
        &self,
        contest: ContestId,
        token: Option<FencingToken>,
        write: Write,
    ) -> Result<Written<u64>, CoordinatorError> {
        let written = self.propose(Action::Revoke { contest, token }, write).await?;
        Ok(written.map(|effect| if let Effect::Revoked { count } = effect { Some(count) } else { None }))
    }
}

impl Following {
    /// Gives a sign of life, and looks where the claim stands now.
    ///
    /// # Errors
    /// When the session or the claim has ended, or the cluster cannot say before `deadline`.
    pub async fn look(&mut self, deadline: Instant) -> Result<(Revision, Standing), CoordinatorError> {
        let (contest, session) = (&self.contest, self.session);
        let heard = self.began.elapsed();
        let alive = self.coordinator.keep_alive_since(session, self.began, deadline).await;
        // Who is told at once that it cannot be said now does not ask again at once.
        self.look_again = Instant::now() + alive.as_ref().map_or(LOOKS.0, |alive| between_looks(alive.ttl));
        let Alive { valid_for, state, .. } = alive?;
        self.heard = heard;
        let over = || CoordinatorError::ClaimOver { contest: contest.clone(), session, token: self.granted };
        let claim = state.contests().claim(contest, session).ok_or_else(over)?;
        let standing = match (self.granted, claim.grant(session)) {
            // It has been lost since, and claimed again by another call.
            (Some(token), now) if now.is_none_or(|grant| grant.token != token) => return Err(over()),
            (_, Some(grant)) => Standing::Holding { grant, valid_for },
            (_, None) => {
                let before = state.contests().waiting(contest).take_while(|(other, _)| *other != session);
                Standing::Waiting { ahead: before.count() }
            }
        };
        if let Standing::Holding { grant, .. } = standing {
            self.granted = Some(grant.token);
        }
        Ok((state.revision(), standing))
    }

    /// The grant, when this member knows of it and the last sign of life leaves time to act on it. That costs no round: a
    /// grant is held for as long as its session lives, and the session lives for its whole time from each sign of life.
    fn known_grant(&self) -> Option<(Revision, Grant, Duration)> {
        let state = self.coordinator.state();
        let ttl = state.sessions().alive(self.session).ok()?.ttl.as_duration();
        let grant = state.contests().claim(&self.contest, self.session)?.grant(self.session)?;
        let is_this_one = self.granted.is_none_or(|token| token == grant.token) && state.revision() >= self.since;
        let is_recent = self.began.elapsed() < self.heard + ttl / 2;
        let valid_for = self.coordinator.clock_drift().valid(self.heard + ttl);
        (is_this_one && is_recent).then(|| (state.revision(), grant, valid_for))
    }

    /// Waits until there is something to look at: news, or the time for another sign of life. At most until `limit`. Whether
    /// there is news.
    pub async fn changed(&mut self, limit: Instant) -> bool {
        timeout_at(self.look_again.min(limit), self.bell.rung()).await.is_ok()
    }

    /// Waits for a grant until `limit`.
    ///
    /// # Errors
    /// As [`Following::look`], and [`CoordinatorError::StillWaiting`] when there was none; the claim goes on waiting.
    pub async fn granted(
        &mut self,
        limit: Instant,
        deadline: Instant,
    ) -> Result<(Revision, Grant, Duration), CoordinatorError> {
        let mut has_news = false;
        loop {
            if let Some(known) = self.known_grant() {
                return Ok(known);
            }
            if has_news || Instant::now() >= self.look_again.min(limit) {
                match self.look(deadline.max(limit)).await? {
                    (revision, Standing::Holding { grant, valid_for }) => return Ok((revision, grant, valid_for)),
                    (_, Standing::Waiting { ahead }) if Instant::now() >= limit => {
                        return Err(CoordinatorError::StillWaiting { contest: self.contest.clone(), ahead });
                    }
                    (_, Standing::Waiting { .. }) => {}
                }
            }
            has_news = self.changed(limit).await;
        }
    }
}
