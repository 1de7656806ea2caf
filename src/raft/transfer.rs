//! Moving Raft leadership on purpose: to the named member or the most caught-up voter, and before this member stops.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::fitness::Fitness;
use super::member::{Member, patience};
use super::messages::{Reply, Request};
use super::metrics::HandoverCause;
use super::proposals::pause;
use super::status::{RaftRole, RaftStatus};
use super::transport::{NetworkError, Peer};
use super::{TransferError, Unavailable};
use crate::types::{LogIndex, MemberId};

/// How long one try to hand over takes at most when this member stops; there are two.
const TRY: Duration = Duration::from_millis(250);

/// How long the others may take to say whether they should lead.
const ASK: Duration = Duration::from_millis(100);

/// How often a named member is given leadership, when another one takes it: each time costs an election.
const GIFTS: u32 = 3;

/// Whoever lacks no more entries than these has them before a try is over.
const CLOSE: u64 = 1_000;

/// Whom to make the Raft leader: the named voter, or the other voter that has most of the log.
fn choose(status: &RaftStatus, wanted: Option<MemberId>) -> Result<MemberId, TransferError> {
    match wanted {
        Some(member) if status.voters.contains_key(&member) => Ok(member),
        Some(member) => Err(TransferError::NotAVoter(member)),
        None => status
            .voters
            .keys()
            .filter(|member| Some(**member) != status.member)
            .max_by_key(|member| status.matched.get(*member).copied().flatten())
            .copied()
            .ok_or(TransferError::NobodyElse),
    }
}

impl Member {
    /// Moves leadership from whoever leads; who leads then: the named one, if one is named.
    pub(super) async fn transfer(&self, to: Option<MemberId>, deadline: Instant) -> Result<MemberId, TransferError> {
        let mut status = self.status.subscribe();
        let mut gifts = 0;
        loop {
            status.mark_unchanged();
            let moved = match self.leader_peer() {
                _ if self.leads() => self.transfer_here(to, HandoverCause::Requested, deadline).await,
                Some(leader) => self.ask_to_transfer(&leader, to, deadline).await,
                None => Err(Unavailable::NoRaftLeader.into()),
            };
            match (moved, to) {
                // Another one was faster: the named one may have been short of a processor, or of its disk.
                (Ok(leader), Some(wanted)) if leader != wanted => {
                    gifts += 1;
                    if gifts == GIFTS || !pause(&mut status, deadline).await {
                        let name = |member| {
                            self.status().voters.get(&member).map_or_else(String::new, |node| node.name.clone())
                        };
                        return Err(TransferError::NotTaken { wanted: name(wanted), leader: name(leader) });
                    }
                }
                (Ok(leader), _) => return Ok(leader),
                (Err(TransferError::Unavailable(Unavailable::NoRaftLeader | Unavailable::NotRaftLeader)), _) => {
                    if !pause(&mut status, deadline).await {
                        return Err(Unavailable::NoRaftLeader.into());
                    }
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    async fn ask_to_transfer(
        &self,
        leader: &Peer,
        to: Option<MemberId>,
        deadline: Instant,
    ) -> Result<MemberId, TransferError> {
        let request = Request::Transfer { to, patience: patience(deadline) };
        match self.ask(leader, &request, deadline).await {
            Ok(Reply::Transferred { to }) => Ok(to),
            Ok(Reply::NotTransferred(error)) => Err(error),
            Ok(Reply::NotDone(cause)) => Err(cause.into()),
            Ok(other) => Err(Unavailable::Failed(format!("{} answered {other}", leader.name())).into()),
            Err(NetworkError::NotSent { .. }) => Err(Unavailable::NoRaftLeader.into()),
            Err(NetworkError::Lost { .. }) => Err(Unavailable::Timeout.into()),
        }
    }

    /// The other voter that has most of the log among those that say that they should lead and have nearly all of it; if none
    /// does so in time, among all.
    async fn heir(&self, status: &RaftStatus, deadline: Instant) -> Result<MemberId, TransferError> {
        let first = choose(status, None)?;
        let matched = |member: &MemberId| status.matched.get(member).copied().flatten().map_or(0, LogIndex::get);
        let is_close = |member: &MemberId| matched(member) + CLOSE >= matched(&first);
        let deadline = deadline.min(Instant::now() + ASK);
        let voters = self.peers().into_iter().filter(|(member, _)| status.voters.contains_key(member));
        let mut asked: FuturesUnordered<_> = voters
            .map(|(member, peer)| async move {
                let said = self.ask(&peer, &Request::Status, deadline).await;
                let is_fit = matches!(said, Ok(Reply::Status(said)) if said.fitness == Fitness::Fit);
                Some(member).filter(|member| is_fit && is_close(member))
            })
            .collect();
        let mut best = None;
        while let Some(answered) = asked.next().await {
            best = best.max(answered.map(|member| (matched(&member), member)));
            // Nobody has more.
            if best.is_some_and(|(matched_by_best, _)| matched_by_best == matched(&first)) {
                break;
            }
        }
        Ok(best.map_or(first, |(_, member)| member))
    }

    /// Moves leadership away from this member, and waits until it knows the new leader.
    pub(super) async fn transfer_here(
        &self,
        to: Option<MemberId>,
        cause: HandoverCause,
        deadline: Instant,
    ) -> Result<MemberId, TransferError> {
        let raft = self.running()?;
        let status = self.status();
        if status.role != RaftRole::Leader {
            return Err(Unavailable::NotRaftLeader.into());
        }
        let to = match to {
            Some(_) => choose(&status, to)?,
            None => self.heir(&status, deadline).await?,
        };
        if status.member == Some(to) {
            return Ok(to);
        }
        tracing::info!(%to, "handing leadership over");
        self.makes_way();
        raft.trigger()
            .transfer_leader(to)
            .await
            .map_err(|fatal| TransferError::Unavailable(Unavailable::Failed(fatal.to_string())))?;
        let mut changes = self.status.subscribe();
        let moved = |status: &std::sync::Arc<RaftStatus>| {
            status.raft_leader.is_some_and(|leader| Some(leader) != status.member)
        };
        match timeout_at(deadline, changes.wait_for(moved)).await {
            Ok(Ok(status)) => {
                self.metrics.handed_over(cause);
                status.raft_leader.ok_or_else(|| Unavailable::NoRaftLeader.into())
            }
            Ok(Err(_)) => Err(Unavailable::Stopping.into()),
            Err(_) => Err(Unavailable::Timeout.into()),
        }
    }

    /// Hands leadership over before this member stops: two tries, then the others elect by themselves.
    pub(super) async fn hand_over(&self, deadline: Instant) {
        for _ in 0..2 {
            if !self.leads() {
                return;
            }
            let until = (Instant::now() + TRY).min(deadline);
            match self.transfer_here(None, HandoverCause::Stopping, until).await {
                Ok(to) => {
                    tracing::info!(%to, "handed leadership over");
                    return;
                }
                Err(TransferError::NobodyElse) => return,
                Err(error) => tracing::warn!(%error, "leadership was not handed over"),
            }
        }
    }
}
