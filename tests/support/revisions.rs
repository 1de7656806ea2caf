//! What every client can tell about revisions, over all keys: none is given twice, and a change that begins after another
//! was acknowledged has the greater one.

use std::collections::BTreeMap;

use super::history::{Operation, Reply, SeenRevision};

/// The revision in which the operation took effect, if it is known to have changed something.
pub fn revision_of(operation: &Operation) -> Option<SeenRevision> {
    match operation.reply {
        Reply::Put { revision } | Reply::Deleted { existed: true, revision } => Some(revision),
        Reply::Deleted { existed: false, .. } | Reply::Mismatch { .. } | Reply::Got(_) | Reply::Unknown => None,
    }
}

/// # Errors
/// With a sentence about the first two changes that contradict each other.
pub fn check(operations: &[Operation]) -> Result<(), String> {
    let changes: Vec<_> =
        operations.iter().filter_map(|operation| Some((revision_of(operation)?, operation))).collect();
    let mut given = BTreeMap::new();
    for (revision, operation) in &changes {
        if let Some(other) = given.insert(*revision, *operation) {
            return Err(format!("revision {revision} was given twice:\n  {other:?}\n  {operation:?}"));
        }
    }
    // Every change with the moment at which its floor is taken (its call) or given (its return).
    let mut moments = BTreeMap::new();
    for (revision, operation) in &changes {
        moments.insert(operation.invoked, (None, *operation));
        moments.insert(operation.returned.expect("a known revision was returned"), (Some(*revision), *operation));
    }
    let mut acknowledged = 0;
    for (revision, operation) in moments.into_values() {
        match revision {
            Some(revision) => acknowledged = acknowledged.max(revision),
            None => {
                let own = revision_of(operation).expect("only changes are here");
                if own <= acknowledged {
                    return Err(format!(
                        "revision {acknowledged} was acknowledged before this was asked: {operation:?}"
                    ));
                }
            }
        }
    }
    Ok(())
}
