//! Small metadata with etcd's data model: create and mod revision, version, ranges, the past.

use std::ops::Bound;

use bytes::Bytes;

use super::by_session::BySession;
use super::codec::{decode_key_record, encode_key_record};
use super::command::KeyCondition;
use super::history::{History, OutsideHistory};
use super::outcome::KeyMeta;
use super::table::{Schema, Table};
use crate::encoding::{DecodeError, Reader, Writer, fields, required};
use crate::types::{Key, Revision, SessionId, Version};

/// A key's numbers and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    pub meta: KeyMeta,
    pub value: Bytes,
    /// The session that the key ends with.
    pub session: Option<SessionId>,
}

/// Which keys a range read takes, in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRange {
    /// Those that start with this text; all, when it is empty.
    Prefix(String),
    /// From `start` on, up to but without `end`.
    Between { start: Key, end: Option<Key> },
}

impl KeyRange {
    fn first(&self) -> &str {
        match self {
            Self::Prefix(prefix) => prefix,
            Self::Between { start, .. } => start.as_str(),
        }
    }

    /// Whether `key`, which is not before the first, is inside.
    fn holds(&self, key: &str) -> bool {
        match self {
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
            Self::Between { end, .. } => end.as_ref().is_none_or(|end| key < end.as_str()),
        }
    }

    /// Whether `key` is inside.
    pub fn contains(&self, key: &Key) -> bool {
        key.as_str() >= self.first() && self.holds(key.as_str())
    }
}

/// One page of a range read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPage {
    pub keys: Vec<(Key, KeyRecord)>,
    /// Whether there are more keys behind the last one.
    pub more: bool,
}

pub(super) struct KeyRows;

impl Schema for KeyRows {
    type Key = Key;
    type Value = KeyRecord;
    const NUMBER: u32 = 3;

    fn encode(key: &Key, record: &KeyRecord, writer: &mut Writer) {
        writer.text(1, key.as_str());
        writer.nested(2, |writer| encode_key_record(record, writer));
    }

    fn decode(mut reader: Reader) -> Result<(Key, KeyRecord), DecodeError> {
        fields!(reader => 1 key: parse, 2 record: bytes);
        Ok((required(key, "key")?, decode_key_record(Reader::new(required(record, "record")?))?))
    }
}

/// All keys, now and in the window of the past.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    pub(super) rows: Table<KeyRows>,
    by_session: BySession<Key>,
    pub(super) history: History,
    /// The revision of the newest change anywhere in the cluster.
    pub(super) present: Revision,
}

impl Keys {
    /// What `key` is now.
    pub fn get(&self, key: &Key) -> Option<&KeyRecord> {
        self.rows.get(key)
    }

    /// What `key` was at `revision`.
    ///
    /// # Errors
    /// When the revision is compacted or in the future.
    pub fn get_at(&self, key: &Key, revision: Revision) -> Result<Option<&KeyRecord>, OutsideHistory> {
        self.history.admit(revision, self.present)?;
        Ok(match self.history.before(key.as_str(), revision) {
            Some(before) => before.as_ref(),
            None => self.get(key),
        })
    }

    /// At most `limit` keys of `range`, those behind `after` only.
    pub fn range(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> KeyPage {
        let rows = self.rows_of(range, after).map(|(key, record)| (key.clone(), record.clone()));
        page(rows, limit)
    }

    /// As [`Keys::range`], at a past revision. Looks at all changes since then, but at no more present keys than it needs.
    ///
    /// # Errors
    /// When the revision is compacted or in the future.
    pub fn range_at(
        &self,
        range: &KeyRange,
        after: Option<&Key>,
        limit: usize,
        revision: Revision,
    ) -> Result<KeyPage, OutsideHistory> {
        self.history.admit(revision, self.present)?;
        let past = self.history.range_before(range.first(), |key| range.holds(key), revision);
        let unchanged = self.rows_of(range, after).map(|(key, record)| (key.as_str(), record));
        let unchanged = unchanged.filter(|(key, _)| !past.contains_key(key));
        let changed = past.iter().filter_map(|(key, before)| Some((*key, before.as_ref()?)));
        let changed = changed.filter(|(key, _)| after.is_none_or(|after| *key > after.as_str()));
        let rows = in_key_order(unchanged, changed).map(|(key, record)| {
            let key = Key::new(key).expect("it is a key now, or was one when it was changed");
            (key, record.clone())
        });
        Ok(page(rows, limit))
    }

    fn rows_of<'a>(
        &'a self,
        range: &'a KeyRange,
        after: Option<&'a Key>,
    ) -> impl Iterator<Item = (&'a Key, &'a KeyRecord)> {
        let first = range.first();
        let start = match after {
            Some(after) if after.as_str() >= first => Bound::Excluded(after.as_str()),
            Some(_) | None => Bound::Included(first),
        };
        self.rows.range::<_, str>((start, Bound::Unbounded)).take_while(|(key, _)| range.holds(key.as_str()))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `condition` holds of `key`; if not, what is there.
    pub(super) fn check(&self, key: &Key, condition: KeyCondition) -> Result<(), Option<KeyMeta>> {
        let current = self.get(key).map(|record| record.meta);
        let holds = match condition {
            KeyCondition::Always => true,
            KeyCondition::Absent => current.is_none(),
            KeyCondition::Present => current.is_some(),
            KeyCondition::ModifiedAt(revision) => current.is_some_and(|meta| meta.mod_revision == revision),
        };
        if holds { Ok(()) } else { Err(current) }
    }

    /// The keys that end with a session.
    pub(super) fn of_session(&self, session: SessionId) -> Vec<Key> {
        self.by_session.of(session).cloned().collect()
    }

    /// Makes what is derived, once every row of a snapshot is back.
    pub(super) fn finish_loading(&mut self, present: Revision, oldest: Revision) {
        self.present = present;
        self.by_session = self.index();
        self.history.finish_loading(oldest);
    }

    /// Whether the index of sessions says the same as the table.
    pub(super) fn is_consistent(&self) -> bool {
        self.by_session == self.index()
    }

    fn index(&self) -> BySession<Key> {
        self.rows.iter().filter_map(|(key, record)| Some((record.session?, key.clone()))).collect()
    }

    /// Sets a key in `revision`, to end with `session` if there is one, and returns what it is now.
    pub(super) fn put(
        &mut self,
        key: &Key,
        value: &Bytes,
        session: Option<SessionId>,
        revision: Revision,
    ) -> KeyRecord {
        let before = self.get(key).cloned();
        let bound = before.as_ref().and_then(|record| record.session);
        let meta = match &before {
            Some(record) => KeyMeta { mod_revision: revision, version: record.meta.version.next(), ..record.meta },
            None => KeyMeta { create_revision: revision, mod_revision: revision, version: Version::new(1) },
        };
        self.history.record(key, revision, before);
        // A copy: the value is a part of a larger buffer, which it would keep in memory for as long as it lives.
        let record = KeyRecord { meta, value: Bytes::copy_from_slice(value), session };
        if let Some(session) = bound {
            self.by_session.remove(session, key);
        }
        if let Some(session) = session {
            self.by_session.add(session, key.clone());
        }
        self.rows.insert(key.clone(), record.clone());
        record
    }

    /// Removes a key in `revision` and returns its numbers.
    pub(super) fn delete(&mut self, key: &Key, revision: Revision) -> Option<KeyMeta> {
        let before = self.rows.remove(key)?;
        let meta = before.meta;
        if let Some(session) = before.session {
            self.by_session.remove(session, key);
        }
        self.history.record(key, revision, Some(before));
        Some(meta)
    }
}

/// Merges two lists of rows that have no key in common, each in key order.
fn in_key_order<'a>(
    one: impl Iterator<Item = (&'a str, &'a KeyRecord)>,
    other: impl Iterator<Item = (&'a str, &'a KeyRecord)>,
) -> impl Iterator<Item = (&'a str, &'a KeyRecord)> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some((first, _)), Some((second, _))) if second < first => other.next(),
        (Some(_), _) => one.next(),
        (None, _) => other.next(),
    })
}

fn page(mut rows: impl Iterator<Item = (Key, KeyRecord)>, limit: usize) -> KeyPage {
    let keys = rows.by_ref().take(limit).collect();
    KeyPage { keys, more: rows.next().is_some() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_knows_its_keys() {
        let prefix = KeyRange::Prefix("a/".to_owned());
        assert!(prefix.contains(&key("a/1")) && prefix.contains(&key("a/")));
        assert!(!prefix.contains(&key("a")) && !prefix.contains(&key("a0")) && !prefix.contains(&key("A/1")));
        let between = KeyRange::Between { start: key("b"), end: Some(key("d")) };
        let inside: Vec<_> = ["a", "b", "c/x", "d", "e"].map(key).into_iter().filter(|k| between.contains(k)).collect();
        assert_eq!(inside, [key("b"), key("c/x")]);
        assert!(KeyRange::Between { start: key("b"), end: None }.contains(&key("z")));
    }

    /// Else a short value would keep the whole batch of entries alive that it came with.
    #[test]
    fn a_stored_value_shares_no_memory_with_the_buffer_it_came_in() {
        let frame = Bytes::from(vec![7; 1000]);
        let mut keys = Keys::default();
        let record = keys.put(&key("a"), &frame.slice(10..12), None, Revision::new(1));
        let inside = frame.as_ptr_range();
        assert_eq!(record.value, frame.slice(10..12));
        assert!(!inside.contains(&record.value.as_ptr()));
        assert!(!inside.contains(&keys.get(&key("a")).unwrap().value.as_ptr()));
    }
}
