//! What this member says when another one has started and asks whether its volume is the newest of its own.
//!
//! Whoever is asked objects when something that it knows for certain speaks against it: a life that the cluster has recorded
//! (see [`Life`]), or something that the member has promised to this very process (see `guard.rs`). Such facts never become
//! untrue, so one objection is enough, and it does not matter how old the rest of this member's knowledge is.
//!
//! That a member belongs to the cluster, or was removed from it, only the Raft leader says, and only when a quorum has just
//! confirmed it: it has the new life recorded by a commit in which the one who asks has no part. Whoever does not lead passes
//! the question on.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, timeout_at};

use super::guard::Gate;
use super::member::Member;
use super::messages::{Reply, Request, Stand, Verdict, Vouched};
use super::transport::Introduction;
use super::type_config::{Applied, Proposal};
use crate::machine::command::{Action, Author, Command};
use crate::machine::outcome::Answer;
use crate::types::{Life, LogIndex, MemberId};

/// How long the Raft leader may take to answer a question that is passed on.
const RELAY: Duration = Duration::from_millis(600);

/// What to do about a volume that is not the newest.
const OLDER: &str = "put the newest volume of this member back, and end whatever else runs on one; or, if that is lost, empty \
                     this volume, so that it joins as a new member";

/// How a member is in the membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belongs {
    Yes,
    /// It is being added or taken away.
    Changing,
    No,
}

impl Member {
    /// Answers a member that has just started.
    pub(super) async fn vouch(&self, from: &Introduction, stand: Stand) -> Reply {
        let own = self.identity.borrow().seat().cloned();
        let vouched = |verdict| {
            let takes_part = self.guard.gate() == Gate::Open;
            Reply::Vouched(Vouched { by: own.clone(), takes_part, hears_leader: self.hears_leader(), verdict })
        };
        if own.as_ref().is_none_or(|own| own.cluster != stand.seat.cluster) {
            return vouched(Verdict::Unknown);
        }
        if let Some(text) = self.objection(&stand) {
            return vouched(Verdict::Refused(text));
        }
        if self.leads() {
            let deadline = Instant::now() + stand.patience;
            return vouched(self.confirm(stand, deadline).await);
        }
        let asked = stand.seat.member;
        let asks_itself = from.seat.as_ref().is_some_and(|seat| seat.member == asked);
        let leader = self.leader_peer().filter(|_| asks_itself && self.status.borrow().raft_leader != Some(asked));
        if let Some(leader) = leader {
            let deadline = Instant::now() + RELAY.min(stand.patience);
            if let Ok(Reply::Vouched(said)) = self.ask(&leader, &Request::Stand(stand), deadline).await
                && said.verdict != Verdict::Unknown
            {
                return Reply::Vouched(said);
            }
        }
        vouched(Verdict::Unknown)
    }

    /// Whether there was a Raft leader within the time in which nobody elects another.
    fn hears_leader(&self) -> bool {
        let heard = match self.leads() {
            true => self.status.borrow().quorum_acknowledged,
            false => self.metrics.last_heard(),
        };
        heard.is_some_and(|at| at.elapsed() < self.lease)
    }

    /// What speaks against a volume, for certain.
    fn objection(&self, stand: &Stand) -> Option<String> {
        let (member, record) = (stand.seat.member, &stand.record);
        let whose = format!("this volume of {} (member {member})", record.name);
        let state = self.state.borrow();
        if let Some(known) = state.member(member) {
            if known.incarnation != record.incarnation {
                return Some(format!(
                    "{whose} is not the one that the cluster knows by that id, which is {}'s: check which volume is mounted \
                     where, or empty this one, so that it joins as a new member",
                    known.name
                ));
            }
            if let (Some(recorded), Some(present)) = (known.life, record.life)
                && !Life::continues(recorded, present, &stand.before)
            {
                return Some(format!(
                    "{whose} is a copy of an older one, or another process runs on a newer one: the cluster has recorded start \
                     {} of it, which this one, at start {}, does not know; {OLDER}",
                    recorded.number, present.number
                ));
            }
        }
        let papers = stand.papers.as_ref()?;
        let forgotten = self.guard.forgotten(member, papers.vote.as_ref(), papers.last_log)?;
        Some(format!("{whose} is a copy of an older one: {forgotten}; {OLDER}"))
    }

    /// As the Raft leader, finds out whether a member belongs to the cluster, and has its new life recorded.
    async fn confirm(&self, stand: Stand, deadline: Instant) -> Verdict {
        let member = stand.seat.member;
        match self.belongs(member) {
            Belongs::Changing => Verdict::Unknown,
            Belongs::Yes => self.record(stand, deadline).await,
            Belongs::No => {
                let Ok(fresh) = self.confirmations.join(Vec::new(), deadline).await else { return Verdict::Unknown };
                let Ok(state) = self.applied(fresh.index, deadline).await else { return Verdict::Unknown };
                match self.belongs(member) {
                    Belongs::No if member <= state.newest_member() => Verdict::Removed,
                    Belongs::No => Verdict::Refused(format!(
                        "this volume is of member {member}, and cluster {} has given no id beyond {}: check where the volume comes \
                         from, or empty it, so that it joins as a new member",
                        stand.seat.cluster,
                        state.newest_member()
                    )),
                    Belongs::Yes | Belongs::Changing => Verdict::Unknown,
                }
            }
        }
    }

    fn belongs(&self, member: MemberId) -> Belongs {
        let Ok(raft) = self.running() else { return Belongs::Changing };
        let metrics = raft.metrics().borrow_watched().clone();
        let newest = metrics.membership_config.membership().get_node(&member).is_some();
        let committed = metrics.committed_membership_config.membership().get_node(&member).is_some();
        match (newest, committed) {
            (true, true) => Belongs::Yes,
            (false, false) => Belongs::No,
            (true, false) | (false, true) => Belongs::Changing,
        }
    }

    async fn record(&self, stand: Stand, deadline: Instant) -> Verdict {
        let Ok(raft) = self.running() else { return Verdict::Unknown };
        let (state, applied) = (self.state.borrow().clone(), raft.metrics().borrow_watched().last_applied);
        if state.member(stand.seat.member) == Some(&stand.record) {
            // openraft hears of an applied entry a moment after everybody else.
            let is_known = applied.map(|applied| LogIndex::new(applied.index())) >= state.applied();
            return match applied.filter(|_| is_known) {
                Some(through) => Verdict::Confirmed { through },
                None => Verdict::Unknown,
            };
        }
        if self.own_leadership().is_none() {
            return Verdict::Unknown;
        }
        let Stand { seat, record, before, .. } = stand;
        let action = Action::AnnounceMember { member: seat.member, record, before };
        let command = Command { at: self.clock.wall(), author: Author::Member, action };
        match timeout_at(deadline, raft.client_write(Proposal::of(&command))).await {
            Ok(Ok(written)) => match written.data {
                Applied::Answer(Answer { outcome: Err(rejection), .. }) => {
                    Verdict::Refused(format!("{rejection}; {OLDER}"))
                }
                Applied::Answer(_) | Applied::Nothing => Verdict::Confirmed { through: written.log_id },
            },
            // It asks again.
            Ok(Err(_)) | Err(_) => Verdict::Unknown,
        }
    }
}
