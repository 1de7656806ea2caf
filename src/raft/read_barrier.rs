//! ReadIndex rounds that many reads share.
//!
//! A linearizable read needs to know a log index that covers everything committed before the read began. Finding it takes a
//! round: on the Raft leader, one exchange with a quorum; on another member, one question to the Raft leader. Calls that
//! come while a round runs wait for the next one and share it; a call is never answered by a round that began before it.

use std::sync::Arc;

use futures::future::BoxFuture;
use prometheus::IntCounter;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::Unavailable;
use crate::tasks::{Exit, Tasks};
use crate::types::LogIndex;

/// Calls that may wait for a round. The callers are bounded themselves (1,024 on this member and as many from each other
/// member); one more is told to come back.
const WAITING: usize = 8192;

/// What a round found.
pub(super) type Found = Result<LogIndex, Unavailable>;

/// One way to find a log index that is fresh enough.
pub(super) type Round = Box<dyn Fn() -> BoxFuture<'static, Found> + Send + Sync>;

/// Where calls wait for the next round. Clones share the rounds.
#[derive(Debug, Clone)]
pub(super) struct Rounds {
    waiting: mpsc::Sender<oneshot::Sender<Found>>,
}

/// The other end, until the rounds are started.
pub(super) struct Idle {
    arriving: mpsc::Receiver<oneshot::Sender<Found>>,
}

impl Rounds {
    /// Rounds that have not started.
    pub(super) fn new() -> (Self, Idle) {
        let (waiting, arriving) = mpsc::channel(WAITING);
        (Self { waiting }, Idle { arriving })
    }

    /// Waits for the result of a round that begins after this call.
    pub(super) async fn join(&self, deadline: Instant) -> Found {
        let (sender, result) = oneshot::channel();
        self.waiting.try_send(sender).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unavailable::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Unavailable::Stopping,
        })?;
        match timeout_at(deadline, result).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err(Unavailable::Stopping),
            Err(_) => Err(Unavailable::Timeout),
        }
    }
}

impl Idle {
    /// Runs one round after another while somebody waits.
    pub(super) fn start(mut self, tasks: &Tasks, count: IntCounter, round: Round) {
        let stopping = tasks.stopping();
        let round = Arc::new(round);
        tasks.spawn("read rounds", Exit::Fatal, async move {
            while let Some(Some(first)) = stopping.run_until_cancelled(self.arriving.recv()).await {
                let mut sharing = vec![first];
                while let Ok(another) = self.arriving.try_recv() {
                    sharing.push(another);
                }
                count.inc();
                let Some(found) = stopping.run_until_cancelled(round()).await else { return };
                for waiting in sharing {
                    // The caller may have given up.
                    drop(waiting.send(found.clone()));
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    /// Rounds that take a second each and find the number of the round.
    fn numbered(tasks: &Tasks) -> (Rounds, IntCounter) {
        let (rounds, idle) = Rounds::new();
        let count = IntCounter::new("rounds", "rounds").unwrap();
        let number = Arc::new(AtomicU64::new(0));
        let round = move || -> BoxFuture<'static, Found> {
            let number = number.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                sleep(Duration::from_secs(1)).await;
                Ok(LogIndex::new(number))
            })
        };
        idle.start(tasks, count.clone(), Box::new(round));
        (rounds, count)
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_come_during_a_round_share_the_next_one() {
        let (tasks, _failures) = Tasks::new();
        let (rounds, count) = numbered(&tasks);
        let deadline = Instant::now() + Duration::from_secs(10);
        let late = async {
            sleep(Duration::from_millis(500)).await;
            futures::future::join_all((0..5).map(|_| rounds.join(deadline))).await
        };
        let (early, late) = tokio::join!(rounds.join(deadline), late);
        assert_eq!(early, Ok(LogIndex::new(0)));
        assert_eq!(late, vec![Ok(LogIndex::new(1)); 5]);
        assert_eq!(count.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_gives_up_at_its_deadline() {
        let (tasks, _failures) = Tasks::new();
        let (rounds, _) = numbered(&tasks);
        let deadline = Instant::now() + Duration::from_millis(300);
        assert_eq!(rounds.join(deadline).await, Err(Unavailable::Timeout));
        assert_eq!(Instant::now(), deadline);
    }
}
