//! Which change of the membership comes next: plain functions of what a Raft leader knows.
//!
//! One change at a time, and none that could cost the quorum: each is begun only while those who were heard of lately are a
//! quorum of the voters before it and after it, and a member becomes a voter only when it has caught up.
//!
//! - A voter is replaced in one joint change when a learner of the same name has come to life: its volume is gone, and with it
//!   every vote that it gave, so its id never votes again.
//! - Whose name should vote is promoted (`layout.rs` says whose). Only when there are more voters than should be does one of the
//!   others give its vote back, the last by name first; the Raft leader makes way before.
//! - Who has no place leaves in two steps: it becomes a learner, and goes once it knows that. So it does not campaign when
//!   nobody writes to it any more.
//! - Nobody is taken away for being silent alone.
//!
//! As many pods as that needs there should be (`pods.rs`); the operator sees to it.
//!
//! Then the one leads who should (`succession.rs`). What is done next and why it waits is told to people (`words.rs`).

mod admission;
mod layout;
mod pods;
#[cfg(test)]
mod property;
mod succession;
#[cfg(test)]
mod tests;
mod words;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use self::admission::{Admission, admit};
use self::layout::Place;
pub(super) use self::layout::has_place;
pub use self::pods::{Held, Scaling, scaling};
use self::succession::succession;
pub(super) use self::succession::{Moves, Pauses, Reason};
pub(super) use self::words::tell;
use super::status::MemberNode;
use crate::machine::command::{Care, ClusterSize, Steering};
use crate::types::{LogIndex, MemberId};

/// What a Raft leader knows when it decides.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    /// The member that decides.
    pub(super) own: MemberId,
    /// The voters of the newest membership in the log. There are two sets in the middle of a joint change.
    pub(super) voters: Vec<BTreeSet<MemberId>>,
    /// Every member, the learners among them.
    pub(super) nodes: BTreeMap<MemberId, MemberNode>,
    pub(super) progress: Progress,
    /// The log index of the newest membership.
    pub(super) changed_at: Option<LogIndex>,
    /// When each member was heard of.
    pub(super) contacts: BTreeMap<MemberId, Contact>,
    /// The last log index that each other member has, as far as it has said.
    pub(super) matched: BTreeMap<MemberId, LogIndex>,
    /// The end of the log a moment ago: whoever has it keeps up.
    pub(super) recent_end: Option<LogIndex>,
    pub(super) size: Option<ClusterSize>,
    pub(super) steering: Steering,
    /// Names of members that should not lead while another can.
    pub(super) unfit: BTreeSet<String>,
    pub(super) moves: Moves,
    /// The members that the machine knows of.
    pub(super) recorded: BTreeSet<MemberId>,
}

/// Whether the newest membership in the log is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Committed,
    Pending,
}

/// How long ago a member was heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contact {
    /// A moment ago.
    Lately,
    /// Not just now, or it is not known yet.
    Before,
    /// So long ago that it is away.
    Silent,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    /// Finish the joint change that an earlier Raft leader, or an earlier try, has left.
    LeaveJoint,
    /// Make a learner a voter.
    Promote {
        learner: MemberId,
        voters: BTreeSet<MemberId>,
    },
    /// Make a learner a voter in the place of one that has lost its volume.
    Replace {
        old: MemberId,
        new: MemberId,
        voters: BTreeSet<MemberId>,
    },
    /// Make a voter a learner.
    Demote {
        voter: MemberId,
        voters: BTreeSet<MemberId>,
    },
    /// Take away a learner that has lost its volume, or has no place any more.
    Remove(MemberId),
    /// Make another voter the Raft leader.
    HandOver {
        to: MemberId,
        reason: Reason,
    },
    /// Let the machine forget one that is in the membership no more.
    Forget(MemberId),
}

/// The next change.
pub(super) fn plan(picture: &Picture) -> Next {
    let [voters] = &picture.voters[..] else {
        return match picture.progress {
            Progress::Pending => Next::Nothing,
            Progress::Committed => Next::LeaveJoint,
        };
    };
    if picture.progress == Progress::Pending {
        return Next::Nothing;
    }
    if picture.steering.care == Care::Paused {
        return Next::Nothing;
    }
    let forgotten = || picture.recorded.iter().find(|member| !picture.nodes.contains_key(member));
    replacement(picture, voters)
        .or_else(|| promotion(picture, voters))
        .or_else(|| demotion(picture, voters))
        .or_else(|| removal(picture, voters))
        .or_else(|| forgotten().copied().map(Next::Forget))
        .or_else(|| succession(picture, voters))
        .unwrap_or(Next::Nothing)
}

fn replacement(picture: &Picture, voters: &BTreeSet<MemberId>) -> Option<Next> {
    picture.candidates(voters).find_map(|new| {
        let is_gone = |old: &&MemberId| picture.contact(**old) == Contact::Silent;
        let old = *picture.namesakes(new).filter(|old| voters.contains(old)).find(is_gone)?;
        let changed: BTreeSet<_> = voters.iter().copied().filter(|voter| *voter != old).chain([new]).collect();
        picture.keeps_quorum(voters, &changed).then_some(Next::Replace { old, new, voters: changed })
    })
}

fn promotion(picture: &Picture, voters: &BTreeSet<MemberId>) -> Option<Next> {
    picture.candidates(voters).find_map(|learner| {
        let votes_already = picture.namesakes(learner).any(|other| voters.contains(other));
        if votes_already || picture.place(learner) != Some(Place::Voter) {
            return None;
        }
        let changed: BTreeSet<_> = voters.iter().copied().chain([learner]).collect();
        picture.keeps_quorum(voters, &changed).then_some(Next::Promote { learner, voters: changed })
    })
}

/// Takes the vote from one member, if there are more voters than should be. As long as somebody who should vote does not do so
/// yet, the others keep theirs: fewer would be worse than the wrong ones.
fn demotion(picture: &Picture, voters: &BTreeSet<MemberId>) -> Option<Next> {
    if voters.len() <= picture.voters_wanted()? {
        return None;
    }
    let leaving = voters.iter().copied().filter(|voter| picture.place(*voter) != Some(Place::Voter));
    picture.in_order(leaving).into_iter().rev().find_map(|voter| {
        let changed: BTreeSet<_> = voters.iter().copied().filter(|other| *other != voter).collect();
        if !picture.keeps_quorum(voters, &changed) {
            return None;
        }
        match voter == picture.own {
            true => picture.successors(voters).next().and_then(|to| picture.hand_over(to, Reason::Leaving)),
            false => Some(Next::Demote { voter, voters: changed }),
        }
    })
}

fn removal(picture: &Picture, voters: &BTreeSet<MemberId>) -> Option<Next> {
    let lives = |other: &MemberId| picture.contact(*other) == Contact::Lately;
    let has_learnt_it =
        |learner| picture.matched.get(&learner).is_some_and(|matched| Some(*matched) >= picture.changed_at);
    let is_to_go = |learner: &MemberId| {
        let (is_silent, has_place) =
            (picture.contact(*learner) == Contact::Silent, picture.place(*learner) != Some(Place::Nowhere));
        match has_place {
            true => is_silent && picture.namesakes(*learner).any(lives),
            false => is_silent || has_learnt_it(*learner),
        }
    };
    let learners = picture.nodes.keys().copied().filter(|member| !voters.contains(member));
    picture.in_order(learners).into_iter().rev().find(is_to_go).map(Next::Remove)
}

impl Picture {
    /// When a member was heard of.
    pub(super) fn contact(&self, member: MemberId) -> Contact {
        self.contacts.get(&member).copied().unwrap_or(Contact::Before)
    }

    /// The learners that could vote at once, in the order of their names: `quorate-2` is before `quorate-10`.
    fn candidates(&self, voters: &BTreeSet<MemberId>) -> impl Iterator<Item = MemberId> {
        let learners = self.nodes.keys().copied().filter(|member| !voters.contains(member));
        let ready = learners.filter(|member| self.contact(*member) == Contact::Lately && self.has_caught_up(*member));
        self.in_order(ready).into_iter()
    }

    fn has_caught_up(&self, member: MemberId) -> bool {
        let matched = self.matched.get(&member);
        matched.zip(self.recent_end.as_ref()).is_some_and(|(matched, end)| matched >= end)
    }

    /// The other members of the same name.
    fn namesakes(&self, member: MemberId) -> impl Iterator<Item = &MemberId> {
        let name = self.nodes.get(&member).map(|node| &node.name);
        let others = self.nodes.iter().filter(move |(other, node)| **other != member && Some(&node.name) == name);
        others.map(|(other, _)| other)
    }

    /// Whether those who were heard of lately are a quorum before a change and after it.
    fn keeps_quorum(&self, before: &BTreeSet<MemberId>, after: &BTreeSet<MemberId>) -> bool {
        [before, after].into_iter().all(|voters| {
            let alive = voters.iter().filter(|voter| self.contact(**voter) == Contact::Lately).count();
            alive * 2 > voters.len()
        })
    }
}
