//! The Raft leader's care for the membership: it lets new members in, and carries out what `membership/` plans.
//!
//! One task does both, one after the other, so that no two changes meet. It works only while this member leads and its
//! leadership has begun, and every change names the membership that it was decided on and the leader that decided it, so
//! that openraft refuses it once either is another.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, Precondition};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::member::{Member, Raft};
use super::membership::{Admission, Contact, Next, Pauses, Picture, Progress, Reason, admit, plan, tell};
use super::messages::{Join, Reply, Request};
use super::metrics::{HandoverCause, MembershipChange};
use super::status::MemberNode;
use super::type_config::{LeaderId, LogId, Proposal, TypeConfig};
use super::{ProposeError, TransferError, Unavailable};
use crate::machine::command::{Action, Author, Care, Command, MemberRecord};
use crate::machine::outcome::Effect;
use crate::types::{Leadership, LogIndex, MemberId};

/// Between two looks at the membership. Who has the log's end of the last look keeps up.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Who was heard of within this time may be made a voter: ten heartbeats at the usual timing, and at least so many at any.
const LATELY: Duration = Duration::from_secs(1);
const HEARTBEATS: u32 = 5;

/// Who was not heard of for so many times as long is away; also by a Raft leader that began so long ago.
const SILENT: u32 = 3;

/// How long one change may take; then the next look finds what has become of it.
const CHANGE: Duration = Duration::from_secs(5);

/// How long a member may take to say whether it would lead.
const QUESTION: Duration = Duration::from_millis(500);

/// What becomes of voters that are to vote no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Former {
    /// They follow from then on.
    Learners,
    /// They are no members any more.
    Gone,
}

/// Members-to-be that wait at a time: there are not that many.
pub(super) const JOINING: usize = 8;

/// A member-to-be for the task that tends the membership, until when it waits, and where it is answered.
pub(super) type Joining = (Join, Instant, oneshot::Sender<Reply>);

type Changes = ChangeMembers<MemberId, MemberNode>;

/// Tends the membership whenever this member leads.
pub(super) struct Tending {
    pub(super) member: Arc<Member>,
    pub(super) joining: mpsc::Receiver<Joining>,
    /// How often the Raft leader gives a sign of life, and hears of the others.
    pub(super) heartbeat: Duration,
    /// When leadership was moved, in this leadership or in one before.
    pub(super) pauses: Pauses,
}

/// What is remembered during one leadership.
struct Reign {
    leadership: Leadership,
    since: Instant,
    /// The end of the log at the last look.
    end: Option<LogIndex>,
    /// What was wrong last, so that it is logged once.
    trouble: Option<String>,
}

/// What a change is decided on.
struct Ground {
    raft: Raft,
    leadership: Leadership,
    picture: Picture,
    membership: Option<LogId>,
    leader: LeaderId,
}

impl Tending {
    /// Never ends.
    pub(super) async fn tend(mut self) {
        let mut reign: Option<Reign> = None;
        let mut look = Instant::now() + LOOK_EVERY;
        loop {
            tokio::select! {
                biased;
                // The member itself keeps the other end.
                Some((join, deadline, answer)) = self.joining.recv() => {
                    let reply = self.seat(&mut reign, join, deadline).await;
                    // Whoever waited has given up; it asks again.
                    drop(answer.send(reply));
                }
                () = sleep_until(look) => {
                    self.look(&mut reign).await;
                    look = Instant::now() + LOOK_EVERY;
                }
            }
        }
    }

    /// Says what the next change is, or what it waits for, and carries it out.
    async fn look(&mut self, reign: &mut Option<Reign>) {
        let Some(ground) = self.survey(reign) else { return self.say(String::new()) };
        if let Some(reign) = reign {
            reign.end = self.member.status().last_log;
        }
        let next = plan(&ground.picture);
        self.say(tell(&ground.picture, &next));
        if matches!(next, Next::HandOver { .. }) {
            self.pauses.tried(Instant::now());
        }
        let carried_out = self.carry_out(&ground, &next, Instant::now() + CHANGE).await;
        let Some(reign) = reign else { return };
        // Whoever leads now sees to it.
        let trouble = carried_out.err().filter(|cause| *cause != Unavailable::NotRaftLeader);
        let trouble = trouble.map(|cause| cause.to_string());
        if let Some(cause) = trouble.as_ref().filter(|cause| reign.trouble.as_ref() != Some(cause)) {
            tracing::warn!(cause, ?next, "the membership is not changed yet");
        }
        reign.trouble = trouble;
    }

    /// For people.
    fn say(&self, step: String) {
        self.member.step.send_if_modified(|known| {
            let is_news = *known != step;
            *known = step;
            is_news
        });
    }

    /// What this member knows as the Raft leader; `None` when it does not lead.
    fn survey(&self, reign: &mut Option<Reign>) -> Option<Ground> {
        let Some(leadership) = self.member.own_leadership() else {
            *reign = None;
            return None;
        };
        let present = reign.take().filter(|reign| reign.leadership == leadership);
        let begun = || Reign { leadership, since: Instant::now(), end: None, trouble: None };
        let present = reign.insert(present.unwrap_or_else(begun));
        let raft = self.member.running().ok()?;
        let metrics = raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let is_committed = metrics.committed_membership_config.log_id() == metrics.membership_config.log_id();
        let heard = metrics.heartbeat.unwrap_or_default();
        let lately = LATELY.max(self.heartbeat * HEARTBEATS);
        let silent = lately * SILENT;
        let contact = |member: &MemberId| match heard.get(member).copied().flatten() {
            _ if *member == metrics.id => Contact::Lately,
            Some(at) if at.elapsed() < lately => Contact::Lately,
            Some(at) if at.elapsed() < silent => Contact::Before,
            Some(_) | None if present.since.elapsed() < silent => Contact::Before,
            Some(_) | None => Contact::Silent,
        };
        let nodes: BTreeMap<_, _> = membership.nodes().map(|(member, node)| (*member, node.clone())).collect();
        let matched = metrics.replication.iter().flatten().filter_map(|(member, matched)| {
            let index = matched.as_ref()?.index();
            Some((*member, LogIndex::new(index)))
        });
        let state = self.member.state.borrow().clone();
        let picture = Picture {
            own: metrics.id,
            voters: membership.get_joint_config().clone(),
            progress: if is_committed { Progress::Committed } else { Progress::Pending },
            changed_at: metrics.membership_config.log_id().as_ref().map(|log_id| LogIndex::new(log_id.index())),
            contacts: nodes.keys().map(|member| (*member, contact(member))).collect(),
            matched: matched.collect(),
            recent_end: present.end,
            size: state.size(),
            steering: state.steering().clone(),
            unfit: self.member.unfit.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            moves: self.pauses.moves(Instant::now()),
            recorded: state.members().map(|(member, _)| member).collect(),
            nodes,
        };
        let membership = *metrics.membership_config.log_id();
        Some(Ground { raft, leadership, picture, membership, leader: metrics.vote.leader_id })
    }

    async fn carry_out(&self, ground: &Ground, next: &Next, deadline: Instant) -> Result<(), Unavailable> {
        let name = |member: &MemberId| ground.picture.nodes.get(member).map_or("", |node| node.name.as_str());
        match next {
            Next::Nothing => {}
            Next::LeaveJoint => {
                let nobody_more = ChangeMembers::AddVoterIds([].into());
                self.change(ground, nobody_more, Former::Learners, deadline).await?;
                tracing::info!("finished a change of the membership that was left over");
            }
            Next::Promote { learner, voters } => {
                let changes = ChangeMembers::ReplaceAllVoters(voters.clone());
                self.change(ground, changes, Former::Gone, deadline).await?;
                self.member.metrics.membership_changed(MembershipChange::Promoted);
                tracing::info!(member = %learner, name = name(learner), "a learner votes now");
            }
            Next::Replace { old, new, voters } => {
                let changes = ChangeMembers::ReplaceAllVoters(voters.clone());
                self.change(ground, changes, Former::Gone, deadline).await?;
                self.member.metrics.membership_changed(MembershipChange::Replaced);
                tracing::info!(member = %new, %old, name = name(new), "a learner votes in the place of a member that lost its volume");
            }
            Next::Demote { voter, voters } => {
                let changes = ChangeMembers::ReplaceAllVoters(voters.clone());
                self.change(ground, changes, Former::Learners, deadline).await?;
                self.member.metrics.membership_changed(MembershipChange::Demoted);
                tracing::info!(member = %voter, name = name(voter), "a voter is a learner now");
            }
            Next::Remove(learner) => {
                let changes = ChangeMembers::RemoveNodes([*learner].into());
                self.change(ground, changes, Former::Gone, deadline).await?;
                self.member.metrics.membership_changed(MembershipChange::Removed);
                tracing::info!(member = %learner, name = name(learner), "removed a learner");
            }
            Next::HandOver { to, reason } => self.hand_over(*to, *reason, deadline).await?,
            Next::Forget(member) => {
                self.propose(ground, Action::ForgetMember { member: *member }, deadline).await?;
            }
        }
        Ok(())
    }

    /// Makes another member the Raft leader, once it has said that it would lead: to ask one that would not, or that does not
    /// answer, costs an election.
    async fn hand_over(&self, to: MemberId, reason: Reason, deadline: Instant) -> Result<(), Unavailable> {
        let peer = self.member.peers().into_iter().find(|(member, _)| *member == to).map(|(_, peer)| peer);
        let Some(peer) = peer else { return Err(Unavailable::NotRaftLeader) };
        let asked = self.member.ask(&peer, &Request::WouldLead, Instant::now() + QUESTION).await;
        match asked {
            Ok(Reply::Done) => {}
            // Whoever is to vote no more leaves it to the best there is.
            Ok(Reply::Reluctant) if reason == Reason::Leaving => {}
            Ok(other) => return Err(Unavailable::Failed(format!("{} answered {other}", peer.name()))),
            Err(error) => return Err(Unavailable::Failed(error.to_string())),
        }
        tracing::info!(%to, name = peer.name(), ?reason, "moving leadership");
        let cause = match reason {
            Reason::Leaving => HandoverCause::Leaving,
            Reason::Unfit => HandoverCause::Unfit,
            Reason::Preferred => HandoverCause::Preferred,
        };
        match self.member.transfer_here(Some(to), cause, deadline).await {
            Ok(_) => Ok(()),
            Err(TransferError::Unavailable(cause)) => Err(cause),
            Err(error) => Err(Unavailable::Failed(error.to_string())),
        }
    }

    /// Gives a member-to-be its id and makes it a learner.
    async fn seat(&self, reign: &mut Option<Reign>, join: Join, deadline: Instant) -> Reply {
        let Some(ground) = self.survey(reign) else { return Reply::NotDone(Unavailable::NotRaftLeader) };
        if ground.picture.progress == Progress::Pending || ground.picture.voters.len() != 1 {
            let text = "another change of the membership is in progress".to_owned();
            return Reply::NotDone(Unavailable::Waiting(text));
        }
        let state = self.member.state.borrow().clone();
        if state.cluster() != Some(&join.cluster) {
            let present = state.cluster().map_or_else(|| "none yet".to_owned(), ToString::to_string);
            return Reply::Refused(format!("this is cluster {present} and not {}", join.cluster));
        }
        match admit(&ground.picture, state.feature_level(), &join.record) {
            Admission::Seated(member) => Reply::Seated { member },
            Admission::Refused(text) => Reply::Refused(text),
            Admission::New if state.steering().care == Care::Paused => Reply::Refused(
                "the QuorateCluster is paused, so nobody is let in; end that, and it is let in".to_owned(),
            ),
            Admission::New => match self.add(&ground, join, deadline).await {
                Ok(member) => Reply::Seated { member },
                Err(cause) => Reply::NotDone(cause),
            },
        }
    }

    async fn add(&self, ground: &Ground, join: Join, deadline: Instant) -> Result<MemberId, Unavailable> {
        let MemberRecord { name, incarnation, .. } = join.record.clone();
        let node = MemberNode { name: name.to_string(), address: join.address, incarnation: incarnation.to_string() };
        let member = match self.propose(ground, Action::AllocateMember { record: join.record }, deadline).await? {
            Effect::MemberAllocated(member) if !ground.picture.nodes.contains_key(&member) => member,
            other => return Err(Unavailable::Failed(format!("the id of {name} is {other:?}, which cannot be"))),
        };
        self.change(ground, ChangeMembers::AddNodes([(member, node)].into()), Former::Gone, deadline).await?;
        self.member.metrics.membership_changed(MembershipChange::Added);
        tracing::info!(%member, %name, "added a learner");
        Ok(member)
    }

    async fn propose(&self, ground: &Ground, action: Action, deadline: Instant) -> Result<Effect, Unavailable> {
        let author = Author::Duty(ground.leadership);
        let command = Command { at: self.member.clock.wall(), author, action };
        match self.member.write(&ground.raft, Proposal::of(&command), deadline).await {
            Ok(committed) => committed.answer.outcome.map_err(|rejection| Unavailable::Failed(rejection.to_string())),
            Err(ProposeError::NotApplied(cause) | ProposeError::Unknown(cause)) => Err(cause),
        }
    }

    /// Changes the membership from the one that `ground` shows, as the leader that it shows.
    async fn change(
        &self,
        ground: &Ground,
        changes: Changes,
        former: Former,
        deadline: Instant,
    ) -> Result<(), Unavailable> {
        let conditions = [
            Precondition::<TypeConfig>::LastMembershipLogId { last_membership_log_id: ground.membership },
            Precondition::CommittedLeaderId { committed_leader_id: ground.leader },
        ];
        let retain = former == Former::Learners;
        let changing = ground.raft.change_membership_if(changes, retain, conditions);
        match timeout_at(deadline, changing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(Unavailable::NotRaftLeader),
            Ok(Err(RaftError::APIError(error))) => Err(Unavailable::Failed(error.to_string())),
            Ok(Err(RaftError::Fatal(fatal))) => Err(Unavailable::Failed(fatal.to_string())),
            Err(_) => Err(Unavailable::Timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::RaftHandle;
    use crate::raft::tests::failing_disk::alone;
    use crate::raft::tests::memory_volume::MemoryVolume;

    fn soon() -> Instant {
        Instant::now() + CHANGE
    }

    fn tending(solo: &RaftHandle) -> Tending {
        let (_, joining) = mpsc::channel(JOINING);
        let heartbeat = Duration::from_millis(100);
        Tending { member: Arc::clone(&solo.member), joining, heartbeat, pauses: Pauses::default() }
    }

    /// What a change would be decided on now, once the membership rests.
    async fn ground(tending: &Tending) -> Ground {
        let deadline = soon();
        loop {
            let ground = tending.survey(&mut None).filter(|ground| ground.picture.progress == Progress::Committed);
            match ground {
                Some(ground) => return ground,
                None => assert!(Instant::now() < deadline, "nobody leads"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn learner(member: u64) -> Changes {
        let node = |text: &str| MemberNode {
            name: text.to_owned(),
            address: format!("{text}:7400"),
            incarnation: "0".repeat(32),
        };
        ChangeMembers::AddNodes([(MemberId::new(member), node(&format!("q-{member}")))].into())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_that_was_decided_on_another_membership_or_in_another_leadership_is_refused() {
        let (solo, _failures) = alone(MemoryVolume::default()).await;
        let tending = tending(&solo);
        let old = ground(&tending).await;
        tending.change(&old, learner(2), Former::Gone, soon()).await.unwrap();

        let refused = async |ground: &Ground, why: &str| {
            let refusal = tending.change(ground, learner(3), Former::Gone, soon()).await;
            assert!(matches!(&refusal, Err(Unavailable::Failed(text)) if text.contains(why)), "{refusal:?}");
        };
        refused(&old, "membership log id mismatch").await;
        let present = ground(&tending).await;
        assert!(!present.picture.nodes.contains_key(&MemberId::new(3)));
        let later = LeaderId { term: present.leader.term + 1, ..present.leader };
        // Unless the learner, which is silent, has been removed meanwhile, it is the leader that is another one.
        refused(&Ground { leader: later, ..present }, "id mismatch").await;
    }
}
