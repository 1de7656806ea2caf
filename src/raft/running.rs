//! The life of a member's Raft, from the seat to the end: opens log and state, runs openraft, publishes what it says, and
//! ends with the reason when it cannot go on.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use futures::future::BoxFuture;
use openraft::Instant as _;
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::WatchReceiver;
use openraft::{Config, ServerState};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::beginning::Beginning;
use super::failover::{driving, holding};
use super::founding::{Assignment, Stage};
use super::guard::Gate;
use super::identity::{Identity, Place};
use super::joining::{found, join, keep, store};
use super::log_store::LogStore;
use super::log_writer::LogMetrics;
use super::member::{Assigning, Member, Raft};
use super::membership::Pauses;
use super::outbound::Outbound;
use super::snapshot_store::SnapshotStore;
use super::state_machine::{Growth, StateMachine};
use super::status::{MemberNode, MembershipPhase, Phase, RaftRole, RaftStatus};
use super::tending::{Joining, Tending};
use super::transport::Seat;
use super::type_config::TypeConfig;
use super::volume::{Volume, blocking};
use crate::machine::{Limits, Machine};
use crate::settings::FastFailover;
use crate::tasks::Exit;
use crate::types::{LogIndex, MemberId, Term};
use crate::watch::Hub;

type Metrics = openraft::metrics::RaftMetrics<TypeConfig>;

/// What the task needs that runs a member's Raft.
pub(super) struct Running {
    pub(super) member: Arc<Member>,
    pub(super) config: Arc<Config>,
    pub(super) volume: Arc<dyn Volume>,
    pub(super) hub: Hub,
    pub(super) beginning: Beginning,
    pub(super) snapshot_bytes: u64,
    pub(super) log_metrics: LogMetrics,
    /// Why the volume cannot be used, if it is not this member's.
    pub(super) refused: Option<String>,
}

/// What comes from other members for the task that runs a member's Raft, and for those that it starts.
pub(super) struct Inlets {
    pub(super) assignments: mpsc::Receiver<Assigning>,
    pub(super) joins: mpsc::Receiver<Joining>,
    pub(super) suspicions: mpsc::Receiver<MemberId>,
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
    pub(super) async fn run(self, inlets: Inlets) {
        let stopping = self.member.tasks.stopping();
        let _published = Published(&self.member);
        match stopping.run_until_cancelled(self.live(inlets)).await {
            Some(cause) if !self.member.is_stopping() => {
                tracing::error!(cause, "Raft has ended; this member must stop");
                self.member.set_phase(Phase::Stopped(cause));
            }
            Some(_) | None => self.member.set_phase(Phase::Stopped("it was stopped".to_owned())),
        }
    }

    /// Lives until there is a reason to end; never ends by itself when the member was asked to stop.
    async fn live(&self, inlets: Inlets) -> String {
        match self.live_or_fail(inlets).await {
            Ok(never) => match never {},
            Err(cause) => cause,
        }
    }

    async fn live_or_fail(&self, inlets: Inlets) -> Result<Infallible, String> {
        if let Some(refused) = &self.refused {
            return Ok(self.stay_refused(refused).await);
        }
        let Inlets { mut assignments, joins, suspicions } = inlets;
        let seat = join(&self.member, &self.volume, &self.beginning, &mut assignments).await?;
        assignments.close();
        tracing::info!(cluster = %seat.cluster, member = %seat.member, "opening the log");
        let (log, machine) = self.open().await?;
        let papers = log.papers(machine.end());
        // Kept to the end, so that the log's writer does not end before the member is asked to stop.
        let (kept, mut log_failure) = (log.clone(), log.failure());
        let growth = machine.growth();
        let (network, volume) = (Arc::clone(&self.member.network), Arc::clone(&self.volume));
        let outbound = Outbound { network, volume, guard: Arc::clone(&self.member.guard) };
        let raft = Raft::new(seat.member, Arc::clone(&self.config), outbound, log, machine);
        let raft = raft.await.map_err(|fatal| fatal.to_string())?;
        let metrics = raft.metrics();
        self.member.raft.send_replace(Some(raft.clone()));
        let place = self.member.identity.borrow().place.clone();
        let (waits_for, founder) = match place {
            Place::Prepared(assignment) => {
                ("its cluster is being founded", Some(assignment).filter(Assignment::is_founders))
            }
            Place::Done(_) | Place::Retired(_) | Place::Nowhere => {
                ("the Raft leader of its cluster has not reached it yet", None)
            }
        };
        self.member.set_phase(Phase::Waiting(waits_for.to_owned()));
        self.start_own_work(growth, kept.clone(), joins, suspicions);
        let founding = async {
            match founder {
                Some(assignment) => found(&self.member, &raft, &assignment, &self.beginning).await,
                None => Ok(()),
            }
        };
        let publishing = self.member.while_it_belongs(&raft, self.publish(metrics));
        let mut failing = self.member.failing.subscribe();
        let standing = self.take_stand(&raft, papers);
        let ended = tokio::try_join!(founding, publishing, self.confirm_seat(&seat), standing, async {
            tokio::select! {
                biased;
                cause = first_cause(&mut log_failure) => Err::<Infallible, _>(cause),
                cause = first_cause(&mut failing) => Err(cause),
            }
        });
        let cause = match ended {
            Ok((_, _, _, _, never)) => match never {},
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
        let key = self.member.clock.random();
        let open = move || {
            let log = LogStore::open(&*volume, key, metrics, &tasks).map_err(|error| error.to_string())?;
            let machine = StateMachine::open(snapshots, hub, state, digests).map_err(|error| error.to_string())?;
            Ok((log, machine))
        };
        blocking(&*self.volume, open).await.map_err(|error| error.to_string())?
    }

    /// What the member does by itself while its Raft runs.
    fn start_own_work(
        &self,
        growth: Growth,
        log: LogStore,
        joining: mpsc::Receiver<Joining>,
        suspicions: mpsc::Receiver<MemberId>,
    ) {
        let (tasks, member) = (&self.member.tasks, &self.member);
        let stopping = tasks.stopping();
        let (watched, volume) = (Arc::clone(member), Arc::clone(&self.volume));
        let heartbeat = std::time::Duration::from_millis(self.config.heartbeat_interval);
        let tending = Tending { member: Arc::clone(member), joining, heartbeat, pauses: Pauses::default() };
        let mut work: Vec<(&'static str, BoxFuture<'static, ()>)> = vec![
            ("membership", Box::pin(tending.tend())),
            ("leadership", Box::pin(Arc::clone(member).begin_leaderships())),
            ("announcement", Box::pin(Arc::clone(member).announce())),
            ("letting others lead", Box::pin(Arc::clone(member).let_others_lead())),
            ("digest comparison", Box::pin(Arc::clone(member).compare_digests())),
            ("looking after itself", Box::pin(Arc::clone(member).look_after_itself(self.log_metrics.pulse.clone()))),
            ("room on the volume", Box::pin(async move { watched.room.watch(volume).await })),
            ("growth of the log", Box::pin(Arc::clone(member).bound_growth(growth, self.snapshot_bytes, log))),
        ];
        if member.failover.setting == FastFailover::On {
            work.push(("connections to voters", Box::pin(holding(Arc::clone(member)))));
            work.push(("fast fail-over", Box::pin(driving(Arc::clone(member), suspicions))));
        }
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
        let mut membership = None;
        loop {
            {
                let present = metrics.borrow_watched();
                if let Err(fatal) = &present.running_state {
                    return Err(fatal.to_string());
                }
                // It says with every entry which members there are; they change seldom.
                let newest = Some(*present.membership_config.log_id());
                self.show(&present, std::mem::replace(&mut membership, newest) != newest);
            }
            if metrics.changed().await.is_err() {
                return Err("openraft has ended".to_owned());
            }
        }
    }

    fn show(&self, metrics: &Metrics, are_members_new: bool) {
        let member = &self.member;
        let before = member.status().raft_leader;
        member.guard.applied(metrics.last_applied);
        member.status.send_modify(|status| {
            let status = Arc::make_mut(status);
            update(status, metrics);
            if are_members_new {
                update_members(status, metrics);
            }
            if !status.voters.is_empty() && member.guard.gate() != Gate::Closed {
                status.phase = Phase::Running;
            }
        });
        let status = member.status();
        member.leading.send_if_modified(|leading| std::mem::replace(leading, status.raft_leader) != status.raft_leader);
        if status.role == RaftRole::Leader {
            member.metrics.heard(metrics.id);
        }
        if let Some(leader) = status.raft_leader.filter(|leader| Some(*leader) != before) {
            let cause = member.metrics.leader_changed(member.last_end());
            let name = status.voters.get(&leader).map_or("", |node| node.name.as_str());
            tracing::info!(%leader, name, term = %status.term, ?cause, "the Raft leader has changed");
        }
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
        self.settle_life().await?;
        std::future::pending().await
    }

    /// Once the cluster has recorded the present life of the volume, there is no other that it could have recorded.
    async fn settle_life(&self) -> Result<(), String> {
        let (Some(life), Some(own)) = (self.member.record.life, self.member.status().member) else { return Ok(()) };
        let mut state = self.member.state.subscribe();
        let is_recorded = |state: &Arc<Machine>| state.member(own).is_some_and(|record| record.life == Some(life));
        if state.wait_for(is_recorded).await.is_ok() && self.member.identity.borrow().lives.len() > 1 {
            let identity = Identity { lives: vec![life], ..self.member.identity.borrow().clone() };
            keep(&self.member, &self.volume, identity).await?;
        }
        Ok(())
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
    let is_committed = metrics.membership_config.log_id() == metrics.committed_membership_config.log_id();
    status.membership = match metrics.membership_config.membership().get_joint_config().len() {
        1 if is_committed => MembershipPhase::Settled,
        _ => MembershipPhase::Changing,
    };
    let matched = metrics.replication.iter().flatten().filter(|(id, _)| **id != metrics.id);
    status.matched = matched.map(|(id, log_id)| (*id, log_id.as_ref().map(index))).collect();
}

fn update_members(status: &mut RaftStatus, metrics: &Metrics) {
    let membership = metrics.membership_config.membership();
    let nodes = |ids: &mut dyn Iterator<Item = MemberId>| -> BTreeMap<MemberId, MemberNode> {
        ids.filter_map(|id| Some((id, membership.get_node(&id)?.clone()))).collect()
    };
    status.voters = nodes(&mut membership.voter_ids());
    status.learners = nodes(&mut membership.learner_ids());
}
