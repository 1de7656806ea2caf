//! A Raft leader that its peers do not hear any more, while the API server does; and a cluster in which nobody hears anybody.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Instant, interval, sleep};

use super::audit::{Write, order, writes};
use super::helm::Release;
use crate::api::elected::LABEL;
use crate::kubectl::get;
use crate::members::{Agreement, PATIENCE, Place, SIZE, name, others};
use crate::namespace::Namespace;
use crate::nodes::{Nodes, Partition};
use crate::support::effort::Effort;
use crate::trial::Trial;

/// How long nobody has been heard by a majority when that is told.
const UNHEARD: Duration = Duration::from_secs(10);

/// How much longer each next member waits before it tells it.
const TURN: Duration = Duration::from_secs(5);

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

/// Gives the label to a pod that does not lead, or takes it from the one that does, again and again, so that whoever believes that
/// it leads the cluster has a label to write. Never ends.
async fn meddle(namespace: &Namespace) {
    let mut pace = interval(Duration::from_millis(700));
    for number in 0.. {
        pace.tick().await;
        let label = if number % 2 == 0 { format!("{LABEL}=true") } else { format!("{LABEL}-") };
        namespace.kubectl(&["label", "pod", &format!("waiting-{}", number % 3), &label, "--overwrite"]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raft_leader_that_is_cut_off_from_its_peers_alone_writes_nothing_once_the_next_one_does() {
    let nodes = Nodes::alone().await;
    let release = Release::running_with_marks().await;
    let first = release.declare_marked().await;
    let trial = Trial::with(release.members(), nodes).await;
    let namespace = &release.namespace;
    // Who is cut off itself must not say that nobody has a quorum either, which would be after ten seconds and its turn.
    let least = Effort::from_environment().pick(Duration::from_secs(6), Duration::from_secs(20));
    let cut_off = async |before: &Agreement| {
        let leadership = observed(&release).await;
        let writing = async || writes(&trial.nodes, &namespace.name);
        let known = writing().await.len();
        // Until then it writes: statuses, labels and Leases.
        let written = async {
            let second = release.succeed(first, "waiting-1").await;
            release.wait_until_shown(&second).await;
            let done = async || {
                let writes = writing().await.split_off(known);
                let is_written = |what: &str| writes.iter().any(|write| write.what == what && write.is_done());
                ["replicatedconfigs/status", "pods", "leases"].into_iter().all(is_written)
            };
            wait_until("the Raft leader writes", done).await;
            second
        };
        let second = tokio::select! {
            second = written => second,
            () = change(namespace) => unreachable!("it never ends"),
        };
        let places = trial.members.places().await;
        let from: Vec<_> = others(before.leader).into_iter().map(|other| places[other].ip.clone()).collect();
        let place = &places[before.leader];
        let partition = trial.nodes.partition_pod(place.node, &place.ip, &from);
        let began = Instant::now();
        // From now on nobody declares anything, so that nothing keeps it waiting for a commit: what it sees of its peers, of labels
        // that are wrong, and of a Lease that is to be renewed are reasons enough to write, and another pod leads by now.
        let next = async {
            trial.members.succeed(before.leader).await;
            wait_until("the next one writes", async || observed(&release).await > leadership).await;
            let third = release.succeed(second, "waiting-2").await;
            release.wait_until_shown(&third).await;
            sleep(least.saturating_sub(began.elapsed())).await;
            // It could have written.
            partition.assert_reaches_api();
        };
        tokio::select! {
            () = next => {}
            () = meddle(namespace) => unreachable!("it never ends"),
        }
        assert!(partition.dropped() > 0, "nothing was kept from arriving");
        assert_in_turn(&writing().await[known..], leadership, &name(before.leader));
    };
    trial.survives("the Raft leader parted from its peers alone", cut_off).await;

    a_follower_alone_says_nothing(&trial, &release).await;
    a_lost_quorum_is_told(&trial, &release).await;
    trial.judge().await;
}

/// Parts a follower from its peers alone, for as long as it would wait before it said that nobody has a quorum.
async fn a_follower_alone_says_nothing(trial: &Trial, release: &Release) {
    let turns = turns(release).await;
    let cut_off = async |before: &Agreement| {
        let (turn, follower) =
            (0_u32..).zip(turns).find(|(_, member)| *member != before.leader).expect("there are two");
        let known = writes(&trial.nodes, &release.namespace.name).len();
        let places = trial.members.places().await;
        let from: Vec<_> = others(follower).into_iter().map(|other| places[other].ip.clone()).collect();
        let partition = trial.nodes.partition_pod(places[follower].node, &places[follower].ip, &from);
        sleep(UNHEARD + TURN * (turn + 1)).await;
        partition.assert_reaches_api();
        assert!(partition.dropped() > 0, "nothing was kept from arriving");
        let writes = writes(&trial.nodes, &release.namespace.name).split_off(known);
        assert!(writes.iter().all(|write| write.manager != "quorate-leaderless"), "it has spoken:{}", order(&writes));
    };
    trial.survives("a follower parted from its peers alone", cut_off).await;
}

/// Parts everybody from everybody, and sees that one of them tells it, whose turn it is.
async fn a_lost_quorum_is_told(trial: &Trial, release: &Release) {
    let turns = turns(release).await;
    // Who tells it, when those before it do not even reach the API server.
    for teller in 0..Effort::from_environment().pick(1, 2) {
        let (told, mut lost) = (writes(&trial.nodes, &release.namespace.name).len(), None);
        let returns = events(release, "QuorumAnswers").await;
        let parted = async |_: &Agreement| {
            lost = Some(Timestamp::now());
            everybody_alone(trial, release, &turns[..teller]).await;
        };
        trial.survives(&format!("all parted from all, {teller} also from the API server"), parted).await;
        let is_available = |status: &Value| condition(status, "QuorumAvailable") == Some("True");
        release.status_when("told to be well again", is_available).await;
        let told = writes(&trial.nodes, &release.namespace.name).split_off(told);
        assert_told_by_one(&told, lost.expect("they were parted"), &name(turns[teller]));
        assert_eq!(events(release, "NoQuorum").await, teller + 1, "each loss is one Event");
        wait_until("its return is an Event", async || events(release, "QuorumAnswers").await == returns + 1).await;
    }
}

/// The members in the order of their ids, in which they take their turns.
async fn turns(release: &Release) -> Vec<usize> {
    let members = release.status().await["members"].take();
    let mut members: Vec<_> = members.as_array().unwrap().iter().collect();
    members.sort_by_key(|member| member["id"].as_i64());
    let place = |of: &Value| (0..SIZE).find(|member| of["name"] == name(*member)).expect("it is one of them");
    members.into_iter().map(place).collect()
}

async fn observed(release: &Release) -> u64 {
    let cluster = release.namespace.get("quoratecluster/quorate").await.unwrap();
    cluster["status"]["observedLeadership"].as_u64().unwrap()
}

pub async fn wait_until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not after {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// That this member has written statuses of this leadership, labels and Leases, and none of them any more when the next one began.
fn assert_in_turn(writes: &[Write], leadership: u64, pod: &str) {
    let order = order(writes);
    let next = writes.iter().position(|write| write.pod != pod && write.manager == "quorate");
    let next = next.unwrap_or_else(|| panic!("the next one writes:{order}"));
    for what in ["replicatedconfigs/status", "pods", "leases"] {
        let is_it = |write: &&Write| write.what == what && write.is_done();
        let last = writes[..next].iter().rfind(is_it).unwrap_or_else(|| panic!("it has written {what}:{order}"));
        let first = writes[next..].iter().find(is_it).map_or("never", |write| &write.at);
        println!("{what}: leadership {leadership} wrote until {}, the next one from {first} on", last.at);
    }
    for what in ["pods", "leases"] {
        assert!(
            writes[next..].iter().any(|write| write.what == what && write.is_done()),
            "nobody writes {what}:{order}"
        );
    }
    let is_late = |write: &&Write| write.pod == pod || write.leadership().is_some_and(|known| known <= leadership);
    assert_eq!(writes[next..].iter().filter(is_late).count(), 0, "the deposed one still writes:{order}");
}

/// Parts every member from every other, and some from the API server, until it is told that there is no quorum.
async fn everybody_alone(trial: &Trial, release: &Release, unseen: &[usize]) {
    let part = |(member, place): (usize, &Place)| {
        if unseen.contains(&member) {
            trial.nodes.partition_node(place.node)
        } else {
            trial.nodes.partition_pods_on(place.node)
        }
    };
    let places = trial.members.places().await;
    let partitions: Vec<Partition<'_>> = places.iter().enumerate().map(part).collect();
    assert_eq!(partitions.len(), SIZE);
    let is_lost = |status: &Value| {
        condition(status, "QuorumAvailable") == Some("False") && condition(status, "Ready") == Some("False")
    };
    let status = release.status_when("told to be lost", is_lost).await;
    assert!(status["members"].as_array().is_some_and(|members| members.len() == SIZE), "{status:#}");
    // Whoever asks for what needs a quorum is told so, and does not wait for ever.
    let seen = (0..SIZE).find(|member| !unseen.contains(member)).expect("there is one");
    let url = format!("{}/v1/kv/lost?timeoutMs=2000", trial.members.urls()[seen]);
    let asked = reqwest::Client::new().get(url).timeout(Duration::from_secs(5)).send().await.unwrap();
    assert!(matches!(asked.status().as_u16(), 503 | 504), "{asked:?}");
    // Everybody has had a turn then.
    sleep(Effort::from_environment().pick(Duration::from_secs(2), Duration::from_secs(8))).await;
    assert!(partitions.iter().all(|partition| partition.dropped() > 0), "nothing was kept from arriving");
}

/// That the member whose turn it is has said, once and not too early, that there is no quorum, and nothing else. Who wants to say
/// it at the same time is refused, and does not try again; the next Raft leader may say it too, until it has heard the others.
fn assert_told_by_one(writes: &[Write], lost: Timestamp, teller: &str) {
    let tried: Vec<_> = writes.iter().filter(|write| write.manager == "quorate-leaderless").collect();
    let members: BTreeSet<_> = tried.iter().map(|write| &write.pod).collect();
    assert_eq!(members.len(), tried.len(), "somebody says it again:{}", order(writes));
    let told: Vec<_> = tried.into_iter().filter(|write| write.is_done()).collect();
    let [write] = told[..] else { panic!("not told by one:{}", order(writes)) };
    let unheard = Duration::try_from(write.at.parse::<Timestamp>().unwrap().duration_since(lost)).unwrap();
    println!("the loss of the quorum was told by {}, {unheard:.1?} after it began", write.pod);
    assert!(unheard >= UNHEARD, "told {unheard:?} after it began");
    assert_eq!(write.pod, teller, "whoever has the lowest id of those who can tells:{}", order(writes));
    let status = &write.request["status"];
    let fields: Vec<_> = status.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["clusterId", "conditions", "observedLeadership"]);
    let conditions = status["conditions"].as_array().unwrap().iter();
    let conditions: BTreeSet<_> = conditions.map(|it| [&it["type"], &it["status"]].map(Value::as_str)).collect();
    assert_eq!(conditions, BTreeSet::from([[Some("QuorumAvailable"), Some("False")], [Some("Ready"), Some("False")]]));
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
