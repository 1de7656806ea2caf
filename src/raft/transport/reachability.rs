//! What was said about a member that is not reached. Each of its lanes notices the loss by itself, and a machine that is gone
//! is seen in several ways that take turns (no answer, no route, no name); each of them is said once until the member is
//! reached again, on whichever lane.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

/// More than the ways in which a connection can fail.
const CAUSES: usize = 16;

/// What was told of the connections to one peer. The lines of all its lanes share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Reachability(Arc<Mutex<BTreeSet<String>>>);

impl Reachability {
    fn told(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().expect("nobody panics while holding what was told")
    }

    /// A lane has no connection; whether that is news since the peer was reached last.
    pub(super) fn lost(&self, cause: &str) -> bool {
        let mut told = self.told();
        told.len() < CAUSES && told.insert(cause.to_owned())
    }

    /// A lane has a connection; whether that ends an outage that was told.
    pub(super) fn reached(&self) -> bool {
        let mut told = self.told();
        let was_lost = !told.is_empty();
        told.clear();
        was_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_that_take_turns_are_each_said_once_for_all_lanes_until_one_connects() {
        let reachability = Reachability::default();
        let lanes = [reachability.clone(), reachability.clone(), reachability];
        assert!(!lanes[0].reached(), "the first connection is no news");
        let told = |cause| lanes.iter().filter(|lane| lane.lost(cause)).count();
        assert_eq!((told("it closed the connection"), told("connection refused")), (1, 1));
        assert_eq!((told("it closed the connection"), told("connection refused")), (0, 0));
        assert_eq!(lanes.iter().filter(|lane| lane.reached()).count(), 1);
        assert_eq!(told("connection refused"), 1, "the next outage is told again");
    }

    #[test]
    fn what_is_told_of_one_outage_is_bounded() {
        let reachability = Reachability::default();
        let told = (0..100).filter(|number| reachability.lost(&number.to_string())).count();
        assert_eq!(told, CAUSES);
    }
}
