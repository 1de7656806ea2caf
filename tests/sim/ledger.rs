//! The history of the cluster, as its members tell it: what changed at each revision, and which digest followed from which
//! entry of the log. Members that tell it differently disagree, and what clients saw must be in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use quorate::machine::event::Change;
use quorate::machine::{Digest, Machine};
use quorate::types::{Key, Leadership, LogIndex, Revision};
use quorate::watch::Notice;

use crate::counts::Counts;
use crate::support::history::{Operation, Reply, Seen};
use crate::support::revisions::revision_of;
use crate::violation::{Check, Violations};

/// Clones share one ledger.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Mutex<Inner>>,
    violations: Violations,
}

#[derive(Default)]
struct Inner {
    changes: BTreeMap<Revision, Vec<Change>>,
    digests: BTreeMap<LogIndex, Digest>,
    reads: Vec<StateRead>,
    duties: Vec<(Leadership, Revision)>,
}

/// What somebody found in a member's state.
#[derive(Debug, Clone)]
pub struct StateRead {
    pub member: usize,
    pub key: Key,
    pub revision: Revision,
    pub seen: Option<Seen>,
}

impl Ledger {
    pub fn new(violations: &Violations) -> Self {
        Self { inner: Arc::default(), violations: violations.clone() }
    }

    /// A member tells what changed.
    pub fn tell(&self, member: usize, notice: Notice) {
        let Notice { revision, changes, .. } = notice;
        let mut inner = self.inner();
        let first = inner.changes.entry(revision).or_insert_with(|| changes.clone());
        if *first != changes {
            let text = format!("at revision {revision} member {member} applied {changes:?}, another one {first:?}");
            self.violations.add(Check::Agreement, text);
        }
    }

    /// A member shows its state.
    pub fn show(&self, member: usize, machine: &Machine) {
        let Some(applied) = machine.applied() else { return };
        let digest = machine.digest();
        let mut inner = self.inner();
        let first = *inner.digests.entry(applied).or_insert(digest);
        if first != digest {
            let text = format!("with entry {applied} member {member} has digest {digest:?}, another one {first:?}");
            self.violations.add(Check::Digest, text);
        }
    }

    /// Somebody has read a key.
    pub fn read(&self, read: StateRead) {
        self.inner().reads.push(read);
    }

    /// A duty's command that was decided in `leadership` took effect.
    pub fn duty_done(&self, leadership: Leadership, revision: Revision) {
        self.inner().duties.push((leadership, revision));
    }

    /// Holds everything that clients saw against the history.
    pub fn judge(&self, operations: &[Operation]) {
        let inner = self.inner();
        for operation in operations {
            if let Some(revision) = revision_of(operation)
                && !inner.has(revision, operation)
            {
                let changes = inner.changes.get(&Revision::new(revision));
                self.violations.add(Check::Acknowledged, format!("{operation:?}, but the history has {changes:?}"));
            }
        }
        for StateRead { member, key, revision, seen } in &inner.reads {
            let expected = inner.at(key, *revision);
            if *seen != expected {
                let text = format!("member {member} showed {seen:?} as {key} at {revision}, the history {expected:?}");
                self.violations.add(Check::Reads, text);
            }
        }
        for (leadership, revision) in &inner.duties {
            let newest = inner.leadership_at(*revision);
            if newest != Some(*leadership) {
                let text = format!("decided in leadership {leadership}, done at revision {revision} in {newest:?}");
                self.violations.add(Check::DutyInItsLeadership, text);
            }
        }
    }

    /// Adds what the history says about the run.
    pub fn count(&self, counts: &mut Counts) {
        let inner = self.inner();
        let all = inner.changes.values().flatten();
        counts.leaderships += all.filter(|change| matches!(change, Change::LeadershipBegun { .. })).count() as u64;
        counts.duties_done += inner.duties.len() as u64;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

impl Inner {
    /// Whether the operation changed its key at `revision` as its client was told.
    fn has(&self, revision: u64, operation: &Operation) -> bool {
        let Some(changes) = self.changes.get(&Revision::new(revision)) else { return false };
        changes.iter().any(|change| match (change, operation.reply) {
            (Change::KeyPut { key, value, .. }, Reply::Put { .. }) => {
                key.as_str() == operation.key && operation.call.value() == Some(crate::client::value_id(value))
            }
            (Change::KeyDeleted { key }, Reply::Deleted { .. }) => key.as_str() == operation.key,
            _ => false,
        })
    }

    /// What a key was at a revision.
    fn at(&self, key: &Key, revision: Revision) -> Option<Seen> {
        let changes = self.changes.range(..=revision).rev();
        let of_key = changes.flat_map(|(revision, changes)| changes.iter().map(move |change| (*revision, change)));
        for (revision, change) in of_key {
            match change {
                Change::KeyPut { key: changed, value, .. } if changed == key => {
                    return Some(Seen { value: crate::client::value_id(value), revision: revision.get() });
                }
                Change::KeyDeleted { key: changed } if changed == key => return None,
                _ => {}
            }
        }
        None
    }

    /// The newest leadership at a revision.
    fn leadership_at(&self, revision: Revision) -> Option<Leadership> {
        self.changes.range(..=revision).rev().flat_map(|(_, changes)| changes).find_map(|change| match change {
            Change::LeadershipBegun { leadership, .. } => Some(*leadership),
            _ => None,
        })
    }
}
