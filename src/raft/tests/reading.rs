//! How much of the log is read at once.

use openraft::storage::RaftLogReader;

use super::*;
use crate::raft::volume::DiskVolume;

#[tokio::test]
async fn what_is_sent_at_once_is_bounded_by_bytes_and_never_empty() {
    let directory = tempfile::tempdir().unwrap();
    let volume = DiskVolume::open(directory.path()).unwrap();
    let mut store = open(&*volume).unwrap();
    append(&mut store, (0..100).map(|index| entry(index, 1 << 20)).collect()).await.unwrap();
    append(&mut store, (100..200).map(|index| entry(index, 10)).collect()).await.unwrap();
    append(&mut store, vec![entry(200, 6 << 20), entry(201, 10)]).await.unwrap();
    let mut lengths = Vec::new();
    for start in [0, 50, 98, 100, 200, 201] {
        let read = store.limited_get_log_entries(start, 202).await.unwrap();
        assert_eq!(
            read.iter().map(|entry| entry.log_id.index()).collect::<Vec<_>>(),
            (start..start + read.len() as u64).collect::<Vec<_>>()
        );
        lengths.push(read.len());
    }
    assert_eq!(lengths, [4, 4, 102, 100, 1, 1], "4 MiB, a few large and many small ones, one that is larger alone");
}
