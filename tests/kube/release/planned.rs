//! What people do to a release on purpose, under load: they restart it, drain its nodes one after the other, and scale it by
//! hand. Nobody's election may be without a leader for long, unless a quorum is taken away.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::Child;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::helm::Release;
use super::{leading, turns};
use crate::api::assert_refused;
use crate::kubectl;
use crate::members::{Agreement, PATIENCE, Place, SIZE, name};
use crate::namespace::Namespace;
use crate::nodes::Nodes;
use crate::support::effort::Effort;
use crate::trial::{GAP, Trial};

/// How soon a quorum is back after somebody has scaled it away.
const BACK: Duration = Duration::from_secs(60);

/// For how long a member that has started cannot reach the others.
const HELD_UP: Duration = Duration::from_secs(8);

/// How long nothing may come of what is declared while the cluster is paused.
const WHILE_PAUSED: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_and_drains_take_one_pod_at_a_time_and_scaling_by_hand_is_made_up_for() {
    let nodes = Nodes::alone().await;
    let release = Release::running().await;
    let trial = Trial::with(release.members(), nodes).await;

    lead(&trial, 0).await;
    orderly(&trial, "a rolling restart", SIZE, async |_| restarted(&trial, &release).await).await;

    lead(&trial, 0).await;
    orderly(&trial, "all nodes drained, one right after the other", SIZE, async |_| drained_in_a_row(&trial).await)
        .await;

    lead(&trial, 0).await;
    let held_up = async |_: &Agreement| held_up(&trial, &release).await;
    trial.survives("a rolling restart whose first pod cannot catch up for a while", held_up).await;

    let times = Effort::from_environment().pick(1, SIZE);
    for member in 0..times {
        // Whoever leads is the one that it is about.
        lead(&trial, member).await;
        let fault = format!("the node of {} drained", name(member));
        orderly(&trial, &fault, 1, async |_| drained(&trial, member).await).await;
    }

    leading::preferred(&trial).await;
    leading::passed_over(&trial, times).await;
    leading::passed_over_while_it_ends(&trial).await;
    trial.survives("paused, five voters declared, a volume lost", async |_| paused(&trial, &release).await).await;

    let by_hand = release.namespace.kubectl(&["scale", "statefulset/quorate", "--replicas=1"]).await;
    assert_refused(by_hand, "Change spec.voters or spec.learners of QuorateCluster quorate instead");
    release.without_scale_policy().await;
    trial.survives("scaled by hand to one of three", async |_| scaled_to_one(&trial, &release).await).await;
    trial.judge().await;
}

/// Makes a member the Raft leader, as a person would.
async fn lead(trial: &Trial, member: usize) {
    if trial.members.whole().await.leader != member {
        trial.members.namespace.exec(&name(member), &["quorate", "transfer", &name(member)]).await.unwrap();
        assert_eq!(trial.members.whole().await.leader, member);
    }
    // As long as Kubernetes does not know that all are well, it asks whoever drains to come again in five seconds.
    trial.members.namespace.wait("pdb/quorate", "jsonpath={.status.disruptionsAllowed}=1", 60).await;
}

/// Something that replaces so many pods, in order: at most one is away at a time, leadership is handed over before its pod ends,
/// and no election is without a leader for long.
async fn orderly(trial: &Trial, what: &str, replaced: usize, act: impl AsyncFnOnce(&Agreement)) {
    let sightings = Sightings::begin(&trial.members.namespace).await;
    let term = trial.members.whole().await.term;
    let gap = trial.survives(what, act).await;
    let (least, pods) = sightings.end();
    assert_eq!(pods, SIZE + replaced, "so many pods there were");
    assert!(least >= SIZE - 1, "{what}: only {least} members were ready at a time");
    assert!(gap <= GAP, "{what}: an election was without a leader for {:?}", gap);
    let changes = leader_changes(trial, term).await;
    assert!(!changes.is_empty(), "{what}: nobody tells that leadership was handed over");
    let is_known = |told: &&Vec<String>| told.iter().any(|change| change.contains(r#""cause":"Transfer""#));
    let lost: Vec<_> = changes.values().filter(|told| !is_known(told)).collect();
    assert!(lost.is_empty(), "{what}: leadership was lost, not handed over: {lost:#?}");
}

/// Restarts all, one after the other.
async fn restarted(trial: &Trial, release: &Release) {
    let namespace = &release.namespace;
    let restart = async {
        namespace.kubectl(&["rollout", "restart", "statefulset/quorate"]).await.unwrap();
        namespace.kubectl(&["rollout", "status", "statefulset/quorate", "--timeout=3m"]).await.unwrap();
    };
    in_turn(trial, restart).await;
}

/// Drains every node as soon as the one before it takes pods again.
async fn drained_in_a_row(trial: &Trial) {
    let drains = async {
        for place in trial.members.places().await {
            let cordoned = trial.nodes.cordon(place.node);
            let node = format!("node{}", place.node);
            kubectl::kubectl(&["drain", "--timeout=2m", &node]).await.unwrap();
            drop(cordoned);
        }
    };
    in_turn(trial, drains).await;
}

/// Lets something replace all pods, one after the other, and sees that each has caught up before the next one is taken away.
async fn in_turn(trial: &Trial, replace: impl Future<Output = ()>) {
    let turns = Mutex::default();
    tokio::select! {
        () = replace => {}
        () = turns::follow(&trial.members, &turns) => unreachable!("it never ends"),
    }
    let turns = turns.into_inner().unwrap();
    println!("what the former had applied when the next one was taken away: {turns:#?}");
    assert_eq!(turns.len(), SIZE - 1, "each but the first has one before it");
    assert!(turns.windows(2).all(|pair| pair[0].gone == pair[1].former), "one after the other: {turns:?}");
    for turn in &turns {
        assert!(turn.applied >= Some(turn.known), "{turn:?}: it has not caught up");
    }
}

/// Restarts all, of whom the first cannot reach the others: as long as it has not caught up, no other one is taken away.
async fn held_up(trial: &Trial, release: &Release) {
    let (places, first) = (trial.members.places().await, SIZE - 1);
    let parted = trial.nodes.partition_pods_on(places[first].node);
    release.namespace.kubectl(&["rollout", "restart", "statefulset/quorate"]).await.unwrap();
    wait_for_another(trial, first, &places[first]).await;
    let began = Instant::now();
    while began.elapsed() < HELD_UP {
        let pod = release.namespace.get(&format!("pod/{}", name(first))).await.unwrap();
        assert!(!is_ready(&pod), "{} is ready, and reaches nobody", name(first));
        for (member, before) in places[..first].iter().enumerate() {
            let pod = release.namespace.get(&format!("pod/{}", name(member))).await.unwrap();
            assert!(is_ready(&pod) && pod["metadata"]["uid"] == before.uid, "{} was taken away: {pod:#}", name(member));
        }
        sleep(Duration::from_millis(500)).await;
    }
    assert!(parted.dropped() > 0, "it has not tried to reach anybody");
    drop(parted);
    release.namespace.kubectl(&["rollout", "status", "statefulset/quorate", "--timeout=3m"]).await.unwrap();
}

/// Declares something else of the cluster.
pub async fn patch(trial: &Trial, spec: &str) {
    let patch = format!(r#"{{"spec": {spec}}}"#);
    trial.members.namespace.kubectl(&["patch", "qc/quorate", "--type=merge", "--patch", &patch]).await.unwrap();
}

/// Five voters and another leader are declared, and a volume is lost, and nothing comes of it while the cluster is paused.
async fn paused(trial: &Trial, release: &Release) {
    let is_progressing = |status: &Value, reason: &str, text: &str| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let mut progressing = conditions.filter(|condition| condition["type"] == "Progressing");
        progressing.any(|it| it["reason"] == reason && it["message"].as_str().is_some_and(|it| it.starts_with(text)))
    };
    let leader = trial.members.whole().await.leader;
    let look = async || {
        let set = release.namespace.get("statefulset/quorate").await.unwrap();
        let seen = trial.members.seen_by(leader).await.expect("it answers");
        let members: Vec<_> = seen.members.into_iter().map(|it| (it.member_id, it.name, it.role)).collect();
        (set["spec"]["replicas"].clone(), set["metadata"]["generation"].clone(), members)
    };
    let before = look().await;
    let another = name((leader + 1) % SIZE);
    patch(trial, &format!(r#"{{"paused": true, "voters": 5, "preferredLeader": "{another}"}}"#)).await;
    release.status_when("paused", |status| is_progressing(status, "Paused", "3 of 5 voters")).await;
    let began = Instant::now();
    while began.elapsed() < WHILE_PAUSED {
        trial.acknowledged_more(50).await;
        assert_eq!(look().await, before);
        assert_eq!(trial.members.whole().await.leader, leader);
    }
    release.wipe(&another).await;
    release.says(&another, "the QuorateCluster is paused, so nobody is let in").await;
    trial.acknowledged_more(50).await;
    assert_eq!(look().await, before);
    patch(trial, r#"{"paused": false, "voters": 3, "preferredLeader": null}"#).await;
    release.status_when("not paused", |status| is_progressing(status, "AsDeclared", "3 of 3 voters")).await;
}

/// What the members that are there have seen of changes of the Raft leader since that term, by term, but for the first one that each
/// has heard of. Who was away meanwhile knows less of why than the others.
pub async fn leader_changes(trial: &Trial, since: u64) -> BTreeMap<u64, Vec<String>> {
    let mut changes = BTreeMap::<_, Vec<_>>::new();
    for member in 0..SIZE {
        let log = trial.members.namespace.logs(&name(member)).await;
        // Whoever has not caught up does not know yet why somebody else leads.
        let knowing = log.lines().skip_while(|line| !line.contains("caught up and ready"));
        let told = knowing.filter(|line| line.contains("the Raft leader has changed")).map(str::to_owned);
        for change in told.filter(|line| !line.contains(r#""cause":"First""#)) {
            let fields: Value = serde_json::from_str(&change).unwrap();
            changes.entry(fields["term"].as_str().unwrap().parse().unwrap()).or_default().push(change);
        }
    }
    changes.split_off(&(since + 1))
}

/// Drains the node of a member until its pod has gone, and lets it take pods again. Meanwhile no other node can be drained.
async fn drained(trial: &Trial, member: usize) {
    let places = trial.members.places().await;
    let place = &places[member];
    let _drained = trial.nodes.drain(place.node);
    let refusal = trial.nodes.refuse_to_drain(places[(member + 1) % SIZE].node);
    assert!(refusal.contains("would violate the pod's disruption budget"), "{refusal}");
    assert!(trial.members.place(member).await.is_none_or(|now| now.uid != place.uid), "{place:?} is there still");
}

async fn scaled_to_one(trial: &Trial, release: &Release) {
    let (before, began) = (trial.members.places().await, Instant::now());
    release.namespace.kubectl(&["scale", "statefulset/quorate", "--replicas=1"]).await.unwrap();
    release.namespace.wait("statefulset/quorate", "jsonpath={.spec.replicas}=3", 60).await;
    println!("scaled up again {:.1?} after somebody had scaled it down", began.elapsed());
    for (member, before) in before.iter().enumerate().skip(1) {
        wait_for_another(trial, member, before).await;
    }
    trial.acknowledged_more(1).await;
    let back = began.elapsed();
    println!("a quorum answers {back:.1?} after somebody had scaled it away");
    assert!(back <= BACK);
}

pub async fn wait_for_another(trial: &Trial, member: usize, before: &Place) {
    let deadline = Instant::now() + PATIENCE;
    while trial.members.place(member).await.is_none_or(|now| now.uid == before.uid) {
        assert!(Instant::now() < deadline, "{} has no new pod within {PATIENCE:?}", name(member));
        sleep(Duration::from_millis(100)).await;
    }
}

/// Everything that Kubernetes tells of the pods while something is done to them.
struct Sightings {
    kubectl: Child,
    folder: TempDir,
}

impl Sightings {
    async fn begin(namespace: &Namespace) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = kubectl::command();
        command.args(["--namespace", &namespace.name, "get", "pods", "--selector=app.kubernetes.io/name=quorate"]);
        command.args(["--watch", "--output-watch-events", "--output=json"]);
        let told = File::create(folder.path().join("told")).unwrap();
        let sightings = Self { kubectl: command.stdout(told).spawn().unwrap(), folder };
        let deadline = Instant::now() + PATIENCE;
        while sightings.told().len() < SIZE {
            assert!(Instant::now() < deadline, "kubectl tells nothing of the pods");
            sleep(Duration::from_millis(50)).await;
        }
        sightings
    }

    /// What it has told so far; the last one may be on its way.
    fn told(&self) -> Vec<Value> {
        let told = fs::read(self.folder.path().join("told")).unwrap();
        serde_json::Deserializer::from_slice(&told).into_iter().map_while(Result::ok).collect()
    }

    /// The smallest number of members that were ready at a time, and how many pods there were in all.
    fn end(self) -> (usize, usize) {
        let (mut ready, mut least, mut uids) = (BTreeMap::new(), SIZE, Vec::new());
        for event in self.told() {
            let pod = &event["object"];
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            uids.push(pod["metadata"]["uid"].to_string());
            ready.insert(name, event["type"] != "DELETED" && is_ready(pod));
            if ready.len() == SIZE {
                least = least.min(ready.values().filter(|ready| **ready).count());
            }
        }
        uids.sort();
        uids.dedup();
        (least, uids.len())
    }
}

impl Drop for Sightings {
    fn drop(&mut self) {
        // It ends with the test at the latest.
        drop(self.kubectl.kill());
        drop(self.kubectl.wait());
    }
}

/// Whether a member is there for others, and not about to go.
fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    pod["metadata"]["deletionTimestamp"].is_null() && conditions.into_iter().flatten().any(is_ready)
}
