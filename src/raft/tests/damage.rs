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
use crate::raft::journal::JOURNAL_FILE;
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

/// The log's two files as they are on a volume.
struct Files {
    log: Vec<u8>,
    journal: Vec<u8>,
}

impl Files {
    fn of(volume: &MemoryVolume) -> Self {
        Self { log: volume.bytes(LOG_FILE), journal: volume.bytes(JOURNAL_FILE) }
    }

    fn bytes(&self, name: &str) -> &[u8] {
        if name == LOG_FILE { &self.log } else { &self.journal }
    }

    /// A volume with both, one of them damaged.
    fn with(&self, damaged: &str, damage: Damage) -> MemoryVolume {
        MemoryVolume::with_files([LOG_FILE, JOURNAL_FILE].map(|name| {
            let whole = self.bytes(name);
            (name, if name == damaged { damage.of(whole) } else { whole.to_vec() })
        }))
    }
}

/// Opens the log with each damage of the file `name`, on all cores, and counts what `judge` says of what is found. An error names
/// a file.
fn tally(
    files: &Files,
    name: &str,
    damages: &[Damage],
    judge: impl Fn(Damage, Option<Content>) -> &'static str + Sync,
) -> BTreeMap<&'static str, usize> {
    let found_with = async |damage: Damage| match open(&files.with(name, damage)) {
        Ok(mut store) => {
            let found = content(&mut store).await;
            close(store).await;
            Some(found)
        }
        Err(error) => {
            let said = error.to_string();
            assert!([LOG_FILE, JOURNAL_FILE].iter().any(|file| said.contains(file)), "{damage:?}: {error}");
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
    println!("{name} of {} bytes: {counts:?}", files.bytes(name).len());
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
    let files = Files::of(&volume);

    let density = density(Density::Every);
    let damages: Vec<_> = flips(&files.log, density).chain(cuts(&files.log, density)).collect();
    let counts = tally(&files, LOG_FILE, &damages, |damage, found| match found {
        None => "refused",
        Some(found) => {
            assert_eq!(found, acknowledged, "{damage:?} went unnoticed");
            "harmless"
        }
    });
    assert!(counts["refused"] > 1000, "{counts:?}");
}

/// A log with a vote, twelve entries, one that is too long for the journal, so that redb has taken over all of them, and `newest`
/// batches of one entry in the journal; what it holds, and what it held before the last batch.
async fn killed(newest: u64) -> (Files, Content, Content) {
    let volume = MemoryVolume::default();
    let mut store = open(&volume).unwrap();
    store.save_vote(&vote(3)).await.unwrap();
    append(&mut store, (0..12).map(|index| entry(index, 100)).collect()).await.unwrap();
    let mut before = content(&mut store).await;
    append(&mut store, vec![entry(12, 40_000)]).await.unwrap();
    for index in 13..13 + newest {
        before = content(&mut store).await;
        append(&mut store, vec![entry(index, 100)]).await.unwrap();
    }
    let acknowledged = content(&mut store).await;
    // The files as they are while the member runs are those that a killed member leaves.
    (Files::of(&volume), acknowledged, before)
}

/// With one sync a batch, damage of the newest record looks like one that was cut short by the crash. Nothing older is lost in
/// this way.
#[tokio::test]
async fn damage_of_the_journal_after_a_crash_costs_at_most_the_newest_batch() {
    let (files, acknowledged, before) = killed(4).await;
    let damages: Vec<_> = flips(&files.journal, Density::OfByte).chain(cuts(&files.journal, Density::Every)).collect();
    let counts = tally(&files, JOURNAL_FILE, &damages, |damage, found| match found {
        None => "refused",
        Some(found) if found == acknowledged => "harmless",
        Some(found) if found == before => "went back by one batch",
        Some(found) => match damage {
            // A file that ends where a record ended once is one that never had the records behind it.
            Damage::Cut { .. } if acknowledged.0.starts_with(&found.0) => "cut short",
            Damage::Cut { .. } | Damage::Flip { .. } => panic!("{damage:?} went unnoticed: {found:?}"),
        },
    });
    assert!(counts.len() == 4 && counts.values().all(|count| *count > 100), "{counts:?}");
}

/// redb goes back by a commit when its newest one is damaged. What it had taken over is then still in the journal, or the
/// journal does not fit any more; only a batch that was too long for the journal, and is the newest, is lost.
#[tokio::test]
async fn damage_of_the_log_after_a_crash_is_refused_or_changes_nothing() {
    for newest in [0, 1] {
        let (files, acknowledged, before) = killed(newest).await;
        let damages: Vec<_> = flips(&files.log, Density::Few).collect();
        let counts = tally(&files, LOG_FILE, &damages, |damage, found| match found {
            None => "refused",
            Some(found) if found == acknowledged => "harmless",
            Some(found) if newest == 0 && found == before => "went back by one batch",
            Some(found) => panic!("{damage:?} went unnoticed, with {newest} batches in the journal: {found:?}"),
        });
        assert!(counts["refused"] > 100 && counts["harmless"] > 100, "{counts:?}");
    }
}
