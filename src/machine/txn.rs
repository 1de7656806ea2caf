//! Transactions on keys: compare, then do one of two lists, all in one revision or not at all.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::command::{Compare, CompareTarget, KeyOperation, Relation, Transaction};
use super::event::Change;
use super::keys::{KeyRecord, Keys};
use super::limits::Limits;
use super::outcome::{Effect, KeyMeta, Measured, OperationResult, Outcome, Rejection};
use crate::types::{Key, Revision};

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
                KeyOperation::Put { key, value } => (key, value.len() as u64),
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
pub(super) fn choose<'a>(transaction: &'a Transaction, keys: &Keys) -> (bool, &'a [KeyOperation]) {
    if transaction.compare.iter().all(|compare| holds(compare, keys.get(&compare.key))) {
        (true, &transaction.success)
    } else {
        (false, &transaction.failure)
    }
}

/// Does the operations of the chosen branch in `revision`.
pub(super) fn execute(
    succeeded: bool,
    operations: &[KeyOperation],
    keys: &mut Keys,
    revision: Revision,
    changes: &mut Vec<Change>,
) -> Outcome {
    let results = operations.iter().map(|operation| match operation {
        KeyOperation::Get(key) => OperationResult::Got(keys.get(key).map(|record| (record.meta, record.value.clone()))),
        KeyOperation::Put { key, value } => OperationResult::Put(put(key, value, keys, revision, changes)),
        KeyOperation::Delete(key) => OperationResult::Deleted(delete(key, keys, revision, changes)),
    });
    Ok(Effect::Transacted { succeeded, results: results.collect() })
}

/// Sets a key and tells of it.
pub(super) fn put(key: &Key, value: &Bytes, keys: &mut Keys, revision: Revision, changes: &mut Vec<Change>) -> KeyMeta {
    let KeyRecord { meta, value } = keys.put(key, value, revision);
    changes.push(Change::KeyPut { key: key.clone(), meta, value });
    meta
}

/// Deletes a key, if it is there, and tells of it.
pub(super) fn delete(key: &Key, keys: &mut Keys, revision: Revision, changes: &mut Vec<Change>) -> Option<KeyMeta> {
    let meta = keys.delete(key, revision)?;
    changes.push(Change::KeyDeleted { key: key.clone() });
    Some(meta)
}

fn holds(compare: &Compare, record: Option<&KeyRecord>) -> bool {
    let ordering = match &compare.target {
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
    match compare.relation {
        Relation::Equal => ordering.is_eq(),
        Relation::NotEqual => ordering.is_ne(),
        Relation::Less => ordering.is_lt(),
        Relation::Greater => ordering.is_gt(),
    }
}

/// Whether the operations can make the state larger.
pub(super) fn grows(operations: &[KeyOperation]) -> bool {
    operations.iter().any(|operation| matches!(operation, KeyOperation::Put { .. }))
}
