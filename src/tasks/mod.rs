//! Tasks with a name, an owner and a meaning of their end. Nothing in Quorate spawns a task in another way.
//!
//! A [`Tasks`] is handed down to whoever needs to run something in the background. Its owner learns from [`Failures`]
//! when a task that must not end has ended, stops all of them with one call, and can wait until they are gone.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What it means when a task ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Its work was done: a connection closed, a request was answered.
    Normal,
    /// It should have run until the member stops: the member cannot go on.
    Fatal,
}

/// A task that should have run on has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub task: &'static str,
    pub cause: String,
}

/// Where the owner of a [`Tasks`] learns of failures.
#[derive(Debug)]
pub struct Failures {
    receiver: mpsc::Receiver<Failure>,
}

impl Failures {
    /// Waits for the first failure; pending for ever when there is none.
    pub async fn next(&mut self) -> Failure {
        match self.receiver.recv().await {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }
}

/// Spawns and stops tasks. Clones share one set.
#[derive(Debug, Clone)]
pub struct Tasks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    tracker: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
    failures: mpsc::Sender<Failure>,
}

impl Tasks {
    /// An empty set and its failures.
    pub fn new() -> (Self, Failures) {
        // One failure ends the member; a few more may happen while it ends, and nobody needs them.
        let (failures, receiver) = mpsc::channel(16);
        let inner = Inner {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            failures,
        };
        (Self { inner: Arc::new(inner) }, Failures { receiver })
    }

    /// Cancelled when the set is asked to stop; a task that has something to finish watches it.
    pub fn stopping(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// Starts `future`. A panic inside is a failure whatever `exit` says.
    pub fn spawn<F>(&self, name: &'static str, exit: Exit, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let guard = Guard { name, exit, inner: Arc::clone(&self.inner), finished: false };
        let abort = inner.abort.clone();
        let tracked = inner.tracker.track_future(async move {
            let mut guard = guard;
            if abort.run_until_cancelled(future).await.is_none() {
                guard.exit = Exit::Normal;
            }
            guard.finished = true;
        });
        spawn_on_runtime(tracked);
    }

    /// Asks every task to stop, waits up to `patience`, then drops those that are left where they wait.
    pub async fn stop(&self, patience: Duration) {
        self.inner.stop.cancel();
        self.inner.tracker.close();
        if tokio::time::timeout(patience, self.inner.tracker.wait()).await.is_err() {
            self.inner.abort.cancel();
            self.inner.tracker.wait().await;
        }
    }

    /// Drops every task at once where it waits, as a crash would.
    pub fn abort(&self) {
        self.inner.stop.cancel();
        self.inner.abort.cancel();
        self.inner.tracker.close();
    }
}

/// Reports the end of a task, also when it unwinds.
struct Guard {
    name: &'static str,
    exit: Exit,
    finished: bool,
    inner: Arc<Inner>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let cause = match (self.finished, self.exit) {
            (true, Exit::Normal) => return,
            (true, Exit::Fatal) if self.inner.stop.is_cancelled() => return,
            (true, Exit::Fatal) => "it ended",
            (false, _) if std::thread::panicking() => "it panicked",
            // The runtime itself is shutting down.
            (false, _) => return,
        };
        let failure = Failure { task: self.name, cause: cause.to_owned() };
        // When the channel is full the member is ending already.
        drop(self.inner.failures.try_send(failure));
    }
}

#[cfg(not(quorate_sim))]
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
fn spawn_on_runtime(future: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(future));
}

/// In the simulator every task inherits its share of the seed from the task that spawns it.
#[cfg(quorate_sim)]
fn spawn_on_runtime(future: impl Future<Output = ()> + Send + 'static) {
    use openraft_rt::AsyncRuntime;
    use openraft_rt::deterministic_rng::DeterministicRng;
    drop(DeterministicRng::<openraft_rt_tokio::TokioRuntime>::spawn(future));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_task_that_must_not_end_is_a_failure() {
        let (tasks, mut failures) = Tasks::new();
        tasks.spawn("helper", Exit::Normal, async {});
        tasks.spawn("heart", Exit::Fatal, async {});
        let failure = failures.next().await;
        assert_eq!((failure.task, failure.cause.as_str()), ("heart", "it ended"));
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_of_any_task() {
        let (tasks, mut failures) = Tasks::new();
        tasks.spawn("helper", Exit::Normal, async { panic!("on purpose") });
        assert_eq!(failures.next().await.task, "helper");
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_waits_and_then_drops_what_does_not_end() {
        let (tasks, mut failures) = Tasks::new();
        let stopping = tasks.stopping();
        tasks.spawn("polite", Exit::Fatal, async move { stopping.cancelled().await });
        tasks.spawn("stubborn", Exit::Fatal, std::future::pending());
        tasks.stop(Duration::from_secs(1)).await;
        assert!(tokio::time::timeout(Duration::from_secs(1), failures.next()).await.is_err());
    }
}
