//! Whether a member still belongs to its cluster.
//!
//! A member that was removed is not written to any more, so it hears nothing of it. It first gives its vote back (see
//! `membership/`), so it does not campaign either. Whoever has applied the end of its record knows that it is gone: the Raft
//! leader says so when the member brings it an application's call, and when no Raft leader is heard of it asks the others. From
//! then on it takes part in nothing: it neither votes, nor leads, nor answers reads, and says so. It does not end, for there is
//! nothing that another start could make better; until its name has a place again. Then it ends, and starts anew as a
//! member-to-be.

use std::convert::Infallible;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::Unavailable;
use super::member::{Member, Raft};
use super::membership::has_place;
use super::messages::{Reply, Request};
use super::status::{Phase, RaftRole};
use super::transport::Introduction;
use crate::tasks::Exit;

/// Without a word of a Raft leader for so long, the others are asked, and then so often.
const SILENCE: Duration = Duration::from_secs(3);
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long they may take to answer.
const QUESTION: Duration = Duration::from_secs(1);

/// What a member knows of another's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belonging {
    /// It is a member, or nothing else is known.
    Member,
    /// It was removed, and there is no place for its name.
    Removed,
    /// It was removed, and a new member of its name would be let in.
    Wanted,
}

impl Member {
    /// What to answer a member of the same cluster that asks.
    pub(super) fn belonging(&self, from: &Introduction) -> Belonging {
        let (status, state) = (self.status(), self.state.borrow().clone());
        let Some(seat) = &from.seat else { return Belonging::Member };
        let nodes = || status.voters.iter().chain(&status.learners);
        let is_known = status.voters.is_empty() || nodes().any(|(member, _)| *member == seat.member);
        if is_known || !state.has_forgotten(seat.member) {
            return Belonging::Member;
        }
        let names = nodes().map(|(_, node)| node.name.as_str());
        match has_place(names, from.name.as_str(), state.size()) {
            true => Belonging::Wanted,
            false => Belonging::Removed,
        }
    }

    /// Whether this is for the Raft leader, which this member is, by way of one that was removed: what comes of it would never be
    /// applied there, and whoever waits for that would wait in vain.
    pub(super) fn is_in_vain(&self, from: &Introduction, request: &Request) -> bool {
        matches!(request, Request::Propose { .. } | Request::ReadIndex { .. })
            && self.kept_leadership().is_some()
            && self.belonging(from) != Belonging::Member
    }

    /// Takes it from the Raft leader that this member was removed.
    pub(super) fn heeds(&self, cause: &Unavailable) {
        if *cause == Unavailable::Removed && self.was_led() {
            self.removed.send_replace(true);
        }
    }

    /// Whether this member has taken part. If one that has just started belongs to its cluster is found out otherwise (see
    /// `standing.rs`).
    fn was_led(&self) -> bool {
        self.guard.is_open() && self.metrics.last_heard().is_some()
    }

    /// Waits until another member says that this one is not in its cluster any more.
    async fn is_removed(&self) -> Belonging {
        let mut removed = self.removed.subscribe();
        loop {
            if timeout(ASK_EVERY, removed.wait_for(|removed| *removed)).await.is_ok() {
                return Belonging::Removed;
            }
            let hears_a_leader = self.status.borrow().role == RaftRole::Leader || self.metrics.heard_within(SILENCE);
            if self.was_led()
                && !hears_a_leader
                && let Some(removed) = self.ask_whether_removed().await
            {
                return removed;
            }
        }
    }

    /// What those who know say of this member, if they say that it is gone.
    async fn ask_whether_removed(&self) -> Option<Belonging> {
        let deadline = Instant::now() + QUESTION;
        let asked = self.peers().into_iter().map(|(_, peer)| async move {
            match self.ask(&peer, &Request::Belonging, deadline).await {
                Ok(Reply::Belonging(belonging)) => Some(belonging),
                Ok(_) | Err(_) => None,
            }
        });
        let said: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        // Once it was said by one it is so, however little the others have heard of it.
        [Belonging::Wanted, Belonging::Removed].into_iter().find(|belonging| said.contains(belonging))
    }

    /// Does what `work` does for as long as this member belongs to its cluster. Then its Raft rests, and it waits until its name
    /// has a place again; ends with what to do.
    pub(super) async fn while_it_belongs(
        &self,
        raft: &Raft,
        work: impl Future<Output = Result<Infallible, String>>,
    ) -> Result<Infallible, String> {
        let mut belonging = tokio::select! {
            biased;
            ended = work => return ended,
            belonging = self.is_removed() => belonging,
        };
        self.removed.send_replace(true);
        raft.runtime_config().elect(false);
        self.raft.send_replace(None);
        let resting = raft.clone();
        // In a task of its own: openraft's shutdown must not be given up half-way.
        self.tasks.spawn("raft of a removed member", Exit::Normal, async move { drop(resting.shutdown().await) });
        let own = self.identity.borrow().introduction();
        let text = format!(
            "{own} was removed from its cluster and takes part in nothing any more: it waits until its pod is taken away, or \
             until a member of its name is wanted again"
        );
        tracing::info!(reason = text, "removed");
        self.set_phase(Phase::Waiting(text));
        while belonging != Belonging::Wanted {
            sleep(ASK_EVERY).await;
            belonging = self.ask_whether_removed().await.unwrap_or(Belonging::Removed);
        }
        Err(format!(
            "{own} was removed from its cluster, which wants a member of its name again: it starts anew, to join"
        ))
    }
}
