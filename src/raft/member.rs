//! What the parts of one running member share. It decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::Unavailable;
use super::attendance::Attendance;
use super::clock::Clock;
use super::digests::Digests;
use super::failover::Failover;
use super::fitness::Fitness;
use super::founding::Assignment;
use super::guard::{Gate, Guard};
use super::identity::Identity;
use super::messages::{Reply, Request};
use super::metrics::{LastEnd, RaftMetrics};
use super::read_barrier::Rounds;
use super::receiving::Receiving;
use super::reports::Reports;
use super::room::Room;
use super::state_machine::StateMachine;
use super::status::{Phase, RaftRole, RaftStatus};
use super::tending::Joining;
use super::transport::{Lane, Network, NetworkError, Peer};
use super::type_config::TypeConfig;
use crate::encoding::{Decode, Encode};
use crate::machine::Machine;
use crate::machine::command::MemberRecord;
use crate::tasks::Tasks;
use crate::types::{Leadership, LogIndex, MemberId, MemberName};

/// A change of the Raft leader so soon after one made way is a transfer, and after one was seen dead a fail-over.
const LATELY: Duration = Duration::from_secs(1);

/// openraft, as Quorate runs it.
pub(super) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// An assignment for the task that joins, and where it answers.
pub(super) type Assigning = (Assignment, oneshot::Sender<Reply>);

/// The shared parts of one member.
pub(super) struct Member {
    pub(super) record: MemberRecord,
    pub(super) tasks: Tasks,
    /// How long nobody elects another Raft leader after one was heard.
    pub(super) lease: Duration,
    pub(super) network: Arc<dyn Network>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) identity: watch::Sender<Identity>,
    pub(super) assigning: mpsc::Sender<Assigning>,
    pub(super) joining: mpsc::Sender<Joining>,
    /// `None` before it runs and after it has ended.
    pub(super) raft: watch::Sender<Option<Raft>>,
    pub(super) state: watch::Sender<Arc<Machine>>,
    pub(super) status: watch::Sender<Arc<RaftStatus>>,
    /// The Raft leader in it, for those who wait for a change of that alone while the rest changes with every entry.
    pub(super) leading: watch::Sender<Option<MemberId>>,
    /// Rounds of the Raft leader: an exchange with a quorum.
    pub(super) confirmations: Rounds,
    /// Rounds of the other members: a question to the Raft leader.
    pub(super) questions: Rounds,
    /// Sessions that were heard of in those rounds.
    pub(super) attendance: Attendance,
    /// Commands in flight that were proposed on this member or sent to it.
    pub(super) proposals: Semaphore,
    pub(super) receiving: Receiving,
    /// Whether this member takes part, and what others have promised it.
    pub(super) guard: Arc<Guard>,
    /// What other members say that cannot take part.
    pub(super) reports: Reports,
    /// Where members were that have answered before this one had a place.
    pub(super) met: Mutex<BTreeMap<MemberName, String>>,
    pub(super) digests: Digests,
    pub(super) metrics: RaftMetrics,
    /// On this member's volume.
    pub(super) room: Room,
    /// Why this member must not go on, once somebody has found out.
    pub(super) failing: watch::Sender<Option<String>>,
    /// Whether this member is known to be in its cluster no more.
    pub(super) removed: watch::Sender<bool>,
    /// Set when the member was asked to stop, so that the end of its Raft is no failure.
    pub(super) stopping: AtomicBool,
    /// Set before: the member is about to stop, and does not want to lead any more.
    pub(super) standing_back: AtomicBool,
    /// Whether this member should lead while another can.
    pub(super) fitness: watch::Sender<Fitness>,
    /// Names of members that should not lead while another can, as long as this member leads.
    pub(super) unfit: Mutex<BTreeSet<String>>,
    /// What the Raft leader does next with the membership, or what that waits for, in words for people; empty elsewhere.
    pub(super) step: watch::Sender<String>,
    /// When a Raft leader made way last, to tell a transfer from an election.
    pub(super) made_way: Mutex<Option<Instant>>,
    pub(super) failover: Failover,
    /// Whether its disk or its processor is too slow for a Raft leader.
    pub(super) ails: AtomicBool,
}

impl Member {
    /// The running Raft, or why there is none.
    pub(super) fn running(&self) -> Result<Raft, Unavailable> {
        let raft = self.raft.borrow().clone();
        raft.ok_or_else(|| match &self.status.borrow().phase {
            _ if self.is_stopping() => Unavailable::Stopping,
            _ if *self.removed.borrow() => Unavailable::Removed,
            Phase::Waiting(text) | Phase::Refused(text) => Unavailable::Waiting(text.clone()),
            Phase::Running => Unavailable::Stopping,
            Phase::Stopped(text) => Unavailable::Failed(text.clone()),
        })
    }

    /// The same of a member that takes part, for whatever applications ask of it. One that is a whole cluster leads itself without a
    /// word to anybody, also while it is outside (see `guard.rs`).
    pub(super) fn taking_part(&self) -> Result<Raft, Unavailable> {
        let raft = self.running()?;
        match (self.guard.gate(), &self.status.borrow().phase) {
            (Gate::Following(_) | Gate::Open, _) => Ok(raft),
            (Gate::Closed, Phase::Waiting(text) | Phase::Refused(text)) => Err(Unavailable::Waiting(text.clone())),
            (Gate::Closed, Phase::Running | Phase::Stopped(_)) => Err(Unavailable::NoRaftLeader),
        }
    }

    /// Where members were that have answered before this one had a place.
    pub(super) fn met(&self) -> BTreeMap<MemberName, String> {
        self.met.lock().expect("nobody panics while holding it").clone()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn is_own(&self, member: MemberId) -> bool {
        self.status.borrow().member == Some(member)
    }

    pub(super) fn stands_back(&self) -> bool {
        self.standing_back.load(Ordering::Acquire)
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

    /// What may have been the end of the leadership before this one, as far as this member can tell.
    pub(super) fn last_end(&self) -> LastEnd {
        let lately = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < LATELY);
        match *self.made_way.lock().expect("nobody panics while holding it") {
            made_way if lately(made_way) => LastEnd::MadeWay,
            _ if lately(self.failover.seen_dead()) => LastEnd::ProcessGone,
            _ => LastEnd::Unheard,
        }
    }

    /// Whether this member leads, as far as it knows.
    pub(super) fn leads(&self) -> bool {
        self.status.borrow().role == RaftRole::Leader
    }

    /// This member's leadership, once its first command is applied here and as long as it knows of no other Raft leader.
    pub(super) fn own_leadership(&self) -> Option<Leadership> {
        let (status, state) = (self.status(), self.state.borrow().clone());
        let begun = state.leadership()?;
        let leads = status.role == RaftRole::Leader && status.member == Some(begun.member) && status.term == begun.term;
        leads.then_some(begun.leadership)
    }

    /// The same while a quorum keeps to it: not once so few answer that the others may have elected already. Reads are never
    /// answered by this.
    pub(super) fn kept_leadership(&self) -> Option<Leadership> {
        let status = self.status();
        let alone = status.voters.len() == 1;
        let kept = status.quorum_acknowledged.is_some_and(|at| at.elapsed() < self.lease);
        self.own_leadership().filter(|_| alone || kept)
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
        self.ask_on(Lane::Forward, peer, request, deadline).await
    }

    /// Asks another member on a lane.
    pub(super) async fn ask_on(
        &self,
        lane: Lane,
        peer: &Peer,
        request: &Request,
        deadline: Instant,
    ) -> Result<Reply, NetworkError> {
        let bytes = self.network.call(peer, lane, request.to_bytes(), deadline).await?;
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
        let mut leading = self.leading.subscribe();
        let deposed = async {
            let another = |leading: &Option<MemberId>| match (leader, leading) {
                (Peer::Member(asked, _), Some(leading)) => leading != asked,
                (Peer::Member(..), None) | (Peer::Initial { .. }, _) => false,
            };
            // This member itself keeps the channel open.
            drop(leading.wait_for(another).await);
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

    /// Waits until this member has applied `index`, or the deadline has passed, or it is known that nothing more comes.
    pub(super) async fn applied(&self, index: LogIndex, deadline: Instant) -> Result<Arc<Machine>, Unavailable> {
        let (mut changes, mut removed) = (self.state.subscribe(), self.removed.subscribe());
        tokio::select! {
            biased;
            applied = timeout_at(deadline, changes.wait_for(|state| state.applied() >= Some(index))) => match applied {
                Ok(Ok(state)) => Ok(state.clone()),
                Ok(Err(_)) => Err(Unavailable::Stopping),
                Err(_) => Err(Unavailable::Timeout),
            },
            _ = removed.wait_for(|removed| *removed) => Err(Unavailable::Removed),
        }
    }
}

/// What is left until `deadline`, for another member to work with.
pub(super) fn patience(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
