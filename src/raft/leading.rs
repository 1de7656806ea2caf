//! What a member does of its own accord once its Raft runs: a new Raft leader begins its leadership before anything else,
//! and every member tells the cluster who it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::digests::{Verdict, compare};
use super::handle::RaftHandle;
use super::log_store::LogStore;
use super::member::Member;
use super::messages::{Reply, Request};
use super::proposals::pause;
use super::state_machine::Growth;
use super::status::{RaftRole, RaftStatus};
use super::type_config::Proposal;
use crate::machine::Machine;
use crate::machine::command::{Action, Author, Command};
use crate::types::{LogIndex, MemberId};

/// How long one of the member's own commands may take before it is proposed again.
const OWN_COMMAND: Duration = Duration::from_secs(5);

/// Between two comparisons of digests; they are taken every 4,096 entries, so more often would bring nothing on a quiet
/// cluster.
const COMPARE_EVERY: Duration = Duration::from_secs(5);

/// Between two looks at how much was applied since the last snapshot.
const LOOK_AT_GROWTH: Duration = Duration::from_secs(1);

impl Member {
    fn own_command(&self, action: Action) -> Proposal {
        Proposal::of(&Command { at: self.clock.wall(), author: Author::Member, action })
    }

    /// Begins each leadership of this member, as its first command.
    pub(super) async fn begin_leaderships(self: Arc<Self>) {
        let mut status = self.status.subscribe();
        loop {
            let present = status.borrow_and_update().clone();
            let due = first_action(&present, &self.state.borrow());
            let Some((action, Ok(raft))) = due.map(|action| (action, self.running())) else {
                if status.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let deadline = Instant::now() + OWN_COMMAND;
            if let Err(error) = self.write(&raft, self.own_command(action), deadline).await {
                tracing::debug!(%error, "leadership has not begun yet");
                pause(&mut status, deadline).await;
            }
        }
    }

    /// Tells the cluster who this member is, if it knows it differently.
    pub(super) async fn announce(self: Arc<Self>) {
        let handle = RaftHandle { member: Arc::clone(&self) };
        self.guard.opened().await;
        let mut status = self.status.subscribe();
        loop {
            let deadline = Instant::now() + OWN_COMMAND;
            let own = status.borrow_and_update().member;
            let known = handle.read(deadline).await.map(|state| own.and_then(|own| state.member(own).cloned()));
            match (own, known) {
                (Some(_), Ok(Some(known))) if known == self.record => return,
                (Some(member), Ok(_)) => {
                    let before = self.identity.borrow().before().to_vec();
                    let action = Action::AnnounceMember { member, record: self.record.clone(), before };
                    match self.propose(self.own_command(action), None, deadline).await.map(|done| done.answer.outcome) {
                        Ok(Ok(_)) => {}
                        // It took part because it was needed, and nobody who was there knew better.
                        Ok(Err(rejection)) => drop(self.failing.send_replace(Some(rejection.to_string()))),
                        Err(error) => tracing::debug!(%error, "this member has not announced itself yet"),
                    }
                }
                (None, _) | (_, Err(_)) => {}
            }
            pause(&mut status, deadline).await;
        }
    }

    /// While this member leads, compares the members' digests.
    pub(super) async fn compare_digests(self: Arc<Self>) {
        loop {
            tokio::time::sleep(COMPARE_EVERY).await;
            if !self.leads() {
                continue;
            }
            let deadline = Instant::now() + COMPARE_EVERY;
            let mut kept = std::collections::BTreeMap::new();
            kept.extend(self.status.borrow().member.map(|own| (own, self.digests.kept())));
            for (member, peer) in self.peers() {
                if let Ok(Reply::Status(said)) = self.ask(&peer, &Request::Status, deadline).await {
                    kept.insert(member, said.digests);
                }
            }
            let voters = self.status.borrow().voters.len();
            self.judge(compare(&kept, voters), deadline).await;
        }
    }

    /// Acts on a comparison: the members whose copy is broken are told, and find out for themselves.
    async fn judge(&self, verdict: Verdict, deadline: Instant) {
        self.metrics.digest_comparisons.inc();
        match verdict {
            Verdict::Nothing | Verdict::Equal => {}
            Verdict::Undecided(index) => {
                self.metrics.digest_mismatches.inc();
                tracing::error!(%index, "members differ in their state, and no majority agrees; compare their data");
            }
            Verdict::Diverged { shared, members } => {
                self.metrics.digest_mismatches.inc_by(members.len() as u64);
                tracing::error!(index = %shared.index, ?members, "members have a broken copy of the state");
                let told = |member: MemberId| self.peers().into_iter().find(|(other, _)| *other == member);
                for (_, peer) in members.iter().copied().filter_map(told) {
                    if let Err(error) = self.ask(&peer, &Request::Diverged(shared), deadline).await {
                        tracing::warn!(%error, "a member with a broken copy was not told");
                    }
                }
                if self.status.borrow().member.is_some_and(|own| members.contains(&own)) {
                    self.check_own_digest(shared);
                }
            }
        }
    }

    /// Bounds what is on the volume by bytes, where openraft counts only entries: takes a snapshot when `limit` bytes were applied
    /// since the last one, and lets go of what that makes needless in the log, except for what is in memory anyway. Never
    /// ends.
    pub(super) async fn bound_growth(self: Arc<Self>, growth: Growth, limit: u64, log: LogStore) {
        loop {
            tokio::time::sleep(LOOK_AT_GROWTH).await;
            let Ok(raft) = self.running() else { continue };
            if growth.bytes() >= limit {
                // openraft takes no second one while one is being taken.
                drop(raft.trigger().snapshot().await);
            }
            let oldest = log.oldest_in_memory();
            if let Some(last) = oldest.and_then(|oldest| needless(&self.status.borrow(), oldest)) {
                drop(raft.trigger().purge_log(last.get()).await);
            }
        }
    }
}

/// The last entry that is both in the newest snapshot and older than what is in memory, unless it is gone already.
fn needless(status: &RaftStatus, oldest_in_memory: LogIndex) -> Option<LogIndex> {
    let older = LogIndex::new(oldest_in_memory.get().checked_sub(1)?);
    let last = status.snapshot?.min(older);
    (Some(last) > status.purged).then_some(last)
}

/// What this member, if it leads, has to propose before anything else.
fn first_action(status: &RaftStatus, state: &Machine) -> Option<Action> {
    let member = status.member.filter(|_| status.role == RaftRole::Leader)?;
    let begun = state.leadership().is_some_and(|newest| newest.member == member && newest.term == status.term);
    if !begun {
        return Some(Action::BeginLeadership { member, term: status.term });
    }
    let cluster = status.cluster.clone().filter(|_| state.cluster().is_none())?;
    let newest_member = status.voters.keys().chain(status.learners.keys()).copied().max()?;
    Some(Action::FoundCluster { cluster, newest_member })
}
