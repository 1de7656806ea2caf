//! Writers, readers, candidates and a watch at the members of a release, however many of them there are.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::helm::Release;
use crate::members::name;
use crate::support::candidates::{Candidates, Contest};
use crate::support::linearizability::{self, Verdict};
use crate::support::revisions;
use crate::support::watcher::Watcher;
use crate::support::workload::{Retries, Workload};
use crate::trial::{ELECTIONS, candidates_http};

/// The most members that there are at a time.
pub const MOST: usize = 5;

impl Release {
    /// Where members are or will be.
    fn urls(&self) -> Vec<String> {
        let service = format!("quorate-members.{}.svc.cluster.local:8080", self.namespace.name);
        (0..MOST).map(|member| format!("http://{}.{service}", name(member))).collect()
    }
}

/// Writers, readers and candidates at all members, and a watch on the one that is there from the beginning to the end.
pub struct Load {
    workload: Workload,
    candidates: Candidates,
    watcher: Watcher,
}

impl Load {
    pub fn on(release: &Release) -> Self {
        let urls = release.urls();
        let (dial, whole) = (Duration::from_secs(1), Duration::from_secs(5));
        let http = reqwest::Client::builder().connect_timeout(dial).timeout(whole).build().unwrap();
        let contest = Contest {
            namespace: release.namespace.name.clone(),
            elections: ELECTIONS,
            candidates: 2,
            longest_reign: Duration::from_secs(8),
        };
        let candidates = Candidates::start(&candidates_http(), &urls, &contest);
        let watcher = Watcher::start(vec![urls[0].clone()]);
        let workload = Workload::start(http, urls, Retries::EveryOtherWriter, Duration::from_millis(20));
        Self { workload, candidates, watcher }
    }

    /// Goes on with new keys while something lasts: histories of one key stay short. Tells what became of the load meanwhile.
    pub async fn during<T>(&self, what: &str, lasting: impl Future<Output = T>) -> T {
        let (before, reigns, began) = (self.workload.acknowledged(), self.candidates.reigns(), Instant::now());
        tokio::pin!(lasting);
        let done = loop {
            tokio::select! {
                biased;
                done = &mut lasting => break done,
                () = sleep(Duration::from_secs(2)) => self.workload.next_round(),
            }
        };
        let written = self.workload.acknowledged() - before;
        println!(
            "{what} after {:.1?}: {written} writes acknowledged meanwhile, none for at most {:.2?}; {} reigns began, and no election \
             was without a leader for longer than {:.2?}",
            began.elapsed(),
            self.workload.longest_pause_since(began),
            self.candidates.reigns() - reigns,
            self.candidates.longest_gaps_since(began).into_iter().max().unwrap_or_default(),
        );
        assert!(written > 0, "nothing was written meanwhile");
        done
    }

    /// Ends the work and holds what clients were told against the promises.
    pub async fn judge(self) {
        let reigns = self.candidates.judge().await;
        self.workload.read_everything().await;
        let (operations, notes) = self.workload.stop().await;
        let story = self.watcher.stop().await;
        println!("{} operations; a watch told {} changes; {reigns} reigns", operations.len(), story.len());
        println!("{} changes were given up in doubt: {:#?}", notes.given_up.len(), notes.given_up);
        assert!(reigns >= ELECTIONS, "only {reigns} reigns");
        assert!(notes.surprises.is_empty(), "no client should be told this: {:#?}", notes.surprises);
        assert!(story.faults.is_empty(), "the watch is broken: {:#?}", story.faults);
        let misses = story.misses(&operations);
        assert!(misses.is_empty(), "{} acknowledged writes are not in the watch: {:#?}", misses.len(), misses.first());
        assert_eq!(linearizability::check(&operations), Verdict::Linearizable);
        revisions::check(&operations).unwrap();
    }
}
