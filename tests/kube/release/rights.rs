//! Rights of the members that somebody takes away: it is told at once, no application misses them, and it is made up for.

use serde_json::{Value, json};

use super::helm::Release;
use crate::faults::outage::{assert_served, declare_text};
use crate::kubectl::kubectl;
use crate::members::{Agreement, sum};
use crate::nodes::Nodes;
use crate::trial::{GAP, Trial};

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_away_are_told_and_missed_by_no_application_and_made_up_for_when_they_are_back() {
    let (release, trial) = at_work().await;
    survives(&trial, "no right to see resources", async || nothing_is_seen(&trial, &release).await).await;
    trial.survives("no right to scale", async |_: &Agreement| nothing_is_scaled(&release).await).await;
    trial.judge().await;
}

async fn at_work() -> (Release, Trial) {
    let nodes = Nodes::alone().await;
    let release = Release::running().await;
    declare_text(&release, "web", "before").await;
    assert_served(&release, "web", "before").await;
    let trial = Trial::with(release.members(), nodes).await;
    (release, trial)
}

/// No election is without a leader for long meanwhile.
async fn survives(trial: &Trial, what: &str, taken: impl AsyncFnOnce()) {
    let gap = trial.survives(what, async |_: &Agreement| taken().await).await;
    assert!(gap <= GAP, "{what}: an election was without a leader for {gap:?}");
}

/// All rights that reach beyond the namespace are gone until the next upgrade.
async fn nothing_is_seen(trial: &Trial, release: &Release) {
    let before = forbidden(release).await;
    let binding = format!("clusterrolebinding/quorate:{}:quorate", release.namespace.name);
    kubectl(&["delete", &binding]).await.unwrap();
    let unseen = "replicatedconfigs are not seen: the members' ServiceAccount may not list or watch them";
    let status = release.status_when("told", |status| is_degraded(status, "may not list or watch")).await;
    assert!(forbidden(release).await > before, "it is not counted");
    release.says(status["raftLeader"].as_str().unwrap(), unseen).await;
    declare_text(release, "meanwhile", "new").await;
    trial.goes_on().await;
    assert_served(release, "web", "before").await;
    release.upgrade(&["--wait"]).await.unwrap();
    assert_served(release, "meanwhile", "new").await;
    release.namespace.wait("replicatedconfig/meanwhile", "condition=Replicated", 60).await;
    release.status_when("well", |status| !is_degraded(status, "may not list or watch")).await;
}

/// The right to make room for more members alone is gone for a while.
async fn nothing_is_scaled(release: &Release) {
    let rules = take_right(release, "role/quorate", "statefulsets/scale").await;
    let scale = async |voters: u64| {
        let replicas = format!("--replicas={voters}");
        release.namespace.kubectl(&["scale", "qc/quorate", &replicas]).await.unwrap();
    };
    scale(5).await;
    let is_not_scaled = |status: &Value| is_degraded_by(status, "NotScaled");
    let status = release.status_when("told that it cannot be scaled", is_not_scaled).await;
    release
        .says(status["raftLeader"].as_str().unwrap(), "the StatefulSet is not scaled: the members' ServiceAccount")
        .await;
    give_rights(release, "role/quorate", &rules).await;
    release.status_when("as large as declared", |status| status["voters"] == 5 && !is_not_scaled(status)).await;
    scale(3).await;
    release.status_when("as small as declared", |status| status["voters"] == 3).await;
    release.namespace.wait("statefulset/quorate", "jsonpath={.status.replicas}=3", 60).await;
}

/// Requests of the Raft leader's that the API server has forbidden.
async fn forbidden(release: &Release) -> f64 {
    let members = release.members();
    let metrics = members.metrics(members.agree(&[0, 1, 2]).await.leader).await;
    sum(&metrics, "quorate_kubernetes_errors_total", "reason=\"forbidden\"")
}

fn degraded(status: &Value) -> Option<&Value> {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.find(|it| it["type"] == "Degraded" && it["status"] == "True")
}

/// Whether a cluster is degraded, and says so in these words.
fn is_degraded(status: &Value, what: &str) -> bool {
    degraded(status).is_some_and(|it| it["message"].as_str().unwrap().contains(what))
}

fn is_degraded_by(status: &Value, reason: &str) -> bool {
    degraded(status).is_some_and(|it| it["reason"] == reason)
}

/// Takes the right to one kind of resources out of a role of the chart's; all the rights that it gave.
async fn take_right(release: &Release, role: &str, resources: &str) -> Value {
    let rules = release.namespace.get(role).await.unwrap()["rules"].clone();
    let others: Vec<_> =
        rules.as_array().unwrap().iter().filter(|rule| rule["resources"] != json!([resources])).collect();
    assert_eq!(others.len() + 1, rules.as_array().unwrap().len(), "the chart gives it");
    give_rights(release, role, &json!(others)).await;
    rules
}

async fn give_rights(release: &Release, role: &str, rules: &Value) {
    let patch = json!({ "rules": rules }).to_string();
    release.namespace.kubectl(&["patch", role, "--type=merge", "--patch", &patch]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_to_see_pods_and_to_write_events_are_missed_aloud_and_what_could_not_be_told_is_told_later() {
    let (release, trial) = at_work().await;
    survives(&trial, "no right to see pods, nor to write Events", async || nobody_is_told(&trial, &release).await)
        .await;
    trial.judge().await;
}

async fn nobody_is_told(trial: &Trial, release: &Release) {
    let told = async || {
        let events = release.namespace.kubectl(&["get", "events.v1.events.k8s.io", "--output=json"]).await.unwrap();
        events.contains("pods of members are not seen")
    };
    let everywhere = format!("clusterrole/quorate:{}:quorate", release.namespace.name);
    let global = take_right(release, &everywhere, "events").await;
    let own = take_right(release, "role/quorate", "pods").await;
    let (pods, events) =
        ("the members' ServiceAccount may not get them", "the members' ServiceAccount may not create them");
    let status =
        release.status_when("told of both", |status| is_degraded(status, pods) && is_degraded(status, events)).await;
    assert!(is_degraded_by(&status, "PodsNotSeen"), "{status:#}");
    release.says(status["raftLeader"].as_str().unwrap(), "pods of members are not seen").await;
    release.says(status["raftLeader"].as_str().unwrap(), "an Event was not written").await;
    trial.goes_on().await;
    assert!(!told().await, "somebody may create Events");
    give_rights(release, &everywhere, &global).await;
    let status = release.status_when("allowed to write Events", |status| !is_degraded(status, events)).await;
    assert!(is_degraded(&status, pods), "{status:#}");
    assert!(told().await, "the Event that was forbidden is not made up for");
    give_rights(release, "role/quorate", &own).await;
    let is_well = |status: &Value| !is_degraded(status, pods) && !is_degraded(status, events);
    let status = release.status_when("well", is_well).await;
    assert!(status.to_string().contains("pods of members are not seen"), "what was wrong is not told: {status:#}");
}
