//! Transactions on keys: compare, then do one of two lists, all in one revision or not at all.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::command::{Compare, CompareTarget, KeyOperation, Relation, Transaction};
use super::contest::Contests;
use super::event::Change;
use super::keys::{KeyRecord, Keys};
use super::limits::Limits;
use super::outcome::{Effect, KeyMeta, Measured, OperationResult, Outcome, Rejection};
use super::turn::Turn;
use crate::types::{Key, SessionId};

/// Whether a transaction is one that may be tried.
pub(super) fn validate(transaction: &Transaction, limits: &Limits) -> Result<(), Rejection> {
    let Transaction { compare, success, failure } = transaction;
    let count = (compare.len() + success.len() + failure.len()) as u64;
    if count > limits.operations {
        return Err(Rejection::TooLarge { what: Measured::Operations, actual: count, limit: limits.operations });
    }
    for branch in [success, failure] {
        let mut written = BTreeSet::new();
        for operation in branch {
            let (key, bytes) = match operation {
                KeyOperation::Get(_) => continue,
                KeyOperation::Put { key, value, session: _ } => (key, value.len() as u64),
                KeyOperation::Delete(key) => (key, 0),
            };
            limits.check_value(bytes)?;
            if !written.insert(key) {
                return Err(Rejection::WrittenTwice { key: key.clone() });
            }
        }
    }
    Ok(())
}

/// Which operations are to be done: those of the branch that the compares choose.
pub(super) fn choose<'a>(transaction: &'a Transaction, keys: &Keys, contests: &Contests) -> (bool, &'a [KeyOperation]) {
    let holds = |compare: &Compare| match compare {
        Compare::Key { key, relation, target } => key_compares(keys.get(key), *relation, target),
        Compare::Fence(fence) => contests.is_current(fence),
    };
    if transaction.compare.iter().all(holds) { (true, &transaction.success) } else { (false, &transaction.failure) }
}

/// Does the operations of the chosen branch.
pub(super) fn execute(succeeded: bool, operations: &[KeyOperation], keys: &mut Keys, turn: &mut Turn) -> Outcome {
    let results = operations.iter().map(|operation| match operation {
        KeyOperation::Get(key) => OperationResult::Got(keys.get(key).map(|record| (record.meta, record.value.clone()))),
        KeyOperation::Put { key, value, session } => OperationResult::Put(put(key, value, *session, keys, turn)),
        KeyOperation::Delete(key) => OperationResult::Deleted(delete(key, keys, turn)),
    });
    Ok(Effect::Transacted { succeeded, results: results.collect() })
}

/// Sets a key and tells of it.
pub(super) fn put(key: &Key, value: &Bytes, session: Option<SessionId>, keys: &mut Keys, turn: &mut Turn) -> KeyMeta {
    let KeyRecord { meta, value, session: _ } = keys.put(key, value, session, turn.revision);
    turn.changes.push(Change::KeyPut { key: key.clone(), meta, value });
    meta
}

/// Deletes a key, if it is there, and tells of it.
pub(super) fn delete(key: &Key, keys: &mut Keys, turn: &mut Turn) -> Option<KeyMeta> {
    let meta = keys.delete(key, turn.revision)?;
    turn.changes.push(Change::KeyDeleted { key: key.clone() });
    Some(meta)
}

fn key_compares(record: Option<&KeyRecord>, relation: Relation, target: &CompareTarget) -> bool {
    let ordering = match target {
        CompareTarget::Version(version) => record.map(|r| r.meta.version).unwrap_or_default().cmp(version),
        CompareTarget::CreateRevision(revision) => {
            record.map(|r| r.meta.create_revision).unwrap_or_default().cmp(revision)
        }
        CompareTarget::ModRevision(revision) => record.map(|r| r.meta.mod_revision).unwrap_or_default().cmp(revision),
        // As in etcd, an absent key has no value and compares with none.
        CompareTarget::Value(value) => match record {
            Some(record) => record.value.cmp(value),
            None => return false,
        },
    };
    match relation {
        Relation::Equal => ordering.is_eq(),
        Relation::NotEqual => ordering.is_ne(),
        Relation::Less => ordering.is_lt(),
        Relation::Greater => ordering.is_gt(),
    }
}

/// The sessions that keys are to end with, all of which must live.
pub(super) fn sessions(operations: &[KeyOperation]) -> impl Iterator<Item = SessionId> {
    operations.iter().filter_map(|operation| match operation {
        KeyOperation::Put { session, .. } => *session,
        KeyOperation::Get(_) | KeyOperation::Delete(_) => None,
    })
}

/// Whether the operations can make the state larger.
pub(super) fn grows(operations: &[KeyOperation]) -> bool {
    operations.iter().any(|operation| matches!(operation, KeyOperation::Put { .. }))
}
