//! A Raft leader that its peers do not hear any more, while the API server does; and a cluster in which nobody hears anybody.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, interval, sleep};

use super::helm::Release;
use crate::kubectl::get;
use crate::members::{Agreement, PATIENCE, SIZE, name, others};
use crate::namespace::Namespace;
use crate::nodes::{Nodes, Partition};
use crate::support::effort::Effort;
use crate::trial::Trial;

/// What somebody has asked the API server to write, as it has written it down.
#[derive(Debug)]
struct Write {
    /// With microseconds, so that their order is that of their texts.
    at: String,
    pod: String,
    manager: String,
    /// That of the status; the size of a StatefulSet has none.
    leadership: Option<u64>,
    code: u64,
    status: Value,
}

/// Everything that was to be written in a namespace, in order of arrival.
fn writes(nodes: &Nodes, namespace: &str) -> Vec<Write> {
    let write = |entry: Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Some(Write {
            at: text(&entry["requestReceivedTimestamp"]),
            pod: text(&entry["user"]["extra"]["authentication.kubernetes.io/pod-name"][0]),
            manager: text(&entry["requestURI"]).rsplit_once("fieldManager=")?.1.to_owned(),
            leadership: entry["requestObject"]["status"]["observedLeadership"].as_u64(),
            code: entry["responseStatus"]["code"].as_u64()?,
            status: entry["requestObject"]["status"].clone(),
        })
    };
    let mut writes: Vec<_> = nodes.audit(namespace).into_iter().filter_map(write).collect();
    writes.sort_by(|one, other| one.at.cmp(&other.at));
    writes
}

/// Changes a config again and again, so that whoever leads has a status to write. Never ends.
async fn change(namespace: &Namespace) {
    let mut pace = interval(Duration::from_millis(300));
    for number in 0.. {
        pace.tick().await;
        let spec = format!("spec: {{data: {{number: \"{number}\"}}}}");
        let document =
            format!("apiVersion: quorate.io/v1alpha1\nkind: ReplicatedConfig\nmetadata: {{name: web}}\n{spec}");
        namespace.apply(&document).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raft_leader_that_is_cut_off_from_its_peers_alone_writes_nothing_once_the_next_one_does() {
    let nodes = Nodes::alone().await;
    let release = Release::running().await;
    let trial = Trial::with(release.members(), nodes).await;
    let namespace = &release.namespace;
    // Who is cut off itself must not say that nobody has a quorum either, which would be after ten seconds and its turn.
    let least = Effort::from_environment().pick(Duration::from_secs(6), Duration::from_secs(20));
    let cut_off = async |before: &Agreement| {
        let leadership = observed(&release).await;
        let writing = async || writes(&trial.nodes, &namespace.name);
        // Until then it writes. Afterwards nobody declares anything, so that nothing keeps it waiting for a commit: what it sees
        // of its peers, and of what the next one has written, are reasons enough to write.
        let known = writing().await.len();
        let written = wait_until("the Raft leader writes", async || writing().await.len() > known + 2);
        tokio::select! {
            () = written => {}
            () = change(namespace) => {}
        }
        let places = trial.members.places().await;
        let from: Vec<_> = others(before.leader).into_iter().map(|other| places[other].ip.clone()).collect();
        let place = &places[before.leader];
        let partition = trial.nodes.partition_pod(place.node, &place.ip, &from);
        let began = Instant::now();
        trial.members.succeed(before.leader).await;
        wait_until("the next one writes", async || observed(&release).await > leadership).await;
        sleep(least.saturating_sub(began.elapsed())).await;
        assert!(partition.dropped() > 0, "nothing was kept from arriving");
        assert_in_turn(&writing().await, leadership, &name(before.leader));
    };
    trial.survives("the Raft leader parted from its peers alone", cut_off).await;

    let told = writes(&trial.nodes, &namespace.name).len();
    trial.survives("all parted from all", async |_| everybody_alone(&trial, &release).await).await;
    let is_available = |status: &Value| condition(status, "QuorumAvailable") == Some("True");
    release.status_when("told to be well again", is_available).await;
    assert_told_by_one(&writes(&trial.nodes, &namespace.name)[told..]);
    assert_eq!(events(&release, "NoQuorum").await, 1, "the loss is one Event");
    trial.judge().await;
}

async fn observed(release: &Release) -> u64 {
    let cluster = release.namespace.get("quoratecluster/quorate").await.unwrap();
    cluster["status"]["observedLeadership"].as_u64().unwrap()
}

async fn wait_until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not after {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// That the one with this leadership has written until its peers left it, and not any more when the next one began.
fn assert_in_turn(writes: &[Write], leadership: u64, pod: &str) {
    let last = writes.iter().rfind(|write| write.leadership == Some(leadership)).expect("it has written");
    let next = writes.iter().position(|write| write.leadership > Some(leadership)).expect("the next one writes");
    let mut order = String::new();
    for Write { at, pod, manager, leadership, code, .. } in writes {
        order += &format!("\n{at} {pod} as {manager}, leadership {leadership:?}: {code}");
    }
    println!("leadership {leadership} wrote until {}, the next one from {} on", last.at, writes[next].at);
    assert_eq!(last.pod, pod, "{order}");
    let is_old = |write: &&Write| write.pod == pod || write.leadership.is_some_and(|known| known <= leadership);
    let late = writes[next..].iter().filter(is_old).count();
    assert_eq!(late, 0, "the deposed one still writes:{order}");
}

/// Parts every member from every other until it is told that there is no quorum.
async fn everybody_alone(trial: &Trial, release: &Release) {
    let places = trial.members.places().await;
    let partitions: Vec<Partition<'_>> = places.iter().map(|place| trial.nodes.partition_pods_on(place.node)).collect();
    assert_eq!(partitions.len(), SIZE);
    let is_lost = |status: &Value| {
        condition(status, "QuorumAvailable") == Some("False") && condition(status, "Ready") == Some("False")
    };
    let status = release.status_when("told to be lost", is_lost).await;
    assert!(status["members"].as_array().is_some_and(|members| members.len() == SIZE), "{status:#}");
    // Everybody has had a turn then.
    sleep(Effort::from_environment().pick(Duration::from_secs(2), Duration::from_secs(8))).await;
    assert!(partitions.iter().all(|partition| partition.dropped() > 0), "nothing was kept from arriving");
}

/// That one member has said, once, that there is no quorum. The next Raft leader may say it too, until it has heard the others.
fn assert_told_by_one(writes: &[Write]) {
    let by_a_member = writes.iter().filter(|write| write.manager == "quorate-leaderless");
    let told: Vec<_> =
        by_a_member.map(|write| (&write.pod, condition(&write.status, "QuorumAvailable"), write.code)).collect();
    println!("the loss of the quorum was told by {told:?}");
    assert!(matches!(told[..], [(_, Some("False"), 200)]), "{told:?}");
}

fn condition<'a>(status: &'a Value, type_: &str) -> Option<&'a str> {
    let conditions = status["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == type_)?["status"].as_str()
}

/// How many Events in the namespace of a release have this reason.
async fn events(release: &Release, reason: &str) -> usize {
    let selector = format!("--field-selector=reason={reason}");
    let events = get(&["--namespace", &release.namespace.name, "events.events.k8s.io", &selector]).await;
    events.unwrap()["items"].as_array().unwrap().len()
}
