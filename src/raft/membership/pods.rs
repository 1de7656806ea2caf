//! How many pods there should be for the members: they come before members and go after them. Whatever is declared, no pod of a
//! member is taken away.

use std::cmp::Ordering;

use crate::machine::command::ClusterSize;
use crate::raft::status::MembershipPhase;

/// What to do with the number of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    None,
    Up(i64),
    Down(i64),
}

/// What there must be pods for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Up to the highest ordinal of a member; `None` when a member has no such pod.
    pub replicas: Option<i64>,
    pub membership: MembershipPhase,
}

impl Held {
    /// For members with these ordinals; `None` stands for a member that has none.
    pub fn by(ordinals: impl Iterator<Item = Option<u32>>, membership: MembershipPhase) -> Self {
        let ordinals: Option<Vec<_>> = ordinals.collect();
        let replicas = ordinals.map(|ordinals| ordinals.into_iter().max().map_or(0, |highest| i64::from(highest) + 1));
        Self { replicas, membership }
    }
}

/// Decides where there are `present` pods. `wanted` is declared, and `known` what the cluster acts on.
pub fn scaling(wanted: ClusterSize, known: Option<ClusterSize>, held: Held, present: i64) -> Scaling {
    let declared = i64::from(wanted.voters) + i64::from(wanted.learners);
    let needed = held.replicas.unwrap_or_default().max(declared);
    // Until the cluster knows how large it should be it may let in whoever it should not.
    let is_settled = held.membership == MembershipPhase::Settled && known == Some(wanted) && held.replicas.is_some();
    match present.cmp(&needed) {
        Ordering::Less => Scaling::Up(needed),
        Ordering::Greater if is_settled => Scaling::Down(needed),
        Ordering::Greater | Ordering::Equal => Scaling::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_come_before_their_members_and_go_after_them() {
        use MembershipPhase::{Changing, Settled};
        use Scaling::{Down, None as Nothing, Up};
        let size = |voters| ClusterSize { voters, learners: 0 };
        let cases = [
            ("up to what is declared", Some(1), Settled, 3, Some(1), 1, Up(3)),
            ("also in the middle of a change", Some(1), Changing, 3, None, 1, Up(3)),
            ("up to who is a member, whatever is declared", Some(3), Settled, 1, Some(1), 1, Up(3)),
            ("as it should be", Some(3), Settled, 3, Some(3), 3, Nothing),
            ("not down while they are members", Some(3), Settled, 1, Some(1), 3, Nothing),
            ("down once they are none", Some(1), Settled, 1, Some(1), 3, Down(1)),
            ("not in the middle of a change", Some(1), Changing, 1, Some(1), 3, Nothing),
            ("not before the cluster knows", Some(1), Settled, 1, Some(3), 3, Nothing),
            ("nor when it knows nothing", Some(1), Settled, 1, None, 3, Nothing),
            ("as far as the highest ordinal", Some(5), Settled, 1, Some(1), 7, Down(5)),
            ("not when a member is no pod of this set", None, Settled, 1, Some(1), 3, Nothing),
        ];
        for (case, replicas, membership, wanted, known, present, expected) in cases {
            let held = Held { replicas, membership };
            assert_eq!(scaling(size(wanted), known.map(size), held, present), expected, "{case}");
        }
    }
}
