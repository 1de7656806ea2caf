//! What goes wrong with pods, nodes, networks, disks and the API server, and what members must come through.

pub mod outage;
mod random;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::members::{Agreement, Members, PATIENCE, Place, name, others};
use crate::nodes::{Nodes, Partition};
use crate::support::effort::Effort;
use crate::trial::Trial;

/// Waits until everybody but `lost` agrees on another Raft leader, and writes are acknowledged.
async fn succeeded(trial: &Trial, lost: usize) -> Agreement {
    let agreement = trial.members.succeed(lost).await;
    trial.acknowledged_more(1).await;
    agreement
}

/// One after the other, under the same clients: members that are new for each of them would be most of the work.
#[tokio::test(flavor = "multi_thread")]
async fn pods_that_are_deleted_partitions_and_a_power_cut_around_the_raft_leader_lose_nothing() {
    let trial = Trial::begin().await;
    pods_are_deleted(&trial).await;
    trial.survives("the Raft leader parted", async |before| parted(&trial, before.leader, pod_partition).await).await;
    if Effort::from_environment().pick(false, true) {
        let part = async |before: &Agreement| parted(&trial, before.leader, node_partition).await;
        trial.survives("the Raft leader's node parted", part).await;
    }
    let lose_power = async |before: &Agreement| {
        let node = trial.members.places().await[before.leader].node;
        let cut = trial.nodes.cut_power(node);
        succeeded(&trial, before.leader).await;
        drop(cut);
    };
    trial.survives("the Raft leader's node without power", lose_power).await;
    trial.judge().await;
}

/// One after the other and all at once.
async fn pods_are_deleted(trial: &Trial) {
    let leader = trial.members.whole().await.leader;
    let in_turn = Effort::from_environment().pick(vec![leader], vec![0, 1, 2]);
    for member in in_turn {
        let fault = format!("{} deleted", name(member));
        trial.survives(&fault, async |_| replaced(trial, &[member]).await).await;
    }
    let before = trial.members.places().await;
    trial.survives("all pods deleted at once", async |_| replaced(trial, &[0, 1, 2]).await).await;
    for (before, after) in before.iter().zip(trial.members.places().await) {
        assert_ne!(before.ip, after.ip, "it should be another address");
    }
}

/// Deletes pods and waits until each has a successor.
async fn replaced(trial: &Trial, members: &[usize]) {
    let before = trial.members.places().await;
    for member in members {
        trial.members.delete_pod(*member).await;
    }
    let deadline = Instant::now() + PATIENCE;
    for member in members {
        while trial.members.place(*member).await.is_none_or(|place| place.uid == before[*member].uid) {
            assert!(Instant::now() < deadline, "{} has no new pod within {PATIENCE:?}", name(*member));
            sleep(Duration::from_millis(100)).await;
        }
    }
}

type Parting = for<'a> fn(&'a Nodes, &[Place], usize) -> Partition<'a>;

fn pod_partition<'a>(nodes: &'a Nodes, places: &[Place], member: usize) -> Partition<'a> {
    let from: Vec<_> = others(member).into_iter().map(|other| places[other].ip.clone()).collect();
    nodes.partition_pod(places[member].node, &places[member].ip, &from)
}

fn node_partition<'a>(nodes: &'a Nodes, places: &[Place], member: usize) -> Partition<'a> {
    nodes.partition_node(places[member].node)
}

/// Parts the Raft leader from the others until they have another one.
async fn parted(trial: &Trial, leader: usize, parting: Parting) {
    let partition = parting(&trial.nodes, &trial.members.places().await, leader);
    succeeded(trial, leader).await;
    assert!(partition.dropped() > 0, "nothing was kept from arriving");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_volume_is_full_stops_and_comes_back_when_there_is_room() {
    let nodes = Nodes::alone().await;
    let full = 2;
    let members = Members::with_small_volume(&nodes, full).await;
    let before = members.whole().await;
    let filler = format!("{}/filler", members.volume(full).await);
    let node = members.places().await[full].node;
    nodes.in_node(node, &["sh", "-c", "cat /dev/zero > \"$0\" 2>/dev/null || test -s \"$0\"", &filler]);
    write_until_it_restarts(&members, full).await;
    members.agree(&others(full)).await;

    nodes.in_node(node, &["rm", &filler]);
    let after = members.whole().await;
    assert_eq!(after.cluster, before.cluster);
    assert!(after.revision > before.revision);
}

/// More than a full volume can take in any case, and less than it has room for later.
const BIG_WRITES: usize = 40;

/// Fills the log until the kubelet has to start a member's container again.
async fn write_until_it_restarts(members: &Members, full: usize) {
    let before = members.places().await[full].restarts;
    let deadline = Instant::now() + PATIENCE;
    let urls = members.urls();
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
    let mut number = 0;
    while members.place(full).await.is_none_or(|place| place.restarts == before) {
        assert!(Instant::now() < deadline, "{} does not stop although its volume is full", name(full));
        if number < BIG_WRITES {
            let url = format!("{}/v1/kv/big{}", urls[others(full)[number % 2]], number % 8);
            // Whether it was done does not matter here.
            drop(http.put(url).body(vec![b'.'; 200_000]).send().await);
            number += 1;
        }
    }
    println!("{} was started again after {number} writes into a full volume", name(full));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_volume_was_wiped_joins_as_a_new_one_and_the_others_go_on() {
    let nodes = Nodes::alone().await;
    let members = Members::running().await;
    let before = members.whole().await;
    let wiped = 0;
    let old = members.id(wiped).await;
    members.wipe_volume(&nodes, wiped, members.places().await[wiped].node).await;
    let after = members.agree(&others(wiped)).await;
    assert_eq!(after.cluster, before.cluster);
    let deadline = Instant::now() + PATIENCE;
    while members.id(wiped).await.is_none_or(|id| Some(id) == old) {
        assert!(Instant::now() < deadline, "{} does not vote as a new member", name(wiped));
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(members.whole().await.cluster, before.cluster, "it has founded a cluster");
}
