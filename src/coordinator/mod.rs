//! The only door to the cluster: what can be asked of it, one file a use case.
//!
//! HTTP, the operator and the duties call the same functions. They get typed results, and an error that says whether it
//! happened. Nothing here knows JSON, status codes or resources.

mod bells;
mod cluster;
mod configs;
mod contests;
mod error;
mod keys;
mod leading;
mod metrics;
mod reads;
mod sessions;

use std::sync::Arc;

use bells::Bells;
use metrics::SessionMetrics;
use prometheus::Registry;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

pub use cluster::{ClusterView, LeaderView, MemberState, MemberView, Transferred};
pub use configs::ConfigPut;
pub use contests::{Following, Standing};
pub use error::{CoordinatorError, ErrorKind, Happened};
pub use keys::Transacted;
pub use reads::{Consistency, Read};
pub use sessions::Alive;

// What consensus says of itself and asks for, for the layers above, which do not see `raft`.
pub use crate::raft::{
    Attendance, Beginning, ClusterRegistry, Fitness, Held, Known, MembershipPhase, Phase, RaftRole, RaftStatus,
    Recorded, RegistryError, Scaling, TransferError, Unavailable, scaling,
};

use crate::machine::command::{Action, Author, Command};
use crate::machine::outcome::{Answer, Effect, Origin};
use crate::raft::{Clock, RaftHandle};
use crate::settings::SessionSettings;
use crate::tasks::{Exit, Tasks};
use crate::types::{IdempotencyKey, Leadership, Revision, SessionId, Timestamp};
use crate::watch::{Filter, Hub, Subscription};

/// Calls that may be in flight at a time: more would only wait for one another, so they are told to come back.
const CALLS: usize = 1024;

/// How a write is to be made.
#[derive(Debug, Clone)]
pub struct Write {
    /// With a key, a retry is harmless.
    pub key: Option<IdempotencyKey>,
    pub deadline: Instant,
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    /// The revision in which it took effect, or the present one when it changed nothing.
    pub revision: Revision,
    /// Whether this is the answer that an earlier try got.
    pub origin: Origin,
    pub effect: T,
}

/// The cluster as its users see it. Clones share it.
#[derive(Clone)]
pub struct Coordinator {
    raft: RaftHandle,
    hub: Hub,
    clock: Arc<dyn Clock>,
    calls: Arc<Semaphore>,
    sessions: SessionSettings,
    keep_alives: Arc<Semaphore>,
    bells: Bells,
    metrics: SessionMetrics,
}

impl Coordinator {
    /// On top of this member's Raft and the events that it publishes.
    ///
    /// # Errors
    /// When its metrics are declared already.
    pub fn start(
        raft: RaftHandle,
        hub: Hub,
        clock: Arc<dyn Clock>,
        sessions: SessionSettings,
        registry: &Registry,
        tasks: &Tasks,
    ) -> Result<Self, prometheus::Error> {
        let [calls, keep_alives] = [CALLS, sessions::KEEP_ALIVES].map(|calls| Arc::new(Semaphore::new(calls)));
        let (bells, metrics) = (Bells::default(), SessionMetrics::register(registry, &raft)?);
        let (ringing, counting) =
            (bells.clone().follow(hub.clone()), metrics.clone().follow(raft.clone(), hub.clone()));
        let stopping = tasks.stopping();
        tasks.spawn("claims", Exit::Fatal, async move {
            stopping.run_until_cancelled(futures::future::join(ringing, counting)).await;
        });
        Ok(Self { raft, hub, clock, calls, sessions, keep_alives, bells, metrics })
    }

    /// The time of day, for what people read.
    pub fn time_of_day(&self) -> Timestamp {
        self.clock.wall()
    }

    /// Watches what `filter` wants, behind the revision `seen`.
    pub fn watch(&self, filter: Filter, seen: Revision) -> Subscription {
        self.hub.subscribe(filter, seen)
    }

    /// Proposes what a duty decided in `leadership`, on this member only.
    ///
    /// # Errors
    /// When this member does not lead any more, or the command is refused.
    pub async fn propose_duty(
        &self,
        leadership: Leadership,
        action: Action,
        deadline: Instant,
    ) -> Result<Written<Effect>, CoordinatorError> {
        let command = Command { at: self.clock.wall(), author: Author::Duty(leadership), action };
        let committed = self.raft.propose_here(command, deadline).await;
        written(committed.map_err(|error| CoordinatorError::of_proposal(error, None))?.answer)
    }

    /// Proposes what a client asks for.
    async fn propose(&self, action: Action, write: Write) -> Result<Written<Effect>, CoordinatorError> {
        let _permit = self.admit()?;
        let committed = self.raft.propose(self.command(action, &write), write.deadline).await;
        written(committed.map_err(|error| CoordinatorError::of_proposal(error, write.key))?.answer)
    }

    /// The same, as the sign of life of a session.
    async fn propose_alive(
        &self,
        action: Action,
        session: SessionId,
        write: Write,
    ) -> Result<Written<Effect>, CoordinatorError> {
        let _permit = self.admit()?;
        let committed = self.raft.propose_alive(self.command(action, &write), session, write.deadline).await;
        written(committed.map_err(|error| CoordinatorError::of_proposal(error, write.key))?.answer)
    }

    fn command(&self, action: Action, write: &Write) -> Command {
        Command { at: self.clock.wall(), author: Author::Client(write.key.clone()), action }
    }

    fn admit(&self) -> Result<SemaphorePermit<'_>, CoordinatorError> {
        self.calls.try_acquire().map_err(|_| CoordinatorError::NotDone(Unavailable::Overloaded))
    }
}

fn written(answer: Answer) -> Result<Written<Effect>, CoordinatorError> {
    let Answer { revision, origin, outcome } = answer;
    match outcome {
        Ok(effect) => Ok(Written { revision, origin, effect }),
        Err(rejection) => Err(CoordinatorError::Rejected { rejection: Box::new(rejection), revision }),
    }
}

impl Written<Effect> {
    /// The effect as the one that this action has.
    ///
    /// # Panics
    /// When the machine answered one action with the effect of another, which is a bug of ours.
    fn map<T>(self, take: impl FnOnce(Effect) -> Option<T>) -> Written<T> {
        let Self { revision, origin, effect } = self;
        // Not the effect itself: it may hold megabytes, and values do not belong in logs.
        let variant = std::mem::discriminant(&effect);
        let effect = take(effect)
            .unwrap_or_else(|| panic!("the machine answered with the effect of another action: {variant:?}"));
        Written { revision, origin, effect }
    }
}
