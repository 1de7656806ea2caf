//! ReadIndex rounds that many reads share.
//!
//! A linearizable read needs to know a log index that covers everything committed before the read began. Finding it takes a
//! round: on the Raft leader, one exchange with a quorum; on another member, one question to the Raft leader. Calls that
//! come while a round runs wait for the next one and share it; a call is never answered by a round that began before it.
//!
//! A call may give a sign of life for sessions: the round takes it to the Raft leader, which notes it once it is confirmed.

use std::sync::Arc;

use futures::future::BoxFuture;
use prometheus::{Histogram, IntCounter};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::Unavailable;
use crate::tasks::{Exit, Tasks};
use crate::types::{LogIndex, SessionId};

/// Calls that may wait for a round; one more is told to come back.
const WAITING: usize = 32_768;

/// What a round found.
pub(super) type Found = Result<Fresh, Unavailable>;

/// A confirmed round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fresh {
    /// A state that holds this entry is fresh enough.
    pub(super) index: LogIndex,
    /// Sessions whose signs of life came too late: their end is proposed.
    pub(super) ending: Vec<SessionId>,
}

/// One way to find a log index that is fresh enough, and to take signs of life along.
pub(super) type Round = Box<dyn Fn(Vec<SessionId>) -> BoxFuture<'static, Found> + Send + Sync>;

/// A call that waits.
#[derive(Debug)]
struct Waiting {
    sessions: Vec<SessionId>,
    answer: oneshot::Sender<Found>,
}

/// What is counted of the rounds.
#[derive(Debug, Clone)]
pub(super) struct RoundMetrics {
    pub(super) rounds: IntCounter,
    /// Calls that shared a round.
    pub(super) calls: Histogram,
}

/// Where calls wait for the next round. Clones share the rounds.
#[derive(Debug, Clone)]
pub(super) struct Rounds {
    waiting: mpsc::Sender<Waiting>,
}

/// The other end, until the rounds are started.
pub(super) struct Idle {
    arriving: mpsc::Receiver<Waiting>,
}

impl Rounds {
    /// Rounds that have not started.
    pub(super) fn new() -> (Self, Idle) {
        let (waiting, arriving) = mpsc::channel(WAITING);
        (Self { waiting }, Idle { arriving })
    }

    /// Waits for the result of a round that begins after this call, and gives a sign of life for `sessions`.
    pub(super) async fn join(&self, sessions: Vec<SessionId>, deadline: Instant) -> Found {
        let (answer, result) = oneshot::channel();
        self.waiting.try_send(Waiting { sessions, answer }).map_err(|error| match error {
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
    pub(super) fn start(mut self, tasks: &Tasks, metrics: RoundMetrics, round: Round) {
        let stopping = tasks.stopping();
        let round = Arc::new(round);
        tasks.spawn("read rounds", Exit::Fatal, async move {
            while let Some(Some(first)) = stopping.run_until_cancelled(self.arriving.recv()).await {
                let mut sharing = vec![first];
                while let Ok(another) = self.arriving.try_recv() {
                    sharing.push(another);
                }
                metrics.rounds.inc();
                #[expect(clippy::cast_precision_loss, reason = "there are at most some thousands")]
                metrics.calls.observe(sharing.len() as f64);
                let sessions = sharing.iter().flat_map(|waiting| waiting.sessions.iter().copied()).collect();
                let Some(found) = stopping.run_until_cancelled(round(sessions)).await else { return };
                for Waiting { sessions, answer } in sharing {
                    let own = |Fresh { index, ending }: Fresh| {
                        let ending = ending.into_iter().filter(|session| sessions.contains(session)).collect();
                        Fresh { index, ending }
                    };
                    // The caller may have given up.
                    drop(answer.send(found.clone().map(own)));
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use prometheus::HistogramOpts;
    use tokio::time::sleep;

    use super::*;

    /// Rounds that take a second each and find the number of the round.
    fn numbered(tasks: &Tasks) -> (Rounds, RoundMetrics) {
        let (rounds, idle) = Rounds::new();
        let metrics = RoundMetrics {
            rounds: IntCounter::new("rounds", "rounds").unwrap(),
            calls: Histogram::with_opts(HistogramOpts::new("calls", "calls").buckets(vec![1.0, 9_999.0])).unwrap(),
        };
        let number = Arc::new(AtomicU64::new(0));
        let round = move |sessions: Vec<SessionId>| -> BoxFuture<'static, Found> {
            let number = number.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                sleep(Duration::from_secs(1)).await;
                Ok(Fresh { index: LogIndex::new(number), ending: sessions })
            })
        };
        idle.start(tasks, metrics.clone(), Box::new(round));
        (rounds, metrics)
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_come_during_a_round_share_the_next_one() {
        let (tasks, _failures) = Tasks::new();
        let (rounds, metrics) = numbered(&tasks);
        let deadline = Instant::now() + Duration::from_secs(10);
        let late = async {
            sleep(Duration::from_millis(500)).await;
            futures::future::join_all((0..10_000).map(|number| rounds.join(vec![SessionId::new(number)], deadline)))
                .await
        };
        let (early, late) = tokio::join!(rounds.join(Vec::new(), deadline), late);
        assert_eq!(early, Ok(Fresh { index: LogIndex::new(0), ending: Vec::new() }));
        let own = |number| Ok(Fresh { index: LogIndex::new(1), ending: vec![SessionId::new(number)] });
        assert_eq!(late, (0..10_000).map(own).collect::<Vec<_>>(), "each is told of its own sessions only");
        assert_eq!(metrics.rounds.get(), 2);
        assert_eq!((metrics.calls.get_sample_count(), metrics.calls.get_sample_sum()), (2, 10_001.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_gives_up_at_its_deadline() {
        let (tasks, _failures) = Tasks::new();
        let (rounds, _) = numbered(&tasks);
        let deadline = Instant::now() + Duration::from_millis(300);
        assert_eq!(rounds.join(Vec::new(), deadline).await, Err(Unavailable::Timeout));
        assert_eq!(Instant::now(), deadline);
    }
}
