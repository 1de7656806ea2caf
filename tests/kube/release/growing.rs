//! A release that crashes while it founds its cluster, or has lost its first volume and its record: it never becomes two clusters. And
//! what other tests ask a release.

use std::process::Stdio;

use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use super::helm::Release;
use crate::alone;
use crate::kubectl::shell;
use crate::members::PATIENCE;
use crate::namespace::Namespace;
use crate::nodes::Nodes;
use crate::support::effort::Effort;

/// When the first member is killed, in seconds after its process has begun. Founding takes less than a fifth of a second, growing more.
const MOMENTS: [&str; 9] = ["0", "0.02", "0.04", "0.06", "0.08", "0.1", "0.15", "0.8", "3"];

/// Kills the members on a node so many seconds after the first of them has begun.
const KILL: &str = r#"
until pgrep -x quorate; do sleep 0.005; done
sleep "$0"
until pkill -KILL -x quorate; do sleep 0.005; done
while pgrep -x quorate; do sleep 0.005; done
"#;

impl Release {
    pub async fn status(&self) -> Value {
        self.namespace.get("quoratecluster/quorate").await.unwrap()["status"].take()
    }

    /// Waits until the status of the cluster is so; gives it.
    pub async fn status_when(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status().await;
            if is_so(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "not {what} after {PATIENCE:?}: {status:#}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until a member says why it waits, in this life of its container or in the one before.
    pub async fn says(&self, pod: &str, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.namespace.kubectl(&["logs", pod]).await.unwrap_or_default();
            let former = self.namespace.kubectl(&["logs", pod, "--previous"]).await.unwrap_or_default();
            let log = former + &log;
            if log.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "{pod} does not say {text:?}:\n{log}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Takes a pod away with its volume; the StatefulSet makes both anew.
    pub async fn wipe(&self, pod: &str) {
        self.namespace.kubectl(&["delete", &format!("pvc/data-{pod}"), "--wait=false"]).await.unwrap();
        self.namespace.kubectl(&["delete", &format!("pod/{pod}")]).await.unwrap();
    }
}

/// The ids by which members of that name vote.
pub fn ids(status: &Value, name: &str) -> Vec<i64> {
    let members = status["members"].as_array().into_iter().flatten();
    let voters = members.filter(|member| member["name"] == name && member["role"] == "Voter");
    voters.map(|member| member["id"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_founds_a_second_cluster_when_the_record_and_the_first_volume_are_lost_but_others_are_there() {
    let _alone = alone().await;
    let release = Release::running().await;
    let namespace = &release.namespace.name;
    let before = release.status().await;
    shell(&format!("kubectl -n {namespace} exec quorate-1 -- quorate put kv kept well")).await.unwrap();
    release.helm(&["uninstall", "quorate", "--wait", "--timeout=2m"]).await.unwrap();
    release.namespace.kubectl(&["delete", "qc/quorate", "pvc/data-quorate-0"]).await.unwrap();

    release.install(&[]).await.unwrap();
    release.says("quorate-0", "data-quorate-1").await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(release.status().await.get("clusterId"), None, "it has founded another cluster");

    // What a person does who reads that: the other members come back on their volumes, and are the cluster.
    release.namespace.kubectl(&["scale", "statefulset/quorate", "--replicas=3"]).await.unwrap();
    let old = ids(&before, "quorate-0");
    let is_whole = |status: &Value| {
        let new = ids(status, "quorate-0");
        status["voters"] == 3 && new.len() == 1 && new != old
    };
    let after = release.status_when("whole again", is_whole).await;
    assert_eq!(after["clusterId"], before["clusterId"]);
    let kept = shell(&format!("kubectl -n {namespace} exec quorate-1 -- quorate get kv kept")).await.unwrap();
    assert_eq!(kept, "well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_member_that_is_killed_again_and_again_while_it_founds_the_cluster_founds_one() {
    let nodes = Nodes::alone().await;
    let release = Release::of(Namespace::for_pods("founding").await);
    let mut recorded = Vec::new();
    for moment in MOMENTS.iter().step_by(Effort::from_environment().pick(2, 1)) {
        // It is there before the member, which the kubelet starts again within a second.
        let kill = ["timeout", "60", "sh", "-c", KILL, moment];
        let mut kill = nodes.command_in_node(1, &kill).stdout(Stdio::null()).spawn().unwrap();
        if recorded.is_empty() {
            release.install(&["--set=nodeSelector.kubernetes\\.io/hostname=node1"]).await.unwrap();
        }
        assert!(kill.wait().unwrap().success(), "nobody was there to kill");
        let known = release.status().await["clusterId"].take();
        println!("killed {moment} s after it had begun; the cluster that is recorded: {known}");
        recorded.push(known);
    }
    let status = release.status_when("three voters", |status| status["voters"] == 3).await;
    assert!(recorded[0].is_null(), "it was killed before it could record anything: {recorded:?}");
    recorded.retain(|cluster| !cluster.is_null());
    recorded.push(status["clusterId"].clone());
    recorded.dedup();
    assert_eq!(recorded.len(), 1, "more than one cluster was recorded: {recorded:?}");
    assert_eq!(
        release.members().whole().await.cluster,
        recorded[0],
        "the members are another cluster than is recorded"
    );
}
