//! What the parts of one running member share. It decides nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::Unavailable;
use super::attendance::Attendance;
use super::clock::Clock;
use super::digests::Digests;
use super::founding::Assignment;
use super::identity::Identity;
use super::messages::{Reply, Request};
use super::metrics::RaftMetrics;
use super::read_barrier::Rounds;
use super::receiving::Receiving;
use super::state_machine::StateMachine;
use super::status::{Phase, RaftRole, RaftStatus};
use super::transport::{Lane, Network, NetworkError, Peer};
use super::type_config::TypeConfig;
use crate::encoding::{Decode, Encode};
use crate::machine::Machine;
use crate::machine::command::MemberRecord;
use crate::tasks::Tasks;
use crate::types::{LogIndex, MemberId};

/// A change of the Raft leader so soon after one made way is a transfer.
const MAKING_WAY: Duration = Duration::from_secs(1);

/// openraft, as Quorate runs it.
pub(super) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// An assignment for the task that joins, and where it answers.
pub(super) type Assigning = (Assignment, oneshot::Sender<Reply>);

/// The shared parts of one member.
pub(super) struct Member {
    pub(super) record: MemberRecord,
    pub(super) tasks: Tasks,
    pub(super) network: Arc<dyn Network>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) identity: watch::Sender<Identity>,
    pub(super) assigning: mpsc::Sender<Assigning>,
    /// `None` before it runs and after it has ended.
    pub(super) raft: watch::Sender<Option<Raft>>,
    pub(super) state: watch::Sender<Arc<Machine>>,
    pub(super) status: watch::Sender<Arc<RaftStatus>>,
    /// Rounds of the Raft leader: an exchange with a quorum.
    pub(super) confirmations: Rounds,
    /// Rounds of the other members: a question to the Raft leader.
    pub(super) questions: Rounds,
    /// Sessions that were heard of in those rounds.
    pub(super) attendance: Attendance,
    /// Commands in flight that were proposed on this member or sent to it.
    pub(super) proposals: Semaphore,
    pub(super) receiving: Receiving,
    pub(super) digests: Digests,
    pub(super) metrics: RaftMetrics,
    /// Why this member must not go on, once somebody has found out.
    pub(super) failing: watch::Sender<Option<String>>,
    /// Set when the member was asked to stop, so that the end of its Raft is no failure.
    pub(super) stopping: AtomicBool,
    /// When a Raft leader made way last, to tell a transfer from an election.
    pub(super) made_way: Mutex<Option<Instant>>,
}

impl Member {
    /// The running Raft, or why there is none.
    pub(super) fn running(&self) -> Result<Raft, Unavailable> {
        let raft = self.raft.borrow().clone();
        raft.ok_or_else(|| match &self.status.borrow().phase {
            _ if self.is_stopping() => Unavailable::Stopping,
            Phase::Waiting(text) => Unavailable::Waiting(text.clone()),
            Phase::Running => Unavailable::Stopping,
            Phase::Stopped(text) => Unavailable::Failed(text.clone()),
        })
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn status(&self) -> Arc<RaftStatus> {
        self.status.borrow().clone()
    }

    /// Publishes a change of the status, if it is one.
    pub(super) fn set_phase(&self, phase: Phase) {
        self.status.send_if_modified(|status| {
            let changed = status.phase != phase;
            if changed {
                Arc::make_mut(status).phase = phase;
            }
            changed
        });
    }

    /// A Raft leader makes way for another.
    pub(super) fn makes_way(&self) {
        *self.made_way.lock().expect("nobody panics while holding it") = Some(Instant::now());
    }

    /// Whether a Raft leader has just made way.
    pub(super) fn made_way_lately(&self) -> bool {
        let at = *self.made_way.lock().expect("nobody panics while holding it");
        at.is_some_and(|at| at.elapsed() < MAKING_WAY)
    }

    /// Whether this member leads, as far as it knows.
    pub(super) fn leads(&self) -> bool {
        self.status.borrow().role == RaftRole::Leader
    }

    /// The Raft leader as a peer, when it is another member.
    pub(super) fn leader_peer(&self) -> Option<Peer> {
        let status = self.status.borrow();
        let leader = status.raft_leader.filter(|leader| Some(*leader) != status.member)?;
        let node = status.voters.get(&leader).or_else(|| status.learners.get(&leader))?;
        Some(Peer::Member(leader, node.clone()))
    }

    /// Every other member.
    pub(super) fn peers(&self) -> Vec<(MemberId, Peer)> {
        let status = self.status.borrow();
        let all = status.voters.iter().chain(&status.learners);
        let others = all.filter(|(member, _)| Some(**member) != status.member);
        others.map(|(member, node)| (*member, Peer::Member(*member, node.clone()))).collect()
    }

    /// Asks another member on the forward lane.
    pub(super) async fn ask(&self, peer: &Peer, request: &Request, deadline: Instant) -> Result<Reply, NetworkError> {
        let bytes = self.network.call(peer, Lane::Forward, request.to_bytes(), deadline).await?;
        Reply::from_bytes(bytes)
            .map_err(|error| NetworkError::Lost { peer: peer.name().to_owned(), cause: error.to_string() })
    }

    /// Asks the Raft leader on the forward lane. Once another member leads, the answer is waited for only `grace` longer: a
    /// member that made way has answered by then, and one that was cut off may never.
    pub(super) async fn ask_leader(
        &self,
        leader: &Peer,
        request: &Request,
        grace: Duration,
        deadline: Instant,
    ) -> Result<Reply, NetworkError> {
        let mut status = self.status.subscribe();
        let deposed = async {
            let another = |status: &Arc<RaftStatus>| match (leader, status.raft_leader) {
                (Peer::Member(asked, _), Some(leading)) => leading != *asked,
                (Peer::Member(..), None) | (Peer::Initial { .. }, _) => false,
            };
            // This member itself keeps the channel open.
            drop(status.wait_for(another).await);
            sleep(grace).await;
        };
        tokio::select! {
            biased;
            answer = self.ask(leader, request, deadline) => answer,
            () = deposed => {
                let cause = "another member leads by now".to_owned();
                Err(NetworkError::Lost { peer: leader.name().to_owned(), cause })
            }
        }
    }

    /// Waits until this member has applied `index`, or the deadline has passed.
    pub(super) async fn applied(&self, index: LogIndex, deadline: Instant) -> Result<Arc<Machine>, Unavailable> {
        let mut changes = self.state.subscribe();
        match timeout_at(deadline, changes.wait_for(|state| state.applied() >= Some(index))).await {
            Ok(Ok(state)) => Ok(state.clone()),
            Ok(Err(_)) => Err(Unavailable::Stopping),
            Err(_) => Err(Unavailable::Timeout),
        }
    }
}

/// What is left until `deadline`, for another member to work with.
pub(super) fn patience(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
