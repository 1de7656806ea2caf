//! The durable log and vote, in one redb file with a journal in front of it.
//!
//! One writer owns the files. It takes whatever waits in its queue, writes it with one sync, and only then
//! answers: a batch grows while the one before is synced, never by waiting. An append or a vote is answered after its sync;
//! purges, truncations and the committed index ride along with the next batch. A failed write or sync is final: the
//! transaction may or may not be on disk, so every later call fails and the member must stop.
//!
//! The writing itself is in `log_writer.rs`, and what makes it cheap in `journal.rs`. Entries that were just written are read
//! from memory, and always those that are still in the journal. What is read from a file is checked: see `record.rs`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use super::codec::Wire;
use super::journal::{JOURNAL_FILE, Journal, Place};
use super::log_writer::{Change, Done, Job, LogMetrics, Writer, write};
use super::record::{Damaged, unseal};
use super::standing::Papers;
use super::type_config::{Entry, EntryPayload, LogId, TypeConfig, Vote};
use super::volume::{Volume, unfinished};
use crate::tasks::Tasks;
use crate::types::LogIndex;

/// The file's name on the volume.
pub const LOG_FILE: &str = "log.redb";

pub(super) const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
pub(super) const MARKS: TableDefinition<&str, &[u8]> = TableDefinition::new("marks");

pub(super) const VOTE: &str = "vote";
pub(super) const PURGED: &str = "purged log id";
pub(super) const COMMITTED: &str = "committed log id";
pub(super) const JOURNAL: &str = "journal";

/// Pages that redb keeps in memory. Measured: more brings nothing, since the log is read from the cache below.
const PAGE_CACHE: usize = 32 << 20;

/// Bytes of the newest entries that are kept in memory, so that replication and apply do not read the file. It is also what a
/// snapshot leaves of the log at the most, so that large values do not fill the volume.
const ENTRY_CACHE: usize = 32 << 20;

/// Jobs that may wait for the writer: enough that a batch can grow while one is synced, small enough that a stalled disk is
/// felt by those who propose.
const QUEUE: usize = 1024;

/// Bytes of commands in one message to another member, unless a single one is larger.
const SENT_AT_ONCE: usize = 4 << 20;

/// Entries that are read at once while such a message is put together.
const STEP: u64 = 32;

/// Why the log cannot be used.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("cannot read or write the log {LOG_FILE}: {0}")]
    Database(#[from] Box<redb::Error>),
    #[error("cannot use the log {LOG_FILE}: {0}")]
    Volume(#[from] io::Error),
    #[error("in {LOG_FILE}, {0}")]
    Damaged(#[from] Damaged),
    #[error("in {JOURNAL_FILE}, {0}")]
    Journal(Damaged),
    #[error(
        "{JOURNAL_FILE} is damaged: record {number}, due at byte {at}, is not what was written, for record {later} stands behind it; restore this member's volume from its peers"
    )]
    JournalDamaged { number: u64, at: usize, later: u64 },
    #[error(
        "{JOURNAL_FILE} is missing, and the newest entries of the log may have been in it; restore this member's volume from its peers"
    )]
    NoJournal,
    #[error(
        "{LOG_FILE} has a hole: log entry {expected} is missing and {found} follows; restore this member's volume from its peers"
    )]
    Hole { expected: u64, found: u64 },
}

/// The log of one member. Clones share it.
#[derive(Debug, Clone)]
pub struct LogStore {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

/// What the store and its writer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) database: Database,
    memory: Mutex<Memory>,
    /// Why the log can no longer be written.
    pub(super) failure: watch::Sender<Option<String>>,
}

/// What is known without reading the file; ahead of it by what is in the writer's queue.
#[derive(Debug, Default)]
pub(super) struct Memory {
    vote: Option<Vote>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    last: Option<LogId>,
    /// The newest entries, without holes, up to the last.
    cache: BTreeMap<u64, Cached>,
    cached_bytes: usize,
    /// Numbers of the newest job that was queued, and that redb has written.
    queued: u64,
    pub(super) in_file: u64,
}

#[derive(Debug)]
struct Cached {
    entry: Entry,
    bytes: usize,
    job: u64,
}

impl LogStore {
    /// Opens the log of a volume, checks every record in it, takes over what a crash has left in the journal, and starts the
    /// writer. The journal's new key must be one that nobody can guess.
    ///
    /// # Errors
    /// When a file cannot be opened, or a record in it is damaged or missing.
    pub fn open(volume: &dyn Volume, key: u128, metrics: LogMetrics, tasks: &Tasks) -> Result<Self, LogError> {
        let database = open_database(volume)?;
        let (mut memory, place) = load(&database)?;
        let (journal, left) = Journal::open(volume, place, key)?;
        let has_more = !left.is_empty();
        write(&database, left, journal.place())?;
        if has_more {
            (memory, _) = load(&database)?;
        }
        let (jobs, queue) = mpsc::channel(QUEUE);
        let shared = Shared { database, memory: Mutex::new(memory), failure: watch::Sender::new(None) };
        let store = Self { shared: Arc::new(shared), jobs };
        let writer = Writer::new(Arc::clone(&store.shared), journal, queue, metrics);
        volume.run_writer("log writer", tasks, Box::pin(writer.run()));
        Ok(store)
    }

    /// Makes an empty log on a volume that has none.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn create(volume: &dyn Volume) -> Result<(), LogError> {
        create_database(volume)
    }

    /// What the volume holds of this member's promises, with a snapshot that ends at `snapshot`: the log may end before, when
    /// the snapshot came from another member. Asked before Raft runs.
    pub(super) fn papers(&self, snapshot: Option<LogId>) -> Papers {
        let memory = self.shared.memory();
        Papers { vote: memory.vote, last_log: memory.last.max(snapshot) }
    }

    /// Tells when the log can no longer be written, and why.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.shared.failure.subscribe()
    }

    /// The oldest entry that is still in memory, and everything behind it.
    pub fn oldest_in_memory(&self) -> Option<LogIndex> {
        self.shared.memory().cache.first_key_value().map(|(index, _)| LogIndex::new(*index))
    }

    async fn submit(&self, number: u64, change: Change, done: Done) -> io::Result<()> {
        let job = Job { number, change, done };
        self.jobs.send(job).await.map_err(|_| self.shared.failed())
    }
}

impl Shared {
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("nobody panics while holding the log's memory")
    }

    /// The error of every call after the log has failed.
    fn failed(&self) -> io::Error {
        let cause = self.failure.borrow().clone();
        io::Error::other(cause.unwrap_or_else(|| "the log writer has stopped".to_owned()))
    }

    /// Entries of the file, for what is no longer in memory.
    fn read(&self, from: u64, to: u64) -> Result<Vec<Entry>, LogError> {
        let transaction = self.database.begin_read().map_err(redb_error)?;
        let table = transaction.open_table(ENTRIES).map_err(redb_error)?;
        let mut entries = Vec::new();
        for row in table.range(from..to).map_err(redb_error)? {
            let (index, record) = row.map_err(redb_error)?;
            let Wire(entry) = unseal(&entry_name(index.value()), record.value())?;
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// How many bytes the command in an entry has.
pub(super) fn content_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

pub(super) fn entry_name(index: u64) -> String {
    format!("log entry {index}")
}

pub(super) fn redb_error(error: impl Into<redb::Error>) -> LogError {
    LogError::Database(Box::new(error.into()))
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    // Checks every page. A damaged page above the records could hide some of them, and redb panics where it trusts one.
    builder.set_cache_size(PAGE_CACHE).set_check_integrity_on_open(true);
    builder
}

/// Makes the file, if there is none: under another name, and renamed when it is whole, because a power loss while redb makes
/// it would leave a file that does not open.
fn create_database(volume: &dyn Volume) -> Result<(), LogError> {
    if volume.open(LOG_FILE)?.is_some() {
        return Ok(());
    }
    let unfinished = unfinished(LOG_FILE);
    volume.remove(&unfinished)?;
    let database = builder().create_with_backend(Backend(volume.backend(&unfinished)?)).map_err(redb_error)?;
    let transaction = database.begin_write().map_err(redb_error)?;
    transaction.open_table(ENTRIES).map_err(redb_error)?;
    transaction.open_table(MARKS).map_err(redb_error)?;
    transaction.commit().map_err(redb_error)?;
    drop(database);
    volume.rename(&unfinished, LOG_FILE)?;
    Ok(volume.sync_directory()?)
}

fn open_database(volume: &dyn Volume) -> Result<Database, LogError> {
    create_database(volume)?;
    builder().create_with_backend(Backend(volume.backend(LOG_FILE)?)).map_err(redb_error)
}

/// Reads and checks everything in the file; and where the journal stands in front of it, if there has been one.
fn load(database: &Database) -> Result<(Memory, Option<Place>), LogError> {
    let transaction = database.begin_read().map_err(redb_error)?;
    let marks = transaction.open_table(MARKS).map_err(redb_error)?;
    let entries = transaction.open_table(ENTRIES).map_err(redb_error)?;
    let mut memory = Memory::default();
    if let Some(record) = marks.get(VOTE).map_err(redb_error)? {
        memory.vote = Some(unseal::<Wire<Vote>>(VOTE, record.value())?.0);
    }
    for (name, slot) in [(PURGED, &mut memory.purged), (COMMITTED, &mut memory.committed)] {
        if let Some(record) = marks.get(name).map_err(redb_error)? {
            *slot = Some(unseal::<Wire<LogId>>(name, record.value())?.0);
        }
    }
    let place = marks.get(JOURNAL).map_err(redb_error)?;
    let place = place.map(|record| unseal(JOURNAL, record.value())).transpose()?;
    memory.last = memory.purged;
    let first = memory.purged.map_or(0, |purged| purged.index() + 1);
    for (expected, row) in (first..).zip(entries.iter().map_err(redb_error)?) {
        let (index, record) = row.map_err(redb_error)?;
        let found = index.value();
        let Wire(entry) = unseal::<Wire<Entry>>(&entry_name(found), record.value())?;
        if found != expected || entry.log_id.index() != expected {
            return Err(LogError::Hole { expected, found });
        }
        memory.last = Some(entry.log_id);
        memory.remember(entry, 0);
    }
    Ok((memory, place))
}

impl Memory {
    /// Keeps an entry and lets go of the oldest that redb has, beyond the room for them.
    fn remember(&mut self, entry: Entry, job: u64) {
        let bytes = content_bytes(&entry) + size_of::<Cached>();
        self.cached_bytes += bytes;
        self.cache.insert(entry.log_id.index(), Cached { entry, bytes, job });
        while self.cached_bytes > ENTRY_CACHE {
            let Some(first) = self.cache.first_entry().filter(|first| first.get().job <= self.in_file) else { break };
            self.cached_bytes -= first.remove().bytes;
        }
    }

    fn truncate_from(&mut self, index: u64) {
        for cached in self.cache.split_off(&index).into_values() {
            self.cached_bytes -= cached.bytes;
        }
    }

    fn purge_through(&mut self, index: u64) {
        let rest = self.cache.split_off(&(index + 1));
        for cached in std::mem::replace(&mut self.cache, rest).into_values() {
            self.cached_bytes -= cached.bytes;
        }
    }

    fn next_job(&mut self) -> u64 {
        self.queued += 1;
        self.queued
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let from = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let (from, to, mut cached, first_cached) = {
            let memory = self.shared.memory();
            // The file may still hold what was purged or truncated.
            let from = from.max(memory.purged.map_or(0, |purged| purged.index() + 1));
            let to = to.min(memory.last.map_or(0, |last| last.index() + 1)).max(from);
            // A range of a map does not tell how long it is; the copies are made while nobody else can go on.
            let mut cached =
                Vec::with_capacity(memory.cache.len().min(usize::try_from(to - from).unwrap_or(usize::MAX)));
            cached.extend(memory.cache.range(from..to).map(|(_, cached)| cached.entry.clone()));
            (from, to, cached, memory.cache.first_key_value().map(|(index, _)| *index))
        };
        let to_read = first_cached.unwrap_or(to).min(to);
        if from >= to_read {
            return Ok(cached);
        }
        let mut entries = self.shared.read(from, to_read).map_err(io::Error::other)?;
        entries.append(&mut cached);
        Ok(entries)
    }

    /// What is sent to another member at once: bounded by bytes, because openraft bounds it only by entries.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let (mut entries, mut bytes, mut next) = (Vec::new(), 0, start);
        while next < end {
            let until = end.min(next + STEP);
            for entry in self.try_get_log_entries(next..until).await? {
                bytes += content_bytes(&entry);
                if bytes > SENT_AT_ONCE && !entries.is_empty() {
                    return Ok(entries);
                }
                entries.push(entry);
            }
            next = until;
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.memory().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let memory = self.shared.memory();
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: memory.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let number = {
            let mut memory = self.shared.memory();
            memory.vote = Some(*vote);
            memory.next_job()
        };
        let (sender, receiver) = oneshot::channel();
        self.submit(number, Change::Vote(*vote), Done::Caller(sender)).await?;
        receiver.await.map_err(|_| self.shared.failed())?
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let number = {
            let mut memory = self.shared.memory();
            memory.committed = committed;
            memory.next_job()
        };
        self.submit(number, Change::Committed(committed), Done::Nobody).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.memory().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let number = {
            let mut memory = self.shared.memory();
            let number = memory.next_job();
            for entry in &entries {
                memory.last = Some(entry.log_id);
                memory.remember(entry.clone(), number);
            }
            number
        };
        self.submit(number, Change::Append(entries), Done::Raft(callback)).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let from = last_log_id.map_or(0, |last| last.index() + 1);
        let number = {
            let mut memory = self.shared.memory();
            memory.truncate_from(from);
            memory.last = memory.last.min(last_log_id).max(memory.purged);
            memory.next_job()
        };
        self.submit(number, Change::TruncateFrom(from), Done::Nobody).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let number = {
            let mut memory = self.shared.memory();
            memory.purge_through(log_id.index());
            memory.purged = memory.purged.max(Some(log_id));
            memory.last = memory.last.max(Some(log_id));
            memory.next_job()
        };
        self.submit(number, Change::Purge(log_id), Done::Nobody).await
    }
}

/// redb takes a backend by value; the volume hands out a boxed one.
#[derive(Debug)]
pub(super) struct Backend(pub(super) Box<dyn StorageBackend>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}
