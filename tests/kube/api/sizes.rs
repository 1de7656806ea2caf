//! How many members there are and who leads them, by `kubectl`: the cluster follows, and says what it does.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::operated::{Operated, find};
use crate::kubectl::{kubectl, kubectl_with_input};
use crate::support::effort::Effort;
use crate::support::trio::{SIZE, name, wait_for};

impl Operated {
    /// `kubectl scale` of the resource.
    async fn resize(&self, voters: u32) {
        let replicas = format!("--replicas={voters}");
        self.resources.namespace.kubectl(&["scale", "qc/quorate", &replicas]).await.unwrap();
    }

    /// Waits until the status names these members as voters, and nobody else.
    async fn becomes(&self, voters: &[&str]) {
        let is_so = |object: &Value| {
            let members = object["status"]["members"].as_array().cloned().unwrap_or_default();
            let mut names: Vec<_> = members.iter().map(|member| member["name"].as_str().unwrap_or_default()).collect();
            names.sort_unstable();
            names == voters && members.iter().all(|member| member["role"] == "Voter")
        };
        self.wait_until("qc/quorate", &format!("made of {voters:?}"), is_so).await;
    }

    async fn has_replicas(&self, replicas: u32) {
        let is_so = |set: &Value| set["spec"]["replicas"] == replicas;
        self.wait_until("statefulset/quorate", &format!("scaled to {replicas}"), is_so).await;
    }

    /// Waits until `Progressing` says why.
    async fn progresses(&self, status: &str, reason: &str, message: &str) {
        let says_so = |object: &Value| {
            find(object, "Progressing").is_some_and(|found| {
                found["status"] == status
                    && found["reason"] == reason
                    && found["message"].as_str().is_some_and(|text| text.contains(message))
                    && found["observedGeneration"] == object["metadata"]["generation"]
            })
        };
        self.wait_until("qc/quorate", &format!("{reason}: {message:?}"), says_so).await;
    }

    /// A node and on it the pod of a member. There is no kubelet, so the pod does nothing but stand there.
    async fn make_member_pod(&self, pod: &str, node: &str) {
        let document = format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {node}}}\n");
        kubectl_with_input(&["create", "--filename=-"], &document).await.unwrap();
        self.resources.namespace.make_account().await;
        let document = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, finalizers: [quorate.io/test]}}\n\
             spec:\n  nodeName: {node}\n  automountServiceAccountToken: false\n  \
             securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}\n  \
             containers: [{{name: q, image: q, securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}}}]\n"
        );
        self.resources.namespace.apply(&document).await.unwrap();
    }

    async fn is_led_by(&self, leader: &str) {
        let is_so = |object: &Value| object["status"]["raftLeader"] == leader;
        self.wait_until("qc/quorate", &format!("led by {leader}"), is_so).await;
    }

    /// Starts a member anew that was removed and has ended because it is wanted again.
    async fn starts_anew(&mut self, member: usize) {
        let ended = self.trio.wait_until_ended(member).await;
        assert!(!ended.success(), "it says that something was not as it should be");
        assert!(self.trio.log(member).contains("wants a member of its name again"), "{}", self.trio.log(member));
        fs::remove_dir_all(self.trio.data(member)).unwrap();
        self.start(member);
    }
}

/// A StatefulSet as the chart's, of which nobody makes pods.
const STATEFUL_SET: &str = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: quorate}\n\
                            spec: {serviceName: q, selector: {matchLabels: {app: q}}, template: {metadata: {labels: {app: q}}, \
                            spec: {containers: [{name: q, image: q}]}}}\n";

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_scale_makes_the_cluster_smaller_and_larger_and_pods_go_after_their_members() {
    let mut cluster = Operated::running().await;
    cluster.resources.namespace.apply(STATEFUL_SET).await.unwrap();
    cluster.has_replicas(3).await;
    cluster.apply_text("web", "kept").await;
    cluster.wait_until_served("web", Some("kept")).await;

    let refusal = cluster.resources.namespace.kubectl(&["scale", "qc/quorate", "--replicas=2"]).await.unwrap_err();
    assert!(refusal.contains("it must be 1, 3, 5 or 7"), "{refusal}");
    cluster.resize(1).await;
    cluster.becomes(&["quorate-0"]).await;
    cluster.has_replicas(1).await;
    cluster.progresses("False", "AsDeclared", "1 of 1 voters").await;
    cluster.wait_for("qc/quorate", "Ready", "True").await;
    for member in [1, 2] {
        wait_for("it does not say that it was removed", async || {
            cluster.trio.log(member).contains("was removed from its cluster").then_some(())
        })
        .await;
        assert!(cluster.trio.is_up(member), "it waits, and does not end");
    }

    cluster.resize(3).await;
    cluster.has_replicas(3).await;
    for member in [1, 2] {
        cluster.starts_anew(member).await;
    }
    cluster.becomes(&["quorate-0", "quorate-1", "quorate-2"]).await;
    cluster.wait_until_served("web", Some("kept")).await;

    // There are no more processes than three.
    cluster.resize(5).await;
    cluster.has_replicas(5).await;
    cluster.progresses("True", "Growing", "3 of 5 voters, 0 of 0 learners; 2 more to join").await;
    cluster.resize(3).await;
    cluster.has_replicas(3).await;
    cluster.progresses("False", "AsDeclared", "3 of 3 voters").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_cluster_stays_as_it_is_and_says_so() {
    let cluster = Operated::running().await;
    cluster.resources.namespace.apply(STATEFUL_SET).await.unwrap();
    cluster.has_replicas(3).await;
    let leader = cluster.trio.leader().await;
    let paused = format!("voters: 1, paused: true, preferredLeader: {}", name((leader + 1) % 3));
    cluster.apply("QuorateCluster", "quorate", &paused).await.unwrap();
    cluster.progresses("False", "Paused", "nothing is changed while spec.paused is true").await;
    sleep(Duration::from_secs(4)).await;
    cluster.becomes(&["quorate-0", "quorate-1", "quorate-2"]).await;
    cluster.has_replicas(3).await;
    assert_eq!(cluster.trio.leader().await, leader);
    cluster.apply_text("web", "served").await;
    cluster.wait_until_served("web", Some("served")).await;
    cluster.wait_for("rcfg/web", "Ready", "True").await;

    cluster.apply("QuorateCluster", "quorate", "voters: 1").await.unwrap();
    cluster.becomes(&["quorate-0"]).await;
    cluster.has_replicas(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preferred_member_leads_except_while_its_node_is_cordoned_or_its_pod_is_ending() {
    let cluster = Operated::running().await;
    let namespace = &cluster.resources.namespace;
    let leader = cluster.trio.leader().await;
    let (preferred, node) = (name((leader + 1) % 3), namespace.name.clone());
    let steer = format!("voters: 3, preferredLeader: {preferred}");
    cluster.apply("QuorateCluster", "quorate", &steer).await.unwrap();
    cluster.is_led_by(&preferred).await;

    cluster.make_member_pod(&preferred, &node).await;
    kubectl(&["cordon", &node]).await.unwrap();
    let is_led_by_another =
        |object: &Value| object["status"]["raftLeader"].as_str().is_some_and(|leader| leader != preferred);
    cluster.wait_until("qc/quorate", "led by another", is_led_by_another).await;
    kubectl(&["uncordon", &node]).await.unwrap();
    cluster.is_led_by(&preferred).await;

    let deleting = ["delete", "pod", &preferred, "--wait=false", "--grace-period=300"];
    namespace.kubectl(&deleting).await.unwrap();
    cluster.wait_until("qc/quorate", "led by another", is_led_by_another).await;
    let unfinished = r#"--patch={"metadata": {"finalizers": null}}"#;
    namespace.kubectl(&["patch", "pod", &preferred, "--type=merge", unfinished]).await.unwrap();
    namespace.kubectl(&["delete", "pod", &preferred, "--force", "--ignore-not-found"]).await.unwrap();
    cluster.is_led_by(&preferred).await;
    kubectl(&["delete", "node", &node]).await.unwrap();

    let refusal = cluster.apply("QuorateCluster", "quorate", "voters: 3, preferredLeader: quorate").await.unwrap_err();
    assert!(refusal.contains("it must be the name of a member, such as quorate-1"), "{refusal}");
}

/// Crashes of the Raft leader while a member's node is cordoned, at short and at full effort.
const CRASHES: [usize; 2] = [2, 4];

#[tokio::test(flavor = "multi_thread")]
async fn a_member_on_a_cordoned_node_does_not_win_when_the_raft_leader_crashes() {
    let mut cluster = Operated::running().await;
    let node = cluster.resources.namespace.name.clone();
    // The greatest id is everybody's choice where all have the same log.
    let best_placed = cluster.trio.get_json(0, "/v1/cluster").await.unwrap()["members"]
        .as_array()
        .and_then(|members| members.iter().max_by_key(|member| member["memberId"].as_u64()))
        .and_then(|member| (0..SIZE).find(|number| member["name"] == name(*number)))
        .expect("there are members");
    cluster.make_member_pod(&name(best_placed), &node).await;
    kubectl(&["cordon", &node]).await.unwrap();
    let lets_others_lead = "this member does not campaign while another one can lead";
    wait_for("it does not let others lead", async || {
        cluster.trio.log(best_placed).contains(lets_others_lead).then_some(())
    })
    .await;
    wait_for("it leads", async || (cluster.trio.leader().await != best_placed).then_some(())).await;
    for crash in 0..Effort::from_environment().pick(CRASHES[0], CRASHES[1]) {
        let leader = cluster.trio.leader().await;
        assert_ne!(leader, best_placed, "before crash {crash}");
        cluster.trio.kill(leader);
        let next = async || {
            let next = cluster.trio.get_json(best_placed, "/v1/leader").await?["name"].clone();
            (next != name(leader)).then_some(next)
        };
        let next = wait_for("nobody else leads", next).await;
        assert_ne!(next, name(best_placed), "after crash {crash}");
        cluster.start(leader);
        cluster.trio.wait_until_ready(leader).await;
    }
    let unfinished = r#"--patch={"metadata": {"finalizers": null}}"#;
    let pod = name(best_placed);
    cluster.resources.namespace.kubectl(&["patch", "pod", &pod, "--type=merge", unfinished]).await.unwrap();
    kubectl(&["delete", "node", &node]).await.unwrap();
}
