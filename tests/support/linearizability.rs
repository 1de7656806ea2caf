//! Is there one order of a key's operations that explains every reply, and in which nothing happens before it was asked for
//! or after it was answered?
//!
//! The search of Wing and Gong with Lowe's memory of places already visited, as in porcupine: depth first over the
//! operations that may come next, those that must have happened before those that may never have.
//!
//! Unknown operations would make the search explode. Three observations keep it small: a put whose value was read happened
//! before that read was answered; of those that left no trace and are alike, one may as well take the earliest; and one
//! that left no trace is only needed right before an operation that does not fit without it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::history::{Call, Moment, Operation, Reply, by_key};
use super::register::{Knowledge, Register};

/// What the search came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// No order explains the replies; the text shows where every order ends.
    Violation(String),
    /// The search took more steps than it was given.
    Undecided,
}

/// Steps after which a search gives up. A good history takes about one for each operation.
const STEPS: usize = 2_000_000;

/// Checks every key of a history. The first violation counts; then the first key that could not be decided.
pub fn check(operations: &[Operation]) -> Verdict {
    let verdicts: BTreeMap<_, _> =
        by_key(operations).into_iter().map(|(key, operations)| (key, check_key(&operations))).collect();
    let mut undecided = Verdict::Linearizable;
    for (key, verdict) in verdicts {
        match verdict {
            Verdict::Linearizable => {}
            Verdict::Violation(text) => return Verdict::Violation(format!("key {key}: {text}")),
            Verdict::Undecided => undecided = Verdict::Undecided,
        }
    }
    undecided
}

/// Checks the operations of one key, which begins absent.
pub fn check_key(operations: &[&Operation]) -> Verdict {
    match Knowledge::of(operations) {
        Ok(knowledge) => Search::new(operations, &knowledge).run(),
        Err(contradiction) => Verdict::Violation(contradiction),
    }
}

/// A place in the search: what has happened so far, and which operations are still to be tried as the next.
struct Place {
    register: Register,
    /// The operation that led here.
    via: Option<usize>,
    /// The register before that operation, when it may as well never have happened.
    without: Option<Register>,
    /// In reverse: the next one to try is the last.
    untried: Vec<usize>,
}

struct Search<'a> {
    operations: Vec<&'a Operation>,
    knowledge: &'a Knowledge,
    /// When each operation must have happened at the latest; `None` when it may never have.
    deadlines: Vec<Option<Moment>>,
    /// An operation like this one, asked for earlier, that has to be taken first.
    twins: Vec<Option<usize>>,
    /// One bit for each operation that has happened.
    happened: Vec<u64>,
    /// How many of those that must happen have not.
    missing: usize,
    path: Vec<Place>,
    visited: BTreeSet<(Vec<u64>, Register, Option<Register>)>,
    deepest: Deepest,
}

/// The furthest that any order got, to show when none gets to the end.
#[derive(Default)]
struct Deepest {
    missing: usize,
    register: Register,
    stuck: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(operations: &[&'a Operation], knowledge: &'a Knowledge) -> Self {
        let mut operations = operations.to_vec();
        operations.sort_by_key(|operation| operation.invoked);
        let deadlines: Vec<_> = operations.iter().map(|operation| deadline(operation, &operations)).collect();
        Self {
            twins: twins(&operations, knowledge),
            missing: deadlines.iter().flatten().count(),
            deadlines,
            happened: vec![0; operations.len().div_ceil(64)],
            operations,
            knowledge,
            path: Vec::new(),
            visited: BTreeSet::new(),
            deepest: Deepest { missing: usize::MAX, ..Deepest::default() },
        }
    }

    fn run(mut self) -> Verdict {
        self.enter(Register::default(), None, None);
        for _ in 0..STEPS {
            if self.missing == 0 {
                return Verdict::Linearizable;
            }
            let Some(place) = self.path.last_mut() else {
                return Verdict::Violation(self.describe());
            };
            match place.untried.pop() {
                Some(next) => {
                    let before = place.register;
                    let step = |register: Register| register.after(self.operations[next], self.knowledge);
                    let is_needless = place.without.is_some_and(|without| step(without).is_some());
                    if let Some(after) = step(before).filter(|_| !is_needless) {
                        self.visit(next, before, after);
                    }
                }
                None => self.leave(),
            }
        }
        Verdict::Undecided
    }

    /// Goes on with `next`, unless the same operations in another order led to the same register before.
    fn visit(&mut self, next: usize, before: Register, after: Register) {
        self.mark(next, true);
        let without = self.deadlines[next].is_none().then_some(before);
        if self.visited.insert((self.happened.clone(), after, without)) {
            self.enter(after, Some(next), without);
        } else {
            self.mark(next, false);
        }
    }

    fn enter(&mut self, register: Register, via: Option<usize>, without: Option<Register>) {
        let untried = self.candidates();
        if self.missing < self.deepest.missing {
            self.deepest = Deepest { missing: self.missing, register, stuck: untried.clone() };
        }
        self.path.push(Place { register, via, without, untried });
    }

    fn leave(&mut self) {
        if let Some(Place { via: Some(operation), .. }) = self.path.pop() {
            self.mark(operation, false);
        }
    }

    fn mark(&mut self, operation: usize, happened: bool) {
        self.happened[operation / 64] ^= 1 << (operation % 64);
        if self.deadlines[operation].is_some() {
            if happened { self.missing -= 1 } else { self.missing += 1 }
        }
    }

    fn has_happened(&self, at: usize) -> bool {
        self.happened[at / 64] & (1 << (at % 64)) != 0
    }

    /// Every operation that may be the next: it was asked for before any other that has not happened was answered. Those
    /// that may never happen come first, and so are tried last.
    fn candidates(&self) -> Vec<usize> {
        let mut first_deadline = Moment::MAX;
        let (mut must, mut may) = (Vec::new(), Vec::new());
        let start = self.happened.iter().position(|word| *word != u64::MAX).unwrap_or(0) * 64;
        for at in (start..self.operations.len()).filter(|at| !self.has_happened(*at)) {
            if self.operations[at].invoked > first_deadline {
                break;
            }
            match self.deadlines[at] {
                Some(deadline) => {
                    first_deadline = first_deadline.min(deadline);
                    must.push(at);
                }
                None if self.twins[at].is_none_or(|twin| self.has_happened(twin)) => may.push(at),
                None => {}
            }
        }
        may.extend(must);
        may.retain(|at| self.operations[*at].invoked < first_deadline);
        may
    }

    fn describe(&self) -> String {
        let mut text = format!(
            "no order explains the replies: {} operations can be ordered and then, with {:?}, none of these fits:",
            self.operations.len() - self.deepest.missing,
            self.deepest.register
        );
        for at in self.deepest.stuck.iter().rev() {
            let Operation { client, call, invoked, returned, reply, .. } = self.operations[*at];
            let until = returned.map_or("the end".to_owned(), |moment| moment.to_string());
            write!(text, "\n  client {client}: {call:?} -> {reply:?}, from {invoked} until {until}")
                .expect("writing to a string cannot fail");
        }
        text
    }
}

/// When `operation` must have happened at the latest, if it must have.
fn deadline(operation: &Operation, operations: &[&Operation]) -> Option<Moment> {
    let Call::Put { value, .. } = operation.call else { return operation.returned };
    let sees = |other: &&&Operation| matches!(other.reply, Reply::Got(Some(seen)) if seen.value == value);
    let seen = operations.iter().filter(sees).filter_map(|other| other.returned).min();
    operation.returned.into_iter().chain(seen).min()
}

/// For each operation that left no trace, the one before it that asked for the same.
fn twins(operations: &[&Operation], knowledge: &Knowledge) -> Vec<Option<usize>> {
    let mut last = BTreeMap::new();
    let kind = |operation: &Operation| match (operation.reply, operation.call) {
        (Reply::Unknown, Call::Put { value, only_if }) if !knowledge.has(value) => Some((true, only_if)),
        (Reply::Unknown, Call::Delete { only_if }) => Some((false, only_if)),
        _ => None,
    };
    let twin = |(at, operation): (usize, &&Operation)| last.insert(kind(operation)?, at);
    operations.iter().enumerate().map(twin).collect()
}
