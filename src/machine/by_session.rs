//! What each session has of one kind. Always derived from the rows of a table, never stored.

use imbl::{OrdMap, OrdSet};

use crate::types::SessionId;

/// An index of things by the session that they end with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BySession<T: Ord + Clone>(OrdMap<SessionId, OrdSet<T>>);

impl<T: Ord + Clone> BySession<T> {
    /// What a session has, in order.
    pub(super) fn of(&self, session: SessionId) -> impl Iterator<Item = &T> {
        self.0.get(&session).into_iter().flatten()
    }

    /// How much a session has.
    pub(super) fn count(&self, session: SessionId) -> usize {
        self.0.get(&session).map_or(0, OrdSet::len)
    }

    pub(super) fn add(&mut self, session: SessionId, thing: T) {
        self.0.entry(session).or_default().insert(thing);
    }

    pub(super) fn remove(&mut self, session: SessionId, thing: &T) {
        let left = self.0.remove(&session).map(|things| things.without(thing));
        if let Some(left) = left.filter(|left| !left.is_empty()) {
            self.0.insert(session, left);
        }
    }
}

impl<T: Ord + Clone> Default for BySession<T> {
    fn default() -> Self {
        Self(OrdMap::new())
    }
}

impl<T: Ord + Clone> FromIterator<(SessionId, T)> for BySession<T> {
    fn from_iter<I: IntoIterator<Item = (SessionId, T)>>(rows: I) -> Self {
        let mut index = Self::default();
        rows.into_iter().for_each(|(session, thing)| index.add(session, thing));
        index
    }
}
