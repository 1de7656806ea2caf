//! Who may write the status of Quorate's resources, and how tools judge them by it.

use std::fs;

use tempfile::TempDir;
use tokio::time::Instant;

use super::assert_refused;
use super::fixture::Resources;
use super::operated::{Operated, PATIENCE, find};
use crate::kubectl::helm;

/// Fields of a status, by a cluster that is called by one letter.
fn by(cluster: &str, leadership: u64, more: &str) -> String {
    format!("{{clusterId: {}, observedLeadership: {leadership}{more}}}", cluster.repeat(32))
}

/// The condition `type_`, as it stands in a status.
fn condition(type_: &str, status: &str, generation: u64) -> String {
    format!(
        "{{type: {type_}, status: {status:?}, reason: Because, message: so it is, observedGeneration: {generation}, \
         lastTransitionTime: \"2026-01-31T12:00:00Z\"}}"
    )
}

#[tokio::test]
async fn of_two_writers_the_one_of_the_older_leadership_is_refused() {
    let resources = Resources::served().await;
    for (kind, object) in [("QuorateCluster", "qc/web"), ("ReplicatedConfig", "rcfg/web"), ("LeaderElection", "le/web")]
    {
        resources.declare(kind, "web", "{}").await.unwrap();
        resources.report("first", kind, "web", &by("a", 5, "")).await.unwrap();
        resources.report("second", kind, "web", &by("a", 9, "")).await.expect("the successor writes");
        let refusal = "status: Forbidden: a newer leadership has written this status";
        assert_refused(resources.report("first", kind, "web", &by("a", 8, "")).await, refusal);
        assert_refused(resources.report("second", kind, "web", "{conditions: []}").await, refusal);
        let older = r#"--patch={"status": {"observedLeadership": 8}}"#;
        let patch = ["patch", object, "--type=merge", "--subresource=status", older];
        assert_refused(resources.namespace.kubectl(&patch).await, refusal);
        assert_eq!(resources.get(object).await["status"]["observedLeadership"], 9);
        resources.report("second", kind, "web", &by("a", 9, "")).await.expect("the same leadership writes again");
        resources.report("third", kind, "web", &by("b", 1, "")).await.expect("another cluster counts anew");
    }
}

#[tokio::test]
async fn a_leadership_is_one_of_a_cluster_which_may_be_recorded_before_anybody_has_led_it() {
    let resources = Resources::served().await;
    for kind in ["QuorateCluster", "ReplicatedConfig", "LeaderElection"] {
        resources.declare(kind, "web", "{}").await.unwrap();
        let refusal = resources.report("first", kind, "web", "{observedLeadership: 3}").await;
        assert_refused(refusal, "observedLeadership must not be set without clusterId");
        let refusal = resources.report("first", kind, "web", "{clusterId: name}").await;
        assert_refused(refusal, "clusterId in body should match '^[0-9a-f]{32}$'");
        let recorded = format!("{{clusterId: {}}}", "a".repeat(32));
        resources.report("founder", kind, "web", &recorded).await.unwrap();
        resources.report("first", kind, "web", &by("a", 1, "")).await.unwrap();
    }
}

#[tokio::test]
async fn a_member_that_writes_the_loss_of_the_quorum_leaves_the_rest_as_it_was() {
    let resources = Resources::served().await;
    resources.declare("QuorateCluster", "web", "{}").await.unwrap();
    let members = "members: [{id: 1, name: web-0, role: Voter, state: Leader, version: 0.1.0}], raftLeader: web-0";
    let fine =
        [condition("Ready", "True", 1), condition("QuorumAvailable", "True", 1), condition("Degraded", "False", 1)];
    let status = by("a", 5, &format!(", voters: 1, {members}, conditions: [{}]", fine.join(", ")));
    resources.report("leader", "QuorateCluster", "web", &status).await.unwrap();
    let lost = [condition("Ready", "False", 1), condition("QuorumAvailable", "False", 1)];
    let status = by("a", 5, &format!(", conditions: [{}]", lost.join(", ")));
    resources.report("witness", "QuorateCluster", "web", &status).await.unwrap();

    let status = resources.get("qc/web").await["status"].clone();
    assert_eq!((&status["raftLeader"], &status["members"][0]["state"]), (&"web-0".into(), &"Leader".into()));
    let told: Vec<_> =
        status["conditions"].as_array().unwrap().iter().map(|told| (&told["type"], &told["status"])).collect();
    let expected = [("Ready", "False"), ("QuorumAvailable", "False"), ("Degraded", "False")];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (type_, truth) in expected {
        assert!(told.contains(&(&type_.into(), &truth.into())), "{type_} is {truth} in {told:?}");
    }
}

#[tokio::test]
async fn a_member_that_came_back_under_its_name_stands_beside_the_one_that_it_was() {
    let resources = Resources::served().await;
    resources.declare("QuorateCluster", "web", "{}").await.unwrap();
    let member = |id: u32, state: &str| format!("{{id: {id}, name: web-0, role: Learner, state: {state}}}");
    let both = format!(", members: [{}, {}]", member(1, "Unreachable"), member(4, "Follower"));
    resources.report("leader", "QuorateCluster", "web", &by("a", 5, &both)).await.unwrap();
    let one = format!(", members: [{}]", member(4, "Follower"));
    resources.report("leader", "QuorateCluster", "web", &by("a", 5, &one)).await.unwrap();
    assert_eq!(resources.get("qc/web").await["status"]["members"].as_array().unwrap().len(), 1);
    let wrong = format!(", members: [{}]", member(4, "Dancing"));
    let refusal = resources.report("leader", "QuorateCluster", "web", &by("a", 5, &wrong)).await;
    assert_refused(refusal, "Unsupported value: \"Dancing\": supported values: \"Leader\", \"Follower\"");
}

#[tokio::test]
async fn who_waits_for_ready_waits_for_somebody_to_serve_it() {
    let resources = Resources::served().await;
    let wait = async |seconds: &str| {
        resources.namespace.kubectl(&["wait", "rcfg/web", "--for=condition=Ready", seconds]).await
    };
    resources.declare("ReplicatedConfig", "web", "{}").await.unwrap();
    let ready = &resources.get("rcfg/web").await["status"]["conditions"][0];
    assert_eq!((&ready["status"], &ready["reason"]), (&"Unknown".into(), &"Pending".into()));
    assert_refused(wait("--timeout=1s").await, "timed out");
    let served = |generation| by("a", 1, &format!(", conditions: [{}]", condition("Ready", "True", generation)));
    resources.report("quorate", "ReplicatedConfig", "web", &served(1)).await.unwrap();
    wait("--timeout=10s").await.unwrap();
    resources.declare("ReplicatedConfig", "web", "{data: {a: b}}").await.unwrap();
    assert_refused(wait("--timeout=1s").await, "timed out");
    resources.report("quorate", "ReplicatedConfig", "web", &served(2)).await.unwrap();
    wait("--timeout=10s").await.unwrap();
}

/// A chart of one template. Helm judges its resources as Flux does, by the rules of kstatus.
struct Chart {
    folder: TempDir,
    namespace: String,
}

impl Chart {
    fn of(template: &str, resources: &Resources) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("templates")).unwrap();
        fs::write(folder.path().join("Chart.yaml"), "apiVersion: v2\nname: web\nversion: 0.1.0\n").unwrap();
        fs::write(folder.path().join("templates/web.yaml"), template).unwrap();
        Self { folder, namespace: resources.namespace.name.clone() }
    }

    /// Installs it with another value, and waits.
    async fn upgrade(&self, value: &str, timeout: &str) -> Result<String, String> {
        let folder = self.folder.path().to_str().unwrap();
        helm(&["upgrade", "--install", "web", folder, "--namespace", &self.namespace, "--wait", timeout, value]).await
    }
}

#[tokio::test]
async fn helm_waits_until_what_it_has_applied_is_served_and_no_longer_than_until_it_cannot_be() {
    let resources = Resources::served().await;
    let template = "apiVersion: quorate.io/v1alpha1\nkind: ReplicatedConfig\nmetadata: {name: web}\n\
                    spec: {data: {a: {{ .Values.a | quote }}}}\n";
    let chart = Chart::of(template, &resources);
    let status = async |generation: u64, conditions: &str| {
        let more = format!(", observedGeneration: {generation}, conditions: [{conditions}]");
        resources.report("quorate", "ReplicatedConfig", "web", &by("a", 1, &more)).await.unwrap();
    };
    let refusal = chart.upgrade("--set=a=1", "--timeout=2s").await;
    assert_refused(refusal, "status: InProgress, message: no Quorate cluster has taken it up");
    status(1, &condition("Ready", "True", 1)).await;
    chart.upgrade("--set=a=1", "--timeout=20s").await.unwrap();
    let refusal = chart.upgrade("--set=a=2", "--timeout=2s").await;
    assert_refused(refusal, "generation is 2, but latest observed generation is 1");
    status(2, &[condition("Ready", "False", 2), condition("Stalled", "True", 2)].join(", ")).await;
    let refusal = chart.upgrade("--set=a=2", "--timeout=60s").await;
    assert_refused(refusal, "status: Failed, message: so it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_waits_for_what_the_members_take_and_gives_up_at_once_on_what_they_refuse() {
    let cluster = Operated::running().await;
    let template = "apiVersion: quorate.io/v1alpha1\nkind: LeaderElection\nmetadata: {name: main}\n\
                    spec: {cluster: CLUSTER}\n---\n\
                    apiVersion: quorate.io/v1alpha1\nkind: ReplicatedConfig\nmetadata: {name: web}\n\
                    spec:\n  cluster: CLUSTER\n  schema: {properties: {port: {type: integer}}}\n  \
                    data: {text: 'port: {{ .Values.port }}'}\n";
    let chart = Chart::of(&template.replace("CLUSTER", &cluster.cluster), &cluster.resources);
    chart.upgrade("--set=port=80", "--timeout=60s").await.unwrap();
    for object in ["le/main", "rcfg/web"] {
        let taken = cluster.resources.get(object).await;
        assert_eq!(find(&taken, "Ready").map(|ready| &ready["status"]), Some(&"True".into()), "{taken:#}");
    }

    let began = Instant::now();
    let refusal = chart.upgrade("--set=port=secret", "--timeout=200s").await;
    assert_refused(refusal, "status: Failed, message: spec.data.text: ");
    assert!(began.elapsed() < PATIENCE, "it has waited {:?}", began.elapsed());
    cluster.wait_until_served("web", Some("port: 80")).await;
}
