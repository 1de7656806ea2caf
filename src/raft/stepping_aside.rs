//! A Raft leader that ails hands over by itself, to a voter that does not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::ailment::{Ailment, Course, DiskPulse};
use super::fitness::Fitness;
use super::member::Member;
use super::messages::{Reply, Request};
use super::metrics::HandoverCause;
use crate::types::MemberId;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long the others may take to say how they are, and one of them to take over.
const ASK: Duration = Duration::from_millis(500);
const HAND_OVER: Duration = Duration::from_secs(2);

/// How long this member does not hand over again for the same reason: where all disks are slow, leadership must not go round.
const REST: Duration = Duration::from_mins(1);

/// How long to wait after nobody could be found.
const AGAIN: Duration = Duration::from_secs(5);

impl Member {
    /// Looks how this member is. Never ends.
    pub(super) async fn look_after_itself(self: Arc<Self>, disk: DiskPulse) {
        let mut course = Course::default();
        let mut next_try = Instant::now();
        loop {
            let due = Instant::now() + LOOK_EVERY;
            sleep_until(due).await;
            let now = Instant::now();
            let ailment = course.note(disk.look(now), now.saturating_duration_since(due), now);
            self.ails.store(course.is_unwell(), Ordering::Release);
            if let Some(ailment) = ailment.filter(|_| self.leads() && now >= next_try) {
                next_try = Instant::now() + if self.step_aside(ailment).await { REST } else { AGAIN };
            }
        }
    }

    /// Whether another one leads now.
    async fn step_aside(&self, ailment: Ailment) -> bool {
        let Some(to) = self.healthiest().await else {
            tracing::warn!(?ailment, "this Raft leader ails, and no other voter is well and has caught up");
            return false;
        };
        tracing::warn!(?ailment, %to, "this Raft leader ails and hands over");
        let cause = match ailment {
            Ailment::SlowDisk => HandoverCause::SlowDisk,
            Ailment::Starved => HandoverCause::Starved,
        };
        match self.transfer_here(Some(to), cause, Instant::now() + HAND_OVER).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "leadership was not handed over");
                false
            }
        }
    }

    /// The voter with most of the log among those that say that they are well, and of those that should lead if there are any.
    async fn healthiest(&self) -> Option<MemberId> {
        let deadline = Instant::now() + ASK;
        let status = self.status();
        let voters = self.peers().into_iter().filter(|(member, _)| status.voters.contains_key(member));
        let asked = voters.map(|(member, peer)| async move {
            match self.ask(&peer, &Request::Status, deadline).await {
                Ok(Reply::Status(said)) if !said.ails => Some((member, (said.fitness == Fitness::Fit, said.last_log))),
                Ok(_) | Err(_) => None,
            }
        });
        let well: BTreeMap<_, _> = futures::future::join_all(asked).await.into_iter().flatten().collect();
        well.into_iter().max_by_key(|(_, standing)| *standing).map(|(member, _)| member)
    }
}
