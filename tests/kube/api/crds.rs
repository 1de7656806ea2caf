//! The CRDs in a real API server: what people see of them, and how a release brings its own.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::fixture::{Resources, apply_crds, unchanged};
use crate::kubectl::kubectl;

/// Asks again until the answer is right; the API server takes up a new CRD a moment after it has taken it.
pub async fn eventually(what: &str, holds: impl AsyncFn() -> Result<(), String>) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(why) = holds().await {
        assert!(Instant::now() < deadline, "{what}: {why}");
        sleep(Duration::from_millis(200)).await;
    }
}

#[track_caller]
pub fn assert_line(text: &str, words: &[&str]) {
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>() == words;
    assert!(text.lines().any(line), "{words:?} in {text}");
}

#[tokio::test]
async fn kubectl_get_answers_the_obvious_questions() {
    let resources = Resources::served().await;
    for kind in ["QuorateCluster", "ReplicatedConfig", "LeaderElection"] {
        resources.declare(kind, "web", "{}").await.unwrap();
    }
    let writer = format!("clusterId: {}, observedLeadership: 5", "a".repeat(32));
    let ready = "conditions: [{type: Ready, status: \"True\", reason: Because, message: so it is, \
                 lastTransitionTime: \"2026-01-31T12:00:00Z\"}]";
    let member = "members: [{id: 1, name: web-0, role: Voter, state: Leader}]";
    let cluster = format!("{{{writer}, {ready}, {member}, raftLeader: web-0, voters: 1, failureTolerance: 0}}");
    resources.report("quorate", "QuorateCluster", "web", &cluster).await.unwrap();
    let consumers = "consumers: {registered: 4, applied: 2}";
    let config = format!("{{{writer}, {ready}, {consumers}, version: 7, replicatedTo: 3/3}}");
    resources.report("quorate", "ReplicatedConfig", "web", &config).await.unwrap();

    let get = async |arguments: &[&str]| {
        let text = resources.namespace.kubectl(&[&["get"], arguments].concat()).await.unwrap();
        // How old they are is the only thing that nobody knows.
        let is_age = |word: &str| word.ends_with('s') && word.trim_end_matches('s').parse::<u32>().is_ok();
        let line = |line: &str| line.split_whitespace().filter(|word| !is_age(word)).collect::<Vec<_>>().join(" ");
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(get(&["qc"]).await, "NAME READY LEADER VOTERS DESIRED TOLERATES AGE\nweb True web-0 1 3 0");
    assert_eq!(get(&["rcfg"]).await, "NAME READY VERSION REPLICATED CONSUMERS APPLIED AGE\nweb True 7 3/3 4 2");
    assert_line(&get(&["le"]).await, &["web", "Unknown"]);
    let leader =
        |token: u64| format!("{{candidate: web-{token}, fencingToken: {token}, since: \"2026-01-31T12:00:00Z\"}}");
    let leaders = format!("leaders: [{}, {}], fencingToken: 17, transitions: 3", leader(15), leader(17));
    resources.report("quorate", "LeaderElection", "web", &format!("{{{writer}, {ready}, {leaders}}}")).await.unwrap();
    assert_eq!(get(&["le"]).await, "NAME READY LEADER TOKEN TRANSITIONS AGE\nweb True web-15 17 3");
    let wide = get(&["qc,rcfg", "--output=wide"]).await;
    assert!(wide.contains("CLUSTER MEMBERS REASON") && wide.contains("default web-0 so it is"), "{wide}");
    // Which kinds are in a category is told a moment after they are served.
    eventually("the category", async || {
        let all = get(&["quorate", "--output=name"]).await;
        if all.lines().count() == 3 { Ok(()) } else { Err(all) }
    })
    .await;
}

#[tokio::test]
async fn kubectl_explain_tells_what_each_field_is_for() {
    let _resources = Resources::served().await;
    let expected = [
        ("qc", "A Quorate cluster: the members that share one Raft log."),
        ("qc.spec.voters", "How many members vote: 1, 3, 5 or 7; 3 when left out."),
        ("qc.status.members.state", "Leader Follower Candidate Unreachable"),
        ("rcfg.spec.data", "Never put secrets here: they would stay in the history"),
        ("rcfg.status.conditions.observedGeneration", "it is out of date"),
        ("le.spec.sessionTtl", "A whole number and its unit (ms, s, m or h), from 500ms to 24h"),
    ];
    for (field, text) in expected {
        eventually(field, async || {
            let told = kubectl(&["explain", "--api-version=quorate.io/v1alpha1", field]).await?;
            let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
            if told.contains(text) { Ok(()) } else { Err(told) }
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_applied_twice_is_unchanged() {
    let _unchanged = unchanged().await;
    let again = apply_crds().await.unwrap();
    assert_eq!(
        again,
        "leaderelections.quorate.io: unchanged\nquorateclusters.quorate.io: unchanged\nreplicatedconfigs.quorate.io: unchanged\n"
    );
}

#[tokio::test]
async fn nothing_keeps_a_resource_from_being_deleted() {
    let resources = Resources::served().await;
    for (kind, object) in [("QuorateCluster", "qc/web"), ("ReplicatedConfig", "rcfg/web"), ("LeaderElection", "le/web")]
    {
        resources.declare(kind, "web", "{}").await.unwrap();
        let status = format!("{{clusterId: {}, observedLeadership: 5}}", "a".repeat(32));
        resources.report("quorate", kind, "web", &status).await.unwrap();
        assert_eq!(resources.get(object).await["metadata"].get("finalizers"), None, "{object}");
        resources.namespace.kubectl(&["delete", object, "--timeout=10s"]).await.unwrap();
        resources.declare(kind, "web", "{cluster: another}").await.expect("it can be made again");
        assert_eq!(resources.get(object).await["status"].get("clusterId"), None, "and begins anew");
    }
    resources.namespace.kubectl(&["delete", "quorate", "--all", "--timeout=10s"]).await.unwrap();
}
