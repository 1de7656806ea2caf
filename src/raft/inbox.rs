//! What other members send, and what this one answers.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::alias::SnapshotOf;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::failover::HOLD;
use super::fitness::Fitness;
use super::founding::{Assignment, Taken, consider};
use super::identity::Identity;
use super::member::{Member, Raft};
use super::messages::{DigestSample, Join, Reply, Request, StatusReply};
use super::metrics::HandoverCause;
use super::read_barrier::Fresh;
use super::receiving::Received;
use super::snapshot_store::SnapshotFile;
use super::status::Phase;
use super::transport::{Hello, Inbox, Introduction, Known, Lane, NetworkError, Refusal, RefusalCause, hello};
use super::type_config::{Proposal, TypeConfig};
use super::{ProposeError, Unavailable};
use crate::encoding::{Decode, Encode};

/// The receiving end of one member. It does not keep the member alive: the network may outlive it.
pub(super) struct Reception {
    pub(super) member: Weak<Member>,
    pub(super) identity: watch::Receiver<Identity>,
}

impl Inbox for Reception {
    fn introduction(&self) -> Introduction {
        self.identity.borrow().introduction()
    }

    fn welcome(&self, hello: &Hello) -> Result<Introduction, Refusal> {
        let Some(member) = self.member.upgrade() else {
            return Err(Refusal::new(RefusalCause::Stopping, "this member is stopping"));
        };
        let local = self.introduction();
        member.knows(&hello.from, |known| hello::admit(&local, known, hello))?;
        Ok(local)
    }

    fn identify(&self, answered: &Introduction) -> Result<(), Refusal> {
        let member = self.member.upgrade().filter(|member| member.is_in_one_cluster_with(answered));
        member.map_or(Ok(()), |member| member.knows(answered, |known| hello::identify(answered, known)))
    }

    fn handle(&self, from: Arc<Introduction>, lane: Lane, request: Bytes) -> BoxFuture<'static, Bytes> {
        let member = self.member.upgrade();
        Box::pin(async move {
            let reply = match (member, Request::from_bytes(request)) {
                (Some(member), Ok(request)) => member.answer(&from, lane, request).await,
                (Some(_), Err(error)) => Reply::Refused(error.to_string()),
                (None, _) => Reply::NotDone(Unavailable::Stopping),
            };
            reply.to_bytes()
        })
    }
}

/// Whether a request may come on a lane. The hello has made sure that on every lane but the forward one both ends have a
/// seat in the same cluster.
fn belongs(request: &Request, lane: Lane) -> bool {
    match request {
        Request::Append(_) => matches!(lane, Lane::Control | Lane::Replication),
        Request::Vote(_) | Request::PreVote(_) | Request::MakeWay(_) | Request::Hold { .. } | Request::Look { .. } => {
            lane == Lane::Control
        }
        Request::BeginSnapshot { .. } | Request::SnapshotPart { .. } | Request::EndSnapshot { .. } => {
            lane == Lane::Snapshot
        }
        Request::Propose { .. }
        | Request::ReadIndex { .. }
        | Request::Status
        | Request::Transfer { .. }
        | Request::Introduce
        | Request::Assign(_)
        | Request::Join(_)
        | Request::Diverged(_)
        | Request::WouldLead
        | Request::Belonging
        | Request::Stand(_)
        | Request::Report(_) => lane == Lane::Forward,
    }
}

impl Member {
    fn is_in_one_cluster_with(&self, other: &Introduction) -> bool {
        let identity = self.identity.borrow();
        identity.seat().zip(other.seat.as_ref()).is_some_and(|(own, other)| own.cluster == other.cluster)
    }

    /// Judges another member by what this one knows of it.
    fn knows<T>(&self, other: &Introduction, judge: impl FnOnce(Known<'_>) -> T) -> T {
        let (status, state) = (self.status(), self.state.borrow().clone());
        let member = other.seat.as_ref().filter(|_| self.is_in_one_cluster_with(other)).map(|seat| seat.member);
        let node = member.and_then(|member| status.voters.get(&member).or_else(|| status.learners.get(&member)));
        let record = member.and_then(|member| state.member(member));
        let life = record.filter(|record| record.incarnation == other.incarnation).and_then(|record| record.life);
        judge(Known { node, life })
    }

    /// Answers a request of another member.
    async fn answer(&self, from: &Introduction, lane: Lane, request: Request) -> Reply {
        if !belongs(&request, lane) {
            return Reply::Refused(format!("that request does not belong on the {lane} lane"));
        }
        if let Phase::Refused(text) = &self.status.borrow().phase {
            let text = format!("{} is refused itself: {text}", self.record.name);
            return match request {
                Request::Introduce | Request::Assign(_) | Request::Join(_) | Request::Stand(_) => Reply::Refused(text),
                // Whoever takes it for the Raft leader tries again.
                Request::Append(_)
                | Request::Vote(_)
                | Request::PreVote(_)
                | Request::MakeWay(_)
                | Request::Hold { .. }
                | Request::Look { .. }
                | Request::BeginSnapshot { .. }
                | Request::SnapshotPart { .. }
                | Request::EndSnapshot { .. }
                | Request::Propose { .. }
                | Request::ReadIndex { .. }
                | Request::Status
                | Request::Transfer { .. }
                | Request::Diverged(_)
                | Request::WouldLead
                | Request::Belonging
                | Request::Report(_) => Reply::NotDone(Unavailable::Waiting(text)),
            };
        }
        match request {
            Request::Introduce => {
                let identity = self.identity.borrow();
                Reply::Introduced { introduction: identity.introduction(), stage: identity.stage() }
            }
            Request::Assign(assignment) => self.take_assignment(assignment).await,
            Request::Join(join) => self.take_join(from, join).await,
            Request::Stand(stand) => self.vouch(from, stand).await,
            Request::Report(text) => {
                self.reports.take(&from.name, &text, Instant::now());
                Reply::Done
            }
            Request::Hold { patience } => {
                sleep(patience.min(HOLD)).await;
                Reply::Done
            }
            request => {
                if !self.is_in_one_cluster_with(from) {
                    let own = self.identity.borrow().introduction();
                    return Reply::Refused(format!("this is {own}, the caller is {from}"));
                }
                // The next process of a member may have begun since the hello.
                if let Err(refusal) = self.knows(from, |known| hello::identify(from, known)) {
                    return Reply::Refused(refusal.text);
                }
                if !self.guard.admits(&request) {
                    return Reply::NotDone(Unavailable::Waiting("it does not take part yet".to_owned()));
                }
                match self.running() {
                    Ok(_) if self.is_in_vain(from, &request) => Reply::NotDone(Unavailable::Removed),
                    Ok(_) if matches!(request, Request::Belonging) => Reply::Belonging(self.belonging(from)),
                    Ok(raft) => self.answer_member(&raft, request).await,
                    Err(cause) => Reply::NotDone(cause),
                }
            }
        }
    }

    /// Answers a request of another member of the same cluster.
    async fn answer_member(&self, raft: &Raft, request: Request) -> Reply {
        let failed = |error: String| Reply::NotDone(Unavailable::Failed(error));
        match request {
            Request::Append(request) => self.append(raft, request).await,
            Request::Vote(request) => {
                // Whoever asks for votes has made its own durable.
                self.guard.promised(request.vote.leader_id.node_id, &request.vote, None);
                raft.vote(request).await.map_or_else(|error| failed(error.to_string()), Reply::Voted)
            }
            Request::PreVote(request) => {
                raft.pre_vote(request).await.map_or_else(|error| failed(error.to_string()), Reply::Voted)
            }
            Request::MakeWay(request) if self.stands_back() && self.is_own(*request.to_node_id()) => {
                Reply::NotDone(Unavailable::Stopping)
            }
            Request::MakeWay(request) => {
                self.makes_way();
                let made_way = raft.handle_transfer_leader(request).await;
                made_way.map_or_else(|error| failed(error.to_string()), Reply::MadeWay)
            }
            Request::Look { vote } => self.give_account(vote).await.map_or_else(failed, Reply::Account),
            Request::BeginSnapshot { vote, meta, length } => match self.receiving.begin(vote, meta, length).await {
                Ok(transfer) => Reply::SnapshotBegun { transfer },
                Err(text) => Reply::Refused(text),
            },
            Request::SnapshotPart { transfer, offset, bytes } => {
                let taken = self.receiving.part(transfer, offset, bytes).await;
                taken.map_or_else(Reply::Refused, |()| Reply::SnapshotPartTaken)
            }
            Request::EndSnapshot { transfer } => match self.receiving.end(transfer).await {
                Ok(received) => install(raft, received).await,
                Err(text) => Reply::Refused(text),
            },
            Request::Propose { command, patience, alive } => {
                let Ok(_permit) = self.proposals.try_acquire() else { return Reply::NotDone(Unavailable::Overloaded) };
                match self.propose_here(Proposal(command), alive, Instant::now() + patience).await {
                    Ok(committed) => Reply::Proposed { index: committed.index, answer: committed.answer },
                    Err(ProposeError::NotApplied(cause)) => Reply::NotDone(cause),
                    Err(ProposeError::Unknown(cause)) => Reply::Unknown(cause),
                }
            }
            Request::ReadIndex { patience, sessions } if self.leads() => {
                let found = self.confirmations.join(sessions, Instant::now() + patience).await;
                found.map_or_else(Reply::NotDone, |Fresh { index, ending }| Reply::ReadIndex { index, ending })
            }
            Request::ReadIndex { .. } => Reply::NotDone(Unavailable::NotRaftLeader),
            Request::Status => Reply::Status(self.status_reply()),
            Request::Transfer { to, patience } => {
                match self.transfer_here(to, HandoverCause::Requested, Instant::now() + patience).await {
                    Ok(to) => Reply::Transferred { to },
                    Err(error) => Reply::NotTransferred(error),
                }
            }
            Request::WouldLead if self.stands_back() => Reply::NotDone(Unavailable::Stopping),
            Request::WouldLead if self.fitness() == Fitness::Unfit => Reply::Reluctant,
            Request::WouldLead => Reply::Done,
            Request::Diverged(shared) => {
                self.check_own_digest(shared);
                Reply::Done
            }
            Request::Introduce
            | Request::Assign(_)
            | Request::Join(_)
            | Request::Belonging
            | Request::Stand(_)
            | Request::Report(_)
            | Request::Hold { .. } => Reply::Refused("already answered".to_owned()),
        }
    }

    async fn append(&self, raft: &Raft, request: AppendEntriesRequest<TypeConfig>) -> Reply {
        let leader = request.vote.leader_id.node_id;
        match raft.append_entries(request).await {
            Ok(response) => {
                if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
                    self.metrics.heard(leader);
                }
                Reply::Appended(response)
            }
            Err(error) => Reply::NotDone(Unavailable::Failed(error.to_string())),
        }
    }

    /// Takes what the founder gives, or says why not.
    async fn take_assignment(&self, assignment: Assignment) -> Reply {
        let taken = consider(&self.identity.borrow(), &assignment);
        match taken {
            Taken::Known => Reply::Done,
            Taken::Refused(text) => Reply::Refused(text),
            Taken::New => {
                let (sender, reply) = oneshot::channel();
                if self.assigning.send((assignment, sender)).await.is_err() {
                    return Reply::Refused("this member takes no assignment now; ask again".to_owned());
                }
                reply.await.unwrap_or_else(|_| Reply::Refused("this member takes no assignment now".to_owned()))
            }
        }
    }

    /// Lets a member-to-be in, or passes it on to the Raft leader.
    async fn take_join(&self, from: &Introduction, join: Join) -> Reply {
        let own = self.identity.borrow().introduction();
        let speaks_for_itself = from.name == join.record.name && from.incarnation == join.record.incarnation;
        let is_allowed = match &from.seat {
            Some(seat) => seat.cluster == join.cluster,
            None => speaks_for_itself,
        };
        if !is_allowed || own.seat.as_ref().is_none_or(|seat| seat.cluster != join.cluster) {
            return Reply::Refused(format!(
                "this is {own}, the caller is {from}, and {} wants to join cluster {}",
                join.record.name, join.cluster
            ));
        }
        let deadline = Instant::now() + join.patience;
        match self.leader_peer() {
            _ if self.leads() => {
                let (sender, reply) = oneshot::channel();
                let Ok(()) = self.joining.try_send((join, deadline, sender)) else {
                    return Reply::NotDone(Unavailable::Overloaded);
                };
                match timeout_at(deadline, reply).await {
                    Ok(Ok(reply)) => reply,
                    Ok(Err(_)) => Reply::NotDone(Unavailable::Stopping),
                    Err(_) => Reply::NotDone(Unavailable::Timeout),
                }
            }
            // It comes from the member-to-be itself, so it has not been passed on yet.
            Some(leader) if from.seat.is_none() => match self.ask(&leader, &Request::Join(join), deadline).await {
                Ok(reply) => reply,
                Err(NetworkError::NotSent { .. }) => Reply::NotDone(Unavailable::NoRaftLeader),
                Err(NetworkError::Lost { .. }) => Reply::NotDone(Unavailable::Timeout),
            },
            Some(_) => Reply::NotDone(Unavailable::NotRaftLeader),
            None => Reply::NotDone(Unavailable::NoRaftLeader),
        }
    }

    pub(super) fn status_reply(&self) -> StatusReply {
        let status = self.status();
        StatusReply {
            role: status.role,
            term: status.term,
            last_log: status.last_log,
            applied: self.state.borrow().applied(),
            digests: self.digests.kept(),
            ails: self.ails.load(Ordering::Acquire),
            fitness: self.fitness(),
        }
    }

    /// Stops this member when its state contradicts the one that most voters share.
    pub(super) fn check_own_digest(&self, shared: DigestSample) {
        let Some(cause) = self.digests.contradiction(shared) else { return };
        tracing::error!(cause, "this member stops");
        self.failing.send_replace(Some(cause));
    }
}

/// Hands a received snapshot to openraft.
async fn install(raft: &Raft, received: Received) -> Reply {
    let Received { vote, meta, file } = received;
    let snapshot = SnapshotOf::<TypeConfig, SnapshotFile> { meta, snapshot: file };
    match raft.install_full_snapshot(vote, snapshot).await {
        Ok(response) => Reply::SnapshotInstalled(response),
        Err(error) => Reply::NotDone(Unavailable::Failed(error.to_string())),
    }
}
