//! Whether this member leads: what work that only the Raft leader does waits for, and what ends it.

use futures::future::pending;

use super::Coordinator;
use crate::raft::RaftRole;
use crate::types::Leadership;

impl Coordinator {
    /// This member's leadership, once its first command is applied and as long as it knows of no other Raft leader.
    pub fn own_leadership(&self) -> Option<Leadership> {
        let (status, state) = (self.raft.status(), self.raft.state());
        let begun = state.leadership()?;
        let leads = status.role == RaftRole::Leader && status.member == Some(begun.member) && status.term == begun.term;
        leads.then_some(begun.leadership)
    }

    /// Waits until this member's leadership is another than `known`.
    pub async fn own_leadership_changes(&self, known: Option<Leadership>) -> Option<Leadership> {
        let (mut status, mut state) = (self.raft.status_changes(), self.raft.state_changes());
        loop {
            // Marked as seen before they are read, so that a change in between is not missed.
            status.mark_unchanged();
            state.mark_unchanged();
            let present = self.own_leadership();
            if present != known {
                return present;
            }
            let changed = tokio::select! {
                changed = status.changed() => changed,
                changed = state.changed() => changed,
            };
            if changed.is_err() {
                // The member's Raft is gone, and nothing changes any more.
                pending::<()>().await;
            }
        }
    }
}
