//! Sessions: the liveness of clients.

use super::{Coordinator, CoordinatorError};
use crate::types::{SessionId, SessionName};

impl Coordinator {
    /// The session that is called so.
    ///
    /// # Errors
    /// When it is one of another cluster.
    pub fn session(&self, name: &SessionName) -> Result<SessionId, CoordinatorError> {
        let state = self.state();
        let is_ours = state.cluster().is_none_or(|cluster| name.is_of(cluster));
        if is_ours { Ok(name.session) } else { Err(CoordinatorError::ForeignSession(name.clone())) }
    }

    /// What a session is called, once the cluster is founded.
    pub fn session_name(&self, session: SessionId) -> Option<SessionName> {
        self.state().cluster().map(|cluster| SessionName::new(cluster, session))
    }
}
