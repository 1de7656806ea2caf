//! What goes wrong with pods, nodes, networks, disks and the API server, and what members must come through.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::kubectl::kubectl;
use crate::members::{Agreement, Members, PATIENCE, Place, SIZE, name, others};
use crate::nodes::{Nodes, Partition};
use crate::support::effort::Effort;
use crate::trial::Trial;

/// Waits until everybody but `lost` agrees on another Raft leader, and writes are acknowledged.
async fn succeeded(trial: &Trial, lost: usize) -> Agreement {
    let agreement = trial.members.succeed(lost).await;
    trial.acknowledged_more(1).await;
    agreement
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_pods_one_after_the_other_and_all_at_once_loses_nothing() {
    let trial = Trial::begin().await;
    for member in 0..SIZE {
        let fault = format!("{} deleted", name(member));
        trial.survives(&fault, async |_| replaced(&trial, &[member]).await).await;
    }
    let before = trial.members.places().await;
    trial.survives("all pods deleted at once", async |_| replaced(&trial, &[0, 1, 2]).await).await;
    for (before, after) in before.iter().zip(trial.members.places().await) {
        assert_ne!(before.ip, after.ip, "it should be another address");
    }
    trial.judge().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn cutting_the_power_of_the_raft_leaders_node_loses_nothing() {
    let trial = Trial::begin().await;
    let lose_power = async |before: &Agreement| {
        let node = trial.members.places().await[before.leader].node;
        let cut = trial.nodes.cut_power(node);
        succeeded(&trial, before.leader).await;
        drop(cut);
    };
    trial.survives("the Raft leader's node without power", lose_power).await;
    trial.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parting_the_raft_leader_or_its_whole_node_from_the_others_loses_nothing() {
    let trial = Trial::begin().await;
    trial.survives("the Raft leader parted", async |before| parted(&trial, before.leader, pod_partition).await).await;
    trial
        .survives("the Raft leader's node parted", async |before| parted(&trial, before.leader, node_partition).await)
        .await;
    trial.judge().await;
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
async fn draining_the_raft_leaders_node_hands_over_and_loses_nothing() {
    let trial = Trial::begin().await;
    let drain = async |before: &Agreement| {
        let node = trial.members.places().await[before.leader].node;
        let _drained = trial.nodes.drain(node);
        succeeded(&trial, before.leader).await;
        let mut logs = String::new();
        for other in others(before.leader) {
            logs += &trial.members.namespace.logs(&name(other)).await;
        }
        assert!(logs.contains(r#""cause":"Transfer""#), "leadership was lost, not handed over:\n{logs}");
    };
    trial.survives("the Raft leader's node drained", drain).await;
    trial.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_server_the_members_come_through_all_of_this() {
    let trial = Trial::begin().await;
    let least = Effort::from_environment().pick(Duration::from_secs(20), Duration::from_secs(120));
    let outage = async |before: &Agreement| {
        let places = trial.members.places().await;
        let began = Instant::now();
        let outage = trial.nodes.stop_api();
        kubectl(&["get", "nodes"]).await.expect_err("the API server is stopped");

        // The kubelet starts a container again without asking anybody.
        trial.nodes.in_node(places[before.leader].node, &["pkill", "-KILL", "-x", "quorate"]);
        let now = trial.members.agree(&[0, 1, 2]).await;

        let partition = pod_partition(&trial.nodes, &places, now.leader);
        succeeded(&trial, now.leader).await;
        assert!(partition.dropped() > 0, "nothing was kept from arriving");
        drop(partition);
        let now = trial.members.agree(&[0, 1, 2]).await;

        // A node that comes back without the API server does not know its pods until that is there again.
        drop(trial.nodes.cut_power(places[now.leader].node));
        let now = succeeded(&trial, now.leader).await;
        while began.elapsed() < least {
            trial.acknowledged_more(10).await;
        }
        assert_eq!(now.cluster, before.cluster);
        drop(outage);
        println!("the API server was away for {:.1?}", began.elapsed());
    };
    trial.survives("no API server", outage).await;
    trial.judge().await;
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

/// Fills the log until the kubelet has to start a member's container again.
async fn write_until_it_restarts(members: &Members, full: usize) {
    let before = members.places().await[full].restarts;
    let deadline = Instant::now() + PATIENCE;
    let urls = members.urls();
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
    let mut number = 0;
    while members.place(full).await.is_none_or(|place| place.restarts == before) {
        assert!(Instant::now() < deadline, "{} does not stop although its volume is full", name(full));
        let url = format!("{}/v1/kv/big{}", urls[others(full)[number % 2]], number % 8);
        // Whether it was done does not matter here.
        drop(http.put(url).body(vec![b'.'; 200_000]).send().await);
        number += 1;
    }
    println!("{} was started again after {number} writes into a full volume", name(full));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_volume_was_wiped_founds_nothing_and_the_others_go_on() {
    let nodes = Nodes::alone().await;
    let members = Members::running().await;
    let before = members.whole().await;
    let wiped = 0;
    let node = members.places().await[wiped].node;
    let volume = members.volume(wiped).await;
    nodes.in_node(
        node,
        &["sh", "-c", "pkill -STOP -x quorate; find \"$0\" -mindepth 1 -delete; pkill -KILL -x quorate", &volume],
    );
    let waiting = waiting(&members, wiped).await;
    println!("{} says: {waiting}", name(wiped));
    let after = members.agree(&others(wiped)).await;
    assert_eq!(after.cluster, before.cluster);
    let alone = members.seen_by(wiped).await.expect("it answers");
    assert_eq!(alone.cluster_id, None, "it has founded a cluster");
}

/// What a member says that it waits for, once it does.
async fn waiting(members: &Members, member: usize) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(waiting) = members.seen_by(member).await.and_then(|cluster| cluster.waiting) {
            return waiting;
        }
        assert!(Instant::now() < deadline, "{} does not say what is wrong", name(member));
        sleep(Duration::from_millis(200)).await;
    }
}
