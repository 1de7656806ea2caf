//! The cluster, as everything above this module sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::attendance::Attendance;
use super::fitness::Fitness;
use super::member::Member;
use super::messages::{Reply, Request};
use super::proposals::{ENDING, pause};
use super::read_barrier::{Found, Fresh};
use super::status::{PeerStatus, Phase, RaftStatus};
use super::type_config::Proposal;
use super::{Committed, ProposeError, TransferError, Unavailable};
use crate::machine::Machine;
use crate::machine::command::Command;
use crate::tasks::Exit;
use crate::types::{Leadership, MemberId, MemberName, SessionId};

/// The cluster, as one member sees and uses it. Clones share it.
#[derive(Clone)]
pub struct RaftHandle {
    pub(super) member: Arc<Member>,
}

impl RaftHandle {
    /// The newest state that this member has applied. Never waits.
    pub fn state(&self) -> Arc<Machine> {
        self.member.state.borrow().clone()
    }

    /// Tells of every newly applied batch.
    pub fn state_changes(&self) -> watch::Receiver<Arc<Machine>> {
        self.member.state.subscribe()
    }

    /// What this member knows now. Never waits.
    pub fn status(&self) -> Arc<RaftStatus> {
        self.member.status()
    }

    /// Tells of every change of the status.
    pub fn status_changes(&self) -> watch::Receiver<Arc<RaftStatus>> {
        self.member.status.subscribe()
    }

    /// Proposes a command through whichever member leads now, and waits until it is applied there **and here**, so that
    /// a read of this member sees it. Waits for a Raft leader until `deadline`.
    ///
    /// # Errors
    /// When it was not applied, or when that is unknown.
    pub async fn propose(&self, command: Command, deadline: Instant) -> Result<Committed, ProposeError> {
        self.member.propose(Proposal::of(&command), None, deadline).await
    }

    /// As [`RaftHandle::propose`]; and when the command is applied, it was a sign of life of that session as
    /// [`RaftHandle::keep_alive`] gives it, for which there is no need of another round.
    ///
    /// # Errors
    /// As [`RaftHandle::propose`].
    pub async fn propose_alive(
        &self,
        command: Command,
        session: SessionId,
        deadline: Instant,
    ) -> Result<Committed, ProposeError> {
        self.member.propose(Proposal::of(&command), Some(session), deadline).await
    }

    /// Proposes a duty's command on this member only; never forwarded.
    ///
    /// # Errors
    /// As [`RaftHandle::propose`], and at once when this member does not lead.
    pub async fn propose_here(&self, command: Command, deadline: Instant) -> Result<Committed, ProposeError> {
        self.member.propose_here(Proposal::of(&command), None, deadline).await
    }

    /// A linearizable read: the state of this member once it holds everything that was committed when the call began
    /// (ReadIndex; rounds are shared by all that wait).
    ///
    /// # Errors
    /// When leadership could not be confirmed before `deadline`.
    pub async fn read(&self, deadline: Instant) -> Result<Arc<Machine>, Unavailable> {
        let Fresh { index, ending: _ } = self.confirm(&[], deadline).await?;
        self.member.applied(index, deadline).await
    }

    /// Gives the Raft leader a sign of life for sessions, and reads as [`RaftHandle::read`]: those that live in that state
    /// live for their whole time from now on.
    ///
    /// # Errors
    /// As [`RaftHandle::read`]; then they may have been heard of all the same.
    pub async fn keep_alive(&self, sessions: &[SessionId], deadline: Instant) -> Result<Arc<Machine>, Unavailable> {
        loop {
            let Fresh { index, ending } = self.confirm(sessions, deadline).await?;
            let state = self.member.applied(index, deadline).await?;
            if ending.into_iter().all(|session| state.sessions().get(session).is_none()) {
                return Ok(state);
            }
            // The end of one is proposed, and whether that comes about is known soon.
            timeout_at(deadline, sleep(ENDING)).await.map_err(|_| Unavailable::Timeout)?;
        }
    }

    /// A round that begins after this call, of whoever leads.
    async fn confirm(&self, sessions: &[SessionId], deadline: Instant) -> Found {
        let member = &self.member;
        let mut status = member.status.subscribe();
        loop {
            status.mark_unchanged();
            let found = match member.taking_part() {
                Ok(_) if member.leads() => member.confirmations.join(sessions.to_vec(), deadline).await,
                Ok(_) if member.leader_peer().is_some() => member.questions.join(sessions.to_vec(), deadline).await,
                Ok(_) => Err(Unavailable::NoRaftLeader),
                Err(cause) => Err(cause),
            };
            match found {
                Ok(fresh) => {
                    member.metrics.reads.inc();
                    return Ok(fresh);
                }
                Err(
                    cause @ (Unavailable::Overloaded
                    | Unavailable::Stopping
                    | Unavailable::Removed
                    | Unavailable::NoRoom { .. }
                    | Unavailable::Failed(_)),
                ) => {
                    return Err(cause);
                }
                Err(
                    cause @ (Unavailable::NoRaftLeader
                    | Unavailable::NotRaftLeader
                    | Unavailable::Timeout
                    | Unavailable::Waiting(_)),
                ) => {
                    if !pause(&mut status, deadline).await {
                        return Err(cause);
                    }
                }
            }
        }
    }

    /// This member's leadership, once its first command is applied and as long as it knows of no other Raft leader.
    pub fn own_leadership(&self) -> Option<Leadership> {
        self.member.own_leadership()
    }

    /// The same while a quorum keeps to it, so that nobody else can have been elected by a quorum that hears of it. For what is
    /// done outside of the cluster, where no log refuses what a deposed Raft leader does.
    pub fn kept_leadership(&self) -> Option<Leadership> {
        self.member.kept_leadership()
    }

    /// When this member, as the Raft leader, has heard of each session last.
    pub fn attendance(&self) -> &Attendance {
        &self.member.attendance
    }

    /// Asks every other member for its status; those that do not answer before `deadline` are missing.
    pub async fn peers(&self, deadline: Instant) -> BTreeMap<MemberId, PeerStatus> {
        let asked = self.member.peers().into_iter().map(|(member, peer)| async move {
            let began = Instant::now();
            let Ok(Reply::Status(said)) = self.member.ask(&peer, &Request::Status, deadline).await else { return None };
            let status = PeerStatus {
                member,
                role: said.role,
                term: said.term,
                last_log: said.last_log,
                applied: said.applied,
                round_trip: began.elapsed(),
            };
            Some((member, status))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Members that have said lately that they cannot take part, and why; this one among them.
    pub fn refused(&self) -> BTreeMap<MemberName, String> {
        let mut refused = self.member.reports.list(Instant::now());
        let status = self.member.status();
        if let Phase::Refused(text) = &status.phase {
            refused.insert(status.name.clone(), text.clone());
        }
        refused
    }

    /// Moves Raft leadership to `to`, or to the most caught-up voter, from whichever member leads now; who leads then.
    ///
    /// # Errors
    /// When there is nobody to lead, another one leads although `to` was given leadership again and again, or it did not happen
    /// before `deadline`.
    pub async fn transfer(&self, to: Option<MemberId>, deadline: Instant) -> Result<MemberId, TransferError> {
        self.member.transfer(to, deadline).await
    }

    /// From now on this member does not campaign, and takes no leadership that is handed to it: it is about to stop.
    pub fn stand_back(&self) {
        self.member.standing_back.store(true, Ordering::Release);
        if let Ok(raft) = self.member.running() {
            raft.runtime_config().elect(false);
        }
    }

    /// Whether this member should lead while another can. One that is unfit campaigns only when nobody has led for long, and is
    /// passed over by the others for as long as one of them can lead.
    pub fn set_fitness(&self, fitness: Fitness) {
        self.member.fitness.send_if_modified(|known| std::mem::replace(known, fitness) != fitness);
    }

    /// Names of members that should not lead while another can; for as long as this member leads.
    pub fn set_unfit(&self, names: BTreeSet<String>) {
        *self.member.unfit.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// What this member, as the Raft leader, does next with the membership, or what that waits for, in words for people; empty
    /// when it is as it should be, and on every other member.
    pub fn membership_step(&self) -> String {
        self.member.step.borrow().clone()
    }

    /// Hands leadership over, if this member leads and another one can by `deadline`.
    pub async fn hand_over(&self, deadline: Instant) {
        self.member.hand_over(deadline).await;
    }

    /// Hands leadership over, if this member leads, and ends its Raft. What is in flight is answered first, as far as
    /// `deadline` allows.
    pub async fn shutdown(&self, deadline: Instant) {
        let member = &self.member;
        member.hand_over(deadline).await;
        member.stopping.store(true, Ordering::Release);
        let all = u32::try_from(super::proposals::IN_FLIGHT).expect("some thousands");
        // Whoever is not answered by then learns from the broken connection.
        drop(timeout_at(deadline, member.proposals.acquire_many(all)).await);
        let Some(raft) = member.raft.send_replace(None) else { return };
        let ended = CancellationToken::new();
        let end = ended.clone();
        // In a task of its own: openraft's shutdown must not be given up half-way.
        member.tasks.spawn("raft shutdown", Exit::Normal, async move {
            if let Err(error) = raft.shutdown().await {
                tracing::warn!(%error, "Raft did not end in order");
            }
            ended.cancel();
        });
        let stopped = async {
            end.cancelled().await;
            drop(member.status.subscribe().wait_for(|status| matches!(status.phase, Phase::Stopped(_))).await);
        };
        // What is left then ends with the process.
        if timeout_at(deadline, stopped).await.is_err() {
            tracing::warn!("Raft did not end in time");
        }
    }
}
