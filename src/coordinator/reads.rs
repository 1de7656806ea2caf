//! Reads: which state a call is answered from.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::{Coordinator, CoordinatorError};
use crate::machine::Machine;
use crate::raft::Unavailable;
use crate::types::Revision;

/// How new the state must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Everything that was committed before the call, confirmed by a quorum.
    #[default]
    Linearizable,
    /// What this member has, at once.
    Stale,
}

/// How to read.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    pub consistency: Consistency,
    /// Wait until this revision is there.
    pub min_revision: Option<Revision>,
    pub deadline: Instant,
}

impl Coordinator {
    /// A state that is as new as asked for. All that is read from it belongs to one revision.
    ///
    /// # Errors
    /// When leadership could not be confirmed, or the revision did not come, before the deadline.
    pub async fn read(&self, read: Read) -> Result<Arc<Machine>, CoordinatorError> {
        let _permit = self.admit()?;
        let state = match read.consistency {
            Consistency::Linearizable => self.raft.read(read.deadline).await.map_err(CoordinatorError::NotDone)?,
            Consistency::Stale => self.raft.state(),
        };
        match read.min_revision {
            Some(wanted) if state.revision() < wanted => self.wait_for(wanted, read.deadline).await,
            Some(_) | None => Ok(state),
        }
    }

    /// The newest state of this member. Never waits.
    pub fn state(&self) -> Arc<Machine> {
        self.raft.state()
    }

    async fn wait_for(&self, wanted: Revision, deadline: Instant) -> Result<Arc<Machine>, CoordinatorError> {
        let mut changes = self.raft.state_changes();
        let arrived = timeout_at(deadline, changes.wait_for(|state| state.revision() >= wanted)).await;
        match arrived {
            Ok(Ok(state)) => Ok(Arc::clone(&state)),
            Ok(Err(_)) => Err(CoordinatorError::NotDone(Unavailable::Stopping)),
            Err(_) => Err(CoordinatorError::NotThereYet { wanted, present: self.raft.state().revision() }),
        }
    }
}
