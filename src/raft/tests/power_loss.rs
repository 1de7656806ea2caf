//! The power fails at any operation, from the creation of the file on: what was acknowledged is there afterwards, and the
//! file opens.

use openraft::storage::RaftLogStorage;

use super::memory_volume::MemoryVolume;
use super::*;

/// Power losses, each followed by another life of the same log.
const LIVES: u64 = 6;

/// Entries of many sizes, a few of them too long for the journal.
fn bytes_of(index: u64) -> usize {
    let bytes = if index % 37 == 36 { 40_000 } else { 40 + index * 97 % 900 };
    usize::try_from(bytes).unwrap()
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_power_fails_at_any_operation() {
    let (mut losses, mut acknowledged_at_loss) = (0, 0);
    for seed in 0..150 {
        let mut volume = MemoryVolume::default();
        let (mut next, mut term) = (0, 0);
        for life in 0..LIVES {
            volume.fail_after(1 + (seed * 37 + life * 101) % 160);
            // What was sent and not answered may be there or not.
            let (mut sent, mut asked) = (next, term);
            if let Ok(mut store) = open(&volume) {
                loop {
                    sent = next + 1 + seed % 5;
                    let entries = (next..sent).map(|index| entry(index, bytes_of(index))).collect();
                    if append(&mut store, entries).await.is_err() {
                        break;
                    }
                    next = sent;
                    asked = term + 1;
                    if store.save_vote(&vote(asked)).await.is_err() {
                        break;
                    }
                    term = asked;
                }
            }
            losses += 1;
            acknowledged_at_loss += next;
            volume = volume.after_power_loss(seed * LIVES + life);
            let mut store = open(&volume).unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
            let (entries, found_vote, _) = content(&mut store).await;
            let found = entries.len() as u64;
            assert!((next..=sent).contains(&found), "seed {seed}, life {life}: {found} of {next} to {sent} entries");
            let found_term = found_vote.map_or(0, |vote| vote.leader_id.term);
            assert!((term..=asked).contains(&found_term), "seed {seed}, life {life}: vote {found_term}, not {term}");
            for (index, found) in (0..).zip(&entries) {
                assert_eq!(found, &entry(index, bytes_of(index)), "seed {seed}, life {life}");
            }
            (next, term) = (found, found_term);
            close(store).await;
        }
    }
    assert!(losses == 900 && acknowledged_at_loss > 1000, "{losses} losses, {acknowledged_at_loss} entries at risk");
}

#[tokio::test]
async fn a_batch_takes_one_sync_and_what_nobody_waits_for_takes_none() {
    const BATCHES: u64 = 1_200;
    let volume = MemoryVolume::default();
    let mut store = open(&volume).unwrap();
    let (before, written) = (volume.syncs(), volume.written());
    for index in 0..BATCHES {
        append(&mut store, vec![entry(index, 100)]).await.unwrap();
        store.save_committed(Some(log_id(index))).await.unwrap();
        if index % 10 == 9 {
            store.purge(log_id(index - 5)).await.unwrap();
        }
        tokio::task::yield_now().await;
    }
    let syncs = volume.syncs() - before;
    let bytes = (volume.written() - written) / BATCHES;
    println!("{syncs} syncs for {BATCHES} batches of one entry with 100 bytes, {bytes} bytes written for each");
    // A sector in the journal, and a share of what redb writes when it takes over hundreds of them.
    assert!((512..4096).contains(&bytes), "{bytes} bytes a batch");
    // redb took over what was in the journal at least twice, and syncs once more when it makes the file longer or shorter.
    assert!((BATCHES + 2..BATCHES + 15).contains(&syncs), "{syncs} syncs for {BATCHES} batches");
    append(&mut store, vec![entry(BATCHES, 100)]).await.unwrap();
    let mut reopened = open(&volume.after_power_loss(1)).unwrap();
    assert_eq!(purged(&mut reopened).await, Some(log_id(BATCHES - 6)), "a purge rides along with the next batch");
}

#[tokio::test]
async fn a_failed_sync_is_never_tried_again() {
    let volume = MemoryVolume::default();
    let mut store = open(&volume).unwrap();
    append(&mut store, vec![entry(0, 10)]).await.unwrap();
    volume.fail_after(1);
    assert!(append(&mut store, vec![entry(1, 10)]).await.is_err());
    assert!(append(&mut store, vec![entry(2, 10)]).await.is_err());
    assert!(store.save_vote(&vote(1)).await.is_err());
    let failure = store.failure().borrow().clone();
    assert!(failure.is_some_and(|cause| cause.contains("the power is off")));
}
