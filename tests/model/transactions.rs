//! Transactions on keys, in the manner of the model.

use quorate::machine::command::{Action, Command, Compare, CompareTarget, KeyOperation, Relation, Transaction};
use quorate::machine::event::Change;
use quorate::machine::keys::KeyRecord;
use quorate::machine::outcome::{Effect, KeyMeta, Measured, OperationResult, Rejection};
use quorate::types::{Key, Revision, SessionId, Version};

use super::model::{Draft, Model, Moment, at_most};

impl Model {
    pub fn draft_transaction(&self, transaction: &Transaction, used: u64) -> Draft {
        let Transaction { compare, success, failure } = transaction;
        let count = compare.len() + success.len() + failure.len();
        at_most(Measured::Operations, count as u64, self.bounds.operations)?;
        for branch in [success, failure] {
            self.check_branch(branch)?;
        }
        let succeeded = compare.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { success } else { failure };
        for operation in branch {
            if let KeyOperation::Put { session: Some(session), .. } = operation {
                self.holdings.alive(*session)?;
            }
        }
        if branch.iter().any(|operation| matches!(operation, KeyOperation::Put { .. })) {
            self.room(used)?;
        }
        let (mut keys, mut changes, mut results) = (self.keys.clone(), Vec::new(), Vec::new());
        for operation in branch {
            results.push(match operation {
                KeyOperation::Get(key) => {
                    OperationResult::Got(keys.get(key).map(|record| (record.meta, record.value.clone())))
                }
                KeyOperation::Put { key, value, session } => {
                    let meta = put(&keys, key, self.revision.next());
                    keys.insert(key.clone(), KeyRecord { meta, value: value.clone(), session: *session });
                    changes.push(Change::KeyPut { key: key.clone(), meta, value: value.clone() });
                    OperationResult::Put(meta)
                }
                KeyOperation::Delete(key) => {
                    let before = keys.remove(key).map(|record| record.meta);
                    changes.extend(before.map(|_| Change::KeyDeleted { key: key.clone() }));
                    OperationResult::Deleted(before)
                }
            });
        }
        Ok((Effect::Transacted { succeeded, results }, changes))
    }

    fn check_branch(&self, branch: &[KeyOperation]) -> Result<(), Rejection> {
        let mut written: Vec<&Key> = Vec::new();
        for operation in branch {
            let key = match operation {
                KeyOperation::Get(_) => continue,
                KeyOperation::Put { key, value, session: _ } => {
                    at_most(Measured::ValueBytes, value.len() as u64, self.bounds.value_bytes)?;
                    key
                }
                KeyOperation::Delete(key) => key,
            };
            if written.contains(&key) {
                return Err(Rejection::WrittenTwice { key: key.clone() });
            }
            written.push(key);
        }
        Ok(())
    }

    fn holds(&self, compare: &Compare) -> bool {
        let (key, relation, target) = match compare {
            Compare::Key { key, relation, target } => (key, relation, target),
            Compare::Fence(fence) => return self.holdings.is_current(fence),
        };
        let present = self.keys.get(key);
        let meta = present.map(|record| record.meta);
        let ordering = match target {
            CompareTarget::Version(version) => meta.map_or(0, |m| m.version.get()).cmp(&version.get()),
            CompareTarget::CreateRevision(revision) => meta.map_or(0, |m| m.create_revision.get()).cmp(&revision.get()),
            CompareTarget::ModRevision(revision) => meta.map_or(0, |m| m.mod_revision.get()).cmp(&revision.get()),
            CompareTarget::Value(value) => match present {
                None => return false,
                Some(there) => there.value.as_ref().cmp(value.as_ref()),
            },
        };
        match relation {
            Relation::Equal => ordering.is_eq(),
            Relation::NotEqual => !ordering.is_eq(),
            Relation::Less => ordering.is_lt(),
            Relation::Greater => ordering.is_gt(),
        }
    }
}

pub fn put(keys: &Moment, key: &Key, revision: Revision) -> KeyMeta {
    match keys.get(key) {
        None => KeyMeta { create_revision: revision, mod_revision: revision, version: Version::new(1) },
        Some(KeyRecord { meta, .. }) => {
            let version = Version::new(meta.version.get() + 1);
            KeyMeta { create_revision: meta.create_revision, mod_revision: revision, version }
        }
    }
}

/// The session that a key was put with, which no event tells.
pub fn session_of(key: &Key, command: &Command, effect: &Effect) -> Option<SessionId> {
    match (&command.action, effect) {
        (Action::PutKey { session, .. }, _) => *session,
        (Action::Transact(transaction), Effect::Transacted { succeeded, .. }) => {
            let branch = if *succeeded { &transaction.success } else { &transaction.failure };
            branch.iter().find_map(|operation| match operation {
                KeyOperation::Put { key: written, session, .. } if written == key => *session,
                KeyOperation::Put { .. } | KeyOperation::Get(_) | KeyOperation::Delete(_) => None,
            })
        }
        other => panic!("{other:?} put a key"),
    }
}
