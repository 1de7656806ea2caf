//! Every flipped bit and every cut of a small snapshot, and flipped bits in every byte of a small log file: noticed, or
//! without any effect.

use std::panic::{AssertUnwindSafe, catch_unwind};
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

/// Whether to try one bit of every byte, or of every eighth.
fn every_byte() -> bool {
    #[expect(clippy::disallowed_methods, reason = "a test's effort is set from outside")]
    let effort = std::env::var("QUORATE_TEST_EFFORT");
    effort.is_ok_and(|effort| effort == "full")
}

/// One bit of each byte that is tried, each time another one.
fn bits_of(bytes: &[u8]) -> impl Iterator<Item = (usize, u8)> + use<> {
    let step = if every_byte() { 1 } else { 8 };
    (0..bytes.len()).step_by(step).zip((0..8).cycle())
}

fn small_state() -> (SnapshotMeta, Machine) {
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
    let mut check = async |bytes: Vec<u8>, what: String| {
        let damaged = MemoryVolume::with_file(LOG_FILE, bytes);
        // redb itself ends some damage with a panic, which stops a member as surely as an error.
        match catch_unwind(AssertUnwindSafe(|| open(&damaged))) {
            Err(_) | Ok(Err(_)) => refused += 1,
            Ok(Ok(mut store)) => {
                assert_eq!(content(&mut store).await, acknowledged, "{what} went unnoticed");
                harmless += 1;
            }
        }
    };
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for (at, bit) in bits_of(&whole).filter(|(at, _)| is_used(&whole, *at)) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << bit;
        check(damaged, format!("byte {at}, bit {bit}")).await;
    }
    for end in (0..whole.len()).step_by(if every_byte() { 64 } else { 512 }) {
        check(whole[..end].to_vec(), format!("cut at {end}")).await;
    }
    std::panic::set_hook(quiet);
    println!("log of {} bytes: {refused} damages refused, {harmless} without effect", whole.len());
    assert!(refused > 1000, "{refused} refused, {harmless} harmless");
}

/// Pages that hold nothing but zeros hold no record either.
fn is_used(file: &[u8], at: usize) -> bool {
    const PAGE: usize = 4096;
    let page = at / PAGE * PAGE;
    file[page..(page + PAGE).min(file.len())].iter().any(|byte| *byte != 0)
}
