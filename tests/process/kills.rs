//! Members that are killed and stopped again and again while clients work.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use crate::alone;
use crate::support::effort::Effort;
use crate::support::history::Operation;
use crate::support::linearizability::{self, Verdict};
use crate::support::revisions;
use crate::support::watcher::{Story, Watcher};
use crate::support::workload::{Notes, Retries, Workload};
use crate::trio::{SIZE, Trio, name, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_raft_leader_loses_nothing() {
    let _alone = alone().await;
    let rounds = Effort::from_environment().pick(15, 100);
    let mut rng = SmallRng::seed_from_u64(1);
    let mut trio = Trio::running().await;
    let (workload, watcher) = (work(&trio, Retries::EveryOtherWriter), Watcher::start(trio.urls()));
    let mut pauses = Vec::new();
    for _ in 0..rounds {
        workload.next_round();
        acknowledged_after(&workload, Instant::now()).await;
        let leader = trio.leader().await;
        sleep(Duration::from_millis(rng.random_range(0..200))).await;
        trio.kill(leader);
        let killed = Instant::now();
        pauses.push(acknowledged_after(&workload, killed).await);
        sleep(Duration::from_millis(rng.random_range(0..300))).await;
        trio.start(leader);
        trio.wait_until_ready(leader).await;
    }
    println!("the Raft leader was killed {rounds} times; until the next acknowledged write: {}", summary(pauses));
    judge(&mut trio, workload, watcher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_all_members_at_once_loses_nothing() {
    let _alone = alone().await;
    let rounds = Effort::from_environment().pick(8, 50);
    let mut rng = SmallRng::seed_from_u64(2);
    let mut trio = Trio::running().await;
    let (workload, watcher) = (work(&trio, Retries::EveryOtherWriter), Watcher::start(trio.urls()));
    let mut pauses = Vec::new();
    for _ in 0..rounds {
        workload.next_round();
        acknowledged_after(&workload, Instant::now()).await;
        sleep(Duration::from_millis(rng.random_range(0..200))).await;
        for member in 0..SIZE {
            trio.kill(member);
        }
        let killed = Instant::now();
        for member in 0..SIZE {
            trio.start(member);
        }
        pauses.push(acknowledged_after(&workload, killed).await);
        trio.start_all().await;
    }
    println!("all members were killed {rounds} times; until the next acknowledged write: {}", summary(pauses));
    judge(&mut trio, workload, watcher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_the_raft_leader_in_order_costs_no_client_more_than_a_retry() {
    let _alone = alone().await;
    let rounds = Effort::from_environment().pick(5, 20);
    let mut trio = Trio::running().await;
    let (workload, watcher) = (work(&trio, Retries::EveryWriter), Watcher::start(trio.urls()));
    let mut pauses = Vec::new();
    for _ in 0..rounds {
        workload.next_round();
        acknowledged_after(&workload, Instant::now()).await;
        let leader = trio.leader().await;
        let stopped = Instant::now();
        let status = trio.terminate(leader).await;
        assert!(status.success(), "{} ended with {status}:\n{}", name(leader), trio.log(leader));
        pauses.push(workload.longest_pause_since(stopped));
        trio.start(leader);
        trio.wait_until_ready(leader).await;
    }
    println!("the Raft leader was stopped {rounds} times; longest pause between writes: {}", summary(pauses));
    let Notes { doubts, .. } = judge(&mut trio, workload, watcher).await;
    println!("{} requests had to be sent again with their idempotency keys: {doubts:#?}", doubts.len());
}

/// Clients that hardly rest.
fn work(trio: &Trio, retries: Retries) -> Workload {
    Workload::start(trio.http.clone(), trio.urls(), retries, Duration::from_millis(8))
}

/// Waits for a write that is acknowledged after `moment`; how long after.
async fn acknowledged_after(workload: &Workload, moment: Instant) -> Duration {
    wait_for("no write is acknowledged any more", async || {
        let last = workload.last_acknowledged();
        (last > moment).then(|| last - moment)
    })
    .await
}

fn summary(mut pauses: Vec<Duration>) -> String {
    pauses.sort();
    let at = |percent: usize| pauses[(pauses.len() - 1) * percent / 100];
    format!("median {:?}, 90 % {:?}, longest {:?}", at(50), at(90), at(100))
}

/// Ends the work and holds everything that was written down against the promises.
async fn judge(trio: &mut Trio, workload: Workload, watcher: Watcher) -> Notes {
    trio.start_all().await;
    let (operations, notes) = workload.stop().await;
    let story = watcher.stop().await;
    let unknown = operations.iter().filter(|operation| operation.returned.is_none()).count();
    println!(
        "{} operations, {unknown} of unknown outcome; a watch told {} changes, resumed {} times, {} revisions by snapshot",
        operations.len(),
        story.len(),
        story.resumed,
        story.skipped()
    );
    assert!(notes.surprises.is_empty(), "no client should be told this: {:#?}", notes.surprises);
    assert!(notes.given_up.is_empty(), "nobody ever says what became of this: {:#?}", notes.given_up);
    assert_eq!(linearizability::check(&operations), Verdict::Linearizable);
    revisions::check(&operations).unwrap();
    check_story(&story, &operations);
    members_agree(trio).await;
    notes
}

fn check_story(story: &Story, operations: &[Operation]) {
    assert!(story.faults.is_empty(), "the watch is broken: {:#?}", story.faults);
    let misses = story.misses(operations);
    assert!(misses.is_empty(), "{} acknowledged changes are not in the watch: {:#?}", misses.len(), misses.first());
    assert!(story.len() > 20, "the watch has told only {} changes", story.len());
}

/// Waits until all members have applied the same, and compares what they hold.
async fn members_agree(trio: &Trio) {
    let digests = wait_for("the members do not come to the same log index", async || {
        let mut digests = Vec::new();
        for member in 0..SIZE {
            let applied = trio.metric(member, "quorate_applied_index").await;
            digests.push((applied, trio.metric(member, "quorate_state_digest").await));
        }
        let applied = digests[0].0;
        digests.iter().all(|(other, _)| *other == applied).then_some(digests)
    })
    .await;
    assert!(digests.iter().all(|digest| *digest == digests[0]), "applied index and digest of each member: {digests:?}");
    for member in 0..SIZE {
        assert_eq!(trio.metric(member, "quorate_digest_mismatches_total").await, 0.0, "{}", name(member));
        assert_eq!(trio.metric(member, "quorate_watch_gaps_total").await, 0.0, "{}", name(member));
    }
}
