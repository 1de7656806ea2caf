//! How a cluster begins, when nobody but the members themselves can say so (`initial_cluster`).
//!
//! The first name in the order of the map is the founder. It founds only with an empty volume, and only after every other
//! initial member has answered that its volume is empty too. Then, step by step, each step durable before the next:
//!
//! 1. The founder draws the cluster's id, gives every member an id, and writes all of it to its own volume (`prepared`).
//! 2. Every other member writes its assignment to its volume before it answers.
//! 3. The founder initializes Raft with all of them as voters. Whoever leads first records the cluster's id in the log, and
//!    each member that has applied it writes `done`.
//!
//! A crash at any step resumes from the volumes. A member whose volume is empty while another member is in a cluster never
//! founds: it joins that one as a new member.

use std::collections::BTreeMap;

use super::identity::{Identity, Place};
use super::status::MemberNode;
use super::transport::{Introduction, Seat};
use crate::encoding::{Decode, DecodeError, Encode, Reader, Writer, fields, required};
use crate::types::{ClusterId, MemberId, MemberName};

/// How far a member is in being founded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its volume knows of no cluster.
    Empty,
    /// It has a place in a cluster that may not exist yet.
    Assigned,
    /// It has seen its cluster exist.
    Founded,
}

/// What the founder gives to a member: its own place, and who else there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub seat: Seat,
    pub founder: MemberId,
    pub roster: BTreeMap<MemberId, MemberNode>,
}

impl Assignment {
    /// The same founding, as another member of the roster gets it.
    pub fn to(&self, member: MemberId) -> Self {
        Self { seat: Seat { cluster: self.seat.cluster.clone(), member }, ..self.clone() }
    }

    /// Whether the member that has this assignment is the one that hands it out.
    pub fn is_founders(&self) -> bool {
        self.seat.member == self.founder
    }
}

/// What another initial member said when asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Introduced {
        introduction: Introduction,
        stage: Stage,
    },
    /// It could not be asked; the text says why.
    Silent(String),
}

/// What a member with an empty volume does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing; the text says what it waits for or what is wrong.
    Wait(String),
    /// Found a cluster with this assignment.
    Found(Assignment),
    /// Join a cluster by one of these members, each with the `host:port` of its member port.
    Join {
        cluster: ClusterId,
        /// Where others reach this member.
        address: String,
        through: BTreeMap<MemberName, String>,
    },
}

/// Decides for the member `own`, whose volume is empty. `cluster` is the id that a new cluster would get.
pub fn decide(
    own: &Introduction,
    initial: &BTreeMap<MemberName, String>,
    answers: &BTreeMap<MemberName, Answer>,
    cluster: &ClusterId,
) -> Step {
    let Some(address) = initial.get(&own.name) else {
        let names: Vec<_> = initial.keys().map(MemberName::as_str).collect();
        return Step::Wait(format!(
            "{} is not in the initial cluster ({}); name it there, or let the running cluster add it",
            own.name,
            names.join(", ")
        ));
    };
    if let Some((name, cluster)) = elsewhere(answers, Stage::Founded) {
        let through = members_of(cluster, answers, initial);
        let founded = |answer: &&Answer| matches!(answer, Answer::Introduced { stage: Stage::Founded, .. });
        if through.len() == answers.values().filter(founded).count() {
            return Step::Join { cluster: cluster.clone(), address: address.clone(), through };
        }
        return Step::Wait(format!(
            "its volume is empty, and the other members are not of one cluster ({name} is in cluster {cluster}): check the \
             addresses of the members and where their volumes come from"
        ));
    }
    let founder = initial.keys().next();
    if founder != Some(&own.name) {
        let founder = founder.map_or("nobody", MemberName::as_str);
        return Step::Wait(format!("the cluster is being founded by {founder}"));
    }
    if let Some((name, cluster)) = elsewhere(answers, Stage::Assigned) {
        return Step::Wait(format!(
            "its volume is empty, but {name} was assigned to cluster {cluster} when that was being founded; put the \
             volume back, or empty the volumes of all initial members to begin again"
        ));
    }
    match roster(own, initial, answers) {
        Ok(roster) => {
            let seat = Seat { cluster: cluster.clone(), member: FIRST };
            Step::Found(Assignment { seat, founder: FIRST, roster })
        }
        Err(missing) => Step::Wait(format!(
            "a cluster is founded once every initial member has said that its volume is empty; no answer from {}",
            missing.join(", ")
        )),
    }
}

/// Member ids count from one; none is ever used twice.
pub(super) const FIRST: MemberId = MemberId::new(1);

/// A member that is at `stage`, with its cluster.
pub(super) fn elsewhere(answers: &BTreeMap<MemberName, Answer>, wanted: Stage) -> Option<(&MemberName, &ClusterId)> {
    answers.iter().find_map(|(name, answer)| match answer {
        Answer::Introduced { introduction: Introduction { seat: Some(seat), .. }, stage } if *stage == wanted => {
            Some((name, &seat.cluster))
        }
        Answer::Introduced { .. } | Answer::Silent(_) => None,
    })
}

/// The members that are in `cluster`, with their addresses.
pub(super) fn members_of(
    cluster: &ClusterId,
    answers: &BTreeMap<MemberName, Answer>,
    addresses: &BTreeMap<MemberName, String>,
) -> BTreeMap<MemberName, String> {
    let is_in = |answer: &Answer| match answer {
        Answer::Introduced { introduction, stage: Stage::Founded } => {
            introduction.seat.as_ref().is_some_and(|seat| seat.cluster == *cluster)
        }
        Answer::Introduced { .. } | Answer::Silent(_) => false,
    };
    let members = answers.iter().filter(|(_, answer)| is_in(answer));
    members.filter_map(|(name, _)| Some((name.clone(), addresses.get(name)?.clone()))).collect()
}

/// All initial members with their new ids, or who has not answered and why.
fn roster(
    own: &Introduction,
    initial: &BTreeMap<MemberName, String>,
    answers: &BTreeMap<MemberName, Answer>,
) -> Result<BTreeMap<MemberId, MemberNode>, Vec<String>> {
    let (mut roster, mut missing, mut next) = (BTreeMap::new(), Vec::new(), FIRST);
    for (name, address) in initial {
        let incarnation = match answers.get(name) {
            _ if *name == own.name => &own.incarnation,
            Some(Answer::Introduced { introduction, .. }) => &introduction.incarnation,
            Some(Answer::Silent(cause)) => {
                missing.push(format!("{name} at {address} ({cause})"));
                continue;
            }
            None => {
                missing.push(format!("{name} at {address}"));
                continue;
            }
        };
        let node =
            MemberNode { name: name.to_string(), address: address.clone(), incarnation: incarnation.to_string() };
        roster.insert(next, node);
        next = next.next();
    }
    if missing.is_empty() { Ok(roster) } else { Err(missing) }
}

/// What a member makes of an assignment that the founder sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// To be stored.
    New,
    /// It has it already.
    Known,
    /// It is not for this volume; the text says why.
    Refused(String),
}

/// Decides about an assignment.
pub fn consider(own: &Identity, assignment: &Assignment) -> Taken {
    let listed = assignment.roster.get(&assignment.seat.member);
    if listed.is_none_or(|node| node.name != own.name.as_str() || node.incarnation != own.incarnation.as_str()) {
        return Taken::Refused(format!(
            "the assignment of member {} is not for the volume that {} has now; empty the volumes of all initial \
             members to begin again",
            assignment.seat.member, own.name
        ));
    }
    match &own.place {
        Place::Nowhere => Taken::New,
        Place::Prepared(present) if present == assignment => Taken::Known,
        Place::Done(seat) if *seat == assignment.seat => Taken::Known,
        Place::Prepared(_) | Place::Done(_) | Place::Retired(_) => {
            Taken::Refused(format!("this is {} already", own.introduction()))
        }
    }
}

impl Encode for Assignment {
    fn encode(&self, writer: &mut Writer) {
        writer.message(1, &self.seat);
        writer.number(2, self.founder.get());
        for (member, node) in &self.roster {
            writer.nested(3, |writer| {
                writer.number(1, member.get());
                writer.message(2, node);
            });
        }
    }
}

impl Decode for Assignment {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (mut seat, mut founder, mut roster) = (None, None, BTreeMap::new());
        while let Some((field, value)) = reader.field()? {
            match field {
                1 => seat = Some(value.message()?),
                2 => founder = Some(MemberId::new(value.number()?)),
                3 => {
                    let mut reader = Reader::new(value.bytes()?);
                    fields!(reader => 1 member: number, 2 node: message);
                    roster.insert(MemberId::new(required(member, "member")?), required(node, "node")?);
                }
                _ => {}
            }
        }
        Ok(Self { seat: required(seat, "seat")?, founder: required(founder, "founder")?, roster })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Incarnation;

    fn name(text: &str) -> MemberName {
        MemberName::new(text).unwrap()
    }

    fn seat(cluster: u128, member: u64) -> Option<Seat> {
        Some(Seat { cluster: ClusterId::from_random(cluster), member: MemberId::new(member) })
    }

    fn introduction(text: &str, member: Option<u64>) -> Introduction {
        let seat = member.and_then(|member| seat(1, member));
        Introduction { name: name(text), incarnation: Incarnation::from_random(text.len() as u128), seat, life: None }
    }

    fn initial() -> BTreeMap<MemberName, String> {
        ["a", "b", "c"].into_iter().map(|text| (name(text), format!("{text}:7400"))).collect()
    }

    fn empty(text: &str) -> Answer {
        Answer::Introduced { introduction: introduction(text, None), stage: Stage::Empty }
    }

    fn seated(text: &str, stage: Stage) -> Answer {
        Answer::Introduced { introduction: introduction(text, Some(2)), stage }
    }

    fn step(own: &str, answers: &[(&str, Answer)]) -> Step {
        let answers = answers.iter().map(|(text, answer)| (name(text), answer.clone())).collect();
        decide(&introduction(own, None), &initial(), &answers, &ClusterId::from_random(9))
    }

    #[test]
    fn a_member_waits_and_says_why_unless_everybody_is_empty_and_it_is_the_first() {
        let silent = || Answer::Silent("connection refused".to_owned());
        type Case<'a> = (&'a str, &'a str, &'a [(&'a str, Answer)], &'a str);
        let other = Introduction { seat: seat(9, 1), ..introduction("c", None) };
        let other = Answer::Introduced { introduction: other, stage: Stage::Founded };
        let cases: [Case<'_>; 6] = [
            ("a stranger", "x", &[], "not in the initial cluster (a, b, c)"),
            ("not the first", "b", &[("a", empty("a")), ("c", empty("c"))], "being founded by a"),
            ("nobody answers", "a", &[], "no answer from b at b:7400, c at c:7400"),
            ("one is silent", "a", &[("b", empty("b")), ("c", silent())], "c at c:7400 (connection refused)"),
            ("two clusters", "a", &[("b", seated("b", Stage::Founded)), ("c", other)], "not of one cluster"),
            ("lost while founding", "a", &[("b", seated("b", Stage::Assigned)), ("c", empty("c"))], "begin again"),
        ];
        for (case, own, answers, expected) in cases {
            match step(own, answers) {
                Step::Wait(text) => assert!(text.contains(expected), "{case}: {text}"),
                step @ (Step::Found(_) | Step::Join { .. }) => panic!("{case}: {step:?}"),
            }
        }
    }

    #[test]
    fn a_member_whose_volume_was_emptied_joins_the_cluster_that_the_others_are_in() {
        for (own, answers, through) in [
            ("a", [("b", seated("b", Stage::Founded)), ("c", Answer::Silent(String::new()))], "b"),
            ("c", [("a", seated("a", Stage::Founded)), ("b", seated("b", Stage::Assigned))], "a"),
        ] {
            let through = BTreeMap::from([(name(through), format!("{through}:7400"))]);
            let (cluster, address) = (ClusterId::from_random(1), format!("{own}:7400"));
            assert_eq!(step(own, &answers), Step::Join { cluster, address, through });
        }
    }

    #[test]
    fn the_first_member_founds_when_everybody_is_empty_and_counts_the_ids_up() {
        let Step::Found(assignment) = step("a", &[("b", empty("b")), ("c", empty("c"))]) else { panic!("it waits") };
        assert!(assignment.is_founders());
        assert_eq!(assignment.seat.cluster, ClusterId::from_random(9));
        let roster: Vec<_> = assignment.roster.iter().map(|(id, node)| (id.get(), node.name.as_str())).collect();
        assert_eq!(roster, [(1, "a"), (2, "b"), (3, "c")]);
        assert_eq!(Assignment::from_bytes(assignment.to_bytes()), Ok(assignment));
    }

    #[test]
    fn an_assignment_is_taken_once_and_only_by_the_volume_that_it_is_for() {
        let Step::Found(assignment) = step("a", &[("b", empty("b")), ("c", empty("c"))]) else { panic!("it waits") };
        let for_b = assignment.to(MemberId::new(2));
        let own =
            |place| Identity { name: name("b"), incarnation: Incarnation::from_random(1), place, lives: Vec::new() };
        assert_eq!(consider(&own(Place::Nowhere), &for_b), Taken::New);
        assert_eq!(consider(&own(Place::Prepared(for_b.clone())), &for_b), Taken::Known);
        assert_eq!(consider(&own(Place::Done(for_b.seat.clone())), &for_b), Taken::Known);

        let refused = |identity: &Identity| matches!(consider(identity, &for_b), Taken::Refused(_));
        let elsewhere = Seat { cluster: ClusterId::from_random(4), member: MemberId::new(2) };
        assert!(refused(&own(Place::Done(elsewhere))));
        assert!(refused(&Identity { incarnation: Incarnation::from_random(2), ..own(Place::Nowhere) }));
        assert!(refused(&Identity { name: name("c"), ..own(Place::Nowhere) }));
    }
}
