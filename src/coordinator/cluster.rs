//! The cluster itself: who is in it, who leads, how far each member is. Always answers, from what this member knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Duration, Instant, timeout_at};

use super::{Coordinator, CoordinatorError};
use crate::machine::Machine;
use crate::raft::{Fitness, MemberNode, PeerStatus, Phase, RaftRole, RaftStatus};
use crate::types::{ClusterId, LogIndex, MemberId, MemberName, Revision, Term, Timestamp};

/// How long other members are waited for when a person asks how the cluster is.
const PATIENCE: Duration = Duration::from_millis(300);

/// The cluster as one member sees it.
#[derive(Debug, Clone)]
pub struct ClusterView {
    pub phase: Phase,
    pub cluster: Option<ClusterId>,
    pub revision: Revision,
    pub term: Term,
    pub leader: Option<LeaderView>,
    pub members: Vec<MemberView>,
    /// Members that must not take part, because of their volumes, as far as this member was told; and why.
    pub refused: BTreeMap<MemberName, String>,
    /// Voters that make a quorum.
    pub quorum: usize,
    /// Whether enough voters answer, as far as this member sees.
    pub available: bool,
    /// Voters that may still fail.
    pub tolerance: usize,
    /// Whether leadership was confirmed by a quorum for this answer; if not, all of it may be old.
    pub confirmed: bool,
    /// What the Raft leader does next with the membership, or what that waits for; empty when there is nothing to do, and on
    /// every other member.
    pub step: String,
}

impl ClusterView {
    /// Finds out anew what follows from the states of the members.
    pub fn count(&mut self) {
        let voters = self.members.iter().filter(|member| member.voter);
        let reachable = voters.clone().filter(|voter| voter.state != MemberState::Unreachable).count();
        self.quorum = voters.count() / 2 + 1;
        self.available = reachable >= self.quorum;
        self.tolerance = reachable.saturating_sub(self.quorum);
    }
}

/// The Raft leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderView {
    pub member: MemberId,
    pub name: String,
    pub url: Option<String>,
    pub term: Term,
    pub since: Option<Timestamp>,
    pub this: bool,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    pub member: MemberId,
    pub name: String,
    pub url: Option<String>,
    pub voter: bool,
    pub state: MemberState,
    pub matched: Option<LogIndex>,
    pub lag_entries: Option<u64>,
    pub last_contact: Option<Duration>,
    pub version: Option<String>,
}

/// A finished change of the Raft leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    pub leader: LeaderView,
    /// From the call until this member has applied the new leader's first command.
    pub took: Duration,
}

/// What a member does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    Leader,
    Follower,
    Candidate,
    Unreachable,
}

impl Coordinator {
    /// What this member knows of consensus. Never waits.
    pub fn status(&self) -> Arc<RaftStatus> {
        self.raft.status()
    }

    /// The same, for those who wait for its changes.
    pub fn status_changes(&self) -> watch::Receiver<Arc<RaftStatus>> {
        self.raft.status_changes()
    }

    /// The state of this member, for those who wait for its changes.
    pub fn state_changes(&self) -> watch::Receiver<Arc<Machine>> {
        self.raft.state_changes()
    }

    /// The Raft leader that this member knows of; `None` when there is none.
    pub fn leader(&self) -> Option<LeaderView> {
        leader_view(&self.raft.status(), &self.raft.state())
    }

    /// The name of a member, as far as this member knows it.
    pub fn name_of(&self, member: MemberId) -> Option<String> {
        let status = self.raft.status();
        let node = status.voters.get(&member).or_else(|| status.learners.get(&member));
        node.map(|node| node.name.clone())
    }

    /// Whether this member should lead while another can.
    pub fn set_fitness(&self, fitness: Fitness) {
        self.raft.set_fitness(fitness);
    }

    /// Names of members that should not lead while another can; for as long as this member leads.
    pub fn set_unfit(&self, names: BTreeSet<String>) {
        self.raft.set_unfit(names);
    }

    /// The cluster, with what every reachable member says of itself. Always answers, within a fraction of a second.
    pub async fn cluster(&self) -> ClusterView {
        let deadline = Instant::now() + PATIENCE;
        let (peers, confirmed) = tokio::join!(self.raft.peers(deadline), self.raft.read(deadline));
        let (status, state) = (self.raft.status(), self.raft.state());
        let view = view(&status, &state, &peers, confirmed.is_ok());
        ClusterView { step: self.raft.membership_step(), refused: self.raft.refused(), ..view }
    }

    /// Moves Raft leadership to the member of that name, or to the most caught-up voter.
    ///
    /// # Errors
    /// When there is no such member, nobody could lead, another one took leadership, or it did not happen before the deadline.
    pub async fn transfer_leadership(
        &self,
        to: Option<MemberName>,
        deadline: Instant,
    ) -> Result<Transferred, CoordinatorError> {
        let began = Instant::now();
        let status = self.raft.status();
        let to = to.map(|name| {
            let found = status.voters.iter().find(|(_, node)| node.name == name.as_str());
            found.map(|(member, _)| *member).ok_or(CoordinatorError::NoSuchMember(name))
        });
        let to = self.raft.transfer(to.transpose()?, deadline).await?;
        // This member may hear of the new leader later than the old one did. It was done, whether that comes in time or not.
        let mut changes = self.raft.state_changes();
        let begun = |state: &Arc<Machine>| state.leadership().is_some_and(|leadership| leadership.member == to);
        drop(timeout_at(deadline, changes.wait_for(begun)).await);
        let leader = view_of_leader(to, &self.raft.status(), &self.raft.state());
        Ok(Transferred { leader, took: began.elapsed() })
    }
}

fn leader_view(status: &RaftStatus, state: &Machine) -> Option<LeaderView> {
    Some(view_of_leader(status.raft_leader?, status, state))
}

fn view_of_leader(member: MemberId, status: &RaftStatus, state: &Machine) -> LeaderView {
    let record = state.member(member);
    let node = status.voters.get(&member).or_else(|| status.learners.get(&member));
    let begun = state.leadership().filter(|leadership| leadership.member == member);
    LeaderView {
        member,
        name: node.map(|node| node.name.clone()).unwrap_or_default(),
        url: record.map(|record| record.url.clone()),
        term: status.term,
        since: begun.map(|leadership| leadership.since),
        this: status.member == Some(member),
    }
}

fn view(status: &RaftStatus, state: &Machine, peers: &BTreeMap<MemberId, PeerStatus>, confirmed: bool) -> ClusterView {
    let voters = status.voters.iter().map(|(member, node)| (*member, node, true));
    let learners = status.learners.iter().map(|(member, node)| (*member, node, false));
    let members: Vec<_> = voters
        .chain(learners)
        .map(|(member, node, voter)| member_view(member, node, voter, status, state, peers.get(&member)))
        .collect();
    let mut view = ClusterView {
        phase: status.phase.clone(),
        cluster: status.cluster.clone(),
        revision: state.revision(),
        term: status.term,
        leader: leader_view(status, state),
        quorum: 0,
        available: false,
        tolerance: 0,
        members,
        refused: BTreeMap::new(),
        confirmed,
        step: String::new(),
    };
    view.count();
    view
}

fn member_view(
    member: MemberId,
    node: &MemberNode,
    voter: bool,
    status: &RaftStatus,
    state: &Machine,
    peer: Option<&PeerStatus>,
) -> MemberView {
    let this = status.member == Some(member);
    let role = if this { Some(status.role) } else { peer.map(|peer| peer.role) };
    let last = if this { status.last_log } else { peer.and_then(|peer| peer.last_log) };
    let matched = status.matched.get(&member).copied().flatten().or(last);
    let newest = status.last_log.max(peer.and_then(|peer| peer.last_log));
    let lag = |matched: LogIndex| newest.map_or(0, |newest| newest.get().saturating_sub(matched.get()));
    let record = state.member(member);
    MemberView {
        member,
        name: node.name.clone(),
        url: record.map(|record| record.url.clone()),
        voter,
        state: match role {
            Some(RaftRole::Leader) => MemberState::Leader,
            Some(RaftRole::Candidate) => MemberState::Candidate,
            Some(RaftRole::Follower | RaftRole::Learner) => MemberState::Follower,
            None => MemberState::Unreachable,
        },
        matched,
        lag_entries: matched.map(lag),
        last_contact: if this { Some(Duration::ZERO) } else { peer.map(|peer| peer.round_trip) },
        version: record.map(|record| record.version.clone()),
    }
}
