//! The search against brute force: on every small random history both come to the same verdict.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::support::history::{Call, Condition, Operation, Reply, Seen};
use crate::support::linearizability::{Verdict, check_key};
use crate::support::register::{Knowledge, Register};

/// How many histories; about as many are good as bad.
const HISTORIES: u64 = 20_000;

#[test]
fn the_search_agrees_with_trying_every_order() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..HISTORIES {
        let history = random_history(&mut SmallRng::seed_from_u64(seed));
        let operations: Vec<_> = history.iter().collect();
        let expected = some_order_fits(&operations);
        let verdict = check_key(&operations);
        assert_eq!(verdict == Verdict::Linearizable, expected, "seed {seed}: {history:#?}\n{verdict:?}");
        if expected { good += 1 } else { bad += 1 }
    }
    assert!(good > 1000 && bad > 1000, "too few of one kind to mean anything: {good} good, {bad} bad");
}

/// A register that is used by overlapping clients; some replies are forged.
fn random_history(rng: &mut SmallRng) -> Vec<Operation> {
    let count = rng.random_range(2..=6);
    let mut moments: Vec<usize> = (0..2 * count).collect();
    let mut content: Option<Seen> = None;
    let mut history = Vec::new();
    for number in 0..count {
        let first = moments.remove(0);
        let second = moments.remove(rng.random_range(0..moments.len().min(4)));
        let (call, mut reply) = one_operation(rng, &mut content, number as u64 + 1);
        if rng.random_bool(0.15) {
            reply = forged(rng, reply);
        }
        let unknown = rng.random_bool(0.2);
        history.push(Operation {
            client: number,
            key: "k".to_owned(),
            call,
            invoked: first,
            returned: (!unknown).then_some(second),
            reply: if unknown { Reply::Unknown } else { reply },
        });
    }
    history
}

/// An operation that happens now; its revision is ten times its number.
fn one_operation(rng: &mut SmallRng, content: &mut Option<Seen>, number: u64) -> (Call, Reply) {
    let current = content.map(|seen| seen.revision);
    let revision = number * 10;
    match rng.random_range(0..4) {
        0 => {
            *content = Some(Seen { value: number, revision });
            (Call::Put { value: number, only_if: Condition::Always }, Reply::Put { revision })
        }
        1 => {
            let wanted = rng.random_range(1..=number) * 10;
            let call = Call::Put { value: number, only_if: Condition::ModifiedAt(wanted) };
            if current == Some(wanted) {
                *content = Some(Seen { value: number, revision });
                (call, Reply::Put { revision })
            } else {
                (call, Reply::Mismatch { current })
            }
        }
        2 => {
            let existed = content.take().is_some();
            (Call::Delete { only_if: Condition::Always }, Reply::Deleted { existed, revision })
        }
        _ => (Call::Get, Reply::Got(*content)),
    }
}

fn forged(rng: &mut SmallRng, reply: Reply) -> Reply {
    let number = rng.random_range(1..=6);
    match reply {
        Reply::Put { .. } => Reply::Put { revision: number * 10 },
        Reply::Deleted { existed, revision } => Reply::Deleted { existed: !existed, revision },
        Reply::Mismatch { .. } => Reply::Mismatch { current: Some(number * 10) },
        Reply::Got(_) if rng.random_bool(0.5) => Reply::Got(None),
        Reply::Got(_) => Reply::Got(Some(Seen { value: number, revision: number * 10 })),
        Reply::Unknown => Reply::Unknown,
    }
}

/// Tries every order of every choice of operations that holds all answered ones.
fn some_order_fits(operations: &[&Operation]) -> bool {
    let Ok(knowledge) = Knowledge::of(operations) else { return false };
    fits(operations, &knowledge, Register::default(), &(0..operations.len()).collect::<Vec<_>>())
}

/// Whether the operations in `left` can go on from `register`.
fn fits(operations: &[&Operation], knowledge: &Knowledge, register: Register, left: &[usize]) -> bool {
    let must_wait = |next: usize| {
        let before = |other: &usize| operations[*other].returned.is_some_and(|at| at < operations[next].invoked);
        left.iter().any(before)
    };
    left.iter().all(|at| operations[*at].returned.is_none())
        || left.iter().any(|next| {
            let others: Vec<_> = left.iter().copied().filter(|other| other != next).collect();
            let after = register.after(operations[*next], knowledge);
            !must_wait(*next) && after.is_some_and(|after| fits(operations, knowledge, after, &others))
        })
}
