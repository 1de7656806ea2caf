//! An ordered map that knows its size and its digest. All replicated state stands in such tables.
//!
//! The map is persistent: a copy costs a few pointers and shares everything that does not change afterwards. That is why
//! readers take no lock and a snapshot delays nobody.

use std::borrow::Borrow;
use std::fmt;
use std::ops::RangeBounds;

use bytes::Bytes;
use imbl::OrdMap;

use super::digest::Digest;
use crate::encoding::{DecodeError, Reader, Writer};

/// How the rows of one table are keyed and encoded.
pub(super) trait Schema {
    type Key: Clone + Ord + fmt::Debug;
    type Value: Clone + fmt::Debug;

    /// The table's number in a snapshot; never used again for another table.
    const NUMBER: u32;

    fn encode(key: &Self::Key, value: &Self::Value, writer: &mut Writer);
    fn decode(reader: Reader) -> Result<(Self::Key, Self::Value), DecodeError>;
}

/// The rows of one kind.
pub(super) struct Table<S: Schema> {
    rows: OrdMap<S::Key, Row<S::Value>>,
    digest: Digest,
    bytes: u64,
}

#[derive(Debug, Clone)]
struct Row<V> {
    value: V,
    digest: Digest,
    bytes: u64,
}

impl<S: Schema> Table<S> {
    pub(super) fn get<Q>(&self, key: &Q) -> Option<&S::Value>
    where
        Q: Ord + ?Sized,
        S::Key: Borrow<Q>,
    {
        self.rows.get(key).map(|row| &row.value)
    }

    /// Sets a row and returns what was there.
    pub(super) fn insert(&mut self, key: S::Key, value: S::Value) -> Option<S::Value> {
        let record = Self::record(&key, &value);
        let row = Row { value, digest: Digest::of(&record), bytes: record.len() as u64 };
        self.digest = self.digest.with(row.digest);
        self.bytes += row.bytes;
        self.rows.insert(key, row).map(|old| self.forget(old))
    }

    /// Takes a row out and returns it.
    pub(super) fn remove(&mut self, key: &S::Key) -> Option<S::Value> {
        self.rows.remove(key).map(|old| self.forget(old))
    }

    fn forget(&mut self, old: Row<S::Value>) -> S::Value {
        self.digest = self.digest.without(old.digest);
        self.bytes -= old.bytes;
        old.value
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&S::Key, &S::Value)> {
        self.rows.iter().map(|(key, row)| (key, &row.value))
    }

    /// The rows between two keys, in order.
    pub(super) fn range<R, Q>(&self, range: R) -> impl DoubleEndedIterator<Item = (&S::Key, &S::Value)>
    where
        R: RangeBounds<Q>,
        Q: Ord + ?Sized,
        S::Key: Borrow<Q>,
    {
        self.rows.range(range).map(|(key, row)| (key, &row.value))
    }

    /// The row with the least key.
    pub(super) fn first(&self) -> Option<(&S::Key, &S::Value)> {
        self.rows.get_min().map(|(key, row)| (key, &row.value))
    }

    /// The row with the greatest key.
    pub(super) fn last(&self) -> Option<(&S::Key, &S::Value)> {
        self.rows.get_max().map(|(key, row)| (key, &row.value))
    }

    /// Takes out the row with the least key.
    pub(super) fn remove_first(&mut self) {
        if let Some(key) = self.first().map(|(key, _)| key.clone()) {
            self.remove(&key);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Encoded size of all rows.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Every row as a record of its own: one field, numbered as the table, that holds the row.
    pub(super) fn records(&self) -> impl Iterator<Item = Bytes> {
        self.iter().map(|(key, value)| Self::record(key, value))
    }

    fn record(key: &S::Key, value: &S::Value) -> Bytes {
        let mut writer = Writer::default();
        writer.nested(S::NUMBER, |writer| S::encode(key, value, writer));
        writer.finish()
    }

    /// Puts a row of a snapshot back.
    pub(super) fn load(&mut self, row: Bytes) -> Result<(), DecodeError> {
        let (key, value) = S::decode(Reader::new(row))?;
        match self.insert(key.clone(), value) {
            None => Ok(()),
            Some(_) => Err(DecodeError::new(format!("the row of {key:?} comes twice"))),
        }
    }

    /// The digest and size computed anew from every row, for the invariants.
    pub(super) fn recount(&self) -> (Digest, u64) {
        self.records().fold((Digest::default(), 0), |(digest, bytes), record| {
            (digest.with(Digest::of(&record)), bytes + record.len() as u64)
        })
    }
}

// Written by hand because a derive would ask the same of the schema, which has no values.
impl<S: Schema> Clone for Table<S> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), digest: self.digest, bytes: self.bytes }
    }
}

impl<S: Schema> Default for Table<S> {
    fn default() -> Self {
        Self { rows: OrdMap::new(), digest: Digest::default(), bytes: 0 }
    }
}

impl<S: Schema> fmt::Debug for Table<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("rows", &self.rows.len()).field("bytes", &self.bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{fields, required};

    struct Texts;

    impl Schema for Texts {
        type Key = u64;
        type Value = String;
        const NUMBER: u32 = 9;

        fn encode(key: &u64, value: &String, writer: &mut Writer) {
            writer.number(1, *key);
            writer.text(2, value);
        }

        fn decode(mut reader: Reader) -> Result<(u64, String), DecodeError> {
            fields!(reader => 1 key: number, 2 value: text);
            Ok((required(key, "key")?, required(value, "value")?))
        }
    }

    fn table(rows: &[(u64, &str)]) -> Table<Texts> {
        let mut table = Table::default();
        for (key, value) in rows {
            table.insert(*key, (*value).to_owned());
        }
        table
    }

    fn sums(table: &Table<Texts>) -> (Digest, u64) {
        (table.digest(), table.bytes())
    }

    #[test]
    fn the_digest_depends_on_the_rows_and_not_on_how_they_came() {
        let straight = table(&[(1, "a"), (2, "b")]);
        let mut detour = table(&[(3, "c"), (2, "x"), (1, "a"), (2, "b")]);
        assert_ne!(sums(&straight), sums(&detour));
        assert_eq!(detour.remove(&3), Some("c".to_owned()));
        assert_eq!(sums(&straight), sums(&detour));
        assert_eq!(sums(&detour), detour.recount());
        assert_ne!(straight.digest(), table(&[(1, "b"), (2, "a")]).digest());
    }

    #[test]
    fn an_empty_table_has_no_digest_and_no_bytes() {
        let mut table = table(&[(1, "a")]);
        table.remove(&1);
        assert_eq!(table.remove(&1), None);
        assert_eq!(sums(&table), (Digest::default(), 0));
    }

    #[test]
    fn a_copy_keeps_its_rows_and_its_digest() {
        let mut table = table(&[(1, "a")]);
        let copy = table.clone();
        table.insert(1, "b".to_owned());
        assert_eq!((copy.get(&1), sums(&copy)), (Some(&"a".to_owned()), copy.recount()));
    }

    #[test]
    fn a_row_is_loaded_once() {
        let mut table = Table::<Texts>::default();
        let row = Bytes::from_static(&[1 << 3, 7, 2 << 3 | 2, 1, b'a']);
        assert_eq!(table.load(row.clone()), Ok(()));
        assert!(table.load(row).is_err());
        assert_eq!(table.get(&7), Some(&"a".to_owned()));
    }
}
