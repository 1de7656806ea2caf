//! What sessions begin and end: the sessions themselves, their claims, their keys, and what they say as consumers.

use std::collections::BTreeSet;

use super::Machine;
use super::command::{
    ClaimLimits, ConfigId, ConsumerReport, ContestId, ContestKind, ElectionSpec, EndCause, NewClaim, NewSession,
    SilentSession,
};
use super::event::{Cause, Change};
use super::granting::End;
use super::outcome::{Effect, Outcome, Rejection};
use super::turn::Turn;
use super::txn;
use crate::types::{ContestName, FencingToken, Namespace, SessionId};

impl Machine {
    pub(super) fn create_session(&mut self, session: &NewSession, limit: u32, turn: &mut Turn) -> Outcome {
        if self.sessions.len() >= limit as usize {
            return Err(Rejection::TooManySessions { limit });
        }
        let session = self.sessions.create(session, turn.at);
        turn.changes.push(Change::SessionCreated { session });
        Ok(Effect::SessionCreated(session))
    }

    pub(super) fn end_session(&mut self, session: SessionId, cause: EndCause, turn: &mut Turn) -> Outcome {
        match self.sessions.alive(session) {
            Ok(_) => {}
            Err(Rejection::SessionOver { .. }) => return Ok(Effect::SessionEnded { existed: false }),
            Err(rejection) => return Err(rejection),
        }
        let cause = match cause {
            EndCause::GivenUp => Cause::SessionEnded,
            EndCause::ClientExited => Cause::ClientExited,
        };
        let left = self.take_everything(session, End::at_once(cause), turn);
        self.settle(left, turn);
        Ok(Effect::SessionEnded { existed: true })
    }

    /// All of them end before anything is granted anew, so that none of them is granted anything.
    pub(super) fn expire_sessions(&mut self, silent: &[SilentSession], turn: &mut Turn) -> Outcome {
        let (mut count, mut left) = (0, BTreeSet::new());
        for SilentSession { session, overdue_ms } in silent {
            if self.sessions.get(*session).is_some() {
                let end = End { cause: Cause::SessionExpired, overdue_ms: *overdue_ms };
                left.extend(self.take_everything(*session, end, turn));
                count += 1;
            }
        }
        self.settle(left, turn);
        Ok(Effect::SessionsExpired { count })
    }

    /// Ends a session with all that it holds; the contests that it leaves are to be settled.
    fn take_everything(&mut self, session: SessionId, end: End, turn: &mut Turn) -> BTreeSet<ContestId> {
        let contests: BTreeSet<_> = self.contests.of_session(session).map(|(contest, _)| contest.clone()).collect();
        for contest in &contests {
            self.contests.leave(contest, session, end, turn);
        }
        for key in self.keys.of_session(session) {
            txn::delete(&key, &mut self.keys, turn);
        }
        self.consumers.forget(session);
        self.sessions.end(session, end.cause);
        turn.changes.push(Change::SessionEnded { session, cause: end.cause });
        contests
    }

    fn settle(&mut self, contests: impl IntoIterator<Item = ContestId>, turn: &mut Turn) {
        for contest in contests {
            self.contests.settle(&contest, turn);
        }
    }

    pub(super) fn claim(
        &mut self,
        contest: &ContestId,
        session: SessionId,
        claim: &NewClaim,
        limits: ClaimLimits,
        turn: &mut Turn,
    ) -> Outcome {
        self.sessions.alive(session)?;
        self.contests.enter(contest, session, claim, limits, turn).map(Effect::Claimed)
    }

    pub(super) fn release(
        &mut self,
        contest: &ContestId,
        session: SessionId,
        token: Option<FencingToken>,
        cause: EndCause,
        turn: &mut Turn,
    ) -> Outcome {
        self.sessions.alive(session)?;
        let held = self.contests.claim(contest, session).and_then(|claim| claim.grant(session));
        let current = held.map(|grant| grant.token);
        if token.is_some() && token != current {
            return Err(Rejection::NotHeld { contest: contest.clone(), session, current });
        }
        let cause = match cause {
            EndCause::GivenUp => Cause::Resigned,
            EndCause::ClientExited => Cause::ClientExited,
        };
        let token = self.contests.leave(contest, session, End::at_once(cause), turn);
        self.contests.settle(contest, turn);
        Ok(Effect::Released { token })
    }

    pub(super) fn revoke(&mut self, contest: &ContestId, token: Option<FencingToken>, turn: &mut Turn) -> Outcome {
        let holders = self.contests.holders(contest).map(|(grant, _)| grant);
        let taken: Vec<_> = holders.filter(|grant| token.is_none_or(|token| grant.token == token)).collect();
        for grant in &taken {
            self.contests.leave(contest, grant.session, End::at_once(Cause::Removed), turn);
        }
        self.contests.settle(contest, turn);
        Ok(Effect::Revoked { count: taken.len() as u64 })
    }

    pub(super) fn set_election(
        &mut self,
        namespace: &Namespace,
        name: &ContestName,
        spec: Option<ElectionSpec>,
        turn: &mut Turn,
    ) -> Outcome {
        let (namespace, name) = (namespace.clone(), name.clone());
        self.contests.set_spec(&ContestId { kind: ContestKind::Election, namespace, name }, spec, turn);
        Ok(Effect::ElectionSet)
    }

    pub(super) fn report_consumer(
        &mut self,
        config: &ConfigId,
        session: SessionId,
        report: &ConsumerReport,
        turn: &mut Turn,
    ) -> Outcome {
        self.sessions.alive(session)?;
        let newest = self.configs.get(config).map(|record| record.version);
        if newest.is_none_or(|newest| report.version > newest) {
            return Err(self.configs.no_such_version(config, report.version));
        }
        let changed = self.consumers.report(config, session, report, turn.at);
        if changed {
            turn.changes.push(Change::ConsumerReported { config: config.clone(), session });
        }
        Ok(Effect::ConsumerReported { changed })
    }
}
