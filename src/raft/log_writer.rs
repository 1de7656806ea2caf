//! The only one that writes the log's files.
//!
//! It takes whatever waits in its queue, writes it to the journal with one sync, and only then answers; redb takes over what
//! has gathered there, and what is too long for it (see `journal.rs`). A failed write or sync is final: what was written may or
//! may not be on disk, so nothing is written after it.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::IOFlushed;
use prometheus::{Histogram, HistogramOpts, IntCounter, Registry};
use redb::Database;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::ailment::DiskPulse;
use super::codec::Wire;
use super::journal::{Journal, Place};
use super::log_store::{
    COMMITTED, ENTRIES, JOURNAL, LogError, MARKS, PURGED, Shared, VOTE, content_bytes, entry_name, redb_error,
};
use super::record::seal;
use super::type_config::{Entry, LogId, TypeConfig, Vote};

/// Jobs in one transaction, so that no caller waits for an endless batch.
const BATCH: usize = 512;

/// What the log tells Prometheus, and who looks after the member.
#[derive(Debug, Clone)]
pub struct LogMetrics {
    pub sync_seconds: Histogram,
    pub batch_entries: Histogram,
    pub written_bytes: IntCounter,
    pub pulse: DiskPulse,
}

impl LogMetrics {
    /// Declares the metrics in `registry`.
    ///
    /// # Errors
    /// When they are declared there already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let seconds = prometheus::exponential_buckets(0.000_05, 2.0, 16)?;
        let sync = HistogramOpts::new("quorate_log_sync_seconds", "Time to write and sync one batch of the Raft log.");
        let batch = HistogramOpts::new("quorate_log_batch_entries", "Log entries written with one sync.");
        let metrics = Self {
            sync_seconds: Histogram::with_opts(sync.buckets(seconds))?,
            batch_entries: Histogram::with_opts(batch.buckets(prometheus::exponential_buckets(1.0, 2.0, 12)?))?,
            written_bytes: IntCounter::new(
                "quorate_log_written_bytes_total",
                "Bytes of records written to the Raft log.",
            )?,
            pulse: DiskPulse::default(),
        };
        registry.register(Box::new(metrics.sync_seconds.clone()))?;
        registry.register(Box::new(metrics.batch_entries.clone()))?;
        registry.register(Box::new(metrics.written_bytes.clone()))?;
        Ok(metrics)
    }
}

/// One change of the log on its way to the disk, with its place in the order of changes.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) change: Change,
    pub(super) done: Done,
}

/// What changes.
#[derive(Debug)]
pub(super) enum Change {
    Append(Vec<Entry>),
    Vote(Vote),
    TruncateFrom(u64),
    Purge(LogId),
    Committed(Option<LogId>),
}

/// Who waits for the sync.
pub(super) enum Done {
    Nobody,
    Raft(IOFlushed<TypeConfig>),
    Caller(oneshot::Sender<io::Result<()>>),
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Raft(_) => "Raft",
            Self::Caller(_) => "Caller",
        })
    }
}

/// The only one that writes the files.
pub(super) struct Writer {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Job>,
    metrics: LogMetrics,
    journal: Journal,
    /// Changes that nobody waits for; they ride along with the next batch.
    deferred: Vec<Change>,
    /// Changes in the journal, for redb to take over.
    journaled: Vec<Change>,
    /// The number of the newest job among them.
    newest: u64,
}

impl Writer {
    /// Over the files that `shared` has open, and the journal in front of them, which is empty.
    pub(super) fn new(shared: Arc<Shared>, journal: Journal, queue: mpsc::Receiver<Job>, metrics: LogMetrics) -> Self {
        Self { shared, queue, metrics, journal, deferred: Vec::new(), journaled: Vec::new(), newest: 0 }
    }

    /// Writes until the log store is dropped, or a write fails.
    pub(super) async fn run(mut self) {
        while let Some(job) = self.queue.recv().await {
            let mut batch = vec![job];
            while let (true, Ok(job)) = (batch.len() < BATCH, self.queue.try_recv()) {
                batch.push(job);
            }
            if let Err(error) = self.take(batch) {
                tracing::error!(%error, "the log cannot be written; this member must stop");
                self.shared.failure.send_replace(Some(error.to_string()));
                return;
            }
        }
        // Nobody waits for it, and nothing is lost without it.
        drop(self.fold());
    }

    /// Writes a batch and answers those who wait for it.
    fn take(&mut self, batch: Vec<Job>) -> Result<(), LogError> {
        let mut waiting = Vec::new();
        for job in batch {
            self.newest = job.number;
            self.deferred.push(job.change);
            if !matches!(job.done, Done::Nobody) {
                waiting.push(job.done);
            }
        }
        if waiting.is_empty() && self.deferred.len() < BATCH {
            return Ok(());
        }
        let result = self.keep();
        for done in waiting {
            let told = result.as_ref().map_err(|error| io::Error::other(error.to_string())).copied();
            match done {
                Done::Raft(callback) => callback.io_completed(told),
                // The caller may have been dropped meanwhile.
                Done::Caller(sender) => drop(sender.send(told)),
                Done::Nobody => {}
            }
        }
        result?;
        if self.journal.is_full() { self.fold() } else { Ok(()) }
    }

    /// Makes what is deferred durable, with one sync.
    fn keep(&mut self) -> Result<(), LogError> {
        let started = Instant::now();
        self.metrics.pulse.begins(started);
        let entries = self.deferred.iter().map(Change::entries).sum::<usize>();
        if self.journal.keep(&self.deferred)? {
            self.journaled.append(&mut self.deferred);
        } else {
            self.fold()?;
        }
        self.metrics.pulse.ends(Instant::now());
        self.metrics.batch_entries.observe(entries as f64);
        self.metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Lets redb take over what is in the journal, and what is deferred.
    fn fold(&mut self) -> Result<(), LogError> {
        self.journaled.append(&mut self.deferred);
        let changes = std::mem::take(&mut self.journaled);
        let bytes = write(&self.shared.database, changes, self.journal.place())?;
        self.journal.begin_again();
        self.shared.memory().in_file = self.newest;
        self.metrics.written_bytes.inc_by(bytes);
        Ok(())
    }
}

impl Change {
    fn entries(&self) -> usize {
        match self {
            Self::Append(entries) => entries.len(),
            Self::Vote(_) | Self::TruncateFrom(_) | Self::Purge(_) | Self::Committed(_) => 0,
        }
    }

    /// Bytes of commands in it.
    pub(super) fn content_bytes(&self) -> usize {
        match self {
            Self::Append(entries) => entries.iter().map(content_bytes).sum(),
            Self::Vote(_) | Self::TruncateFrom(_) | Self::Purge(_) | Self::Committed(_) => 0,
        }
    }
}

/// Writes changes to redb in one transaction with one sync, and that the journal goes on at `place`; how many bytes there were.
pub(super) fn write(database: &Database, changes: Vec<Change>, place: Place) -> Result<u64, LogError> {
    let mut bytes = 0;
    let transaction = database.begin_write().map_err(redb_error)?;
    {
        let mut entries = transaction.open_table(ENTRIES).map_err(redb_error)?;
        let mut marks = transaction.open_table(MARKS).map_err(redb_error)?;
        let mut mark = |name: &str, record: Bytes| {
            bytes += record.len() as u64;
            marks.insert(name, &*record).map(drop).map_err(redb_error)
        };
        mark(JOURNAL, seal(JOURNAL, &place))?;
        let mut written = 0;
        for change in changes {
            match change {
                Change::Append(list) => {
                    for entry in list {
                        let index = entry.log_id.index();
                        let record = seal(&entry_name(index), &Wire(entry));
                        written += record.len() as u64;
                        entries.insert(index, &*record).map_err(redb_error)?;
                    }
                }
                Change::Vote(vote) => mark(VOTE, seal(VOTE, &Wire(vote)))?,
                Change::TruncateFrom(index) => entries.retain_in(index.., |_, _| false).map_err(redb_error)?,
                Change::Purge(log_id) => {
                    entries.retain_in(..=log_id.index(), |_, _| false).map_err(redb_error)?;
                    mark(PURGED, seal(PURGED, &Wire(log_id)))?;
                }
                Change::Committed(Some(log_id)) => mark(COMMITTED, seal(COMMITTED, &Wire(log_id)))?,
                Change::Committed(None) => {}
            }
        }
        bytes += written;
    }
    transaction.commit().map_err(redb_error)?;
    Ok(bytes)
}
