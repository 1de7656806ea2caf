//! One command on its way: the revisions that it takes, and what it changes in each.
//!
//! A command that changes something takes one revision. One that makes several grants takes a revision for each of them,
//! because the revision of a grant is its fencing token, and no two grants may have the same.

use std::sync::Arc;

use super::event::{Change, Event};
use crate::types::{FencingToken, LogIndex, Revision, Timestamp};

/// What a command has done so far.
pub(super) struct Turn {
    pub(super) index: LogIndex,
    pub(super) at: Timestamp,
    /// The revision of the next change.
    pub(super) revision: Revision,
    /// What was changed in that revision.
    pub(super) changes: Vec<Change>,
    granted: bool,
    earlier: Vec<Arc<Event>>,
}

impl Turn {
    /// A command that comes when the state is at `present`.
    pub(super) fn new(index: LogIndex, at: Timestamp, present: Revision) -> Self {
        Self { index, at, revision: present.next(), changes: Vec::new(), granted: false, earlier: Vec::new() }
    }

    /// The token of a grant that is told next.
    pub(super) fn token(&mut self) -> FencingToken {
        if self.granted {
            self.close();
        }
        self.granted = true;
        FencingToken::new(self.revision.get())
    }

    /// Everything that the command changed, revision by revision.
    pub(super) fn finish(mut self) -> Vec<Arc<Event>> {
        if !self.changes.is_empty() {
            self.close();
        }
        self.earlier
    }

    fn close(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        self.earlier.push(Arc::new(Event { revision: self.revision, at: self.at, changes }));
        self.revision = self.revision.next();
        self.granted = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SessionId;

    #[test]
    fn a_second_grant_begins_a_revision_of_its_own() {
        let mut turn = Turn::new(LogIndex::new(9), Timestamp::default(), Revision::new(4));
        let change = |session: u64| Change::SessionCreated { session: SessionId::new(session) };
        turn.changes.push(change(1));
        assert_eq!(turn.token(), FencingToken::new(5));
        turn.changes.push(change(2));
        assert_eq!(turn.token(), FencingToken::new(6));
        turn.changes.push(change(3));
        let events: Vec<_> = turn.finish().iter().map(|event| (event.revision, event.changes.clone())).collect();
        let expected = [(5, vec![change(1), change(2)]), (6, vec![change(3)])];
        assert_eq!(events, expected.map(|(revision, changes)| (Revision::new(revision), changes)));
    }

    #[test]
    fn a_command_that_changes_nothing_takes_no_revision() {
        assert!(Turn::new(LogIndex::new(9), Timestamp::default(), Revision::new(4)).finish().is_empty());
    }
}
