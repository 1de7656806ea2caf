//! The journal in front of the log's file, which makes a commit cheap: one write and one sync where redb writes seven pages.
//!
//! A small batch of changes goes here first and is answered. redb takes many batches over at once, in one transaction (see
//! `log_writer.rs`), and the journal begins again at its start. What a crash leaves in it is taken over at the next start.
//!
//! ```text
//! length of the record: u32 | number: u64 | record, sealed (see record.rs) | zeros up to the end of the sector
//! ```
//!
//! Records count up. redb holds the number of the first one that it has not taken over, and the journal's key, which is drawn
//! anew at each start and goes into every checksum: so nothing that was written before, or that a client has put into a
//! command, is ever taken for a record. Each record is synced before the next is written; the last one may be torn by a power
//! loss and was not acknowledged then. A bad one with a good one behind it is damage.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use redb::StorageBackend;

use super::codec::Wire;
use super::log_store::LogError;
use super::log_writer::Change;
use super::record::{Damaged, seal_bytes, unseal_bytes};
use super::volume::{Volume, unfinished};
use crate::encoding::{Decode, DecodeError, Encode, Reader, Writer, required};

/// The file's name on the volume.
pub const JOURNAL_FILE: &str = "log.journal";

/// Records begin at multiples of this: a disk writes so much whole or not at all, so that a torn write harms no record before.
const SECTOR: usize = 512;

/// Length and number in front of a record.
const HEADER: usize = 4 + 8;

/// A batch of more bytes goes to redb at once: there its own bytes weigh more than the seven pages.
const LONGEST: usize = 32 << 10;

/// When so much is in the journal, redb takes it over: often enough that nobody notices how long it takes (some
/// milliseconds), and seldom enough that a record's share of it is small.
const FULL: usize = 256 << 10;

/// Where the journal stands, as redb holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Drawn at each start.
    pub(super) key: u128,
    /// Of the first record that redb has not taken over.
    pub(super) number: u64,
}

impl Place {
    /// What a record's checksum covers beside its content.
    fn name(self) -> String {
        format!("journal record {} of {:032x}", self.number, self.key)
    }

    fn next(self) -> Self {
        Self { number: self.number + 1, ..self }
    }
}

impl Encode for Place {
    fn encode(&self, writer: &mut Writer) {
        writer.bytes(1, &self.key.to_be_bytes());
        writer.number(2, self.number);
    }
}

impl Decode for Place {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        crate::encoding::fields!(reader => 1 key: bytes, 2 number: number);
        let key = required(key, "key")?;
        let key = <[u8; 16]>::try_from(&*key).map_err(|_| DecodeError::new("a journal's key has 16 bytes"))?;
        Ok(Self { key: u128::from_be_bytes(key), number: required(number, "number")? })
    }
}

/// The open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: Box<dyn StorageBackend>,
    /// Of the next record.
    place: Place,
    end: usize,
}

impl Journal {
    /// Opens the journal of a volume, which is made if redb knows of none, and reads what redb has not taken over from
    /// `place`. The records of this start have `key`.
    pub(super) fn open(volume: &dyn Volume, place: Option<Place>, key: u128) -> Result<(Self, Vec<Change>), LogError> {
        let left = match place {
            Some(place) => {
                let file = volume.open(JOURNAL_FILE)?.ok_or(LogError::NoJournal)?;
                let mut content = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
                file.read_at(0, &mut content)?;
                read(&content, place)?
            }
            None => {
                create(volume)?;
                Vec::new()
            }
        };
        let journal = Self { file: volume.backend(JOURNAL_FILE)?, place: Place { key, number: 0 }, end: 0 };
        Ok((journal, left))
    }

    /// Where the next record goes.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Whether redb should take it over.
    pub(super) fn is_full(&self) -> bool {
        self.end >= FULL
    }

    /// Writes and syncs a batch; says `false`, and does nothing, when it is too long.
    pub(super) fn keep(&mut self, changes: &[Change]) -> io::Result<bool> {
        if changes.iter().map(Change::content_bytes).sum::<usize>() > LONGEST {
            return Ok(false);
        }
        let content = to_bytes(changes);
        if content.len() > LONGEST {
            return Ok(false);
        }
        let record = frame(self.place, &content);
        self.file.write(self.end as u64, &record)?;
        self.file.sync_data()?;
        self.end += record.len();
        self.place = self.place.next();
        Ok(true)
    }

    /// redb has taken everything over.
    pub(super) fn begin_again(&mut self) {
        self.end = 0;
    }
}

/// An empty file, whose name is durable before redb knows of it.
fn create(volume: &dyn Volume) -> io::Result<()> {
    volume.create(&unfinished(JOURNAL_FILE))?.sync()?;
    volume.rename(&unfinished(JOURNAL_FILE), JOURNAL_FILE)?;
    volume.sync_directory()
}

/// A record with what stands around it.
pub(super) fn frame(place: Place, content: &[u8]) -> BytesMut {
    let record = seal_bytes(&place.name(), content);
    let length = u32::try_from(record.len()).expect("records are limited to some kilobytes");
    let mut frame = BytesMut::with_capacity((HEADER + record.len()).next_multiple_of(SECTOR));
    frame.put_u32(length);
    frame.put_u64(place.number);
    frame.put_slice(&record);
    frame.resize(frame.len().next_multiple_of(SECTOR), 0);
    frame
}

/// The good record at a place in the file, with its number and the place behind it; its key is that of `place`.
fn record_at(file: &[u8], at: usize, key: u128) -> Option<(u64, &[u8], usize)> {
    let (length, rest) = file.get(at..)?.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (length, number) = (u32::from_be_bytes(*length) as usize, u64::from_be_bytes(*number));
    let content = unseal_bytes(&Place { key, number }.name(), rest.get(..length)?).ok()?;
    Some((number, content, at + (HEADER + length).next_multiple_of(SECTOR)))
}

/// The changes in the records from `place` on.
pub(super) fn read(file: &[u8], mut place: Place) -> Result<Vec<Change>, LogError> {
    let (mut changes, mut at) = (Vec::new(), 0);
    while let Some((_, content, next)) = record_at(file, at, place.key).filter(|(number, _, _)| *number == place.number)
    {
        let read = from_bytes(Bytes::copy_from_slice(content));
        let name = || format!("journal record {}", place.number);
        changes.extend(read.map_err(|source| Damaged::Unreadable { name: name(), source }).map_err(LogError::Journal)?);
        (place, at) = (place.next(), next);
    }
    let behind = (at..file.len()).step_by(SECTOR).filter_map(|at| record_at(file, at, place.key));
    match behind.map(|(number, _, _)| number).find(|number| *number > place.number) {
        Some(later) => Err(LogError::JournalDamaged { number: place.number, at, later }),
        None => Ok(changes),
    }
}

pub(super) fn to_bytes(changes: &[Change]) -> Bytes {
    let mut writer = Writer::default();
    for change in changes {
        writer.message(1, change);
    }
    writer.finish()
}

fn from_bytes(content: Bytes) -> Result<Vec<Change>, DecodeError> {
    let (mut reader, mut changes) = (Reader::new(content), Vec::new());
    while let Some((field, value)) = reader.field()? {
        if field == 1 {
            changes.push(value.message()?);
        }
    }
    Ok(changes)
}

impl Encode for Change {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Append(entries) => entries.iter().for_each(|entry| writer.message(1, &Wire(entry.clone()))),
            Self::Vote(vote) => writer.message(2, &Wire(*vote)),
            Self::TruncateFrom(index) => writer.number(3, *index),
            Self::Purge(log_id) => writer.message(4, &Wire(*log_id)),
            Self::Committed(Some(log_id)) => writer.message(5, &Wire(*log_id)),
            Self::Committed(None) => {}
        }
    }
}

impl Decode for Change {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (mut entries, mut other) = (Vec::new(), None);
        while let Some((field, value)) = reader.field()? {
            match field {
                1 => entries.push(value.message::<Wire<_>>()?.0),
                2 => other = Some(Self::Vote(value.message::<Wire<_>>()?.0)),
                3 => other = Some(Self::TruncateFrom(value.number()?)),
                4 => other = Some(Self::Purge(value.message::<Wire<_>>()?.0)),
                5 => other = Some(Self::Committed(Some(value.message::<Wire<_>>()?.0))),
                // What this release does not know must not be passed over.
                _ => return Err(DecodeError::unknown("change of the log", u64::from(field))),
            }
        }
        Ok(other.unwrap_or(Self::Append(entries)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: u128 = 7;

    /// Records of one change each, numbered from `first` on.
    fn records(first: u64, indexes: &[u64]) -> Vec<u8> {
        let framed = (first..).zip(indexes).map(|(number, index)| {
            frame(Place { key: KEY, number }, &to_bytes(&[Change::TruncateFrom(*index)])).to_vec()
        });
        framed.collect::<Vec<_>>().concat()
    }

    /// What is read from `number` on.
    fn found(file: &[u8], number: u64) -> Result<Vec<u64>, LogError> {
        let index = |change| match change {
            Change::TruncateFrom(index) => index,
            other => panic!("{other:?}"),
        };
        Ok(read(file, Place { key: KEY, number })?.into_iter().map(index).collect())
    }

    #[test]
    fn what_was_written_before_is_not_read_again() {
        let mut file = records(0, &[10, 11, 12, 13]);
        assert_eq!(found(&file, 0).unwrap(), [10, 11, 12, 13]);
        // redb has taken over three; the fourth was written over the first, and the others are still there.
        file[..SECTOR].copy_from_slice(&records(3, &[20]));
        assert_eq!(found(&file[..3 * SECTOR], 3).unwrap(), [20]);
        assert_eq!(read(&file, Place { key: KEY + 1, number: 0 }).unwrap().len(), 0, "another start has another key");
        assert_eq!(found(&file[..3 * SECTOR], 4).unwrap(), [0; 0]);
    }

    #[test]
    fn a_bad_record_with_a_good_one_behind_it_is_damage_and_the_last_one_is_torn() {
        let whole = records(5, &[10, 11, 12]);
        let harmed = |record: usize| {
            let mut file = whole.clone();
            file[record * SECTOR + HEADER + 5] ^= 1;
            found(&file, 5)
        };
        assert_eq!(harmed(2).unwrap(), [10, 11]);
        for (record, number) in [(0, 5), (1, 6)] {
            let error = harmed(record).unwrap_err().to_string();
            assert!(error.contains(&format!("{JOURNAL_FILE} is damaged: record {number},")), "{error}");
        }
    }

    #[test]
    fn a_change_that_this_release_does_not_know_is_not_passed_over() {
        let mut writer = Writer::default();
        writer.nested(1, |change| change.number(99, 1));
        let file = frame(Place { key: KEY, number: 0 }, &writer.finish());
        let error = found(&file, 0).unwrap_err().to_string();
        assert!(error.contains("change of the log 99") && error.contains("newer release"), "{error}");
    }
}
