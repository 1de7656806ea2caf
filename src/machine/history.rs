//! The window into the past: what each key was before each change.
//!
//! A read at revision N takes what the key was before its first change after N; without such a change, what it is now.
//! The window is bounded by revisions and by bytes, so that it moves by the commands alone and is the same everywhere.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use thiserror::Error;

use super::codec::{decode_key_record, encode_key_record};
use super::keys::KeyRecord;
use super::table::{Schema, Table};
use crate::encoding::{DecodeError, Reader, Writer, fields, required};
use crate::types::{Key, Revision};

/// Why a past revision cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OutsideHistory {
    #[error("revision {asked} is compacted: the oldest that can be read is {oldest}")]
    Compacted { asked: Revision, oldest: Revision },
    #[error("revision {asked} is in the future: the cluster is at {present}")]
    Future { asked: Revision, present: Revision },
}

/// What one key was before one revision changed it.
pub(super) struct UndoRows;

impl Schema for UndoRows {
    type Key = (Arc<str>, Revision);
    type Value = Option<KeyRecord>;
    const NUMBER: u32 = 4;

    fn encode((key, revision): &Self::Key, before: &Self::Value, writer: &mut Writer) {
        writer.text(1, key);
        writer.number(2, revision.get());
        if let Some(record) = before {
            writer.nested(3, |writer| encode_key_record(record, writer));
        }
    }

    fn decode(mut reader: Reader) -> Result<(Self::Key, Self::Value), DecodeError> {
        fields!(reader => 1 key: parse, 2 revision: number, 3 before: bytes);
        let key: Key = required(key, "key")?;
        let before = before.map(|bytes| decode_key_record(Reader::new(bytes))).transpose()?;
        Ok(((key.shared(), Revision::new(required(revision, "revision")?)), before))
    }
}

/// The undo table and its index by revision.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    undo: Table<UndoRows>,
    /// Which keys each revision changed; derived from the table.
    changed: OrdMap<Revision, Arc<Vec<Arc<str>>>>,
    /// The oldest revision that can still be read.
    oldest: Revision,
}

impl History {
    /// Remembers what `key` was before `revision` changed it.
    pub(super) fn record(&mut self, key: &Key, revision: Revision, before: Option<KeyRecord>) {
        self.undo.insert((key.shared(), revision), before);
        self.index(revision, key.shared());
    }

    fn index(&mut self, revision: Revision, key: Arc<str>) {
        Arc::make_mut(self.changed.entry(revision).or_default()).push(key);
    }

    /// Drops what only reads before `through` need.
    pub(super) fn compact(&mut self, through: Revision) {
        while let Some((revision, keys)) = self.changed.get_min().filter(|(revision, _)| *revision <= through).cloned()
        {
            for key in keys.iter() {
                self.undo.remove(&(Arc::clone(key), revision));
            }
            self.changed.remove(&revision);
        }
        self.oldest = self.oldest.max(through);
    }

    /// Drops the oldest changes until at most `revisions` and `bytes` are kept.
    pub(super) fn trim(&mut self, revisions: usize, bytes: u64) {
        while self.changed.len() > revisions || self.undo.bytes() > bytes {
            let Some((oldest, _)) = self.changed.get_min() else { return };
            let through = *oldest;
            self.compact(through);
        }
    }

    pub(super) fn oldest(&self) -> Revision {
        self.oldest
    }

    pub(super) fn table(&self) -> &Table<UndoRows> {
        &self.undo
    }

    /// Whether `revision` can be read when the present is `present`.
    pub(super) fn admit(&self, asked: Revision, present: Revision) -> Result<(), OutsideHistory> {
        if asked < self.oldest {
            Err(OutsideHistory::Compacted { asked, oldest: self.oldest })
        } else if asked > present {
            Err(OutsideHistory::Future { asked, present })
        } else {
            Ok(())
        }
    }

    /// What `key` was at `revision`, when it has changed since; `None` when it has not.
    pub(super) fn before(&self, key: &str, revision: Revision) -> Option<&Option<KeyRecord>> {
        let after = (Bound::Excluded((key.into(), revision)), Bound::Included((key.into(), Revision::new(u64::MAX))));
        self.undo.range(after).next().map(|(_, before)| before)
    }

    /// For each key from `first` on, while `inside` holds, that changed after `revision`: what it was then.
    pub(super) fn range_before(
        &self,
        first: &str,
        inside: impl Fn(&str) -> bool,
        revision: Revision,
    ) -> BTreeMap<&str, &Option<KeyRecord>> {
        let mut found = BTreeMap::new();
        for ((key, changed), before) in self.undo.range((first.into(), Revision::ZERO)..) {
            if !inside(key) {
                break;
            }
            if *changed > revision {
                found.entry(&**key).or_insert(before);
            }
        }
        found
    }

    /// Puts a row of a snapshot back.
    pub(super) fn load(&mut self, row: bytes::Bytes) -> Result<(), DecodeError> {
        self.undo.load(row)
    }

    /// Makes what is derived, once every row of a snapshot is back.
    pub(super) fn finish_loading(&mut self, oldest: Revision) {
        self.oldest = oldest;
        let rows: Vec<_> = self.undo.iter().map(|((key, revision), _)| (key.clone(), *revision)).collect();
        for (key, revision) in rows {
            self.index(revision, key);
        }
    }

    /// Whether the index says the same as the table, and nothing is older than the window.
    pub(super) fn is_consistent(&self) -> bool {
        let indexed: usize = self.changed.values().map(|keys| keys.len()).sum();
        indexed == self.undo.len() && self.changed.get_min().is_none_or(|(revision, _)| *revision > self.oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::outcome::KeyMeta;
    use crate::types::Version;

    fn record(revision: u64) -> KeyRecord {
        let revision = Revision::new(revision);
        let meta = KeyMeta { create_revision: revision, mod_revision: revision, version: Version::new(1) };
        KeyRecord { meta, value: vec![7; 100].into(), session: None }
    }

    /// Key `a` made at revision 1, changed at 3 and 5.
    fn history() -> History {
        let (mut history, key) = (History::default(), "a".parse().unwrap());
        history.record(&key, Revision::new(1), None);
        history.record(&key, Revision::new(3), Some(record(1)));
        history.record(&key, Revision::new(5), Some(record(3)));
        history
    }

    fn made_at(history: &History, revision: u64) -> Option<Option<u64>> {
        let before = history.before("a", Revision::new(revision));
        before.map(|record| record.as_ref().map(|record| record.meta.mod_revision.get()))
    }

    #[test]
    fn a_read_takes_what_the_key_was_before_its_next_change() {
        let history = history();
        let read: Vec<_> = (0..7).map(|revision| made_at(&history, revision)).collect();
        assert_eq!(read, [Some(None), Some(Some(1)), Some(Some(1)), Some(Some(3)), Some(Some(3)), None, None]);
        assert_eq!(history.before("b", Revision::ZERO), None);
    }

    #[test]
    fn compacting_keeps_the_named_revision_readable() {
        let mut history = history();
        history.compact(Revision::new(3));
        let present = Revision::new(5);
        assert!(history.admit(Revision::new(2), present).is_err());
        assert_eq!(history.admit(Revision::new(3), present), Ok(()));
        assert_eq!(made_at(&history, 3), Some(Some(3)));
        assert_eq!(history.table().len(), 1);
        assert!(history.is_consistent());
        history.compact(Revision::new(2));
        assert_eq!(history.oldest(), Revision::new(3));
    }

    #[test]
    fn the_window_is_bounded_by_revisions_and_by_bytes() {
        let mut history = history();
        history.trim(2, u64::MAX);
        assert_eq!((history.table().len(), history.oldest()), (2, Revision::new(1)));
        history.trim(2, 150);
        assert_eq!((history.table().len(), history.oldest()), (1, Revision::new(3)));
        history.trim(0, 0);
        assert_eq!((history.table().len(), history.table().bytes(), history.oldest()), (0, 0, Revision::new(5)));
        assert!(history.is_consistent());
    }

    #[test]
    fn a_row_whose_key_is_none_is_refused() {
        let mut writer = Writer::default();
        writer.text(1, "..");
        writer.number(2, 1);
        assert!(History::default().load(writer.finish()).is_err());
    }
}
