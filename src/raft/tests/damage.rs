//! Every flipped bit and every cut of a small snapshot and of a small log file (at full effort; else a part of them): noticed,
//! or without any effect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

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

/// What damage does to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip { at: usize, bit: usize },
    Cut { at: usize },
}

impl Damage {
    fn of(self, whole: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        match self {
            Self::Flip { at, bit } => bytes[at] ^= 1 << bit,
            Self::Cut { at } => bytes.truncate(at),
        }
        bytes
    }
}

/// How many of the damages that there can be are tried.
#[derive(Debug, Clone, Copy)]
enum Density {
    /// Every bit and every cut.
    Every,
    /// One bit of each byte, each time another one.
    OfByte,
    /// One bit of every eighth byte, and one cut in 512.
    Few,
}

/// As many as the effort of the tests asks for.
fn density(at_full_effort: Density) -> Density {
    #[expect(clippy::disallowed_methods, reason = "a test's effort is set from outside")]
    let effort = std::env::var("QUORATE_TEST_EFFORT");
    if effort.is_ok_and(|effort| effort == "full") { at_full_effort } else { Density::Few }
}

/// Every bit of the header, and those of the rest that are to be tried.
fn flips(whole: &[u8], density: Density) -> impl Iterator<Item = Damage> {
    let bits = move |at: usize| match density {
        _ if at < HEADER => 0..8,
        Density::Every => 0..8,
        Density::OfByte => at % 8..at % 8 + 1,
        Density::Few if at.is_multiple_of(8) => at / 8 % 8..at / 8 % 8 + 1,
        Density::Few => 0..0,
    };
    let used = (0..whole.len()).filter(|at| is_used(whole, *at));
    used.flat_map(move |at| bits(at).map(move |bit| Damage::Flip { at, bit }))
}

/// Every cut, or one in 512.
fn cuts(whole: &[u8], density: Density) -> impl Iterator<Item = Damage> + use<> {
    let step = match density {
        Density::Every => 1,
        Density::OfByte | Density::Few => 512,
    };
    (0..whole.len()).step_by(step).map(|at| Damage::Cut { at })
}

/// Pages that hold nothing but zeros hold no record either.
fn is_used(file: &[u8], at: usize) -> bool {
    const PAGE: usize = 4096;
    let page = at / PAGE * PAGE;
    file[page..(page + PAGE).min(file.len())].iter().any(|byte| *byte != 0)
}

/// What a log holds: entries, vote, and the last that was purged.
type Content = (Vec<Entry>, Option<Vote>, Option<LogId>);

/// Opens the log file with each damage, on all cores, and counts what `judge` says of what is found. An error names the file.
fn tally(
    whole: &[u8],
    damages: &[Damage],
    judge: impl Fn(Damage, Option<Content>) -> &'static str + Sync,
) -> BTreeMap<&'static str, usize> {
    let found_with = async |damage: Damage| match open(&MemoryVolume::with_file(LOG_FILE, damage.of(whole))) {
        Ok(mut store) => {
            let found = content(&mut store).await;
            close(store).await;
            Some(found)
        }
        Err(error) => {
            assert!(error.to_string().contains(LOG_FILE), "{damage:?}: {error}");
            None
        }
    };
    let next = AtomicUsize::new(0);
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut counts = BTreeMap::new();
        while let Some(damage) = damages.get(next.fetch_add(1, Ordering::Relaxed)) {
            *counts.entry(judge(*damage, runtime.block_on(found_with(*damage)))).or_insert(0) += 1;
        }
        counts
    };
    let mut counts = BTreeMap::new();
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for (verdict, count) in workers.into_iter().flat_map(|worker| worker.join().unwrap()) {
            *counts.entry(verdict).or_insert(0) += count;
        }
    });
    println!("log of {} bytes: {counts:?}", whole.len());
    counts
}

pub(super) fn small_state() -> (SnapshotMeta, Machine) {
    let mut machine = Machine::new(Limits::default());
    for index in 0..6 {
        let key = Key::new(format!("key/{index}")).unwrap();
        let action = Action::PutKey { key, value: vec![7; 20].into(), session: None, only_if: KeyCondition::Always };
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

    let density = density(Density::Every);
    let damages: Vec<_> = flips(&whole, density).chain(cuts(&whole, density)).collect();
    let counts = tally(&whole, &damages, |damage, found| match found {
        None => "refused",
        Some(found) => {
            assert_eq!(found, acknowledged, "{damage:?} went unnoticed");
            "harmless"
        }
    });
    assert!(counts["refused"] > 1000, "{counts:?}");
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
    let damages: Vec<_> = flips(&whole, density(Density::OfByte)).collect();
    let counts = tally(&whole, &damages, |damage, found| match found {
        None => "refused",
        Some(found) if found == acknowledged => "harmless",
        Some(found) if found == before => "went back by one batch",
        Some(found) => panic!("{damage:?} went unnoticed: {found:?}"),
    });
    assert!(counts.len() == 3 && counts.values().all(|count| *count > 100), "{counts:?}");
}
