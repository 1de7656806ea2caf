//! What the stores, and a member on top of them, do with a damaged, failing or suddenly dark disk.

mod damage;
pub(super) mod failing_disk;
mod golden;
#[path = "../../../tests/golden/file.rs"]
pub(super) mod golden_file;
pub(super) mod memory_volume;
mod power_loss;
mod reading;
mod receiving;
mod records;

use std::sync::atomic::{AtomicU64, Ordering};

use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use prometheus::Registry;

use super::log_store::{LogError, LogStore};
use super::log_writer::LogMetrics;
use super::type_config::{Entry, EntryPayload, LeaderId, LogId, Proposal, TypeConfig, Vote};
use super::volume::Volume;
use crate::tasks::Tasks;
use crate::types::MemberId;

fn log_id(index: u64) -> LogId {
    LogId::new(LeaderId { term: 1, node_id: MemberId::new(1) }, index)
}

fn entry(index: u64, bytes: usize) -> Entry {
    let content = vec![u8::try_from(index % 251).unwrap(); bytes];
    Entry { log_id: log_id(index), payload: EntryPayload::Normal(Proposal(content.into())) }
}

fn vote(term: u64) -> Vote {
    Vote { leader_id: LeaderId { term, node_id: MemberId::new(1) }, committed: true }
}

fn open(volume: &dyn Volume) -> Result<LogStore, LogError> {
    let (tasks, failures) = Tasks::new();
    // Each start has another one, as if it were drawn.
    static KEY: AtomicU64 = AtomicU64::new(0);
    let key = u128::from(KEY.fetch_add(1, Ordering::Relaxed));
    let store = LogStore::open(volume, key, LogMetrics::register(&Registry::new()).unwrap(), &tasks);
    // The tests see failures in the results of the calls.
    drop(failures);
    store
}

/// Appends and waits for the sync.
async fn append(store: &mut LogStore, entries: Vec<Entry>) -> std::io::Result<()> {
    use openraft::type_config::TypeConfigExt;
    let (sender, receiver) = TypeConfig::oneshot();
    store.append(entries, IOFlushed::signal(sender)).await?;
    receiver.await.map_err(std::io::Error::other)?
}

/// Everything that the log holds, for comparison.
async fn content(store: &mut LogStore) -> (Vec<Entry>, Option<Vote>, Option<LogId>) {
    let entries = store.try_get_log_entries(..).await.unwrap();
    (entries, store.read_vote().await.unwrap(), purged(store).await)
}

async fn purged(store: &mut LogStore) -> Option<LogId> {
    store.get_log_state().await.unwrap().last_purged_log_id
}

/// Drops the log and waits until its writer has ended and closed the file.
async fn close(store: LogStore) {
    drop(store);
    tokio::task::yield_now().await;
}
