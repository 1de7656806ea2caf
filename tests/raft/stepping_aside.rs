//! A Raft leader whose disk stalls makes way, and one whose disk does is given leadership again when it was too slow to take it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate::raft::Beginning;
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, PATIENCE, put, soon};
use crate::slow::{SlowVolume, Slowness};

const NAMES: [&str; 3] = ["a", "b", "c"];
const HANDOVERS: &str = "quorate_raft_handovers_total";

/// A cluster whose disks can be made slow one by one.
async fn founded() -> (Cluster, BTreeMap<&'static str, Slowness>) {
    let mut cluster = Cluster::new(&NAMES).await;
    let disks: BTreeMap<_, _> = NAMES.into_iter().map(|name| (name, Slowness::default())).collect();
    for text in NAMES {
        let disk = cluster.volume(text).await;
        let volume = Arc::new(SlowVolume::new(disk, &disks[text]));
        let beginning = Beginning::Together(cluster.addresses.clone());
        cluster.start_on(text, beginning, volume).await.unwrap();
    }
    cluster.leader().await;
    (cluster, disks)
}

/// Writes again and again, until `done` says that it is enough.
async fn write_until(cluster: &Cluster, done: impl Fn() -> bool) {
    let writing = async {
        while !done() {
            for name in NAMES {
                // Whatever comes of it: the log is asked to write.
                drop(cluster.raft(name).propose(put("k", "v"), soon()).await);
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, writing).await.expect("it comes about");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raft_leader_whose_disk_stalls_for_seconds_hands_over_to_one_whose_disk_does_not() {
    let (cluster, disks) = founded().await;
    let leader = cluster.leader().await;
    disks[leader.as_str()].set(Duration::from_millis(400));
    write_until(&cluster, || cluster.labelled(&leader, HANDOVERS, "slow-disk") == 1.0).await;
    assert_ne!(cluster.leader().await, leader);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_disks_stall_leadership_stays() {
    let (cluster, disks) = founded().await;
    let leader = cluster.leader().await;
    disks.values().for_each(|disk| disk.set(Duration::from_millis(400)));
    let began = tokio::time::Instant::now();
    write_until(&cluster, || began.elapsed() > Duration::from_secs(6)).await;
    let handed_over: f64 = NAMES.iter().map(|name| cluster.labelled(name, HANDOVERS, "slow-disk")).sum();
    assert_eq!((cluster.leader().await, handed_over), (leader, 0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_its_disk_keeps_from_taking_leadership_is_given_it_again() {
    let (cluster, disks) = founded().await;
    let leader = cluster.leader().await;
    let slow = cluster.follower().await;
    let third = NAMES.into_iter().find(|name| *name != leader && *name != slow).unwrap();
    let (wanted, third) = (cluster.raft(&slow).status().member, cluster.raft(third).status().member);
    disks[slow.as_str()].set(PATIENCE);
    let mended = async {
        cluster.status(&leader, |status| status.raft_leader == third).await;
        disks[slow.as_str()].set(Duration::ZERO);
    };
    let (given, ()) = tokio::join!(cluster.raft(&leader).transfer(wanted, soon()), mended);
    assert_eq!(given.ok(), wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_no_leadership_is_named_and_so_is_who_leads() {
    let (cluster, _) = founded().await;
    let stopping = cluster.follower().await;
    cluster.raft(&stopping).stand_back();
    let wanted = cluster.raft(&stopping).status().member;
    let error = cluster.raft(&stopping).transfer(wanted, soon()).await.unwrap_err().to_string();
    let leader = cluster.leader().await;
    let named = format!("{stopping} was given leadership and has not taken it, and {leader} leads");
    assert!(error.starts_with(&named), "{error}");
}
