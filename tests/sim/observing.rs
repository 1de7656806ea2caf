//! What is written down of a member, and what is done when it refuses to take part.

use std::sync::Arc;
use std::time::Duration;

use openraft_rt::AsyncRuntime;
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use quorate::machine::keys::KeyRange;
use quorate::raft::Phase;
use quorate::tasks::Exit;
use quorate::watch::{Filter, Hub, Next};
use tokio::time::sleep;

use crate::cluster::{Cluster, Running, name};
use crate::violation::Check;

impl Cluster {
    /// Writes down everything that a member publishes.
    pub fn observe(self: &Arc<Self>, running: &Running) {
        for filter in [Filter::Keys(KeyRange::Prefix(String::new())), Filter::Leadership] {
            let (cluster, running, hub) = (Arc::clone(self), running.clone(), running.hub.clone());
            running.tasks.clone().spawn("observer of events", Exit::Fatal, async move {
                cluster.follow(&running, &hub, filter).await;
            });
        }
        let (cluster, watched, vote) = (Arc::clone(self), running.clone(), self.wires.vote_of(&name(running.number)));
        running.tasks.spawn("observer of the vote", Exit::Normal, async move {
            let mut changes = watched.raft.status_changes();
            let Ok(status) = changes.wait_for(|status| status.phase == Phase::Running).await else { return };
            if status.term < vote {
                let text = format!(
                    "member {} gave a vote in term {vote} and has come back in term {}",
                    watched.number, status.term
                );
                cluster.violations.add(Check::VoteKept, text);
            }
        });
        let (cluster, watched) = (Arc::clone(self), running.clone());
        drop(DeterministicRng::<TokioRuntime>::spawn(async move { cluster.see_refusal(&watched).await }));
        let (cluster, watched) = (Arc::clone(self), running.clone());
        running.tasks.spawn("observer of the id", Exit::Normal, async move {
            let mut changes = watched.raft.status_changes();
            let Ok(status) = changes.wait_for(|status| status.member.is_some()).await.map(|status| status.clone())
            else {
                return;
            };
            cluster.note_id(&status);
        });
        let (cluster, running) = (Arc::clone(self), running.clone());
        running.tasks.clone().spawn("observer of states", Exit::Fatal, async move {
            let mut states = running.raft.state_changes();
            while states.changed().await.is_ok() {
                let state = states.borrow_and_update().clone();
                cluster.ledger.show(running.number, &state);
            }
        });
    }

    /// When a member is refused, somebody does what it says, if it has said so for good reason.
    async fn see_refusal(self: &Arc<Self>, running: &Running) {
        let mut changes = running.raft.status_changes();
        let refused = changes.wait_for(|status| matches!(status.phase, Phase::Refused(_)));
        let Some(Ok(status)) = running.life.outlives(refused).await.map(|status| status.map(|status| status.clone()))
        else {
            return;
        };
        if !self.is_put_back(running.number) {
            let text = format!("member {} is refused on its own volume: {:?}", running.number, status.phase);
            return self.violations.add(Check::Survival, text);
        }
        self.count(|counts| counts.copies_refused += 1);
        if running.life.outlives(sleep(Duration::from_millis(500))).await.is_some() {
            self.empty(running.number);
            self.boot(running.number);
        }
    }

    async fn follow(&self, running: &Running, hub: &Hub, filter: Filter) {
        loop {
            let mut subscription = hub.subscribe(filter.clone(), hub.newest());
            loop {
                match subscription.next().await {
                    Next::Notice(notice) => self.ledger.tell(running.number, notice),
                    // A snapshot has replaced the state: go on behind it.
                    Next::Behind => break,
                    Next::Gap { expected, found } => {
                        let text = format!("member {} went from {expected} to {found}", running.number);
                        self.violations.add(Check::NoGaps, text);
                    }
                }
            }
        }
    }
}
