//! Plans, case by case; `property.rs` has whole lives of clusters.

use super::*;
use crate::machine::command::MemberRecord;
use crate::types::{FeatureLevel, Incarnation};

const END: LogIndex = LogIndex::new(100);

fn id(number: u64) -> MemberId {
    MemberId::new(number)
}

fn ids(numbers: &[u64]) -> BTreeSet<MemberId> {
    numbers.iter().copied().map(id).collect()
}

fn node(name: &str, incarnation: u128) -> MemberNode {
    let incarnation = Incarnation::from_random(incarnation).to_string();
    MemberNode { name: name.to_owned(), address: format!("{name}:7400"), incarnation }
}

/// Members as `(id, name)`, all of them heard of lately and caught up; those of `voters` vote.
fn picture(voters: &[u64], members: &[(u64, &str)], wanted: Option<(u32, u32)>) -> Picture {
    let nodes: BTreeMap<_, _> =
        members.iter().map(|(number, name)| (id(*number), node(name, u128::from(*number)))).collect();
    Picture {
        own: id(voters[0]),
        voters: vec![ids(voters)],
        progress: Progress::Committed,
        changed_at: Some(END),
        contacts: nodes.keys().map(|member| (*member, Contact::Lately)).collect(),
        matched: nodes.keys().map(|member| (*member, END)).collect(),
        recent_end: Some(END),
        size: wanted.map(|(voters, learners)| ClusterSize { voters, learners }),
        steering: Steering::default(),
        unfit: BTreeSet::new(),
        moves: Moves::Allowed,
        recorded: nodes.keys().copied().collect(),
        nodes,
    }
}

fn with(mut picture: Picture, change: impl FnOnce(&mut Picture)) -> Picture {
    change(&mut picture);
    picture
}

fn away(numbers: &[u64], contact: Contact) -> impl FnOnce(&mut Picture) {
    let members = ids(numbers);
    move |picture| picture.contacts.extend(members.into_iter().map(|member| (member, contact)))
}

/// What a member has said that it has.
fn has(member: u64, matched: Option<LogIndex>) -> impl FnOnce(&mut Picture) {
    move |picture| {
        picture.matched.remove(&id(member));
        picture.matched.extend(matched.map(|matched| (id(member), matched)));
    }
}

fn promote(learner: u64, voters: &[u64]) -> Next {
    Next::Promote { learner: id(learner), voters: ids(voters) }
}

fn replace(old: u64, new: u64, voters: &[u64]) -> Next {
    Next::Replace { old: id(old), new: id(new), voters: ids(voters) }
}

const THREE: [(u64, &str); 3] = [(1, "a"), (2, "b"), (3, "c")];
const WIPED: [(u64, &str); 4] = [(1, "a"), (2, "b"), (3, "c"), (4, "c")];

#[test]
fn members_become_voters_one_at_a_time_and_only_when_it_is_safe() {
    let growing = || picture(&[1], &THREE, Some((3, 0)));
    let cases = [
        ("the first by its name", growing(), promote(2, &[1, 2])),
        ("the next", picture(&[1, 2], &THREE, Some((3, 0))), promote(3, &[1, 2, 3])),
        ("as many as are wanted", picture(&[1, 2, 3], &THREE, Some((3, 0))), Next::Nothing),
        ("no more than are wanted", picture(&[1], &THREE, Some((1, 2))), Next::Nothing),
        ("nobody says how many", picture(&[1], &THREE, None), Next::Nothing),
        (
            "numbers in names count",
            picture(&[1], &[(1, "q-0"), (2, "q-10"), (3, "q-2")], Some((3, 0))),
            promote(3, &[1, 3]),
        ),
        ("one is behind", with(growing(), has(2, Some(LogIndex::ZERO))), promote(3, &[1, 3])),
        ("one has said nothing", with(growing(), has(2, None)), promote(3, &[1, 3])),
        ("one is not heard of", with(growing(), away(&[2], Contact::Before)), promote(3, &[1, 3])),
        ("where the log ends is not known yet", with(growing(), |it| it.recent_end = None), Next::Nothing),
        ("nobody is", with(growing(), away(&[2, 3], Contact::Silent)), Next::Nothing),
        (
            "the quorum would depend on who is away",
            with(picture(&[1, 2], &THREE, Some((3, 0))), away(&[2], Contact::Before)),
            Next::Nothing,
        ),
        ("the last change is not committed", with(growing(), |it| it.progress = Progress::Pending), Next::Nothing),
    ];
    for (case, picture, expected) in cases {
        assert_eq!(plan(&picture), expected, "{case}");
    }
}

#[test]
fn a_voter_without_its_volume_is_replaced_by_its_namesake_and_by_nobody_else() {
    let wiped = || with(picture(&[1, 2, 3], &WIPED, None), away(&[3], Contact::Silent));
    let twice = || {
        let members = [&WIPED[..], &[(5, "c")]].concat();
        with(picture(&[1, 2, 3], &members, Some((3, 0))), away(&[3, 4], Contact::Silent))
    };
    let cases = [
        ("in one change", wiped(), replace(3, 4, &[1, 2, 4])),
        ("not before it is known to be gone", with(wiped(), away(&[3], Contact::Before)), Next::Nothing),
        ("not while it lives", with(wiped(), away(&[3], Contact::Lately)), Next::Nothing),
        ("not before the new one has caught up", with(wiped(), has(4, None)), Next::Nothing),
        ("not when the quorum is not there", with(wiped(), away(&[2], Contact::Before)), Next::Nothing),
        ("nobody else takes its place", with(wiped(), |it| drop(it.nodes.insert(id(4), node("d", 4)))), Next::Nothing),
        ("who lost two volumes", twice(), replace(3, 5, &[1, 2, 5])),
        (
            "a learner that lost its volume",
            with(picture(&[1, 2], &WIPED, None), away(&[3], Contact::Silent)),
            Next::Remove(id(3)),
        ),
        (
            "a learner that has not come back",
            with(picture(&[1, 2, 4], &WIPED, None), away(&[3, 4], Contact::Silent)),
            Next::Nothing,
        ),
        (
            "a place before another voter",
            with(wiped(), |it| it.size = Some(ClusterSize { voters: 5, learners: 0 })),
            replace(3, 4, &[1, 2, 4]),
        ),
    ];
    for (case, picture, expected) in cases {
        assert_eq!(plan(&picture), expected, "{case}");
    }
}

#[test]
fn a_joint_change_is_finished_first_and_the_machine_forgets_last() {
    let joint = || with(picture(&[1, 2, 3], &WIPED, None), |it| it.voters.push(ids(&[1, 2, 4])));
    let pending = with(joint(), |it| it.progress = Progress::Pending);
    let forgotten = with(picture(&[1, 2, 3], &THREE, None), |it| it.recorded = ids(&[1, 2, 3, 4]));
    let cases = [
        ("one that is left over", joint(), Next::LeaveJoint),
        ("one on its way", pending, Next::Nothing),
        ("one who is no member", forgotten, Next::Forget(id(4))),
    ];
    for (case, picture, expected) in cases {
        assert_eq!(plan(&picture), expected, "{case}");
    }
}

#[test]
fn who_may_join_and_who_may_not_and_why() {
    let record = |name: &str, incarnation: u128, level: u64| MemberRecord {
        name: name.parse().unwrap(),
        incarnation: Incarnation::from_random(incarnation),
        url: format!("http://{name}"),
        version: "0.1.0".to_owned(),
        features: FeatureLevel::new(level),
        life: None,
    };
    let full = || picture(&[1, 2, 3], &THREE, Some((3, 0)));
    let emptied = || with(full(), away(&[3], Contact::Before));
    let seatless = || with(picture(&[1, 2], &THREE, None), has(3, None));
    type Case<'a> = (&'a str, Picture, MemberRecord, Result<Admission, &'a str>);
    let cases: [Case<'_>; 10] = [
        ("one more", picture(&[1], &THREE[..1], Some((3, 0))), record("b", 9, 1), Ok(Admission::New)),
        ("a learner", picture(&[1, 2, 3], &THREE, Some((3, 1))), record("d", 9, 1), Ok(Admission::New)),
        ("an emptied one", emptied(), record("c", 9, 1), Ok(Admission::New)),
        ("one that was not told", seatless(), record("c", 3, 1), Ok(Admission::Seated(id(3)))),
        ("a voter that has forgotten", full(), record("c", 3, 1), Err("put back to an older state")),
        ("a learner that has", picture(&[1, 2], &THREE, None), record("c", 3, 1), Err("put back to an older state")),
        ("a second of that name", full(), record("c", 9, 1), Err("member 3 is called c as well")),
        ("too many", full(), record("d", 9, 1), Err("should have 3 members and has them: a, b, c")),
        ("a stranger", picture(&[1, 2], &THREE, None), record("d", 9, 1), Err("nobody has said that it should be")),
        ("an old release", emptied(), record("c", 9, 0), Err("understands level 0")),
    ];
    for (case, picture, record, expected) in cases {
        let decided = admit(&picture, FeatureLevel::new(1), &record);
        match (decided, expected) {
            (Admission::Refused(text), Err(expected)) => assert!(text.contains(expected), "{case}: {text}"),
            (decided, expected) => assert_eq!(Ok(decided), expected, "{case}"),
        }
    }
}

fn demote(voter: u64, voters: &[u64]) -> Next {
    Next::Demote { voter: id(voter), voters: ids(voters) }
}

fn hand_over(to: u64, reason: Reason) -> Next {
    Next::HandOver { to: id(to), reason }
}

const FIVE: [(u64, &str); 5] = [(1, "q-0"), (2, "q-1"), (3, "q-2"), (4, "q-3"), (5, "q-4")];

#[test]
fn the_members_of_the_highest_ordinals_leave_first_one_at_a_time_and_only_when_it_is_safe() {
    let five = |wanted| picture(&[1, 2, 3, 4, 5], &FIVE, Some(wanted));
    let ten = [(1, "q-0"), (2, "q-10"), (3, "q-2"), (4, "q-1")];
    let leaving = || picture(&[1, 2, 3], &FIVE, Some((3, 0)));
    let cases = [
        ("the last", five((3, 0)), demote(5, &[1, 2, 3, 4])),
        ("and the next", picture(&[1, 2, 3, 4], &FIVE, Some((3, 0))), demote(4, &[1, 2, 3])),
        ("numbers in names count", picture(&[1, 2, 3, 4], &ten, Some((3, 0))), demote(2, &[1, 3, 4])),
        ("who votes no more leaves, the last first", leaving(), Next::Remove(id(5))),
        ("but not before it knows", with(leaving(), has(5, Some(LogIndex::ZERO))), Next::Remove(id(4))),
        (
            "unless it is dead",
            with(leaving(), |it| {
                has(5, None)(it);
                away(&[5], Contact::Silent)(it);
            }),
            Next::Remove(id(5)),
        ),
        ("to two", picture(&[1, 2, 3], &THREE, Some((1, 0))), demote(3, &[1, 2])),
        ("to one", picture(&[1, 2], &THREE[..2], Some((1, 0))), demote(2, &[1])),
        ("no further", picture(&[1], &THREE[..1], Some((0, 0))), Next::Nothing),
        (
            "not when the other one is away",
            with(picture(&[1, 2], &THREE[..2], Some((1, 0))), away(&[2], Contact::Silent)),
            Next::Nothing,
        ),
        ("a dead one", with(five((3, 0)), away(&[5], Contact::Silent)), demote(5, &[1, 2, 3, 4])),
        (
            "the dead one before the living one that is needed",
            with(five((3, 0)), away(&[1, 4], Contact::Silent)),
            demote(4, &[1, 2, 3, 5]),
        ),
        ("nobody when too many are away", with(five((3, 0)), away(&[1, 2], Contact::Silent)), Next::Nothing),
        ("the last change is not committed", with(five((3, 0)), |it| it.progress = Progress::Pending), Next::Nothing),
        ("the cluster is paused", with(five((3, 0)), |it| it.steering.care = Care::Paused), Next::Nothing),
    ];
    for (case, picture, expected) in cases {
        assert_eq!(plan(&picture), expected, "{case}");
    }
}

#[test]
fn the_lowest_ordinals_vote_and_learners_come_next() {
    let five = |voters: &[u64], wanted| picture(voters, &FIVE, Some(wanted));
    let cases = [
        ("five voters to three and two learners", five(&[1, 2, 3, 4, 5], (3, 2)), demote(5, &[1, 2, 3, 4])),
        ("which stay", five(&[1, 2, 3], (3, 2)), Next::Nothing),
        ("and back", five(&[1, 2, 3], (5, 0)), promote(4, &[1, 2, 3, 4])),
        ("the wrong ones vote", five(&[1, 4, 5], (3, 2)), promote(2, &[1, 2, 4, 5])),
        ("until the right ones do", five(&[1, 2, 4, 5], (3, 2)), promote(3, &[1, 2, 3, 4, 5])),
        (
            "and keep their votes for so long",
            with(five(&[1, 4, 5], (3, 2)), away(&[2, 3], Contact::Silent)),
            Next::Nothing,
        ),
        ("a learner takes no place of a voter that is to come", five(&[1, 2], (2, 3)), Next::Nothing),
        ("fewer learners", picture(&[1, 2, 3], &FIVE, Some((3, 1))), Next::Remove(id(5))),
    ];
    for (case, picture, expected) in cases {
        assert_eq!(plan(&picture), expected, "{case}");
    }
}

#[test]
fn a_raft_leader_that_is_to_vote_no_more_makes_way_before() {
    let led_by = |own: u64, wanted| with(picture(&[1, 2, 3, 4, 5], &FIVE, Some(wanted)), |it| it.own = id(own));
    let leaving = |to| hand_over(to, Reason::Leaving);
    let unfit = |picture: Picture, names: &[&str]| {
        with(picture, |it| it.unfit = names.iter().map(|&name| name.to_owned()).collect())
    };
    let cases = [
        ("to the first", led_by(5, (3, 0)), leaving(1)),
        ("that has caught up", with(led_by(5, (3, 0)), has(1, None)), leaving(2)),
        ("that is heard of", with(led_by(5, (3, 0)), away(&[1], Contact::Before)), leaving(2)),
        ("that is fit", unfit(led_by(5, (3, 0)), &["q-0", "q-1"]), leaving(3)),
        ("or to one that is not", unfit(led_by(5, (3, 0)), &["q-0", "q-1", "q-2"]), leaving(1)),
        (
            "that is preferred",
            with(led_by(5, (3, 0)), |it| it.steering.preferred_leader = Some("q-2".parse().unwrap())),
            leaving(3),
        ),
        (
            "to none that leaves as well",
            with(led_by(5, (1, 0)), |it| {
                has(1, None)(it);
            }),
            demote(4, &[1, 2, 3, 5]),
        ),
        (
            "the others first, while it rests",
            with(led_by(5, (3, 0)), |it| it.moves = Moves::Resting),
            demote(4, &[1, 2, 3, 5]),
        ),
        ("when its turn comes", led_by(4, (3, 0)), demote(5, &[1, 2, 3, 4])),
        ("a learner-to-be as well", led_by(5, (3, 2)), leaving(1)),
    ];
    for (case, picture, expected) in cases {
        assert_eq!(plan(&picture), expected, "{case}");
    }
}

#[test]
fn the_preferred_member_leads_whenever_it_can_and_nobody_on_its_way_out_while_another_can() {
    let three = |own: u64, preferred: Option<&str>, unfit: &[&str]| {
        with(picture(&[1, 2, 3], &FIVE[..3], Some((3, 0))), |it| {
            it.own = id(own);
            it.steering.preferred_leader = preferred.map(|name| name.parse().unwrap());
            it.unfit = unfit.iter().map(|&name| name.to_owned()).collect();
        })
    };
    let preferred = |to| hand_over(to, Reason::Preferred);
    let cases = [
        ("nobody is preferred", three(1, None, &[]), Next::Nothing),
        ("it leads", three(2, Some("q-1"), &[]), Next::Nothing),
        ("it does not", three(1, Some("q-1"), &[]), preferred(2)),
        ("it is behind", with(three(1, Some("q-1"), &[]), has(2, Some(LogIndex::ZERO))), Next::Nothing),
        ("it is not heard of", with(three(1, Some("q-1"), &[]), away(&[2], Contact::Before)), Next::Nothing),
        ("it was tried a moment ago", with(three(1, Some("q-1"), &[]), |it| it.moves = Moves::Resting), Next::Nothing),
        ("nothing is known yet of the end", with(three(1, Some("q-1"), &[]), |it| it.recent_end = None), Next::Nothing),
        ("there is no such member", three(1, Some("q-9"), &[]), Next::Nothing),
        ("it is on its way out", three(1, Some("q-1"), &["q-1"]), Next::Nothing),
        ("and leads", three(2, Some("q-1"), &["q-1"]), hand_over(1, Reason::Unfit)),
        ("who leads is on its way out", three(1, None, &["q-0"]), hand_over(2, Reason::Unfit)),
        ("and others too", three(1, None, &["q-0", "q-1"]), hand_over(3, Reason::Unfit)),
        ("and everybody", three(1, None, &["q-0", "q-1", "q-2"]), Next::Nothing),
        ("nobody else can", with(three(1, None, &["q-0"]), away(&[2, 3], Contact::Before)), Next::Nothing),
        (
            "the cluster is paused",
            with(three(1, Some("q-1"), &["q-0"]), |it| it.steering.care = Care::Paused),
            Next::Nothing,
        ),
        (
            "who leads is unknown in name, and all else is done first",
            with(three(1, Some("q-1"), &[]), |it| {
                it.recorded.insert(id(9));
            }),
            Next::Forget(id(9)),
        ),
    ];
    for (case, picture, expected) in cases {
        assert_eq!(plan(&picture), expected, "{case}");
    }
}

#[test]
fn leadership_is_moved_later_and_later_as_long_as_it_does_not_stay() {
    let (mut pauses, start) = (Pauses::default(), tokio::time::Instant::now());
    let after = |seconds| start + std::time::Duration::from_secs(seconds);
    for (tried, rests_until) in [(0, 2), (2, 6), (6, 14), (14, 30), (30, 62), (62, 122), (122, 182)] {
        assert_eq!(pauses.moves(after(tried)), Moves::Allowed, "{tried}");
        pauses.tried(after(tried));
        assert_eq!(pauses.moves(after(rests_until - 1)), Moves::Resting, "{tried}");
        assert_eq!(pauses.moves(after(rests_until)), Moves::Allowed, "{tried}");
    }
    pauses.tried(after(1000));
    assert_eq!(pauses.moves(after(1002)), Moves::Allowed, "it is forgotten");
}

#[test]
fn people_are_told_the_step_or_what_it_waits_for() {
    let five = |wanted| picture(&[1, 2, 3, 4, 5], &FIVE, Some(wanted));
    let growing = || picture(&[1, 2, 3], &FIVE, Some((5, 0)));
    let cases = [
        ("as declared", five((5, 0)), ""),
        ("a vote is given back", five((3, 0)), "q-4 gives its vote back"),
        ("one leaves", picture(&[1, 2, 3], &FIVE, Some((3, 0))), "q-4 leaves the cluster"),
        ("a vote", growing(), "q-3 gets a vote"),
        (
            "one is behind",
            with(growing(), |it| {
                has(4, None)(it);
                has(5, None)(it);
            }),
            "q-3 catches up before it votes",
        ),
        ("one is away", with(growing(), away(&[4, 5], Contact::Before)), "q-3 should vote, and is not heard of"),
        (
            "not safe",
            with(growing(), away(&[1, 2], Contact::Silent)),
            "a change is not safe while nothing is heard of q-0, q-1",
        ),
        (
            "nor this",
            with(five((3, 0)), away(&[1, 2], Contact::Silent)),
            "a change is not safe while nothing is heard of q-0, q-1",
        ),
        ("to come", picture(&[1, 2, 3], &FIVE[..3], Some((5, 2))), "4 more to join"),
        (
            "the leader goes",
            with(five((3, 0)), |it| it.own = id(5)),
            "leadership moves to q-0, because q-4 is to vote no more",
        ),
        (
            "and cannot",
            with(picture(&[1, 2], &FIVE[..2], Some((1, 0))), |it| {
                it.own = id(2);
                has(1, None)(it);
            }),
            "q-1 leads and is to vote no more; another voter has to catch up first",
        ),
        (
            "on its way",
            with(five((3, 0)), |it| it.progress = Progress::Pending),
            "a change of the membership is being committed",
        ),
        ("paused", with(five((3, 0)), |it| it.steering.care = Care::Paused), ""),
    ];
    for (case, picture, expected) in cases {
        let told = tell(&picture, &plan(&picture));
        assert!(told.contains(expected) && expected.is_empty() == told.is_empty(), "{case}: {told:?}");
    }
}
