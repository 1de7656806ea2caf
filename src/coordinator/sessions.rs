//! Sessions: the liveness of clients.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Coordinator, CoordinatorError, Write, Written};
use crate::machine::Machine;
use crate::machine::command::{Action, ContestId, EndCause, Metadata, NewSession};
use crate::machine::contest::Grant;
use crate::machine::outcome::{Effect, Origin};
use crate::raft::{Attendance, Unavailable};
use crate::types::{ClockDrift, Revision, SessionId, SessionName, Ttl};

/// Sessions whose signs of life may wait at a time, in few rounds.
pub(super) const KEEP_ALIVES: usize = 131_072;

/// A session that has just been heard of.
#[derive(Debug, Clone)]
pub struct Alive {
    pub session: SessionId,
    pub ttl: Ttl,
    /// How long its client may act on it, counted from when it sent the request, by its own clock.
    pub valid_for: Duration,
    /// In which it lives.
    pub state: Arc<Machine>,
}

impl Alive {
    /// What it holds.
    pub fn holds(&self) -> impl Iterator<Item = (&ContestId, Grant)> {
        let claims = self.state.contests().of_session(self.session);
        claims.filter_map(|(contest, claim)| Some((contest, claim.grant(self.session)?)))
    }
}

impl Coordinator {
    /// The session that is called so.
    ///
    /// # Errors
    /// When it is one of another cluster.
    pub fn session(&self, name: &SessionName) -> Result<SessionId, CoordinatorError> {
        let state = self.state();
        let is_ours = state.cluster().is_none_or(|cluster| name.is_of(cluster));
        if is_ours { Ok(name.session) } else { Err(CoordinatorError::ForeignSession(name.clone())) }
    }

    /// What a session is called, once the cluster is founded.
    pub fn session_name(&self, session: SessionId) -> Option<SessionName> {
        self.state().cluster().map(|cluster| SessionName::new(cluster, session))
    }

    /// Begins a session.
    ///
    /// # Errors
    /// When there are too many, its metadata is too large, or the cluster cannot do it now. When the session of an earlier
    /// try has ended since.
    pub async fn create_session(&self, session: NewSession, write: Write) -> Result<Written<Alive>, CoordinatorError> {
        self.check_metadata(&session.metadata)?;
        let (ttl, deadline) = (session.ttl, write.deadline);
        let action = Action::CreateSession { session, limit: self.sessions.max_sessions };
        let written = self.propose(action, write).await?;
        let Written { revision, origin, effect: session } =
            written.map(|effect| if let Effect::SessionCreated(session) = effect { Some(session) } else { None });
        let alive = match origin {
            Origin::Fresh => {
                let valid_for = self.sessions.clock_drift.valid(ttl.as_duration());
                Alive { session, ttl, valid_for, state: self.state() }
            }
            // It may be old, and may have ended.
            Origin::Remembered => self.keep_alive(session, deadline).await?,
        };
        Ok(Written { revision, origin, effect: alive })
    }

    /// Notes a sign of life of a session.
    ///
    /// # Errors
    /// When it has ended or never was, or the cluster cannot say now.
    pub async fn keep_alive(&self, session: SessionId, deadline: Instant) -> Result<Alive, CoordinatorError> {
        self.keep_alive_since(session, Instant::now(), deadline).await
    }

    /// As [`Coordinator::keep_alive`], with a validity that counts from a request that came at `began`.
    pub(super) async fn keep_alive_since(
        &self,
        session: SessionId,
        began: Instant,
        deadline: Instant,
    ) -> Result<Alive, CoordinatorError> {
        let waited = began.elapsed();
        let state = self.heard_of(&[session], deadline).await?;
        self.alive(session, waited, &state)
    }

    /// Notes a sign of life of many sessions at once; each has ended or never was, or lives.
    ///
    /// # Errors
    /// When the cluster cannot say now.
    pub async fn keep_all_alive(
        &self,
        sessions: &[SessionId],
        deadline: Instant,
    ) -> Result<(Revision, Vec<Result<Alive, CoordinatorError>>), CoordinatorError> {
        let state = self.heard_of(sessions, deadline).await?;
        let each = sessions.iter().map(|session| self.alive(*session, Duration::ZERO, &state)).collect();
        Ok((state.revision(), each))
    }

    async fn heard_of(&self, sessions: &[SessionId], deadline: Instant) -> Result<Arc<Machine>, CoordinatorError> {
        let overloaded = |_| CoordinatorError::NotDone(Unavailable::Overloaded);
        let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
        let _permit = self.keep_alives.try_acquire_many(count).map_err(overloaded)?;
        self.metrics.keep_alives.inc_by(count.into());
        self.raft.keep_alive(sessions, deadline).await.map_err(CoordinatorError::NotDone)
    }

    /// A session that was heard of, so long after its client's request came.
    fn alive(&self, session: SessionId, waited: Duration, state: &Arc<Machine>) -> Result<Alive, CoordinatorError> {
        let ttl = match state.sessions().alive(session) {
            Ok(record) => record.ttl,
            Err(rejection) => {
                let revision = state.revision();
                return Err(CoordinatorError::Rejected { rejection: Box::new(rejection), revision });
            }
        };
        // By the client's clock, at least so much less time has passed than by ours, and it stops so much earlier.
        let valid_for = self.sessions.clock_drift.valid(waited.saturating_add(ttl.as_duration()));
        Ok(Alive { session, ttl, valid_for, state: Arc::clone(state) })
    }

    /// Ends a session with everything that it holds; whether it lived.
    ///
    /// # Errors
    /// When it never was, or the cluster cannot do it now.
    pub async fn end_session(
        &self,
        session: SessionId,
        cause: EndCause,
        write: Write,
    ) -> Result<Written<bool>, CoordinatorError> {
        let written = self.propose(Action::EndSession { session, cause }, write).await?;
        Ok(written.map(|effect| if let Effect::SessionEnded { existed } = effect { Some(existed) } else { None }))
    }

    /// How far clocks may differ in their pace.
    pub fn clock_drift(&self) -> ClockDrift {
        self.sessions.clock_drift
    }

    /// When this member, as the Raft leader, has heard of each session last.
    pub fn attendance(&self) -> &Attendance {
        self.raft.attendance()
    }

    pub(super) fn check_metadata(&self, metadata: &Metadata) -> Result<(), CoordinatorError> {
        let (bytes, limit) =
            (metadata.iter().map(|(key, text)| key.len() + text.len()).sum::<usize>(), self.sessions.max_metadata);
        if bytes > limit as usize {
            return Err(CoordinatorError::MetadataTooLarge { bytes, limit });
        }
        Ok(())
    }
}
