//! Whether the voters agree that their Raft leader is gone, and who takes its place. Plain functions of what they say.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::Sight;
use crate::raft::fitness::Fitness;
use crate::raft::type_config::{LogId, Vote};
use crate::types::MemberId;

/// What a voter says when it is asked about its Raft leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::raft) struct Account {
    pub(in crate::raft) sight: Sight,
    /// The newest vote that it knows.
    pub(in crate::raft) vote: Vote,
    /// The end of its log.
    pub(in crate::raft) last_log: Option<LogId>,
    /// Whether it should lead while another can.
    pub(in crate::raft) fitness: Fitness,
}

/// What follows from all accounts so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A majority of the voters has seen it dead; `successor` is the best of those that they would elect: a fit one if there is
    /// one, and then the one with the most of the log.
    Gone { successor: MemberId, fitness: Fitness },
    /// Somebody knows of a newer Raft leader: there is nothing to do.
    Superseded,
    /// Not enough of them have seen it dead.
    Undecided,
}

/// Judges the Raft leader that has the committed vote `suspected`. While the membership changes, `voters` are two sets, and
/// each must agree by a majority of its own.
pub(super) fn judge(
    suspected: &Vote,
    voters: &[BTreeSet<MemberId>],
    accounts: &BTreeMap<MemberId, Account>,
) -> Verdict {
    let is_newer = |account: &Account| account.vote.committed && account.vote.leader_id > suspected.leader_id;
    if accounts.values().any(is_newer) {
        return Verdict::Superseded;
    }
    let votes = |member: &MemberId| voters.iter().any(|set| set.contains(member));
    let witnesses: BTreeMap<_, _> = accounts
        .iter()
        .filter(|(member, account)| votes(member) && saw_dead(suspected, **member, account))
        .map(|(member, account)| (*member, account))
        .collect();
    if voters.is_empty() {
        return Verdict::Undecided;
    }
    // Whoever has less of the log gives a vote. So there is one that they would elect as soon as a majority has seen it dead.
    let would_be_elected = |candidate: &Account| {
        let votes = |member: &MemberId| witnesses.get(member).is_some_and(|voter| voter.last_log <= candidate.last_log);
        voters.iter().all(|set| set.iter().filter(|member| votes(member)).count() * 2 > set.len())
    };
    let able = witnesses.iter().filter(|(_, account)| would_be_elected(account));
    let best = able.max_by_key(|(member, account)| (account.fitness == Fitness::Fit, account.last_log, **member));
    best.map_or(Verdict::Undecided, |(successor, account)| Verdict::Gone {
        successor: *successor,
        fitness: account.fitness,
    })
}

/// Whether an account speaks against the Raft leader that is suspected, and not against one before it.
fn saw_dead(suspected: &Vote, member: MemberId, account: &Account) -> bool {
    let knows_it = account.vote.leader_id >= suspected.leader_id;
    account.sight == Sight::Dead && knows_it && member != suspected.leader_id.node_id
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId;

    use super::*;
    use crate::raft::type_config::LeaderId;
    use Fitness::{Fit, Unfit};
    use Sight::{Alive, Dead, Unsure};

    const LEADER: u64 = 1;

    fn vote(term: u64, member: u64, committed: bool) -> Vote {
        Vote { leader_id: LeaderId { term, node_id: MemberId::new(member) }, committed }
    }

    fn suspected() -> Vote {
        vote(4, LEADER, true)
    }

    /// The account of one who follows the suspected leader, and has the log up to `(term, index)`.
    fn account(sight: Sight, (term, index): (u64, u64)) -> Account {
        let leader = LeaderId { term, node_id: MemberId::new(LEADER) };
        let last_log = Some(LogId::new(leader.to_committed(), index));
        Account { sight, vote: suspected(), last_log, fitness: Fit }
    }

    fn set(members: &[u64]) -> BTreeSet<MemberId> {
        members.iter().copied().map(MemberId::new).collect()
    }

    fn judged(voters: &[&[u64]], accounts: &[(u64, Account)]) -> Verdict {
        let voters: Vec<_> = voters.iter().map(|members| set(members)).collect();
        let accounts = accounts.iter().map(|(member, account)| (MemberId::new(*member), account.clone())).collect();
        judge(&suspected(), &voters, &accounts)
    }

    fn gone(successor: u64) -> Verdict {
        Verdict::Gone { successor: MemberId::new(successor), fitness: Fit }
    }

    fn gone_to_an_unfit_one(successor: u64) -> Verdict {
        Verdict::Gone { successor: MemberId::new(successor), fitness: Unfit }
    }

    #[test]
    fn a_majority_of_the_voters_must_have_seen_it_dead() {
        let (dead, alive, unsure) = (account(Dead, (4, 9)), account(Alive, (4, 9)), account(Unsure, (4, 9)));
        let three: &[&[u64]] = &[&[1, 2, 3]];
        let five: &[&[u64]] = &[&[1, 2, 3, 4, 5]];
        let cases = [
            ("one of three", judged(three, &[(2, dead.clone())]), Verdict::Undecided),
            ("two of three", judged(three, &[(2, dead.clone()), (3, dead.clone())]), gone(3)),
            ("one of three, and one sees it", judged(three, &[(2, dead.clone()), (3, alive)]), Verdict::Undecided),
            ("one of three, and one is unsure", judged(three, &[(2, dead.clone()), (3, unsure)]), Verdict::Undecided),
            ("one of two", judged(&[&[1, 2]], &[(2, dead.clone())]), Verdict::Undecided),
            ("two of five", judged(five, &[(2, dead.clone()), (3, dead.clone())]), Verdict::Undecided),
            ("three of five", judged(five, &[(2, dead.clone()), (3, dead.clone()), (5, dead.clone())]), gone(5)),
            ("itself does not count", judged(three, &[(1, dead.clone()), (2, dead.clone())]), Verdict::Undecided),
            ("a learner does not count", judged(three, &[(2, dead.clone()), (9, dead.clone())]), Verdict::Undecided),
            ("nobody votes", judged(&[], &[(2, dead)]), Verdict::Undecided),
        ];
        for (case, judged, expected) in cases {
            assert_eq!(judged, expected, "{case}");
        }
    }

    #[test]
    fn while_the_membership_changes_both_sets_must_agree() {
        let dead = account(Dead, (4, 9));
        let joint: &[&[u64]] = &[&[1, 2, 3], &[1, 4, 5]];
        let by =
            |members: &[u64]| judged(joint, &members.iter().map(|member| (*member, dead.clone())).collect::<Vec<_>>());
        assert_eq!(by(&[2, 3]), Verdict::Undecided, "only the old voters");
        assert_eq!(by(&[2, 3, 4]), Verdict::Undecided, "one of the new voters");
        assert_eq!(by(&[2, 4, 5]), Verdict::Undecided, "one of the old voters");
        assert_eq!(by(&[2, 3, 4, 5]), gone(5));
    }

    #[test]
    fn the_longest_log_of_a_witness_takes_its_place_then_the_greatest_id() {
        let three: &[&[u64]] = &[&[1, 2, 3]];
        let cases = [
            ("a longer log", (4, 10), (4, 9), gone(2)),
            ("equal logs", (4, 9), (4, 9), gone(3)),
            ("entries of an older term are older, however many", (3, 50), (4, 9), gone(3)),
        ];
        for (case, second, third, expected) in cases {
            assert_eq!(judged(three, &[(2, account(Dead, second)), (3, account(Dead, third))]), expected, "{case}");
        }
        let five: &[&[u64]] = &[&[1, 2, 3, 4, 5]];
        let accounts = [
            (2, account(Dead, (4, 9))),
            (3, account(Dead, (4, 9))),
            (4, account(Dead, (4, 8))),
            (5, account(Unsure, (4, 50))),
        ];
        assert_eq!(judged(five, &accounts), gone(3), "who is unsure does not campaign");
    }

    #[test]
    fn an_unfit_witness_takes_its_place_only_if_no_fit_one_would_be_elected() {
        let (three, five): (&[&[u64]], &[&[u64]]) = (&[&[1, 2, 3]], &[&[1, 2, 3, 4, 5]]);
        let fit = |index| account(Dead, (4, index));
        let unfit = |index| Account { fitness: Unfit, ..account(Dead, (4, index)) };
        let cases = [
            ("equal logs", judged(three, &[(2, fit(9)), (3, unfit(9))]), gone(2)),
            (
                "it needs the vote of the one with more",
                judged(three, &[(2, fit(8)), (3, unfit(9))]),
                gone_to_an_unfit_one(3),
            ),
            ("all are", judged(three, &[(2, unfit(9)), (3, unfit(9))]), gone_to_an_unfit_one(3)),
            (
                "it needs no vote of the one with more",
                judged(five, &[(2, fit(8)), (3, fit(8)), (4, fit(7)), (5, unfit(9))]),
                gone(3),
            ),
            ("too few have less", judged(five, &[(2, fit(8)), (3, unfit(9)), (4, fit(7))]), gone_to_an_unfit_one(3)),
        ];
        for (case, judged, expected) in cases {
            assert_eq!(judged, expected, "{case}");
        }
        let joint: &[&[u64]] = &[&[1, 2, 3], &[1, 3, 4]];
        let both = judged(joint, &[(2, fit(9)), (3, unfit(9)), (4, fit(8))]);
        assert_eq!(both, gone(2), "it would be elected by both sets");
        let one = judged(joint, &[(2, fit(8)), (3, unfit(9)), (4, fit(8))]);
        assert_eq!(one, gone_to_an_unfit_one(3), "no fit one would be elected by both sets");
    }

    #[test]
    fn what_is_said_of_another_leadership_is_no_evidence_and_a_newer_leader_ends_it() {
        let three: &[&[u64]] = &[&[1, 2, 3]];
        let with = |vote| Account { vote, ..account(Dead, (4, 9)) };
        let dead = account(Dead, (4, 9));
        assert_eq!(judged(three, &[(2, dead.clone()), (3, with(vote(3, 2, true)))]), Verdict::Undecided);
        assert_eq!(judged(three, &[(2, dead.clone()), (3, with(vote(5, 3, true)))]), Verdict::Superseded);
        assert_eq!(judged(three, &[(2, dead), (3, with(vote(5, 3, false)))]), gone(3), "it campaigns and has not won");
    }
}
