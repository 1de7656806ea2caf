//! What follows for a member that has just started from what the others say of its volume: a plain function.

use std::collections::{BTreeMap, BTreeSet};

use super::messages::{Verdict, Vouched};
use super::transport::Seat;
use super::type_config::LogId;
use crate::types::{MemberId, MemberName};

/// What the answers are weighed against.
#[derive(Debug, Clone)]
pub(super) struct Ground {
    pub(super) seat: Seat,
    /// The voters of the newest membership on the volume.
    pub(super) voters: Vec<BTreeSet<MemberId>>,
    /// Whether that is only a roster of those who found the cluster: until their founder begins, none of them can elect.
    pub(super) is_roster: bool,
}

/// The name of a member and where others reach it.
pub(super) type Place = (MemberName, String);

/// What each member that was asked said, or why it did not.
pub(super) type Answers = BTreeMap<Place, Result<Vouched, String>>;

/// What follows from the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Weighed {
    Follow(LogId),
    Removed,
    Refused(String),
    /// A quorum has nothing against it, and could not elect without it.
    Needed,
    /// Somebody hears a Raft leader, or those who take part are a quorum without it.
    NotNeeded,
    /// Too few have answered; the text says who has not.
    Wait(String),
}

/// Weighs what was answered so far.
pub(super) fn weigh(ground: &Ground, answers: &Answers) -> Weighed {
    let cluster = Some(&ground.seat.cluster);
    let of_cluster = |vouched: &&Vouched| vouched.by.as_ref().map(|by| &by.cluster) == cluster;
    let own: Vec<_> = answers.values().flatten().filter(of_cluster).collect();
    for vouched in &own {
        match &vouched.verdict {
            Verdict::Unknown => {}
            Verdict::Confirmed { through } => return Weighed::Follow(*through),
            Verdict::Removed => return Weighed::Removed,
            Verdict::Refused(text) => return Weighed::Refused(text.clone()),
        }
    }
    let members = own.iter().filter_map(|vouched| Some((vouched.by.as_ref()?.member, vouched.takes_part)));
    let (answering, taking_part): (BTreeSet<_>, BTreeSet<_>) = (
        members.clone().map(|(member, _)| member).chain([ground.seat.member]).collect(),
        members.filter(|(_, takes_part)| *takes_part).map(|(member, _)| member).collect(),
    );
    let can_elect = !ground.is_roster && is_quorum(&ground.voters, &taking_part);
    if can_elect || own.iter().any(|vouched| vouched.hears_leader) {
        return Weighed::NotNeeded;
    }
    if is_quorum(&ground.voters, &answering) {
        return Weighed::Needed;
    }
    if own.is_empty()
        && let Some(text) = elsewhere(ground, answers)
    {
        return Weighed::Refused(text);
    }
    Weighed::Wait(format!(
        "it asks the other members whether its volume is the newest of member {}, and too few have answered{}",
        ground.seat.member,
        missing(answers)
    ))
}

/// A set of voters is empty only as long as nothing is known of the membership.
pub(super) fn is_quorum(voters: &[BTreeSet<MemberId>], members: &BTreeSet<MemberId>) -> bool {
    let is_majority = |voters: &BTreeSet<MemberId>| voters.intersection(members).count() * 2 > voters.len();
    !voters.is_empty() && voters.iter().all(is_majority)
}

/// Those who are where the members of its cluster should be, but of another cluster.
fn elsewhere(ground: &Ground, answers: &Answers) -> Option<String> {
    let (name, other) =
        answers.iter().find_map(|((name, _), answer)| Some((name, answer.as_ref().ok()?.by.as_ref()?)))?;
    Some(format!(
        "this volume belongs to member {} of cluster {}, and {name} is in cluster {}: put the volume back that belongs here, or \
         empty this one, so that it joins as a new member",
        ground.seat.member, ground.seat.cluster, other.cluster
    ))
}

fn missing(answers: &Answers) -> String {
    let missing: Vec<_> = answers
        .iter()
        .filter_map(|((name, _), answer)| match answer {
            Ok(Vouched { by: Some(_), .. }) => None,
            Ok(Vouched { by: None, .. }) => Some(format!("{name}: it is in no cluster")),
            Err(cause) => Some(format!("{name}: {cause}")),
        })
        .collect();
    if missing.is_empty() { String::new() } else { format!(" ({})", missing.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::type_config::LeaderId;
    use crate::types::ClusterId;

    fn id(number: u64) -> MemberId {
        MemberId::new(number)
    }

    fn ground(own: u64, voters: &[&[u64]]) -> Ground {
        let seat = Seat { cluster: ClusterId::from_random(1), member: id(own) };
        let voters = voters.iter().map(|voters| voters.iter().copied().map(id).collect()).collect();
        Ground { seat, voters, is_roster: false }
    }

    /// What a member said, and whether it takes part.
    fn said(member: u64, takes_part: bool, verdict: Verdict) -> Result<Vouched, String> {
        let by = Some(Seat { cluster: ClusterId::from_random(1), member: id(member) });
        Ok(Vouched { by, takes_part, hears_leader: false, verdict })
    }

    fn outside(member: u64) -> Result<Vouched, String> {
        said(member, false, Verdict::Unknown)
    }

    fn inside(member: u64) -> Result<Vouched, String> {
        said(member, true, Verdict::Unknown)
    }

    fn weighed(ground: &Ground, said: Vec<Result<Vouched, String>>) -> Weighed {
        let names = ["a", "b", "c", "d", "e", "f"].map(|name| (MemberName::new(name).unwrap(), String::new()));
        weigh(ground, &names.into_iter().zip(said).collect())
    }

    #[test]
    fn what_the_raft_leader_or_a_certain_objection_says_decides() {
        let ground = ground(3, &[&[1, 2, 3]]);
        let (through, text) =
            (LogId::new(LeaderId { term: 1, node_id: id(1) }, 7), "it has forgotten a vote".to_owned());
        let confirmed = said(1, true, Verdict::Confirmed { through });
        assert_eq!(weighed(&ground, vec![confirmed, inside(2)]), Weighed::Follow(through));
        assert_eq!(weighed(&ground, vec![inside(1), said(2, true, Verdict::Removed)]), Weighed::Removed);
        let refused = said(2, false, Verdict::Refused(text.clone()));
        assert_eq!(weighed(&ground, vec![inside(1), refused]), Weighed::Refused(text));
    }

    #[test]
    fn without_a_raft_leader_a_member_takes_part_only_where_it_is_needed() {
        let three = ground(3, &[&[1, 2, 3]]);
        assert_eq!(weighed(&three, vec![outside(1), outside(2)]), Weighed::Needed, "a whole cluster starts");
        assert_eq!(weighed(&three, vec![inside(1), Err("refused".to_owned())]), Weighed::Needed);
        assert_eq!(weighed(&three, vec![inside(1), inside(2)]), Weighed::NotNeeded);
        let led = inside(1).map(|vouched| Vouched { hears_leader: true, ..vouched });
        assert_eq!(weighed(&three, vec![led, Err("lost".to_owned())]), Weighed::NotNeeded, "its verdict will come");
        assert_eq!(weighed(&ground(1, &[&[1]]), vec![]), Weighed::Needed, "it is alone");
        let founding = Ground { is_roster: true, ..three };
        assert_eq!(weighed(&founding, vec![inside(1), inside(2)]), Weighed::Needed, "nobody can elect yet");
        let joint = ground(3, &[&[1, 2, 3], &[1, 2, 4]]);
        assert!(matches!(weighed(&joint, vec![outside(1)]), Weighed::Wait(_)));
        assert_eq!(weighed(&joint, vec![outside(1), outside(2)]), Weighed::Needed);
    }

    #[test]
    fn too_few_answers_are_not_enough_and_it_is_said_whose_are_missing() {
        let three = ground(3, &[&[1, 2, 3]]);
        let Weighed::Wait(text) = weighed(&three, vec![Err("connection refused".to_owned())]) else {
            panic!("goes on")
        };
        assert!(text.contains("too few have answered (a: connection refused)"), "{text}");
        let learner = ground(4, &[&[1, 2, 3]]);
        assert!(matches!(weighed(&learner, vec![outside(1)]), Weighed::Wait(_)), "its own voice does not count");
        let unknown = ground(4, &[]);
        assert!(matches!(weighed(&unknown, vec![inside(1), inside(2)]), Weighed::Wait(_)), "only a Raft leader helps");
    }

    #[test]
    fn members_of_another_cluster_count_for_nothing_and_are_named_when_nobody_else_answers() {
        let three = ground(3, &[&[1, 2, 3]]);
        let stranger = |member| {
            let by = Some(Seat { cluster: ClusterId::from_random(9), member: id(member) });
            Ok(Vouched { by, takes_part: true, hears_leader: true, verdict: Verdict::Unknown })
        };
        let Weighed::Refused(text) = weighed(&three, vec![stranger(1), stranger(2)]) else { panic!("it goes on") };
        assert!(text.contains("a is in cluster 00000000000000000000000000000009"), "{text}");
        assert_eq!(weighed(&three, vec![stranger(1), outside(2)]), Weighed::Needed);
    }
}
