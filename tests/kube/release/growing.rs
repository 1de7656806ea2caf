//! A release that begins with one pod, grows and shrinks, and one that has lost volumes or its record: it never becomes two
//! clusters.

use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use super::helm::Release;
use crate::alone;
use crate::kubectl::shell;
use crate::members::PATIENCE;
use crate::namespace::Namespace;
use crate::support::linearizability::{self, Verdict};
use crate::support::revisions;
use crate::support::watcher::Watcher;
use crate::support::workload::{Retries, Workload};

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

    /// Waits until a member says why it waits.
    async fn says(&self, pod: &str, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.namespace.kubectl(&["logs", pod]).await.unwrap_or_default();
            if log.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "{pod} does not say {text:?}:\n{log}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// `kubectl scale` of the resource, until there are as many voters and ready pods, and nobody else.
    async fn resize(&self, voters: u64) {
        self.namespace.kubectl(&["scale", "qc/quorate", &format!("--replicas={voters}")]).await.unwrap();
        let has_members = |status: &Value| {
            status["voters"] == voters && status["members"].as_array().is_some_and(|it| it.len() as u64 == voters)
        };
        self.status_when(&format!("made of {voters} members"), has_members).await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let set = self.namespace.get("statefulset/quorate").await.unwrap();
            let numbers = [&set["spec"]["replicas"], &set["status"]["replicas"], &set["status"]["readyReplicas"]];
            if numbers.iter().all(|number| **number == voters) {
                return;
            }
            assert!(Instant::now() < deadline, "there are not {voters} pods after {PATIENCE:?}: {numbers:?}");
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
async fn a_first_pod_that_has_lost_its_volume_joins_its_cluster_as_a_new_member() {
    let _alone = alone().await;
    let release = Release::running().await;
    let before = release.status().await;
    let old = ids(&before, "quorate-0");
    assert_eq!(old.len(), 1, "{before:#}");
    release.wipe("quorate-0").await;
    let is_replaced = |status: &Value| {
        let new = ids(status, "quorate-0");
        new.len() == 1 && new != old && status["voters"] == 3 && status["members"].as_array().unwrap().len() == 3
    };
    let after = release.status_when("replaced", is_replaced).await;
    assert_eq!(after["clusterId"], before["clusterId"]);
    release.namespace.wait("pod/quorate-0", "condition=Ready", 60).await;
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

/// Writers, readers and a watch on the one member that is there from the beginning to the end.
struct Load {
    workload: Workload,
    watcher: Watcher,
}

impl Load {
    fn on(release: &Release) -> Self {
        let url = format!("http://quorate-0.quorate-members.{}.svc.cluster.local:8080", release.namespace.name);
        let whole = Duration::from_secs(5);
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(1)).timeout(whole).build().unwrap();
        let workload = Workload::start(http, vec![url.clone()], Retries::EveryOtherWriter, Duration::from_millis(20));
        Self { workload, watcher: Watcher::start(vec![url]) }
    }

    /// Goes on with new keys while something lasts: histories of one key stay short.
    async fn during(&self, lasting: impl Future<Output = ()>) {
        tokio::pin!(lasting);
        loop {
            tokio::select! {
                biased;
                () = &mut lasting => return,
                () = sleep(Duration::from_secs(2)) => self.workload.next_round(),
            }
        }
    }

    /// Ends the work and holds what clients were told against the promises.
    async fn judge(self) {
        self.workload.read_everything().await;
        let (operations, notes) = self.workload.stop().await;
        let story = self.watcher.stop().await;
        println!("{} operations; a watch told {} changes", operations.len(), story.len());
        assert!(notes.surprises.is_empty(), "no client should be told this: {:#?}", notes.surprises);
        assert!(story.faults.is_empty(), "the watch is broken: {:#?}", story.faults);
        let misses = story.misses(&operations);
        assert!(misses.is_empty(), "{} acknowledged writes are not in the watch: {:#?}", misses.len(), misses.first());
        assert_eq!(linearizability::check(&operations), Verdict::Linearizable);
        revisions::check(&operations).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_goes_from_one_member_to_five_and_back_to_one_under_load() {
    let _alone = alone().await;
    let release = Release::of(Namespace::for_pods("chart").await);
    release.install(&["--set=voters=1", "--wait", "--timeout=3m"]).await.unwrap();
    let load = Load::on(&release);
    for voters in [3, 5, 3, 1] {
        let (before, began) = (load.workload.acknowledged(), Instant::now());
        if voters == 3 && before > 0 && ids(&release.status().await, "quorate-4").len() == 1 {
            // The one that is to go first leads.
            release.namespace.exec("quorate-0", &["quorate", "transfer", "quorate-4"]).await.unwrap();
        }
        load.during(release.resize(voters)).await;
        println!(
            "{voters} voters after {:.1?}; {} writes acknowledged meanwhile, none for at most {:.1?}",
            began.elapsed(),
            load.workload.acknowledged() - before,
            load.workload.longest_pause_since(began)
        );
        assert!(load.workload.acknowledged() > before, "nothing was written meanwhile");
    }
    let claims = release.namespace.kubectl(&["get", "pvc", "--output=name"]).await.unwrap();
    assert_eq!(claims.lines().count(), 5, "the volumes of members that have left stay: {claims}");
    load.judge().await;
}
