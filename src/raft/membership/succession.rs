//! Who should lead: the preferred member whenever it can, and nobody whose pod is ending or whose node is being emptied while
//! another can.
//!
//! Leadership goes only to a voter that has caught up and was heard of lately, and not again and again: a member to which it
//! was moved and that did not keep it is given it later, and later still the next time.

use std::collections::BTreeSet;

use tokio::time::{Duration, Instant};

use super::layout::Place;
use super::{Contact, Next, Picture};
use crate::types::MemberId;

/// Between two moves of leadership at first, and at last.
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_mins(1);

/// So long after a move it is forgotten that there was one.
const FORGIVEN: Duration = Duration::from_mins(3);

/// Why leadership is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raft) enum Reason {
    /// Who leads is to vote no more.
    Leaving,
    /// The pod of who leads is ending, or its node takes no pods any more.
    Unfit,
    /// Another one is preferred.
    Preferred,
}

/// Whether leadership may be moved now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raft) enum Moves {
    Allowed,
    Resting,
}

/// When leadership was moved, as far as that counts.
#[derive(Debug, Default)]
pub(in crate::raft) struct Pauses {
    last: Option<(Instant, Duration)>,
}

impl Pauses {
    pub(in crate::raft) fn moves(&self, now: Instant) -> Moves {
        match self.last {
            Some((at, pause)) if now < at + pause => Moves::Resting,
            Some(_) | None => Moves::Allowed,
        }
    }

    /// Notes a try, whatever comes of it.
    pub(in crate::raft) fn tried(&mut self, now: Instant) {
        let pause = match self.last {
            Some((at, pause)) if now < at + FORGIVEN => (pause * 2).min(LONGEST),
            Some(_) | None => SHORTEST,
        };
        self.last = Some((now, pause));
    }
}

/// Moves leadership to who should have it, if that is another and it can.
pub(super) fn succession(picture: &Picture, voters: &BTreeSet<MemberId>) -> Option<Next> {
    let is_fit = |member: MemberId| !picture.unfit.contains(picture.name(member));
    let preferred = picture.preferred(voters).filter(|member| is_fit(*member));
    if preferred == Some(picture.own) {
        return None;
    }
    if let Some(to) = preferred.filter(|member| picture.can_lead(*member)) {
        return picture.hand_over(to, Reason::Preferred);
    }
    if is_fit(picture.own) {
        return None;
    }
    let to = picture.successors(voters).find(|member| is_fit(*member))?;
    picture.hand_over(to, Reason::Unfit)
}

impl Picture {
    /// The voter that is preferred, if it is to stay one.
    fn preferred(&self, voters: &BTreeSet<MemberId>) -> Option<MemberId> {
        let preferred = self.steering.preferred_leader.as_ref()?;
        let stays = |member: &MemberId| matches!(self.place(*member), None | Some(Place::Voter));
        voters.iter().copied().filter(stays).find(|member| self.name(*member) == preferred.as_str())
    }

    /// Who could lead instead of this member, the best first.
    pub(super) fn successors(&self, voters: &BTreeSet<MemberId>) -> impl Iterator<Item = MemberId> {
        let stays = |member: &MemberId| matches!(self.place(*member), None | Some(Place::Voter));
        let able = voters.iter().copied().filter(|member| self.can_lead(*member)).filter(stays);
        let mut successors = self.in_order(able);
        let preferred = self.preferred(voters);
        successors.sort_by_key(|member| (self.unfit.contains(self.name(*member)), Some(*member) != preferred));
        successors.into_iter()
    }

    /// Whether another voter has all that it needs for leading at once.
    fn can_lead(&self, member: MemberId) -> bool {
        member != self.own && self.contact(member) == Contact::Lately && self.has_caught_up(member)
    }

    pub(super) fn hand_over(&self, to: MemberId, reason: Reason) -> Option<Next> {
        (self.moves == Moves::Allowed).then_some(Next::HandOver { to, reason })
    }
}
