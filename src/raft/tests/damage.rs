//! Every flipped bit and every cut of a small snapshot, and flipped bits in every byte of a small log file: noticed, or
//! without any effect.

use std::sync::Arc;

use openraft::storage::RaftLogStorage;

use super::memory_volume::MemoryVolume;
use super::*;
use crate::machine::command::{Action, Author, Command, KeyCondition};
use crate::machine::{Limits, Machine};
use crate::raft::log_store::LOG_FILE;
use crate::raft::snapshot_store::SnapshotStore;
use crate::raft::type_config::SnapshotMeta;
use crate::types::{Key, LogIndex, Timestamp};

/// Bytes at the beginning of the file that say where everything is.
const HEADER: usize = 320;

/// Whether to try one bit of every byte, or of every eighth.
fn every_byte() -> bool {
    #[expect(clippy::disallowed_methods, reason = "a test's effort is set from outside")]
    let effort = std::env::var("QUORATE_TEST_EFFORT");
    effort.is_ok_and(|effort| effort == "full")
}

/// Every bit of the header; behind it, one bit of each byte that is tried, each time another one.
fn bits_of(bytes: &[u8]) -> impl Iterator<Item = (usize, u8)> + use<> {
    let step = if every_byte() { 1 } else { 8 };
    let header = (0..HEADER).flat_map(|at| (0..8).map(move |bit| (at, bit)));
    header.chain((HEADER..bytes.len()).step_by(step).zip((0..8).cycle()))
}

pub(super) fn small_state() -> (SnapshotMeta, Machine) {
    let mut machine = Machine::new(Limits::default());
    for index in 0..6 {
        let key = Key::new(format!("key/{index}")).unwrap();
        let action = Action::PutKey { key, value: vec![7; 20].into(), only_if: KeyCondition::Always };
        let author = Author::Client(Some(format!("request-{index}").parse().unwrap()));
        machine.apply(LogIndex::new(index), &Command { at: Timestamp::default(), author, action });
    }
    (SnapshotMeta { last_log_id: Some(log_id(5)), ..SnapshotMeta::default() }, machine)
}

#[test]
fn every_flip_and_cut_of_a_snapshot_is_refused_with_the_name_of_the_file() {
    let (meta, machine) = small_state();
    let volume = Arc::new(MemoryVolume::default());
    let store = SnapshotStore::new(Arc::clone(&volume) as Arc<dyn Volume>, Limits::default());
    store.write(&meta, &machine).unwrap();
    let name = volume.names().unwrap().pop().unwrap();
    let whole = volume.bytes(&name);
    let load = |bytes: Vec<u8>| {
        let volume: Arc<dyn Volume> = Arc::new(MemoryVolume::with_file(&name, bytes));
        let store = SnapshotStore::new(volume, Limits::default());
        let file = store.newest().unwrap().unwrap();
        store.load(&file).map(|(meta, machine)| (meta, machine.digest())).map_err(|error| error.to_string())
    };
    assert_eq!(load(whole.clone()), Ok((meta, machine.digest())));
    for (at, bit) in (0..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << bit;
        let error = load(damaged).expect_err("a flipped bit is noticed");
        assert!(error.contains(&name), "byte {at}, bit {bit}: {error}");
    }
    for end in 0..whole.len() {
        let error = load(whole[..end].to_vec()).expect_err("a cut is noticed");
        assert!(error.contains(&name), "cut at {end}: {error}");
    }
    let longer = [whole.as_slice(), &[0]].concat();
    assert!(load(longer).unwrap_err().contains("follow its end"));
}

#[tokio::test]
async fn every_flip_and_cut_of_a_log_is_refused_or_changes_nothing() {
    let volume = MemoryVolume::default();
    let mut store = open(&volume).unwrap();
    store.save_vote(&vote(3)).await.unwrap();
    append(&mut store, (0..12).map(|index| entry(index, 100)).collect()).await.unwrap();
    store.purge(log_id(2)).await.unwrap();
    append(&mut store, vec![entry(12, 100)]).await.unwrap();
    let acknowledged = content(&mut store).await;
    close(store).await;
    let whole = volume.bytes(LOG_FILE);

    let (mut refused, mut harmless) = (0, 0);
    let mut check = async |bytes: Vec<u8>, what: String| match open(&MemoryVolume::with_file(LOG_FILE, bytes)) {
        Err(error) => {
            assert!(error.to_string().contains(LOG_FILE), "{what}: {error}");
            refused += 1;
        }
        Ok(mut store) => {
            assert_eq!(content(&mut store).await, acknowledged, "{what} went unnoticed");
            harmless += 1;
        }
    };
    for (damaged, what) in flips(&whole) {
        check(damaged, what).await;
    }
    for end in (0..whole.len()).step_by(if every_byte() { 64 } else { 512 }) {
        check(whole[..end].to_vec(), format!("cut at {end}")).await;
    }
    println!("log of {} bytes: {refused} damages refused, {harmless} without effect", whole.len());
    assert!(refused > 1000, "{refused} refused, {harmless} harmless");
}

/// With one sync a batch, damage of the newest commit looks like one that was cut short by the crash, and redb goes back to
/// the commit before it. Nothing older is lost in this way.
#[tokio::test]
async fn damage_after_a_crash_costs_at_most_the_newest_batch() {
    let volume = MemoryVolume::default();
    let mut store = open(&volume).unwrap();
    store.save_vote(&vote(3)).await.unwrap();
    append(&mut store, (0..12).map(|index| entry(index, 100)).collect()).await.unwrap();
    let before = content(&mut store).await;
    append(&mut store, vec![entry(12, 100)]).await.unwrap();
    let acknowledged = content(&mut store).await;
    // The file as it is while the member runs is the one that a killed member leaves.
    let whole = volume.bytes(LOG_FILE);
    let (mut refused, mut harmless, mut went_back) = (0, 0, 0);
    for (damaged, what) in flips(&whole) {
        match open(&MemoryVolume::with_file(LOG_FILE, damaged)) {
            Err(error) => {
                assert!(error.to_string().contains(LOG_FILE), "{what}: {error}");
                refused += 1;
            }
            Ok(mut store) => match content(&mut store).await {
                found if found == acknowledged => harmless += 1,
                found if found == before => went_back += 1,
                found => panic!("{what} went unnoticed: {found:?}"),
            },
        }
    }
    println!("{refused} damages refused, {harmless} without effect, {went_back} went back by one batch");
    assert!(refused > 100 && harmless > 100 && went_back > 100, "{refused}, {harmless}, {went_back}");
}

/// The bytes with each bit flipped that is tried.
fn flips(whole: &[u8]) -> impl Iterator<Item = (Vec<u8>, String)> {
    bits_of(whole).filter(|(at, _)| is_used(whole, *at)).map(|(at, bit)| {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 1 << bit;
        (damaged, format!("byte {at}, bit {bit}"))
    })
}

/// Pages that hold nothing but zeros hold no record either.
fn is_used(file: &[u8], at: usize) -> bool {
    const PAGE: usize = 4096;
    let page = at / PAGE * PAGE;
    file[page..(page + PAGE).min(file.len())].iter().any(|byte| *byte != 0)
}
