//! Records in a file that redb itself finds in order: wrong ones, misplaced ones, missing ones. Each error names the record.

use openraft::storage::RaftLogStorage;
use redb::{Database, ReadableTable};

use super::memory_volume::MemoryVolume;
use super::*;
use crate::raft::codec::Wire;
use crate::raft::log_store::{Backend, ENTRIES, LOG_FILE, MARKS, VOTE, entry_name};
use crate::raft::record::seal;

/// What `LogStore::open` says of a log with a vote and ten entries, after `change` to its tables.
async fn error_after(change: impl FnOnce(&mut redb::Table<u64, &[u8]>, &mut redb::Table<&str, &[u8]>)) -> String {
    let volume = MemoryVolume::default();
    let mut store = open(&volume).unwrap();
    store.save_vote(&vote(3)).await.unwrap();
    append(&mut store, (0..10).map(|index| entry(index, 20)).collect()).await.unwrap();
    close(store).await;
    let database = Database::builder().create_with_backend(Backend(volume.backend(LOG_FILE).unwrap())).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&mut transaction.open_table(ENTRIES).unwrap(), &mut transaction.open_table(MARKS).unwrap());
    transaction.commit().unwrap();
    drop(database);
    open(&volume).unwrap_err().to_string()
}

#[tokio::test]
async fn a_log_entry_that_is_not_the_one_written_is_named() {
    let error = error_after(|entries, _| {
        let mut record = entries.get(4).unwrap().unwrap().value().to_vec();
        *record.last_mut().unwrap() ^= 1;
        entries.insert(4, record.as_slice()).unwrap();
    });
    let error = error.await;
    assert!(error.contains(LOG_FILE) && error.contains("log entry 4 is damaged"), "{error}");
}

#[tokio::test]
async fn a_log_entry_at_the_place_of_another_is_named() {
    let error = error_after(|entries, _| {
        let record = entries.get(4).unwrap().unwrap().value().to_vec();
        entries.insert(5, record.as_slice()).unwrap();
    });
    let error = error.await;
    assert!(error.contains("log entry 5 is damaged"), "{error}");
}

#[tokio::test]
async fn a_log_entry_whose_content_belongs_to_another_index_is_named() {
    let error = error_after(|entries, _| {
        entries.insert(5, &*seal(&entry_name(5), &Wire(entry(6, 20)))).unwrap();
    });
    let error = error.await;
    assert!(error.contains("log entry 5"), "{error}");
}

#[tokio::test]
async fn a_missing_log_entry_is_named() {
    let error = error_after(|entries, _| drop(entries.remove(4).unwrap())).await;
    assert!(error.contains("log entry 4 is missing and 5 follows"), "{error}");
}

#[tokio::test]
async fn a_vote_that_is_not_the_one_written_is_named() {
    let error = error_after(|_, marks| {
        let mut record = marks.get(VOTE).unwrap().unwrap().value().to_vec();
        record.truncate(record.len() - 1);
        marks.insert(VOTE, record.as_slice()).unwrap();
    });
    let error = error.await;
    assert!(error.contains("vote is damaged"), "{error}");
}
