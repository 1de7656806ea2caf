//! What works with members while something breaks or changes: writers, readers, candidates and a watch; and what must be true of
//! everything that they were told.

use std::time::Duration;

use reqwest::Client;
use tokio::time::{MissedTickBehavior, interval};

use crate::support::candidates::{Candidates, Contest};
use crate::support::linearizability::{self, Verdict};
use crate::support::revisions;
use crate::support::watcher::Watcher;
use crate::support::workload::{Retries, Workload};

/// The longest that a client rests between two requests: the members share two processors with all of Kubernetes.
const REST: Duration = Duration::from_millis(80);

/// Elections that candidates campaign for.
pub const ELECTIONS: usize = 10;

/// How long clients use the same keys: histories of one key stay short.
const ROUND: Duration = Duration::from_secs(2);

pub struct Clients {
    pub workload: Workload,
    pub candidates: Candidates,
    watcher: Watcher,
}

impl Clients {
    /// Four writers and four readers, and candidates for ten elections of a namespace, at all of `urls`; and a watch at those `watched`.
    pub fn start(namespace: &str, urls: &[String], watched: Vec<String>) -> Self {
        let (dial, whole) = (Duration::from_secs(1), Duration::from_secs(5));
        let http = Client::builder().connect_timeout(dial).timeout(whole).build().unwrap();
        let contest = Contest {
            namespace: namespace.to_owned(),
            elections: ELECTIONS,
            candidates: 2,
            longest_reign: Duration::from_secs(8),
        };
        let candidates = Candidates::start(&candidates_http(), urls, &contest);
        let workload = Workload::start(http, urls.to_vec(), Retries::EveryOtherWriter, REST);
        Self { workload, candidates, watcher: Watcher::start(watched) }
    }

    /// Goes on with new keys again and again while something lasts.
    pub async fn with_rounds<T>(&self, lasting: impl Future<Output = T>) -> T {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(lasting);
        loop {
            tokio::select! {
                biased;
                done = &mut lasting => return done,
                _ = rounds.tick() => self.workload.next_round(),
            }
        }
    }

    /// Ends the work and holds everything that clients were told against the promises.
    pub async fn judge(self) {
        let Self { candidates, workload, watcher } = self;
        let reigns = candidates.judge().await;
        workload.read_everything().await;
        let (operations, notes) = workload.stop().await;
        let story = watcher.stop().await;
        let unknown = operations.iter().filter(|operation| operation.returned.is_none()).count();
        println!(
            "{} operations, {unknown} of unknown outcome; a watch told {} changes; {reigns} reigns in {ELECTIONS} elections, none \
             beside another",
            operations.len(),
            story.len()
        );
        // Half of the writers try again with an idempotency key while there is doubt, for some seconds; a quorum may be away for longer.
        println!(
            "{} changes were given up in doubt, and may take effect until the end: {:#?}",
            notes.given_up.len(),
            notes.given_up
        );
        assert!(reigns >= ELECTIONS, "only {reigns} reigns");
        assert!(notes.surprises.is_empty(), "no client should be told this: {:#?}", notes.surprises);
        assert!(story.faults.is_empty(), "the watch is broken: {:#?}", story.faults);
        let misses = story.misses(&operations);
        assert!(misses.is_empty(), "{} acknowledged writes are not in the watch: {:#?}", misses.len(), misses.first());
        assert_eq!(linearizability::check(&operations), Verdict::Linearizable);
        revisions::check(&operations).unwrap();
    }
}

/// Whoever has to lead again soon gives up on an address behind which nobody is.
fn candidates_http() -> Client {
    Client::builder().connect_timeout(Duration::from_millis(300)).build().unwrap()
}
