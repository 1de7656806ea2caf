//! The only one that writes the log's file.
//!
//! It takes whatever waits in its queue, writes it in one transaction with one sync, and only then answers. A failed write or
//! sync is final: the transaction may or may not be on disk, so nothing is written after it.

use std::fmt;
use std::io;
use std::sync::Arc;

use openraft::storage::IOFlushed;
use prometheus::{Histogram, HistogramOpts, IntCounter, Registry};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::ailment::DiskPulse;
use super::codec::Wire;
use super::log_store::{COMMITTED, ENTRIES, LogError, MARKS, PURGED, Shared, VOTE, entry_name, redb_error};
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

/// The only one that writes the file.
pub(super) struct Writer {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Job>,
    metrics: LogMetrics,
    /// Changes that nobody waits for; they ride along with the next batch.
    deferred: Vec<Change>,
}

impl Writer {
    /// Over the file that `shared` has open.
    pub(super) fn new(shared: Arc<Shared>, queue: mpsc::Receiver<Job>, metrics: LogMetrics) -> Self {
        Self { shared, queue, metrics, deferred: Vec::new() }
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
        if !self.deferred.is_empty() {
            // Nobody waits for it, and nothing is lost without it.
            drop(self.commit());
        }
    }

    /// Writes a batch and answers those who wait for it.
    fn take(&mut self, batch: Vec<Job>) -> Result<(), LogError> {
        let (mut waiting, mut newest) = (Vec::new(), 0);
        for job in batch {
            newest = job.number;
            self.deferred.push(job.change);
            if !matches!(job.done, Done::Nobody) {
                waiting.push(job.done);
            }
        }
        if waiting.is_empty() && self.deferred.len() < BATCH {
            return Ok(());
        }
        let result = self.commit();
        if result.is_ok() {
            self.shared.memory().written = newest;
        }
        for done in waiting {
            let told = result.as_ref().map_err(|error| io::Error::other(error.to_string())).copied();
            match done {
                Done::Raft(callback) => callback.io_completed(told),
                // The caller may have been dropped meanwhile.
                Done::Caller(sender) => drop(sender.send(told)),
                Done::Nobody => {}
            }
        }
        result
    }

    /// One transaction, one sync.
    fn commit(&mut self) -> Result<(), LogError> {
        let started = Instant::now();
        self.metrics.pulse.begins(started);
        let (mut bytes, mut appended) = (0, 0);
        let transaction = self.shared.database.begin_write().map_err(redb_error)?;
        {
            let mut entries = transaction.open_table(ENTRIES).map_err(redb_error)?;
            let mut marks = transaction.open_table(MARKS).map_err(redb_error)?;
            let mut mark = |name: &str, record: Vec<u8>| {
                bytes += record.len();
                marks.insert(name, record.as_slice()).map(drop).map_err(redb_error)
            };
            for change in self.deferred.drain(..) {
                match change {
                    Change::Append(list) => {
                        for entry in list {
                            let index = entry.log_id.index();
                            let record = seal(&entry_name(index), &Wire(entry));
                            appended += 1;
                            self.metrics.written_bytes.inc_by(record.len() as u64);
                            entries.insert(index, record.as_slice()).map_err(redb_error)?;
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
        }
        transaction.commit().map_err(redb_error)?;
        self.metrics.pulse.ends(Instant::now());
        self.metrics.written_bytes.inc_by(bytes as u64);
        self.metrics.batch_entries.observe(f64::from(appended));
        self.metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
        Ok(())
    }
}
