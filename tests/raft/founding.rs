//! How a cluster begins, and who does not begin one.

use std::fs;

use quorate::raft::{Phase, StartError};
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::cluster::{Cluster, PATIENCE, name, put, soon, value};
use crate::strangers::counts_more;

const NAMES: [&str; 3] = ["a", "b", "c"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_founds_before_everybody_has_answered() {
    let mut cluster = Cluster::new(&NAMES).await;
    cluster.start("a").await;
    cluster.waits("a", "no answer from b").await;
    cluster.start("b").await;
    cluster.waits("a", "no answer from c").await;
    cluster.waits("b", "being founded by a").await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(cluster.raft("a").status().cluster, None);
    cluster.start("c").await;
    cluster.leader().await;
    assert!(cluster.raft("a").status().cluster.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_crashes_at_any_moment_founds_the_same_cluster_in_the_end() {
    for delay in [0, 5, 15, 30, 60, 120, 250] {
        let mut cluster = Cluster::new(&NAMES).await;
        for text in NAMES {
            cluster.start(text).await;
        }
        sleep(Duration::from_millis(delay)).await;
        let before = cluster.raft("a").status().cluster.clone();
        cluster.crash("a");
        cluster.start("a").await;
        cluster.leader().await;
        cluster.raft("b").propose(put("k", "v"), soon()).await.unwrap();
        // The Raft leader writes the cluster's id after it has begun to lead; a client's command may come in between.
        let mut states = cluster.raft("a").state_changes();
        let founded = timeout(PATIENCE, states.wait_for(|state| state.cluster().is_some())).await;
        let founded = founded.expect("the cluster's id is written").unwrap().cluster().cloned();
        assert_eq!(founded, cluster.raft("c").status().cluster);
        assert!(before.is_none() || before == founded, "after {delay} ms");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_volume_was_emptied_waits_and_says_why() {
    for text in NAMES {
        let mut cluster = Cluster::founded(&NAMES).await;
        cluster.raft(text).propose(put("k", "v"), soon()).await.unwrap();
        // A member writes `done` when it has seen the cluster exist.
        let other = if text == "a" { "b" } else { "a" };
        let identity = cluster.directory(other).join("identity");
        cluster.raft(other).read(soon()).await.unwrap();
        let cluster_id = cluster.raft(other).status().cluster.clone().unwrap();
        cluster.crash(text);
        cluster.empty(text).await;
        cluster.start(text).await;
        cluster.waits(text, "its volume is empty").await;
        assert!(identity.exists());
        assert_eq!(cluster.raft(text).status().cluster, None, "{text} has no place");
        let rest = cluster.raft(other).propose(put("k", "w"), soon()).await;
        rest.unwrap();
        assert_eq!(cluster.raft(other).status().cluster, Some(cluster_id));
        assert!(!cluster.directory(text).join("log.redb").exists(), "{text} has no log to vote with");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_member_founds_a_cluster_of_its_own() {
    let mut cluster = Cluster::founded(&["solo"]).await;
    cluster.raft("solo").propose(put("k", "v"), soon()).await.unwrap();
    cluster.crash("solo");
    cluster.start("solo").await;
    let state = cluster.raft("solo").read(soon()).await.unwrap();
    assert_eq!(value(&state, "k").as_deref(), Some("v"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_another_cluster_is_refused_on_both_sides() {
    let mut one = Cluster::founded(&NAMES).await;
    let mut other = Cluster::founded(&NAMES).await;
    one.crash("c");
    other.crash("c");
    // The other cluster's `c` starts where the first cluster has its own, as with a wrong address or a mixed-up volume.
    other.addresses.insert(name("c"), one.addresses[&name("c")].clone());
    other.start("c").await;
    counts_more(&other, "c", "cluster", 0.0).await;
    one.raft("a").propose(put("k", "v"), soon()).await.unwrap();
    other.raft("a").propose(put("k", "w"), soon()).await.unwrap();
    let reached = one.raft("a").peers(Instant::now() + Duration::from_secs(1)).await;
    assert_eq!(
        reached.keys().map(|id| id.get()).collect::<Vec<_>>(),
        [2],
        "the first cluster does not take it for its own"
    );
    assert_ne!(value(&other.raft("c").state(), "k").as_deref(), Some("v"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_of_another_member_does_not_start() {
    let mut cluster = Cluster::founded(&NAMES).await;
    cluster.crash("c");
    cluster.crash("b");
    // The directory is free once the member is gone; then it is mounted where it does not belong.
    cluster.start("b").await;
    cluster.crash("b");
    cluster.empty("c").await;
    sleep(Duration::from_millis(200)).await;
    fs::rename(cluster.directory("b"), cluster.directory("c")).unwrap();
    let initial = cluster.addresses.clone();
    let error = cluster.try_start("c", initial).await.err().unwrap();
    assert!(matches!(error, StartError::Identity(_)), "{error}");
    assert!(error.to_string().contains("belongs to b"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_stops_the_member_with_the_reason() {
    let mut cluster = Cluster::founded(&["solo"]).await;
    cluster.raft("solo").propose(put("k", "v"), soon()).await.unwrap();
    cluster.crash("solo");
    sleep(Duration::from_millis(200)).await;
    let path = cluster.directory("solo").join("log.redb");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..64].fill(0);
    fs::write(&path, bytes).unwrap();
    cluster.start("solo").await;
    let status = cluster.status("solo", |status| matches!(status.phase, Phase::Stopped(_))).await;
    assert!(format!("{:?}", status.phase).contains("log.redb"), "{:?}", status.phase);
    let mut stopped = cluster.members.remove("solo").unwrap();
    assert_eq!(stopped.failures.next().await.task, "raft");
}
