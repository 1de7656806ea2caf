//! What the probes of the health port ask. Readiness never means "is the Raft leader", and a lost quorum does not take it
//! away: a member that is not asked cannot answer what it still can.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use crate::api::health::{Check, Probes};
use crate::coordinator::{Consistency, Coordinator, Read};
use crate::raft::{Phase, RaftStatus};
use crate::tasks::{Exit, Tasks};
use crate::types::LogIndex;

/// How long one attempt at a confirmed read may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// More committed entries than this that are not applied yet make answers older than people expect.
const LAGGING: u64 = 10_000;

/// Whether this member should get requests.
pub struct Readiness {
    coordinator: Coordinator,
    /// Latched by the first read that a quorum confirmed: the member was in the membership and had caught up.
    caught_up: AtomicBool,
    stopping: AtomicBool,
}

impl Readiness {
    /// Begins to find out.
    pub fn start(coordinator: Coordinator, tasks: &Tasks) -> Arc<Self> {
        let readiness =
            Arc::new(Self { coordinator, caught_up: AtomicBool::new(false), stopping: AtomicBool::new(false) });
        let (latch, stopping) = (Arc::clone(&readiness), tasks.stopping());
        tasks.spawn("readiness", Exit::Normal, async move {
            let _ = stopping.run_until_cancelled(latch.catch_up()).await;
        });
        readiness
    }

    async fn catch_up(&self) {
        loop {
            let deadline = Instant::now() + PATIENCE;
            let read = Read { consistency: Consistency::Linearizable, min_revision: None, deadline };
            if self.coordinator.read(read).await.is_ok() {
                self.caught_up.store(true, Ordering::Release);
                info!("caught up and ready");
                return;
            }
            // A member that cannot take part yet is told so at once.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// From now on this member should get no new requests.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// The checks of each probe.
    pub fn probes(self: &Arc<Self>) -> Probes {
        let live = BTreeMap::from([self.check("raft", |readiness| has_not_ended(&readiness.coordinator.status()))]);
        let ready = BTreeMap::from([
            self.check("raft", |readiness| takes_part(&readiness.coordinator.status())),
            self.check("caught-up", |readiness| match readiness.caught_up.load(Ordering::Acquire) {
                true => keeps_up(&readiness.coordinator.status()),
                false => Err("no read was confirmed by a quorum since the start".to_owned()),
            }),
            self.check("not-stopping", |readiness| match readiness.stopping.load(Ordering::Acquire) {
                true => Err("this member is stopping".to_owned()),
                false => Ok(()),
            }),
        ]);
        Probes { startup: live.clone(), live, ready }
    }

    fn check(
        self: &Arc<Self>,
        name: &'static str,
        ask: impl Fn(&Self) -> Result<(), String> + Send + Sync + 'static,
    ) -> (&'static str, Check) {
        let readiness = Arc::clone(self);
        (name, Arc::new(move || ask(&readiness)))
    }
}

fn has_not_ended(status: &RaftStatus) -> Result<(), String> {
    match &status.phase {
        Phase::Stopped(why) => Err(why.clone()),
        Phase::Waiting(_) | Phase::Refused(_) | Phase::Running => Ok(()),
    }
}

fn takes_part(status: &RaftStatus) -> Result<(), String> {
    match &status.phase {
        Phase::Stopped(why) | Phase::Refused(why) | Phase::Waiting(why) => Err(why.clone()),
        Phase::Running => Ok(()),
    }
}

fn keeps_up(status: &RaftStatus) -> Result<(), String> {
    let (committed, applied) = (status.committed.map_or(0, LogIndex::get), status.applied.map_or(0, LogIndex::get));
    match committed.saturating_sub(applied) {
        behind if behind > LAGGING => Err(format!("{behind} committed entries are not applied yet")),
        _ => Ok(()),
    }
}
