//! How a cluster begins with one member, which a registry allows to found it, and how the others find it: plain functions of
//! what the registry knows and what other members say.
//!
//! Only the one that may found does, only with an empty volume, and only if no cluster is recorded, no reachable member is in
//! one and no other volume exists. Then, step by step, each step durable before the next:
//!
//! 1. It draws the cluster's id and writes it to its volume (`prepared`).
//! 2. It lets the registry record the id, which it does only if none is recorded.
//! 3. It initializes Raft with itself as the only voter, and writes `done` when it has seen the cluster exist.
//!
//! A crash at any step resumes from the volume, if the registry has that id or none. A member with an empty volume whose
//! cluster is recorded only ever joins it.

use std::collections::BTreeMap;

use super::beginning::Known;
use super::founding::{Answer, Assignment, FIRST, Stage, Step, elsewhere, members_of};
use super::status::MemberNode;
use super::transport::{Introduction, Seat};
use crate::types::{ClusterId, MemberName};

/// What is the same whenever a member decides.
pub(super) struct Terms<'a> {
    /// `host:port` of this member's member port, as others reach it.
    pub(super) address: &'a str,
    /// The only member that may found.
    pub(super) founder: &'a MemberName,
    /// Where the cluster's id is recorded, for people.
    pub(super) place: &'a str,
}

/// Decides for the member `own`, whose volume is empty. `cluster` is the id that a new cluster would get.
pub(super) fn decide(
    own: &Introduction,
    terms: &Terms<'_>,
    known: &Known,
    answers: &BTreeMap<MemberName, Answer>,
    cluster: &ClusterId,
) -> Step {
    let place = terms.place;
    if let Some(recorded) = &known.recorded {
        let through = members_of(recorded, answers, &known.others);
        if through.is_empty() {
            return Step::Wait(format!(
                "its volume is empty and cluster {recorded} is recorded in {place}, so it joins that one and founds none, but \
                 no member of it answers{}; start its members, or, if all their volumes are lost, delete the object that holds \
                 the record, and make it again",
                silence(answers)
            ));
        }
        return Step::Join { cluster: recorded.clone(), address: terms.address.to_owned(), through };
    }
    if let Some((name, cluster)) = elsewhere(answers, Stage::Founded) {
        return Step::Wait(format!(
            "its volume is empty and {name} is in cluster {cluster}, which is not recorded in {place}: it joins once that is; \
             its Raft leader sees to it while it has a quorum"
        ));
    }
    if own.name != *terms.founder {
        return Step::Wait(format!("the cluster is being founded by {}", terms.founder));
    }
    if let Some(wrong) = in_the_way(known, answers, cluster, place) {
        return Step::Wait(format!("its volume is empty and no cluster is recorded in {place}, but {wrong}"));
    }
    let node = MemberNode {
        name: own.name.to_string(),
        address: terms.address.to_owned(),
        incarnation: own.incarnation.to_string(),
    };
    let seat = Seat { cluster: cluster.clone(), member: FIRST };
    Step::Found(Assignment { seat, founder: FIRST, roster: [(FIRST, node)].into() })
}

/// What a founder does next whose volume is prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resumed {
    /// Let the registry record the id.
    Record,
    /// The id is recorded: initialize Raft.
    Initialize,
    /// The text says what is wrong, and what to do.
    Wait(String),
}

/// Decides for a founder whose volume is prepared for `prepared`, and whose Raft was not initialized.
pub(super) fn resume(
    prepared: &ClusterId,
    place: &str,
    known: &Known,
    answers: &BTreeMap<MemberName, Answer>,
) -> Resumed {
    let wrong = match &known.recorded {
        Some(recorded) if recorded == prepared => return Resumed::Initialize,
        Some(recorded) => format!(
            "cluster {recorded} is recorded there: empty this volume, so that the member joins that one, or, if all its \
             volumes are lost, delete the object that holds the record, and make it again"
        ),
        None => match in_the_way(known, answers, prepared, place) {
            None => return Resumed::Record,
            Some(wrong) => wrong,
        },
    };
    Resumed::Wait(format!(
        "its volume was prepared to found cluster {prepared}, which is not recorded in {place}; {wrong}"
    ))
}

/// Why no cluster may be founded though none is recorded.
fn in_the_way(
    known: &Known,
    answers: &BTreeMap<MemberName, Answer>,
    cluster: &ClusterId,
    place: &str,
) -> Option<String> {
    let other = |stage| elsewhere(answers, stage).filter(|(_, found)| *found != cluster);
    if let Some((name, found)) = other(Stage::Founded).or_else(|| other(Stage::Assigned)) {
        return Some(format!(
            "{name} is in cluster {found}: put that id back into {place}, or empty that member's volume"
        ));
    }
    if known.other_volumes.is_empty() {
        return None;
    }
    Some(format!(
        "other volumes exist ({}), and there may be a cluster on them: start their members, and put their cluster's id back \
         into {place}; or delete those volumes, with all that is on them, to begin anew",
        known.other_volumes.join(", ")
    ))
}

/// Who was asked and did not answer.
fn silence(answers: &BTreeMap<MemberName, Answer>) -> String {
    let silent: Vec<_> = answers
        .iter()
        .filter_map(|(name, answer)| match answer {
            Answer::Silent(cause) => Some(format!("{name}: {cause}")),
            Answer::Introduced { .. } => None,
        })
        .collect();
    if silent.is_empty() { String::new() } else { format!(" ({})", silent.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Incarnation, MemberId};

    const PLACE: &str = "the book";

    fn name(text: &str) -> MemberName {
        MemberName::new(text).unwrap()
    }

    fn cluster(number: u128) -> ClusterId {
        ClusterId::from_random(number)
    }

    fn empty(text: &str) -> Introduction {
        Introduction { name: name(text), incarnation: Incarnation::from_random(7), seat: None, life: None }
    }

    fn answer(text: &str, seat: Option<u128>, stage: Stage) -> (MemberName, Answer) {
        let seat = seat.map(|number| Seat { cluster: cluster(number), member: MemberId::new(2) });
        (name(text), Answer::Introduced { introduction: Introduction { seat, ..empty(text) }, stage })
    }

    fn silent(text: &str) -> (MemberName, Answer) {
        (name(text), Answer::Silent("connection refused".to_owned()))
    }

    fn known(recorded: Option<u128>, other_volumes: &[&str]) -> Known {
        Known {
            recorded: recorded.map(cluster),
            other_volumes: other_volumes.iter().map(|&volume| volume.to_owned()).collect(),
            others: ["q-0", "q-1", "q-2"].map(|text| (name(text), format!("{text}:7400"))).into(),
        }
    }

    fn step(own: &str, known: &Known, answers: &[(MemberName, Answer)]) -> Step {
        let terms = Terms { address: &format!("{own}:7400"), founder: &name("q-0"), place: PLACE };
        decide(&empty(own), &terms, known, &answers.iter().cloned().collect(), &cluster(9))
    }

    #[test]
    fn only_the_founder_founds_and_only_when_nothing_says_that_there_is_a_cluster() {
        let (nothing, founded) = (known(None, &[]), || answer("q-1", Some(1), Stage::Founded));
        let cases = [
            ("not the founder", "q-1", nothing.clone(), vec![], "is being founded by q-0"),
            (
                "not the founder, which has begun",
                "q-1",
                nothing.clone(),
                vec![answer("q-0", Some(1), Stage::Assigned)],
                "is being founded by q-0",
            ),
            ("a member is in a cluster", "q-0", nothing.clone(), vec![founded()], "which is not recorded in the book"),
            (
                "a member begins one",
                "q-0",
                nothing,
                vec![answer("q-1", Some(1), Stage::Assigned)],
                "put that id back into the book",
            ),
            (
                "another volume",
                "q-0",
                known(None, &["data-q-1"]),
                vec![silent("q-1")],
                "other volumes exist (data-q-1)",
            ),
            ("recorded and gone", "q-0", known(Some(1), &[]), vec![], "it joins that one and founds none"),
            ("recorded and silent", "q-0", known(Some(1), &[]), vec![silent("q-1")], "(q-1: connection refused)"),
            (
                "recorded and emptied",
                "q-1",
                known(Some(1), &[]),
                vec![answer("q-0", None, Stage::Empty)],
                "no member of it",
            ),
            (
                "recorded, but begun only",
                "q-1",
                known(Some(1), &[]),
                vec![answer("q-0", Some(1), Stage::Assigned)],
                "no member of it",
            ),
            ("another one is recorded", "q-0", known(Some(2), &[]), vec![founded()], "no member of it answers"),
        ];
        for (case, own, known, answers, expected) in cases {
            match step(own, &known, &answers) {
                Step::Wait(text) => assert!(text.contains(expected), "{case}: {text}"),
                step @ (Step::Found(_) | Step::Join { .. }) => panic!("{case}: {step:?}"),
            }
        }
    }

    #[test]
    fn the_founder_begins_with_itself_alone() {
        for answers in [vec![], vec![silent("q-1")], vec![answer("q-1", None, Stage::Empty)]] {
            let Step::Found(assignment) = step("q-0", &known(None, &[]), &answers) else { panic!("it waits") };
            assert!(assignment.is_founders());
            assert_eq!(assignment.seat, Seat { cluster: cluster(9), member: MemberId::new(1) });
            let roster: Vec<_> = assignment.roster.values().map(|node| (&*node.name, &*node.address)).collect();
            assert_eq!(roster, [("q-0", "q-0:7400")]);
        }
    }

    #[test]
    fn with_a_recorded_cluster_every_empty_member_joins_it_through_those_who_are_in_it() {
        let (founded, other) = (answer("q-1", Some(1), Stage::Founded), answer("q-2", Some(2), Stage::Founded));
        for (own, volumes) in [("q-0", &["data-q-1"][..]), ("q-0", &[]), ("q-2", &[])] {
            let through = BTreeMap::from([(name("q-1"), "q-1:7400".to_owned())]);
            let expected = Step::Join { cluster: cluster(1), address: format!("{own}:7400"), through };
            assert_eq!(step(own, &known(Some(1), volumes), &[founded.clone(), other.clone()]), expected);
        }
    }

    #[test]
    fn a_founder_goes_on_where_it_was_when_volume_and_record_agree_and_waits_otherwise() {
        let resumed = |known: &Known, answers: &[(MemberName, Answer)]| {
            resume(&cluster(9), PLACE, known, &answers.iter().cloned().collect())
        };
        assert_eq!(resumed(&known(None, &[]), &[silent("q-1")]), Resumed::Record);
        assert_eq!(resumed(&known(Some(9), &["data-q-1"]), &[]), Resumed::Initialize);
        let cases = [
            (
                known(Some(1), &[]),
                vec![],
                "cluster 00000000000000000000000000000001 is recorded there: empty this volume",
            ),
            (known(None, &["data-q-1"]), vec![], "other volumes exist (data-q-1)"),
            (known(None, &[]), vec![answer("q-1", Some(1), Stage::Founded)], "q-1 is in cluster"),
        ];
        for (known, answers, expected) in cases {
            let Resumed::Wait(text) = resumed(&known, &answers) else { panic!("it goes on: {known:?}") };
            assert!(text.contains(expected) && text.contains("was prepared to found cluster"), "{text}");
        }
    }
}
