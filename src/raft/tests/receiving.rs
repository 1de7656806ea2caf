//! Snapshots that another member sends: good ones, damaged ones, and several at once.

use std::sync::Arc;

use bytes::Bytes;

use super::damage::small_state;
use super::memory_volume::MemoryVolume;
use super::*;
use crate::machine::Limits;
use crate::raft::receiving::Receiving;
use crate::raft::snapshot_store::SnapshotStore;
use crate::raft::type_config::SnapshotMeta;

/// A member that receives, its volume, and the metadata and bytes of a snapshot for it.
struct Receiver {
    receiving: Receiving,
    volume: MemoryVolume,
    snapshots: SnapshotStore,
    meta: SnapshotMeta,
    whole: Vec<u8>,
}

fn snapshots(volume: &MemoryVolume) -> SnapshotStore {
    SnapshotStore::new(Arc::new(volume.clone()), Limits::default())
}

fn receiver() -> Receiver {
    let (meta, machine) = small_state();
    let sender = MemoryVolume::default();
    snapshots(&sender).write(&meta, &machine).unwrap();
    let whole = sender.bytes(&sender.names().unwrap().pop().unwrap());
    let (volume, receiving) = (MemoryVolume::default(), Receiving::default());
    let snapshots = snapshots(&volume);
    receiving.open(Arc::new(volume.clone()), snapshots.clone());
    Receiver { receiving, volume, snapshots, meta, whole }
}

impl Receiver {
    async fn begin(&self) -> u64 {
        self.receiving.begin(vote(1), self.meta.clone(), self.whole.len() as u64).await.unwrap()
    }

    async fn send(&self, number: u64, bytes: &[u8]) {
        for (part, offset) in bytes.chunks(100).zip((0..).step_by(100)) {
            self.receiving.part(number, offset, Bytes::copy_from_slice(part)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_snapshot_that_comes_damaged_is_refused_with_its_record_and_leaves_nothing() {
    let receiver = receiver();
    let mut damaged = receiver.whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let number = receiver.begin().await;
    receiver.send(number, &damaged).await;
    let Err(error) = receiver.receiving.end(number).await else { panic!("it is refused") };
    assert!(error.contains("snapshot record "), "{error}");
    assert_eq!(receiver.volume.names().unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_snapshot_other_than_the_announced_one_is_refused() {
    let mut receiver = receiver();
    receiver.meta.last_log_id = Some(log_id(99));
    let number = receiver.begin().await;
    receiver.send(number, &receiver.whole).await;
    let Err(error) = receiver.receiving.end(number).await else { panic!("it is refused") };
    assert!(error.contains("announced"), "{error}");
}

#[tokio::test]
async fn a_snapshot_that_begins_to_come_while_another_is_installed_disturbs_nothing() {
    let receiver = receiver();
    let number = receiver.begin().await;
    receiver.send(number, &receiver.whole).await;
    let received = receiver.receiving.end(number).await.unwrap();
    let next = receiver.begin().await;
    receiver.send(next, b"another one, half of it").await;

    let (meta, machine) = receiver.snapshots.install(received.file).unwrap();
    assert_eq!((&meta, machine.digest()), (&receiver.meta, small_state().1.digest()));
    let newest = receiver.snapshots.newest().unwrap().unwrap();
    assert_eq!(receiver.snapshots.load(&newest).unwrap().1.digest(), machine.digest());
}

#[tokio::test]
async fn a_transfer_that_is_given_up_leaves_nothing() {
    let receiver = receiver();
    for _ in 0..3 {
        let number = receiver.begin().await;
        receiver.send(number, &receiver.whole[..150]).await;
        assert_eq!(receiver.volume.names().unwrap().len(), 1, "only the newest is kept");
    }
    receiver.receiving.close();
    assert_eq!(receiver.volume.names().unwrap(), [""; 0]);
}
