//! Snapshots: the whole state in one file that is either whole or refused.
//!
//! The file begins with [`MAGIC`] and the format's number. Then come records, each with its length in front and sealed under
//! its place in the file (see `record.rs`): first the metadata, then the records of the state, last the count of all before
//! it. So a flipped bit, a cut, a record left out or put elsewhere is noticed, and the error names the record.
//!
//! A file is written under another name, synced, renamed, and the directory synced; only the newest is kept. A damaged one is
//! refused and never passed over for an older one, since the log behind the older one may be gone.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::codec::Wire;
use super::record::{Damaged, seal_bytes, unseal_bytes};
use super::type_config::SnapshotMeta;
use super::volume::{Volume, VolumeReader, VolumeWriter, blocking, unfinished};
use crate::encoding::{Decode, DecodeError, Encode, Reader, Writer, required};
use crate::machine::{Limits, Machine};

const MAGIC: &[u8; 8] = b"quorsnap";
const FORMAT: u32 = 1;
const HEADER: u64 = MAGIC.len() as u64 + 4;
const PREFIX: &str = "snapshot-";

/// The largest record that is believed: far more than a row can have, far less than the memory of a member.
const LARGEST_RECORD: u32 = 64 << 20;

/// Bytes handed to the volume at a time.
const CHUNK: usize = 256 << 10;

/// Why a snapshot cannot be used.
#[derive(Debug, Error)]
pub enum SnapshotError {
    #[error("cannot use the snapshot {file}: {source}")]
    Volume { file: String, source: io::Error },
    #[error("the snapshot {file} is refused: {source}")]
    Damaged { file: String, source: Fault },
}

impl From<SnapshotError> for io::Error {
    fn from(error: SnapshotError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// What is wrong inside a snapshot file.
#[derive(Debug, Error)]
pub enum Fault {
    #[error("it is no snapshot of Quorate")]
    NoSnapshot,
    #[error("it has format {found}, and this release reads {FORMAT}")]
    Format { found: u32 },
    #[error("{0}")]
    Record(#[from] Damaged),
    #[error("record {number} is cut: the file ends at byte {length}")]
    Cut { number: u64, length: u64 },
    #[error("record {number} says that it has {length} bytes, more than any record")]
    Giant { number: u64, length: u32 },
    #[error("it ends with record {found}, but {expected} were written")]
    Count { expected: u64, found: u64 },
    #[error("it is not the snapshot that was announced")]
    Another,
    #[error("{extra} bytes follow its end")]
    Tail { extra: u64 },
    #[error(transparent)]
    Content(#[from] DecodeError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a record of the file holds.
enum Piece {
    Meta(Box<SnapshotMeta>),
    State(Bytes),
    End(u64),
}

impl Encode for Piece {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Meta(meta) => writer.message(1, &Wire(SnapshotMeta::clone(meta))),
            Self::State(record) => writer.bytes(2, record),
            Self::End(count) => writer.number(3, *count),
        }
    }
}

impl Decode for Piece {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (field, value) = required(reader.field()?, "piece")?;
        match field {
            1 => Ok(Self::Meta(Box::new(value.message::<Wire<SnapshotMeta>>()?.0))),
            2 => Ok(Self::State(value.bytes()?)),
            3 => Ok(Self::End(value.number()?)),
            other => Err(DecodeError::unknown("piece", u64::from(other))),
        }
    }
}

fn record_name(number: u64) -> String {
    format!("snapshot record {number}")
}

/// The snapshots on one volume.
#[derive(Debug, Clone)]
pub struct SnapshotStore {
    volume: Arc<dyn Volume>,
    limits: Limits,
}

/// A snapshot file: the newest of this volume, or one that another member has sent.
pub struct SnapshotFile {
    name: String,
    reader: Box<dyn VolumeReader>,
    /// What is in it, when it has come from another member.
    arrived: Option<Box<Arrived>>,
}

/// A snapshot that has come as a whole and was found good.
struct Arrived {
    meta: SnapshotMeta,
    machine: Machine,
    _file: Unfinished,
}

/// A file that is removed in the end, unless it has got another name.
struct Unfinished {
    volume: Arc<dyn Volume>,
    name: String,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What stays because of an error is removed at the next start.
        drop(self.volume.remove(&self.name));
    }
}

impl std::fmt::Debug for SnapshotFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SnapshotFile({})", self.name)
    }
}

impl SnapshotFile {
    /// Its length in bytes.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn length(&self) -> io::Result<u64> {
        self.reader.len()
    }

    /// A part of it, to be sent.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.reader.read_at(offset, buffer)
    }
}

/// A snapshot that is being received; dropped, it leaves nothing behind.
pub struct Incoming {
    store: SnapshotStore,
    file: Unfinished,
    writer: Box<dyn VolumeWriter>,
}

impl Incoming {
    /// Adds what came next.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.append(bytes)
    }

    /// Makes what came durable and checks all of it, so that damage costs the sender its transfer and not this member its
    /// life. Blocks on the disk.
    ///
    /// # Errors
    /// When it is damaged, or not the snapshot that was `announced`.
    pub fn finish(mut self, announced: &SnapshotMeta) -> Result<SnapshotFile, SnapshotError> {
        let name = self.file.name.clone();
        let failed = |source| SnapshotError::Volume { file: name.clone(), source };
        self.writer.sync().map_err(failed)?;
        let reader = self.store.reader(&name).map_err(failed)?;
        let mut file = SnapshotFile { name: name.clone(), reader, arrived: None };
        let (meta, machine) = self.store.load(&file)?;
        if meta != *announced {
            return Err(SnapshotError::Damaged { file: name, source: Fault::Another });
        }
        file.arrived = Some(Box::new(Arrived { meta, machine, _file: self.file }));
        Ok(file)
    }
}

impl SnapshotStore {
    /// Over the snapshots of `volume`.
    pub fn new(volume: Arc<dyn Volume>, limits: Limits) -> Self {
        Self { volume, limits }
    }

    /// The limits that a restored state has.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The newest snapshot, if there is one.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn newest(&self) -> io::Result<Option<SnapshotFile>> {
        loop {
            let Some(name) = self.names()?.pop() else { return Ok(None) };
            // It is gone when a newer one has taken its place in between.
            if let Some(reader) = self.volume.open(&name)? {
                return Ok(Some(SnapshotFile { name, reader, arrived: None }));
            }
        }
    }

    fn reader(&self, name: &str) -> io::Result<Box<dyn VolumeReader>> {
        Ok(self.volume.open(name)?.ok_or(io::ErrorKind::NotFound)?)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = self.volume.names()?;
        names.retain(|name| name.starts_with(PREFIX) && !name.ends_with(&unfinished("")));
        Ok(names)
    }

    /// Reads and checks a whole snapshot.
    ///
    /// # Errors
    /// When a part of it is damaged, missing or written by a newer release.
    pub fn load(&self, file: &SnapshotFile) -> Result<(SnapshotMeta, Machine), SnapshotError> {
        let damaged = |source| SnapshotError::Damaged { file: file.name.clone(), source };
        let mut pieces = Pieces::open(file).map_err(damaged)?;
        let meta = match pieces.next_piece().map_err(damaged)? {
            Piece::Meta(meta) => *meta,
            Piece::State(_) | Piece::End(_) => return Err(damaged(Fault::NoSnapshot)),
        };
        let records = std::iter::from_fn(|| pieces.next_record().transpose());
        let machine = Machine::restore(self.limits, records).map_err(damaged)?;
        Ok((meta, machine))
    }

    /// Reads only the metadata of a snapshot.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn meta(&self, file: &SnapshotFile) -> Result<SnapshotMeta, SnapshotError> {
        let damaged = |source| SnapshotError::Damaged { file: file.name.clone(), source };
        match Pieces::open(file).and_then(|mut pieces| pieces.next_piece()).map_err(damaged)? {
            Piece::Meta(meta) => Ok(*meta),
            Piece::State(_) | Piece::End(_) => Err(damaged(Fault::NoSnapshot)),
        }
    }

    /// Writes `machine` as the newest snapshot. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&self, meta: &SnapshotMeta, machine: &Machine) -> Result<SnapshotFile, SnapshotError> {
        let name = name_of(meta);
        let failed = |source| SnapshotError::Volume { file: name.clone(), source };
        self.write_unfinished(&unfinished(&name), meta, machine).map_err(failed)?;
        self.publish(&unfinished(&name), &name).map_err(failed)
    }

    fn write_unfinished(&self, name: &str, meta: &SnapshotMeta, machine: &Machine) -> io::Result<()> {
        let mut file = self.volume.create(name)?;
        let mut buffer = Vec::with_capacity(CHUNK);
        buffer.extend_from_slice(MAGIC);
        buffer.extend_from_slice(&FORMAT.to_le_bytes());
        let mut count = 0;
        let pieces = std::iter::once(Piece::Meta(Box::new(meta.clone()))).chain(machine.records().map(Piece::State));
        for piece in pieces {
            push(&mut buffer, count, &piece);
            count += 1;
            if buffer.len() >= CHUNK {
                file.append(&buffer)?;
                buffer.clear();
            }
        }
        push(&mut buffer, count, &Piece::End(count));
        file.append(&buffer)?;
        file.sync()
    }

    /// A place for a snapshot that another member sends. The `number` of the transfer keeps apart one that begins while
    /// another is being installed.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn receive(&self, number: u64) -> io::Result<Incoming> {
        let name = unfinished(&format!("received-{number}"));
        let writer = self.volume.create(&name)?;
        Ok(Incoming { store: self.clone(), file: Unfinished { volume: Arc::clone(&self.volume), name }, writer })
    }

    /// Makes a snapshot the newest and gives what is in it. Blocks on the disk.
    ///
    /// # Errors
    /// When it is damaged; then nothing has changed.
    pub fn install(&self, file: SnapshotFile) -> Result<(SnapshotMeta, Machine), SnapshotError> {
        let Some(arrived) = file.arrived else {
            let (meta, machine) = self.load(&file)?;
            self.write(&meta, &machine)?;
            return Ok((meta, machine));
        };
        let Arrived { meta, machine, _file } = *arrived;
        let name = name_of(&meta);
        self.publish(&file.name, &name).map_err(|source| SnapshotError::Volume { file: name, source })?;
        Ok((meta, machine))
    }

    fn publish(&self, unfinished: &str, name: &str) -> io::Result<SnapshotFile> {
        self.volume.rename(unfinished, name)?;
        self.volume.sync_directory()?;
        for older in self.names()?.iter().filter(|other| other.as_str() < name) {
            self.volume.remove(older)?;
        }
        Ok(SnapshotFile { name: name.to_owned(), reader: self.reader(name)?, arrived: None })
    }

    /// Runs `work` where it may block on the disk.
    ///
    /// # Errors
    /// Those of `work`, and when it panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, SnapshotError> + Send + 'static,
    ) -> io::Result<T> {
        let store = self.clone();
        Ok(blocking(&*self.volume, move || work(&store)).await??)
    }
}

/// Names sort like the log indexes in them.
fn name_of(meta: &SnapshotMeta) -> String {
    format!("{PREFIX}{:020}", meta.last_log_id.map_or(0, |log_id| log_id.index()))
}

fn push(buffer: &mut Vec<u8>, number: u64, piece: &Piece) {
    let record = seal_bytes(&record_name(number), &piece.to_bytes());
    let length = u32::try_from(record.len()).expect("a row is far below 4 GiB");
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&record);
}

/// Walks over the records of a file.
struct Pieces<'a> {
    file: &'a SnapshotFile,
    length: u64,
    offset: u64,
    number: u64,
}

impl<'a> Pieces<'a> {
    fn open(file: &'a SnapshotFile) -> Result<Self, Fault> {
        let length = file.length()?;
        let mut header = [0; MAGIC.len() + 4];
        if length < HEADER {
            return Err(Fault::NoSnapshot);
        }
        file.read_at(0, &mut header)?;
        let (magic, format) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Fault::NoSnapshot);
        }
        match u32::from_le_bytes(format.try_into().expect("4 of 12 bytes")) {
            FORMAT => Ok(Self { file, length, offset: HEADER, number: 0 }),
            found => Err(Fault::Format { found }),
        }
    }

    fn next_piece(&mut self) -> Result<Piece, Fault> {
        let mut prefix = [0; 4];
        self.fill(&mut prefix)?;
        let length = u32::from_le_bytes(prefix);
        if length > LARGEST_RECORD {
            return Err(Fault::Giant { number: self.number, length });
        }
        if u64::from(length) > self.length - self.offset {
            return Err(self.cut());
        }
        let mut record = vec![0; length as usize];
        self.fill(&mut record)?;
        let content = unseal_bytes(&record_name(self.number), &record)?;
        self.number += 1;
        Ok(Piece::from_bytes(Bytes::copy_from_slice(content))?)
    }

    /// The next record of the state; `None` behind the last, when the file is whole.
    fn next_record(&mut self) -> Result<Option<Bytes>, Fault> {
        let found = self.number;
        match self.next_piece()? {
            Piece::State(record) => Ok(Some(record)),
            Piece::Meta(_) => Err(Fault::NoSnapshot),
            Piece::End(expected) if expected != found => Err(Fault::Count { expected, found }),
            Piece::End(_) if self.offset != self.length => Err(Fault::Tail { extra: self.length - self.offset }),
            Piece::End(_) => Ok(None),
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        if buffer.len() as u64 > self.length - self.offset {
            return Err(self.cut());
        }
        self.file.read_at(self.offset, buffer)?;
        self.offset += buffer.len() as u64;
        Ok(())
    }

    fn cut(&self) -> Fault {
        Fault::Cut { number: self.number, length: self.length }
    }
}
