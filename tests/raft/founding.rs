//! How a cluster begins, and who does not begin one.

use std::fs;

use quorate::raft::Phase;
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
