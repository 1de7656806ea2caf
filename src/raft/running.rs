//! The life of a member's Raft, from the seat to the end: opens log and state, runs openraft, publishes what it says, and
//! ends with the reason when it cannot go on.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use openraft::Instant as _;
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::WatchReceiver;
use openraft::{Config, ServerState};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::founding::Stage;
use super::identity::Place;
use super::joining::{found, join, store};
use super::log_store::LogStore;
use super::log_writer::LogMetrics;
use super::member::{Assigning, Member, Raft};
use super::outbound::Outbound;
use super::snapshot_store::SnapshotStore;
use super::state_machine::StateMachine;
use super::status::{MemberNode, Phase, RaftRole, RaftStatus};
use super::transport::Seat;
use super::type_config::TypeConfig;
use super::volume::{Volume, blocking};
use crate::machine::Limits;
use crate::tasks::Exit;
use crate::types::{LogIndex, MemberId, MemberName, Term};
use crate::watch::Hub;

type Metrics = openraft::metrics::RaftMetrics<TypeConfig>;

/// What the task needs that runs a member's Raft.
pub(super) struct Running {
    pub(super) member: Arc<Member>,
    pub(super) config: Arc<Config>,
    pub(super) volume: Arc<dyn Volume>,
    pub(super) hub: Hub,
    pub(super) initial_cluster: BTreeMap<MemberName, String>,
    pub(super) snapshot_bytes: u64,
    pub(super) log_metrics: LogMetrics,
}

/// Takes the Raft and the volume out of the member when its task ends or is dropped, so that nothing keeps them.
struct Published<'a>(&'a Member);

impl Drop for Published<'_> {
    fn drop(&mut self) {
        self.0.raft.send_replace(None);
        self.0.receiving.close();
    }
}

impl Running {
    /// Runs until the member stops, or cannot go on.
    pub(super) async fn run(self, mut assignments: mpsc::Receiver<Assigning>) {
        let stopping = self.member.tasks.stopping();
        let _published = Published(&self.member);
        match stopping.run_until_cancelled(self.live(&mut assignments)).await {
            Some(cause) if !self.member.is_stopping() => {
                tracing::error!(cause, "Raft has ended; this member must stop");
                self.member.set_phase(Phase::Stopped(cause));
            }
            Some(_) | None => self.member.set_phase(Phase::Stopped("it was stopped".to_owned())),
        }
    }

    /// Lives until there is a reason to end; never ends by itself when the member was asked to stop.
    async fn live(&self, assignments: &mut mpsc::Receiver<Assigning>) -> String {
        match self.live_or_fail(assignments).await {
            Ok(never) => match never {},
            Err(cause) => cause,
        }
    }

    async fn live_or_fail(&self, assignments: &mut mpsc::Receiver<Assigning>) -> Result<Infallible, String> {
        let seat = join(&self.member, &self.volume, &self.initial_cluster, assignments).await?;
        assignments.close();
        tracing::info!(cluster = %seat.cluster, member = %seat.member, "opening the log");
        let (log, machine) = self.open().await?;
        // Kept to the end, so that the log's writer does not end before the member is asked to stop.
        let (_log, mut log_failure) = (log.clone(), log.failure());
        let growth = machine.growth();
        let outbound = Outbound { network: Arc::clone(&self.member.network), volume: Arc::clone(&self.volume) };
        let raft = Raft::new(seat.member, Arc::clone(&self.config), outbound, log, machine);
        let raft = raft.await.map_err(|fatal| fatal.to_string())?;
        let metrics = raft.metrics();
        self.member.raft.send_replace(Some(raft.clone()));
        self.member.set_phase(Phase::Waiting("its cluster is being founded".to_owned()));
        self.start_own_work(growth);
        let founder = match &self.member.identity.borrow().place {
            Place::Prepared(assignment) if assignment.is_founders() => Some(assignment.clone()),
            Place::Prepared(_) | Place::Done(_) | Place::Nowhere => None,
        };
        let founding = async {
            match founder {
                Some(assignment) => found(&self.member, &raft, &assignment).await,
                None => Ok(()),
            }
        };
        let mut failing = self.member.failing.subscribe();
        let ended = tokio::try_join!(founding, self.publish(metrics), self.confirm_seat(&seat), async {
            tokio::select! {
                biased;
                cause = first_cause(&mut log_failure) => Err::<Infallible, _>(cause),
                cause = first_cause(&mut failing) => Err(cause),
            }
        });
        let cause = match ended {
            Ok((_, _, _, never)) => match never {},
            Err(cause) => cause,
        };
        if self.member.is_stopping() {
            self.member.set_phase(Phase::Stopped("it was stopped".to_owned()));
            self.member.tasks.stopping().cancelled().await;
        }
        Err(cause)
    }

    async fn open(&self) -> Result<(LogStore, StateMachine), String> {
        let (volume, metrics, tasks) = (Arc::clone(&self.volume), self.log_metrics.clone(), self.member.tasks.clone());
        let (hub, state, digests) = (self.hub.clone(), self.member.state.clone(), self.member.digests.clone());
        let snapshots = SnapshotStore::new(Arc::clone(&self.volume), Limits::default());
        self.member.receiving.open(Arc::clone(&self.volume), snapshots.clone());
        let open = move || {
            let log = LogStore::open(&*volume, metrics, &tasks).map_err(|error| error.to_string())?;
            let machine = StateMachine::open(snapshots, hub, state, digests).map_err(|error| error.to_string())?;
            Ok((log, machine))
        };
        blocking(&*self.volume, open).await.map_err(|error| error.to_string())?
    }

    /// What the member does by itself while its Raft runs.
    fn start_own_work(&self, growth: super::state_machine::Growth) {
        let (tasks, member) = (&self.member.tasks, &self.member);
        let stopping = tasks.stopping();
        let work: [(&'static str, futures::future::BoxFuture<'static, ()>); 4] = [
            ("leadership", Box::pin(Arc::clone(member).begin_leaderships())),
            ("announcement", Box::pin(Arc::clone(member).announce())),
            ("digest comparison", Box::pin(Arc::clone(member).compare_digests())),
            ("snapshots by size", Box::pin(Arc::clone(member).bound_growth(growth, self.snapshot_bytes))),
        ];
        for (name, work) in work {
            let stopping = stopping.clone();
            tasks.spawn(name, Exit::Normal, async move {
                // When the member stops, the work is dropped where it waits.
                stopping.run_until_cancelled(work).await;
            });
        }
    }

    /// Publishes whatever openraft says, until it has ended.
    async fn publish(&self, mut metrics: WatchReceiverOf<TypeConfig, Metrics>) -> Result<Infallible, String> {
        loop {
            let present = metrics.borrow_watched().clone();
            if let Err(fatal) = &present.running_state {
                return Err(fatal.to_string());
            }
            self.show(&present);
            if metrics.changed().await.is_err() {
                return Err("openraft has ended".to_owned());
            }
        }
    }

    fn show(&self, metrics: &Metrics) {
        let member = &self.member;
        let before = member.status().raft_leader;
        member.status.send_modify(|status| update(Arc::make_mut(status), metrics));
        let status = member.status();
        if status.role == RaftRole::Leader {
            member.metrics.heard(metrics.id);
        }
        if let Some(leader) = status.raft_leader.filter(|leader| Some(*leader) != before) {
            let cause = member.metrics.leader_changed(member.made_way_lately());
            let name = status.voters.get(&leader).map_or("", |node| node.name.as_str());
            tracing::info!(%leader, name, term = %status.term, ?cause, "the Raft leader has changed");
        }
        member.metrics.show(&status, &member.state.borrow());
    }

    /// Writes `done` once the cluster exists as far as this member has applied its log; refuses to go on in another one.
    async fn confirm_seat(&self, seat: &Seat) -> Result<Infallible, String> {
        let mut state = self.member.state.subscribe();
        let cluster = match state.wait_for(|state| state.cluster().is_some()).await {
            Ok(state) => state.cluster().cloned(),
            Err(_) => None,
        };
        if cluster.as_ref() != Some(&seat.cluster) {
            let found = cluster.map_or_else(|| "none".to_owned(), |cluster| cluster.to_string());
            return Err(format!("the log belongs to cluster {found}, but this member to cluster {}", seat.cluster));
        }
        if self.member.identity.borrow().stage() != Stage::Founded {
            store(&self.member, &self.volume, Place::Done(seat.clone())).await?;
            tracing::info!(cluster = %seat.cluster, "the cluster exists");
        }
        std::future::pending().await
    }
}

/// Waits until there is a reason to stop.
async fn first_cause(cause: &mut watch::Receiver<Option<String>>) -> String {
    let known = cause.wait_for(Option::is_some).await.ok().and_then(|cause| cause.clone());
    match known {
        Some(cause) => cause,
        // Whoever would say it is gone, and says nothing any more.
        None => std::future::pending().await,
    }
}

/// Puts what openraft says into Quorate's words.
fn update(status: &mut RaftStatus, metrics: &Metrics) {
    let index = |log_id: &super::type_config::LogId| LogIndex::new(log_id.index());
    status.role = match metrics.state {
        ServerState::Leader => RaftRole::Leader,
        ServerState::Candidate => RaftRole::Candidate,
        ServerState::Learner => RaftRole::Learner,
        ServerState::Follower | ServerState::Shutdown => RaftRole::Follower,
    };
    status.term = Term::new(metrics.current_term);
    status.raft_leader = metrics.current_leader;
    status.last_log = metrics.last_log_index.map(LogIndex::new);
    status.committed = metrics.local_committed.as_ref().map(index);
    status.applied = metrics.last_applied.as_ref().map(index);
    status.snapshot = metrics.snapshot.as_ref().map(index);
    status.purged = metrics.purged.as_ref().map(index);
    status.quorum_acknowledged = metrics.last_quorum_acked.and_then(|at| Instant::now().checked_sub(at.elapsed()));
    let membership = metrics.membership_config.membership();
    let nodes = |ids: &mut dyn Iterator<Item = MemberId>| -> BTreeMap<MemberId, MemberNode> {
        ids.filter_map(|id| Some((id, membership.get_node(&id)?.clone()))).collect()
    };
    status.voters = nodes(&mut membership.voter_ids());
    status.learners = nodes(&mut membership.learner_ids());
    let matched = metrics.replication.iter().flatten().filter(|(id, _)| **id != metrics.id);
    status.matched = matched.map(|(id, log_id)| (*id, log_id.as_ref().map(index))).collect();
    if !status.voters.is_empty() {
        status.phase = Phase::Running;
    }
}
