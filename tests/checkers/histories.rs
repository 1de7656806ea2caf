//! Known good and known bad histories of one key, each written as a small table.

use crate::support::history::{Call, Condition, Operation, Recorder, Reply, Seen};
use crate::support::linearizability::{Verdict, check};
use crate::support::revisions;

/// A client's call with its times and its reply.
fn op(client: usize, times: (usize, Option<usize>), call: Call, reply: Reply) -> Operation {
    Operation { client, key: "k".to_owned(), call, invoked: times.0, returned: times.1, reply }
}

fn put(value: u64) -> Call {
    Call::Put { value, only_if: Condition::Always }
}

fn put_if(value: u64, only_if: Condition) -> Call {
    Call::Put { value, only_if }
}

const DELETE: Call = Call::Delete { only_if: Condition::Always };

fn at(revision: u64) -> Reply {
    Reply::Put { revision }
}

fn got(value: u64, revision: u64) -> Reply {
    Reply::Got(Some(Seen { value, revision }))
}

fn is_violation(history: &[Operation]) -> bool {
    matches!(check(history), Verdict::Violation(_))
}

#[test]
fn operations_one_after_the_other_are_linearizable() {
    let history = [
        op(1, (1, Some(2)), Call::Get, Reply::Got(None)),
        op(1, (3, Some(4)), put(10), at(5)),
        op(2, (5, Some(6)), Call::Get, got(10, 5)),
        op(2, (7, Some(8)), put_if(11, Condition::ModifiedAt(5)), at(6)),
        op(1, (9, Some(10)), put_if(12, Condition::ModifiedAt(5)), Reply::Mismatch { current: Some(6) }),
        op(1, (11, Some(12)), DELETE, Reply::Deleted { existed: true, revision: 7 }),
        op(1, (13, Some(14)), DELETE, Reply::Deleted { existed: false, revision: 7 }),
        op(1, (15, Some(16)), put_if(13, Condition::Present), Reply::Mismatch { current: None }),
    ];
    assert_eq!(check(&history), Verdict::Linearizable);
}

#[test]
fn a_read_that_misses_an_acknowledged_put_is_a_violation() {
    let history = [op(1, (1, Some(2)), put(10), at(5)), op(2, (3, Some(4)), Call::Get, Reply::Got(None))];
    assert!(is_violation(&history));
}

#[test]
fn a_read_that_overlaps_a_put_may_see_either_but_not_go_back() {
    let writer = op(1, (1, Some(10)), put(10), at(5));
    let new = op(2, (2, Some(3)), Call::Get, got(10, 5));
    let old = |times| op(3, times, Call::Get, Reply::Got(None));
    assert_eq!(check(&[writer.clone(), new.clone(), old((2, Some(4)))]), Verdict::Linearizable);
    assert!(is_violation(&[writer, new, old((4, Some(6)))]));
}

#[test]
fn a_value_that_nobody_wrote_is_a_violation() {
    assert!(is_violation(&[op(1, (1, Some(2)), Call::Get, got(99, 5))]));
}

#[test]
fn two_conditional_puts_of_one_revision_cannot_both_succeed() {
    let first = op(1, (1, Some(2)), put(10), at(5));
    let one = op(1, (3, Some(9)), put_if(11, Condition::ModifiedAt(5)), at(6));
    let both = op(2, (4, Some(8)), put_if(12, Condition::ModifiedAt(5)), at(7));
    let other = op(2, (4, Some(8)), put_if(12, Condition::ModifiedAt(5)), Reply::Mismatch { current: Some(6) });
    assert!(is_violation(&[first.clone(), one.clone(), both]));
    assert_eq!(check(&[first, one, other]), Verdict::Linearizable);
}

#[test]
fn a_refusal_that_nothing_explains_is_a_violation() {
    let first = op(1, (1, Some(2)), put(10), at(5));
    let refused = op(1, (3, Some(4)), put_if(11, Condition::ModifiedAt(5)), Reply::Mismatch { current: Some(5) });
    assert!(is_violation(&[first, refused]));
}

#[test]
fn a_deleted_value_does_not_come_back() {
    let history = [
        op(1, (1, Some(2)), put(10), at(5)),
        op(1, (3, Some(4)), DELETE, Reply::Deleted { existed: true, revision: 6 }),
        op(2, (5, Some(6)), Call::Get, got(10, 5)),
    ];
    assert!(is_violation(&history));
}

#[test]
fn an_unknown_put_may_take_effect_at_any_later_time_or_never() {
    let unknown = op(1, (1, None), put(10), Reply::Unknown);
    let empty = |times| op(2, times, Call::Get, Reply::Got(None));
    let seen = |times| op(2, times, Call::Get, got(10, 9));
    assert_eq!(check(&[unknown.clone(), empty((2, Some(3))), empty((4, Some(5)))]), Verdict::Linearizable);
    assert_eq!(check(&[unknown.clone(), empty((2, Some(3))), seen((40, Some(50)))]), Verdict::Linearizable);
    assert!(is_violation(&[unknown, seen((2, Some(3))), empty((4, Some(5)))]));
}

#[test]
fn an_unknown_put_takes_effect_only_once() {
    let history = [
        op(1, (1, None), put(10), Reply::Unknown),
        op(2, (2, Some(3)), Call::Get, got(10, 5)),
        op(2, (4, Some(5)), put(11), at(6)),
        op(2, (6, Some(7)), Call::Get, got(10, 5)),
    ];
    assert!(is_violation(&history));
}

#[test]
fn an_unknown_put_explains_a_refusal_by_its_revision() {
    let history = [
        op(1, (1, None), put(10), Reply::Unknown),
        op(2, (2, Some(3)), put_if(11, Condition::Absent), Reply::Mismatch { current: Some(5) }),
        op(2, (4, Some(5)), put_if(12, Condition::ModifiedAt(5)), at(6)),
    ];
    assert_eq!(check(&history), Verdict::Linearizable);
    assert!(is_violation(&history[1..]), "without the unknown put");
}

#[test]
fn a_value_with_two_revisions_is_a_violation() {
    let history = [op(1, (1, Some(2)), put(10), at(5)), op(2, (3, Some(4)), Call::Get, got(10, 6))];
    assert!(is_violation(&history));
}

#[test]
fn revisions_of_a_key_do_not_go_back() {
    let history = [op(1, (1, Some(2)), put(10), at(6)), op(1, (3, Some(4)), put(11), at(5))];
    assert!(is_violation(&history));
}

#[test]
fn revisions_of_different_keys_follow_the_clock_on_the_wall() {
    let mut history = vec![op(1, (1, Some(2)), put(10), at(6)), op(1, (3, Some(4)), put(11), at(5))];
    history[1].key = "other".to_owned();
    assert_eq!(check(&history), Verdict::Linearizable, "each key for itself is fine");
    assert!(revisions::check(&history).unwrap_err().contains("acknowledged before"));
    history[1].invoked = 0;
    revisions::check(&history).unwrap();
    history[1].reply = at(6);
    assert!(revisions::check(&history).unwrap_err().contains("twice"));
}

#[test]
fn an_operation_that_nobody_ends_stays_unknown_and_one_that_never_happened_is_gone() {
    let recorder = Recorder::default();
    drop(recorder.begin(1, "k", put(10)));
    recorder.begin(2, "k", Call::Get).end(Reply::Got(None));
    recorder.begin(3, "k", put(11)).never_happened();
    let operations = recorder.operations();
    let replies: Vec<_> =
        operations.iter().map(|operation| (operation.client, operation.returned, operation.reply)).collect();
    assert_eq!(replies, [(1, None, Reply::Unknown), (2, Some(3), Reply::Got(None))]);
}

#[test]
fn a_long_history_with_many_unknown_puts_is_decided() {
    let mut history = Vec::new();
    for round in 0..400 {
        let start = round * 10;
        let value = round as u64 * 10;
        history.push(op(9, (start + 1, None), put(value + 5), Reply::Unknown));
        history.push(op(1, (start + 2, Some(start + 6)), put(value + 1), at(value + 1)));
        history.push(op(2, (start + 3, Some(start + 9)), Call::Get, got(value + 1, value + 1)));
        history.push(op(3, (start + 4, Some(start + 5)), Call::Get, got(value + 1, value + 1)));
    }
    assert_eq!(check(&history), Verdict::Linearizable);
    let stale = history.len() - 1;
    history[stale].invoked += 3;
    history[stale].returned = Some(history[stale].invoked + 1);
    history[stale].reply = got(31, 31);
    assert!(is_violation(&history));
}
