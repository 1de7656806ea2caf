//! From `kubectl apply` to what every member serves, and back to what `kubectl get` shows.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::elected::{LONG, nothing_changes};
use super::fixture::unguarded;
use super::operated::{Operated, find};
use super::outages::Weather;
use crate::support::trio::{SIZE, name, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_served_by_every_member_and_its_status_says_so() {
    let cluster = Operated::running().await;
    cluster.apply_text("web", "one").await;
    cluster.wait_until_served("web", Some("one")).await;
    for condition in ["Accepted", "Ready", "Replicated", "Applied"] {
        cluster.wait_for("rcfg/web", condition, "True").await;
    }
    let is_told = |object: &Value| object["status"]["replicatedTo"] == "3/3";
    let first = cluster.wait_until("rcfg/web", "on every member", is_told).await;
    assert_eq!(first["status"]["version"], 1);

    cluster.apply_text("web", "two").await;
    cluster.wait_until_served("web", Some("two")).await;
    cluster.apply("ReplicatedConfig", "web", "data: {text: two}, rollbackTo: 1").await.unwrap();
    cluster.wait_until_served("web", Some("one")).await;
    let back = cluster.wait_until("rcfg/web", "back", |object| object["status"]["version"] == 3).await;
    assert_eq!(back["status"]["contentHash"], first["status"]["contentHash"]);

    cluster.resources.namespace.kubectl(&["delete", "rcfg/web"]).await.unwrap();
    cluster.wait_until_served("web", None).await;
    cluster.apply_text("web", "three").await;
    cluster.wait_until_served("web", Some("three")).await;
    cluster.wait_for("rcfg/web", "Ready", "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_meet_its_schema_is_refused_with_the_path_and_the_last_good_version_stays() {
    let cluster = Operated::running().await;
    let spec =
        |port: &str| format!("schema: {{properties: {{port: {{type: integer}}}}}}, data: {{text: 'port: {port}'}}");
    cluster.apply("ReplicatedConfig", "web", &spec("80")).await.unwrap();
    cluster.wait_for("rcfg/web", "Ready", "True").await;
    cluster.apply("ReplicatedConfig", "web", &spec("secret")).await.unwrap();
    let (reason, message) = cluster.wait_for("rcfg/web", "Accepted", "False").await;
    assert_eq!(reason, "Invalid");
    assert!(message.contains("spec.data.text: ") && message.contains("/port"), "{message}");
    assert!(!message.contains("secret"), "{message}");
    // Who waits for it gives up.
    let (stalled, told) = cluster.wait_for("rcfg/web", "Stalled", "True").await;
    assert_eq!((&stalled, &told), (&reason, &message));
    let (_, message) = cluster.wait_for("rcfg/web", "Ready", "False").await;
    assert!(message.contains("version 1 is served"), "{message}");
    cluster.wait_until_served("web", Some("port: 80")).await;
    cluster.apply("ReplicatedConfig", "web", &spec("81")).await.unwrap();
    cluster.wait_for("rcfg/web", "Ready", "True").await;
    let object = cluster.resources.namespace.get("rcfg/web").await.unwrap();
    assert!(find(&object, "Stalled").is_none(), "{object:#}");
    for reason in ["Invalid", "Valid"] {
        let is_there = |events: &Value| {
            let events = events["items"].as_array();
            events.is_some_and(|events| events.iter().any(|event| event["reason"] == reason))
        };
        cluster.wait_until("events", "told", is_there).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_to_a_version_that_is_not_kept_any_more_is_refused_and_the_last_good_version_stays() {
    let cluster = Operated::running().await;
    let apply = async |text: &str, more: &str| {
        let spec = format!("historyLimit: 1, data: {{text: {text}}}{more}");
        cluster.apply("ReplicatedConfig", "web", &spec).await.unwrap();
    };
    for text in ["one", "two", "three"] {
        apply(text, "").await;
        cluster.wait_for("rcfg/web", "Ready", "True").await;
    }
    apply("three", ", rollbackTo: 1").await;
    let (reason, message) = cluster.wait_for("rcfg/web", "Accepted", "False").await;
    assert_eq!(reason, "Refused");
    assert!(message.contains("has no version 1"), "{message}");
    let (stalled, told) = cluster.wait_for("rcfg/web", "Stalled", "True").await;
    assert_eq!((&stalled, &told), (&reason, &message));
    let (_, message) = cluster.wait_for("rcfg/web", "Ready", "False").await;
    assert!(message.contains("version 3 is served"), "{message}");
    cluster.wait_until_served("web", Some("three")).await;

    apply("four", "").await;
    for condition in ["Ready", "Accepted"] {
        cluster.wait_for("rcfg/web", condition, "True").await;
    }
    cluster.wait_until_served("web", Some("four")).await;
    let object = cluster.resources.get("rcfg/web").await;
    assert_eq!((find(&object, "Stalled"), &object["status"]["version"]), (None, &4.into()), "{object:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_resource_is_deleted_serves_on_and_is_the_same_when_it_is_applied_again() {
    let weather = Weather::fine().await;
    let cluster = &weather.cluster;
    let id = cluster.resources.get("qc/quorate").await["status"]["clusterId"].take();
    cluster.resources.namespace.kubectl(&["delete", "qc/quorate"]).await.unwrap();
    cluster.apply_text("web", "one").await;
    cluster.wait_until_served("web", Some("one")).await;
    cluster.wait_for("rcfg/web", "Ready", "True").await;
    cluster.apply("LeaderElection", "main", "seats: 1").await.unwrap();
    let leader = cluster.campaign(0, "main", "web-0", LONG).await;
    let is_told = |election: &Value| election["status"]["fencingToken"] == leader.token;
    cluster.wait_until("le/main", "led by web-0", is_told).await;
    weather.data_plane_is_untouched().await;

    cluster.apply("QuorateCluster", "quorate", "voters: 3").await.unwrap();
    cluster.wait_for("qc/quorate", "Ready", "True").await;
    assert_eq!(cluster.resources.get("qc/quorate").await["status"]["clusterId"], id);
    cluster.keep_alive(0, &leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_asks_for_another_name_than_its_members_serve_says_so() {
    let cluster = Operated::prepared().await;
    let (asked, served) = (cluster.cluster.clone(), format!("{}-other", cluster.cluster));
    let mut cluster = cluster.for_cluster(&served);
    cluster.start_all().await;
    let (reason, message) = cluster.wait_for("qc/quorate", "Ready", "False").await;
    assert_eq!(reason, "AnotherCluster");
    // Whoever waits for it gives up at once: it needs a change.
    assert_eq!(cluster.wait_for("qc/quorate", "Stalled", "True").await, (reason, message.clone()));
    assert!(message.contains(&format!("{asked:?}")) && message.contains(&format!("{served:?}")), "{message}");
    cluster.apply_text("web", "one").await;
    cluster.wait_until_served("web", Some("one")).await;

    cluster.resources.namespace.kubectl(&["delete", "qc/quorate"]).await.unwrap();
    cluster.apply("QuorateCluster", "quorate", "voters: 3").await.unwrap();
    cluster.wait_for("qc/quorate", "Ready", "True").await;
}

/// How many Events there are, by object and reason.
type Events = BTreeMap<(String, String), usize>;

async fn events(cluster: &Operated) -> Events {
    let mut counts = Events::new();
    for event in cluster.look.at("events").await["items"].as_array().expect("Events can be read") {
        let [object, reason] = [&event["involvedObject"]["name"], &event["reason"]].map(|it| it.as_str().unwrap());
        *counts.entry((object.to_owned(), reason.to_owned())).or_default() += 1;
    }
    counts
}

/// The same, once they tell also that the members have come up, which they do one after another.
async fn first_events(cluster: &Operated) -> Events {
    let are_up = async || {
        let events = events(cluster).await;
        let count = |reason: &str| events.get(&("quorate".to_owned(), reason.to_owned())).copied().unwrap_or_default();
        let turns = [("MembersUnreachable", "AllMembersAnswer"), ("NoQuorum", "QuorumAnswers")];
        let is_over = turns.iter().all(|(bad, good)| count(bad) == count(good));
        (count("RaftLeaderChanged") > 0 && is_over).then_some(events)
    };
    wait_for("the Events do not tell that the members are up", are_up).await
}

/// Waits until one more Event of the cluster has each of these reasons, and there is no other.
async fn are_told(cluster: &Operated, told: &mut Events, reasons: &[&str]) {
    for reason in reasons {
        *told.entry(("quorate".to_owned(), (*reason).to_owned())).or_default() += 1;
    }
    let are_there = async || (events(cluster).await == *told).then_some(());
    wait_for(&format!("these are not the Events: {told:#?}"), are_there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_says_who_its_members_are_and_how_it_is_and_has_one_event_for_each_change_of_that() {
    let mut cluster = Operated::running().await;
    for (condition, status) in
        [("Ready", "True"), ("QuorumAvailable", "True"), ("Progressing", "False"), ("Degraded", "False")]
    {
        cluster.wait_for("qc/quorate", condition, status).await;
    }
    let whole = cluster.resources.namespace.get("qc/quorate").await.unwrap();
    let status = &whole["status"];
    assert_eq!((&status["voters"], &status["failureTolerance"]), (&3.into(), &1.into()));
    let members = status["members"].as_array().unwrap();
    assert_eq!(members.len(), 3);
    let leader = cluster.trio.leader().await;
    assert_eq!(status["raftLeader"], name(leader));
    let mut told = first_events(&cluster).await;

    let follower = (leader + 1) % 3;
    cluster.trio.kill(follower);
    let (_, message) = cluster.wait_for("qc/quorate", "Degraded", "True").await;
    assert!(message.contains(&name(follower)), "{message}");
    let is_silent = |object: &Value| {
        let members = object["status"]["members"].as_array().expect("there are members");
        let silent = members.iter().find(|member| member["state"] == "Unreachable");
        silent.is_some_and(|silent| silent["name"] == name(follower)) && object["status"]["failureTolerance"] == 0
    };
    cluster.wait_until("qc/quorate", "told to tolerate no failure", is_silent).await;
    cluster.wait_for("qc/quorate", "Ready", "True").await;
    are_told(&cluster, &mut told, &["MembersUnreachable"]).await;
    cluster.start(follower);
    cluster.wait_for("qc/quorate", "Degraded", "False").await;
    let is_whole = |object: &Value| {
        let members = object["status"]["members"].as_array().expect("there are members");
        members.iter().all(|member| member["state"] != "Unreachable") && object["status"]["failureTolerance"] == 1
    };
    cluster.wait_until("qc/quorate", "told to tolerate a failure", is_whole).await;
    // Who is killed right after it has written a status has no time for its Event.
    are_told(&cluster, &mut told, &["AllMembersAnswer"]).await;

    // Another leader says that it leads, and that this is a newer leadership.
    cluster.trio.kill(leader);
    let is_newer = |object: &Value| {
        object["status"]["raftLeader"] != status["raftLeader"]
            && object["status"]["observedLeadership"].as_i64() > status["observedLeadership"].as_i64()
    };
    cluster.wait_until("qc/quorate", "led by another member", is_newer).await;
    are_told(&cluster, &mut told, &["RaftLeaderChanged", "MembersUnreachable"]).await;
    nothing_changes("what is told", Duration::from_secs(2), async || events(&cluster).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_quorum_is_told_by_who_is_left_and_its_return_by_the_next_leader() {
    let mut cluster = Operated::running().await;
    cluster.wait_for("qc/quorate", "Ready", "True").await;
    for member in [0, 1] {
        cluster.trio.kill(member);
    }
    // As when a release comes back on old volumes: whoever is there brings the others back.
    apply_stateful_set(&cluster).await;
    let (reason, _) = cluster.wait_for("qc/quorate", "QuorumAvailable", "False").await;
    assert_eq!(reason, "NoQuorum");
    cluster.wait_for("qc/quorate", "Ready", "False").await;
    cluster.wait_until("statefulset/quorate", "scaled up", |set| set["spec"]["replicas"] == 3).await;
    for member in [0, 1] {
        cluster.start(member);
    }
    cluster.wait_for("qc/quorate", "QuorumAvailable", "True").await;
    cluster.wait_for("qc/quorate", "Ready", "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_of_one_name_do_not_write_each_others_statuses() {
    let first = Operated::running().await;
    first.apply_text("web", "one").await;
    first.wait_for("rcfg/web", "Ready", "True").await;
    let second = Operated::prepared().await.for_cluster(&first.cluster);
    second.apply("QuorateCluster", "quorate", "voters: 3").await.expect_err("spec.cluster cannot be changed");
    second.resources.namespace.kubectl(&["delete", "qc/quorate"]).await.unwrap();
    second.apply("QuorateCluster", "quorate", "voters: 3").await.unwrap();
    let mut second = second;
    second.start_all().await;
    second.wait_for("qc/quorate", "Ready", "True").await;
    wait_for("the second does not say it", async || {
        let says = |member| {
            second.trio.log(member).contains("replicatedconfigs")
                && second.trio.log(member).contains("so this cluster does not")
        };
        (0..SIZE).any(says).then_some(())
    })
    .await;
    let status = first.resources.namespace.get("rcfg/web").await.unwrap()["status"].clone();
    let owner = first.resources.namespace.get("qc/quorate").await.unwrap()["status"]["clusterId"].clone();
    assert_eq!(status["clusterId"], owner);
    first.apply_text("web", "two").await;
    first.wait_for("rcfg/web", "Ready", "True").await;
    let status = first.resources.namespace.get("rcfg/web").await.unwrap()["status"].clone();
    assert_eq!((&status["clusterId"], &status["version"]), (&owner, &2.into()));
}

/// A StatefulSet that does not say how many pods it has, as the chart's. There is no controller that makes pods of it.
async fn apply_stateful_set(cluster: &Operated) {
    let pod = "metadata: {labels: {app: q}}, spec: {containers: [{name: q, image: q}]}";
    let set = format!(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: quorate}}\n\
         spec: {{serviceName: q, selector: {{matchLabels: {{app: q}}}}, template: {{{pod}}}}}\n"
    );
    cluster.resources.namespace.apply(&set).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_with_too_few_replicas_is_scaled_up_and_nothing_else_of_it_is_touched() {
    let cluster = Operated::prepared().await;
    let _unguarded = unguarded().await;
    apply_stateful_set(&cluster).await;
    let before = cluster.resources.namespace.get("statefulset/quorate").await.unwrap();
    assert_eq!(before["spec"]["replicas"], 1);
    let mut cluster = cluster;
    cluster.start_all().await;
    let scaled = cluster.wait_until("statefulset/quorate", "scaled up", |set| set["spec"]["replicas"] == 3).await;
    let mut expected = before["spec"].clone();
    expected["replicas"] = 3.into();
    assert_eq!(scaled["spec"], expected);
    cluster.resources.namespace.kubectl(&["scale", "statefulset/quorate", "--replicas=1"]).await.unwrap();
    cluster.wait_until("statefulset/quorate", "scaled up again", |set| set["spec"]["replicas"] == 3).await;
    cluster.apply("QuorateCluster", "quorate", "voters: 3, paused: true").await.unwrap();
    cluster.wait_for("qc/quorate", "Progressing", "False").await;
    cluster.resources.namespace.kubectl(&["scale", "statefulset/quorate", "--replicas=2"]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(cluster.resources.namespace.get("statefulset/quorate").await.unwrap()["spec"]["replicas"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_leader_that_wakes_up_does_not_overwrite_what_the_next_one_has_told() {
    let cluster = Operated::running().await;
    cluster.apply_text("web", "one").await;
    cluster.wait_for("rcfg/web", "Ready", "True").await;
    let old = cluster.trio.leader().await;
    let led = cluster.resources.namespace.get("qc/quorate").await.unwrap()["status"]["observedLeadership"].as_i64();
    cluster.trio.freeze(old);
    let is_newer = |object: &Value| object["status"]["observedLeadership"].as_i64() > led;
    cluster.wait_until("qc/quorate", "led anew", is_newer).await;
    cluster.apply_text("web", "two").await;
    cluster.wait_until("rcfg/web", "replaced", |object| object["status"]["version"] == 2).await;
    cluster.trio.thaw(old);
    cluster.wait_for("qc/quorate", "Degraded", "False").await;
    let newer = cluster.resources.namespace.get("rcfg/web").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let present = cluster.resources.namespace.get("rcfg/web").await.unwrap();
    assert_eq!(present["status"]["version"], 2);
    assert!(present["status"]["observedLeadership"].as_i64() >= newer["status"]["observedLeadership"].as_i64());
    cluster.wait_until_served("web", Some("two")).await;
}

/// More than any cluster of a test comes to.
const FAR_AHEAD: &str = r#"--patch={"status": {"observedLeadership": 1000000}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_a_newer_leadership_has_written_is_left_alone_and_its_config_is_served_all_the_same() {
    let weather = Weather::fine().await;
    let cluster = &weather.cluster;
    let counted = weather.errors("invalid").await;
    let patch = ["patch", "rcfg/before", "--type=merge", "--subresource=status", FAR_AHEAD];
    cluster.resources.namespace.kubectl(&patch).await.unwrap();
    cluster.apply_text("before", "new").await;
    cluster.wait_until_served("before", Some("new")).await;
    wait_for("it is not counted", async || (weather.errors("invalid").await > counted).then_some(())).await;
    assert!(weather.logged("a newer leadership has written this status") > 0, "it is not logged");
    let refused = "statuses of replicatedconfigs are not written: the API server does not take them";
    weather.is_told("StatusesNotWritten", refused).await;
    let status = cluster.resources.get("rcfg/before").await["status"].take();
    assert_eq!((&status["version"], &status["observedLeadership"]), (&1.into(), &1_000_000.into()), "{status:#}");

    cluster.resources.namespace.kubectl(&["delete", "rcfg/before"]).await.unwrap();
    cluster.apply_text("before", "old").await;
    cluster.wait_for("rcfg/before", "Ready", "True").await;
    cluster.wait_for("qc/quorate", "Degraded", "False").await;
    weather.data_plane_is_untouched().await;
}
