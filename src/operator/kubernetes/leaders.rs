//! Pure: who leads an election, as statuses, labels and Leases tell it, and what became of telling it.

use std::collections::{BTreeMap, BTreeSet};

use super::error::Trouble;
use super::index::ObjectKey;
use crate::machine::Machine;
use crate::machine::command::ContestId;
use crate::machine::contest::{ClaimRecord, Grant};
use crate::operator::resources::{KeptLease, LeaderLabel};
use crate::types::{FencingToken, Timestamp};

/// One who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) candidate: Option<String>,
    /// The pod that it says it is in.
    pub(super) pod: Option<String>,
    pub(super) token: FencingToken,
    pub(super) since: Timestamp,
}

/// What an election has done to other objects, as far as that was declared.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Marks {
    pub(super) election: ContestId,
    /// Of the resource: another one is another life of the same name.
    pub(super) uid: String,
    pub(super) label: Option<LeaderLabel>,
    pub(super) lease: Option<KeptLease>,
}

/// By the election's resource.
pub(super) type AllMarks = BTreeMap<ObjectKey, Marks>;

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marked {
    /// The leaders' pods that bear the label.
    pub(super) pods: BTreeSet<String>,
    /// What leaders call their pods of which there is none that is selected.
    pub(super) nowhere: BTreeSet<String>,
    pub(super) trouble: Option<Trouble>,
}

/// By the election's resource.
pub(super) type AllMarked = BTreeMap<ObjectKey, Marked>;

/// In their claims, candidates name their pod under this key when they are not called like it.
const POD: &str = "pod";

/// Who leads, the oldest grant first.
pub(super) fn leaders(state: &Machine, election: &ContestId) -> Vec<Leader> {
    let leader = |(grant, claim): (Grant, &ClaimRecord)| {
        let candidate = claim.candidate.as_ref().map(ToString::to_string);
        let pod = claim.metadata.get(POD).cloned().or_else(|| candidate.clone());
        Leader { candidate, pod, token: grant.token, since: grant.since }
    };
    state.contests().holders(election).map(leader).collect()
}
