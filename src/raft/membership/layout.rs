//! Which place each member should have, by its name: of the names in their order the first `voters` vote, the next `learners`
//! follow, and the rest leaves.
//!
//! The order is that of the ordinals, `quorate-2` before `quorate-10`, so that those leave whose pods a StatefulSet takes away.
//! A name counts once, however many members have had it: a pod that lost its volume keeps its place.

use std::collections::BTreeSet;

use super::Picture;
use crate::machine::command::ClusterSize;
use crate::types::MemberId;

/// Where a member should stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Voter,
    Learner,
    /// It should be no member any more.
    Nowhere,
}

/// Names in the order of their ordinals.
type Order<'a> = (usize, &'a str);

fn order(name: &str) -> Order<'_> {
    (name.len(), name)
}

/// The place of `name` among `names`.
fn place_among<'a>(names: impl Iterator<Item = &'a str>, name: &str, size: ClusterSize) -> Place {
    let before: BTreeSet<_> = names.map(order).filter(|other| *other < order(name)).collect();
    let rank = before.len() as u64;
    match (rank < voters_of(size), rank < voters_of(size) + u64::from(size.learners)) {
        (true, _) => Place::Voter,
        (false, true) => Place::Learner,
        (false, false) => Place::Nowhere,
    }
}

/// A cluster without a voter is none.
fn voters_of(size: ClusterSize) -> u64 {
    u64::from(size.voters.max(1))
}

/// Whether a member of that name has a place in a cluster whose members have these names; without a size, as they are.
pub(in crate::raft) fn has_place<'a>(
    mut names: impl Iterator<Item = &'a str>,
    name: &str,
    size: Option<ClusterSize>,
) -> bool {
    match size {
        None => names.any(|known| known == name),
        Some(size) => place_among(names, name, size) != Place::Nowhere,
    }
}

impl Picture {
    /// How many members should vote; `None` while nobody has said so.
    pub(super) fn voters_wanted(&self) -> Option<usize> {
        self.size.map(|size| usize::try_from(voters_of(size)).unwrap_or(usize::MAX))
    }

    /// Whether somebody of that name should be a member.
    pub(super) fn has_place(&self, name: &str) -> bool {
        has_place(self.names(), name, self.size)
    }

    /// The place that a member should have; `None` while nobody has said how large the cluster should be.
    pub(super) fn place(&self, member: MemberId) -> Option<Place> {
        Some(place_among(self.names(), self.name(member), self.size?))
    }

    /// Members in the order of their names, the newest of one name last.
    pub(super) fn in_order(&self, members: impl Iterator<Item = MemberId>) -> Vec<MemberId> {
        let mut members: Vec<_> = members.collect();
        members.sort_by_key(|member| (order(self.name(*member)), *member));
        members
    }

    /// The names of all members, some of them more than once.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.values().map(|node| node.name.as_str())
    }

    pub(super) fn name(&self, member: MemberId) -> &str {
        self.nodes.get(&member).map_or("", |node| node.name.as_str())
    }
}
