//! Keys: small metadata.

use bytes::Bytes;

use super::{Coordinator, CoordinatorError, Write, Written};
use crate::machine::command::{Action, KeyCondition, Transaction};
use crate::machine::outcome::{Effect, KeyMeta, OperationResult};
use crate::types::{Key, SessionId};

/// What a transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transacted {
    /// Whether every compare held, so that `success` was done.
    pub succeeded: bool,
    pub results: Vec<OperationResult>,
}

impl Coordinator {
    /// Sets a key, to end with `session` if there is one.
    ///
    /// # Errors
    /// When the condition does not hold, the value or the state is too large, or the cluster cannot do it now.
    pub async fn put_key(
        &self,
        key: Key,
        value: Bytes,
        session: Option<SessionId>,
        only_if: KeyCondition,
        write: Write,
    ) -> Result<Written<KeyMeta>, CoordinatorError> {
        let written = self.propose(Action::PutKey { key, value, session, only_if }, write).await?;
        Ok(written.map(|effect| if let Effect::KeyPut(meta) = effect { Some(meta) } else { None }))
    }

    /// Deletes a key; its numbers as they were, or `None` when there was none.
    ///
    /// # Errors
    /// When the condition does not hold, or the cluster cannot do it now.
    pub async fn delete_key(
        &self,
        key: Key,
        only_if: KeyCondition,
        write: Write,
    ) -> Result<Written<Option<KeyMeta>>, CoordinatorError> {
        let written = self.propose(Action::DeleteKey { key, only_if }, write).await?;
        Ok(written.map(|effect| if let Effect::KeyDeleted(meta) = effect { Some(meta) } else { None }))
    }

    /// Compares, then does one of two lists of operations, all in one revision.
    ///
    /// # Errors
    /// When the transaction is too large or writes a key twice, or the cluster cannot do it now.
    pub async fn transact(
        &self,
        transaction: Transaction,
        write: Write,
    ) -> Result<Written<Transacted>, CoordinatorError> {
        let written = self.propose(Action::Transact(transaction), write).await?;
        Ok(written.map(|effect| {
            let Effect::Transacted { succeeded, results } = effect else { return None };
            Some(Transacted { succeeded, results })
        }))
    }
}
