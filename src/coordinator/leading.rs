//! Whether this member leads: what work that only the Raft leader does waits for, and what ends it.

use futures::future::pending;

use super::Coordinator;
use crate::types::Leadership;

impl Coordinator {
    /// This member's leadership, once its first command is applied and as long as it knows of no other Raft leader.
    pub fn own_leadership(&self) -> Option<Leadership> {
        self.raft.own_leadership()
    }

    /// The same while a quorum keeps to it. A Raft leader that is cut off from its peers, but not from the rest of the world,
    /// does nothing there any more before a next one can begin.
    pub fn kept_leadership(&self) -> Option<Leadership> {
        self.raft.kept_leadership()
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

    /// Does `work` in each leadership of this member, from its beginning on; drops it where it waits when the leadership
    /// ends. Never returns.
    pub async fn in_each_leadership<F: Future<Output = ()>>(&self, work: impl Fn(Leadership) -> F) {
        let mut present = self.own_leadership();
        loop {
            let changed = self.own_leadership_changes(present);
            present = match present {
                None => changed.await,
                Some(leadership) => tokio::select! {
                    biased;
                    next = changed => next,
                    () = work(leadership) => None,
                },
            };
        }
    }
}
