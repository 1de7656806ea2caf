//! What is on a volume, byte by byte, against the golden files of each release: the records of the log, a whole log file, a
//! whole snapshot.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::RaftLogStorage;

use super::damage::small_state;
use super::golden_file as file;
use super::memory_volume::MemoryVolume;
use super::*;
use crate::encoding::{Decode, Encode};
use crate::machine::Limits;
use crate::raft::codec::Wire;
use crate::raft::journal::{self, Place};
use crate::raft::log_store::{COMMITTED, LOG_FILE, PURGED, VOTE, entry_name};
use crate::raft::log_writer::Change;
use crate::raft::record::{seal, unseal};
use crate::raft::snapshot_store::SnapshotStore;
use crate::raft::status::MemberNode;
use crate::raft::type_config::Membership;

/// One of each kind of entry.
fn entries() -> Vec<Entry> {
    let node = |name: &str| MemberNode {
        name: name.to_owned(),
        address: format!("{name}:7400"),
        incarnation: "0000000000000000000000000000000000000007".to_owned(),
    };
    let nodes = BTreeMap::from([(MemberId::new(1), node("a")), (MemberId::new(2), node("b"))]);
    let joint = vec![[MemberId::new(1)].into(), [MemberId::new(1), MemberId::new(2)].into()];
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Proposal(Bytes::from_static(b"command"))),
        EntryPayload::Membership(Membership::new(joint, nodes).unwrap()),
    ];
    (3..).zip(payloads).map(|(index, payload)| Entry { log_id: log_id(index), payload }).collect()
}

/// Compares the record of each value under its name with the file, and reads each line back under that name.
fn agree<T>(golden: &str, values: Vec<(String, T)>)
where
    T: Clone,
    Wire<T>: Encode + Decode + PartialEq + std::fmt::Debug,
{
    let record = |(name, value): &(String, T)| (name.clone(), seal(name, &Wire(value.clone())));
    file::compare(golden, &values.iter().map(record).collect::<Vec<_>>());
    for (bytes, (name, value)) in file::read(golden).iter().zip(values) {
        assert_eq!(unseal::<Wire<T>>(&name, bytes), Ok(Wire(value)), "{name}");
    }
}

#[test]
fn the_records_of_the_log_have_the_bytes_of_every_release() {
    agree("0.1/log-votes.txt", vec![(VOTE.to_owned(), vote(3))]);
    agree("0.1/log-marks.txt", [(PURGED, 2), (COMMITTED, 4)].map(|(name, at)| (name.to_owned(), log_id(at))).into());
    agree(
        "0.1/log-entries.txt",
        entries().into_iter().map(|entry| (entry_name(entry.log_id.index()), entry)).collect(),
    );
}

#[test]
fn a_record_of_the_journal_has_the_bytes_of_every_release() {
    let changes = || {
        vec![
            Change::TruncateFrom(3),
            Change::Append(entries()),
            Change::Vote(vote(3)),
            Change::Purge(log_id(2)),
            Change::Committed(Some(log_id(4))),
        ]
    };
    let place = Place { key: 7, number: 0 };
    let record = journal::frame(place, &journal::to_bytes(&changes()));
    file::compare("0.1/journal.txt", &[("journal record 0".to_owned(), record.freeze())]);
    for bytes in file::read("0.1/journal.txt") {
        let read = journal::read(&bytes, place).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", changes()));
    }
    let mark = [("place".to_owned(), place.to_bytes())];
    file::compare("0.1/journal-place.txt", &mark);
    assert_eq!(Place::from_bytes(file::read("0.1/journal-place.txt").remove(0)), Ok(place));
}

#[test]
fn a_snapshot_has_the_bytes_of_every_release() {
    let (meta, machine) = small_state();
    let volume = MemoryVolume::default();
    SnapshotStore::new(Arc::new(volume.clone()), Limits::default()).write(&meta, &machine).unwrap();
    let name = volume.names().unwrap().pop().unwrap();
    file::compare("0.1/snapshot.txt", &[(name.clone(), volume.bytes(&name).into())]);
    for bytes in file::read("0.1/snapshot.txt") {
        let volume = MemoryVolume::with_file(&name, bytes.to_vec());
        let snapshots = SnapshotStore::new(Arc::new(volume), Limits::default());
        let (read, restored) = snapshots.load(&snapshots.newest().unwrap().unwrap()).unwrap();
        assert_eq!((read, restored.digest()), (meta.clone(), machine.digest()));
    }
}

/// The file is redb's, so that it is read and not compared.
#[tokio::test]
async fn a_log_file_of_every_release_can_be_read() {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", "0.1", LOG_FILE].iter().collect();
    #[expect(clippy::disallowed_methods, reason = "the test's own setting")]
    if std::env::var("QUORATE_REWRITE_GOLDEN").is_ok() {
        let volume = MemoryVolume::default();
        let mut store = open(&volume).unwrap();
        store.save_vote(&vote(3)).await.unwrap();
        append(&mut store, (0..3).map(|index| entry(index, 20)).chain(entries()).collect()).await.unwrap();
        store.purge(log_id(2)).await.unwrap();
        store.save_committed(Some(log_id(4))).await.unwrap();
        close(store).await;
        fs::write(&path, volume.bytes(LOG_FILE)).unwrap();
    }
    let mut store = open(&MemoryVolume::with_file(LOG_FILE, fs::read(&path).unwrap())).unwrap();
    assert_eq!(content(&mut store).await, (entries(), Some(vote(3)), Some(log_id(2))));
    assert_eq!(store.read_committed().await.unwrap(), Some(log_id(4)));
}
