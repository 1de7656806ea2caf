//! What must never happen, each under a name: a planted bug has to be caught under the right one.

use std::fmt;
use std::sync::{Arc, Mutex};

/// A rule that a run is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// Every client's replies are explained by one order of the operations.
    Linearizable,
    /// Revisions follow the order in which changes were acknowledged, and none is given twice.
    RevisionOrder,
    /// What was acknowledged is in the history of the cluster, as it was acknowledged.
    Acknowledged,
    /// Members apply the same changes at the same revision.
    Agreement,
    /// Revisions have no gaps, in the machine and in every watch.
    NoGaps,
    /// Members that have applied the same entries have the same digest.
    Digest,
    /// The state is sound in itself.
    Invariants,
    /// Every read, stale ones included, shows the history as it was at one revision.
    Reads,
    /// A vote that was given is there after a power loss.
    VoteKept,
    /// Two candidates never lead one election at a time, each by its own clock.
    Exclusion,
    /// Fencing tokens only grow.
    TokenOrder,
    /// A session, and what it holds, lives for as long as its client was told.
    Kept,
    /// A duty's command takes effect only while its leadership is the newest.
    DutyInItsLeadership,
    /// A member id belongs to one volume, and to no other one ever.
    IdOnce,
    /// A member ends only when its disk fails, and comes back from whatever a power loss leaves.
    Survival,
    /// Once nothing fails any more, the cluster serves again.
    Liveness,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linearizable => "linearizable",
            Self::RevisionOrder => "revision-order",
            Self::Acknowledged => "acknowledged",
            Self::Agreement => "agreement",
            Self::NoGaps => "no-gaps",
            Self::Digest => "digest",
            Self::Invariants => "invariants",
            Self::Reads => "reads",
            Self::VoteKept => "vote-kept",
            Self::Exclusion => "exclusion",
            Self::TokenOrder => "token-order",
            Self::Kept => "kept",
            Self::DutyInItsLeadership => "duty-in-its-leadership",
            Self::IdOnce => "id-once",
            Self::Survival => "survival",
            Self::Liveness => "liveness",
        })
    }
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub check: Check,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.text)
    }
}

/// Where broken rules are collected. Clones share one list.
#[derive(Debug, Clone, Default)]
pub struct Violations {
    list: Arc<Mutex<Vec<Violation>>>,
}

/// More are not needed to understand a run.
const MOST: usize = 20;

impl Violations {
    pub fn add(&self, check: Check, text: impl Into<String>) {
        let mut list = self.list.lock().unwrap();
        if list.len() < MOST {
            list.push(Violation { check, text: text.into() });
        }
    }

    pub fn list(&self) -> Vec<Violation> {
        self.list.lock().unwrap().clone()
    }
}
