//! The window into the past: what each key was before each change.
//!
//! A read at revision N takes what the key was before its first change after N; without such a change, what it is now.
//! The window is bounded by revisions and by bytes, so that it moves by the commands alone and is the same everywhere.
//!
//! Changes stand in the order of their revisions: each write adds one at the end and most drop one at the beginning, which costs
//! a write little. A read of the past looks through the changes since then, of which there are no more than the window holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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

/// What each revision changed a key from.
pub(super) struct UndoRows;

impl Schema for UndoRows {
    type Key = (Revision, Arc<str>);
    type Value = Option<KeyRecord>;
    const NUMBER: u32 = 4;

    fn encode((revision, key): &Self::Key, before: &Self::Value, writer: &mut Writer) {
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
        Ok(((Revision::new(required(revision, "revision")?), key.shared()), before))
    }
}

/// The undo table.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    undo: Table<UndoRows>,
    /// How many revisions have changed the keys in the table; derived from it.
    revisions: usize,
    /// The oldest revision that can still be read.
    oldest: Revision,
}

impl History {
    /// Remembers what `key` was before `revision`, the newest, changed it.
    pub(super) fn record(&mut self, key: &Key, revision: Revision, before: Option<KeyRecord>) {
        let last = self.undo.last().map(|((revision, _), _)| *revision);
        self.revisions += usize::from(last != Some(revision));
        self.undo.insert((revision, key.shared()), before);
    }

    fn first(&self) -> Option<Revision> {
        self.undo.first().map(|((revision, _), _)| *revision)
    }

    /// Drops what only reads before `through` need.
    pub(super) fn compact(&mut self, through: Revision) {
        while let Some(first) = self.first().filter(|first| *first <= through) {
            while self.first() == Some(first) {
                self.undo.remove_first();
            }
            self.revisions -= 1;
        }
        self.oldest = self.oldest.max(through);
    }

    /// Drops the oldest changes until at most `revisions` and `bytes` are kept.
    pub(super) fn trim(&mut self, revisions: usize, bytes: u64) {
        while self.revisions > revisions || self.undo.bytes() > bytes {
            let Some(oldest) = self.first() else { return };
            self.compact(oldest);
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

    /// What was changed after `revision`, in order.
    fn since(&self, revision: Revision) -> impl Iterator<Item = (&str, &Option<KeyRecord>)> {
        self.undo.range((revision.next(), "".into())..).map(|((_, key), before)| (&**key, before))
    }

    /// What `key` was at `revision`, when it has changed since; `None` when it has not.
    pub(super) fn before(&self, key: &str, revision: Revision) -> Option<&Option<KeyRecord>> {
        self.since(revision).find(|(changed, _)| *changed == key).map(|(_, before)| before)
    }

    /// For each key from `first` on that is `inside` and changed after `revision`: what it was then.
    pub(super) fn range_before(
        &self,
        first: &str,
        inside: impl Fn(&str) -> bool,
        revision: Revision,
    ) -> BTreeMap<&str, &Option<KeyRecord>> {
        let mut found = BTreeMap::new();
        for (key, before) in self.since(revision).filter(|(key, _)| *key >= first && inside(key)) {
            found.entry(key).or_insert(before);
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
        self.revisions = self.count_revisions();
    }

    fn count_revisions(&self) -> usize {
        self.undo.iter().map(|((revision, _), _)| revision).collect::<BTreeSet<_>>().len()
    }

    /// Whether the number of revisions is right, and nothing is older than the window.
    pub(super) fn is_consistent(&self) -> bool {
        self.revisions == self.count_revisions() && self.first().is_none_or(|first| first > self.oldest)
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
    fn rows_of_a_snapshot_may_come_in_any_order() {
        let history = {
            let mut history = history();
            history.record(&"b".parse().unwrap(), Revision::new(5), None);
            history
        };
        let mut rows: Vec<_> = history.table().iter().collect();
        rows.reverse();
        let mut loaded = History::default();
        for (key, before) in rows {
            let mut writer = Writer::default();
            UndoRows::encode(key, before, &mut writer);
            loaded.load(writer.finish()).unwrap();
        }
        loaded.finish_loading(history.oldest());
        assert!(loaded.is_consistent());
        assert_eq!((loaded.revisions, loaded.table().digest()), (3, history.table().digest()));
        assert_eq!((made_at(&loaded, 0), made_at(&loaded, 3)), (Some(None), Some(Some(3))));
    }

    #[test]
    fn a_row_whose_key_is_none_is_refused() {
        let mut writer = Writer::default();
        writer.text(1, "..");
        writer.number(2, 1);
        assert!(History::default().load(writer.finish()).is_err());
    }
}
