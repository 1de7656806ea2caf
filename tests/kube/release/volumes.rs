//! Volumes that pods lose, and volumes that somebody puts back: what becomes of them, and where a person finds it.

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep};

use super::helm::Release;
use crate::kubectl::{self, kubectl};
use crate::members::PATIENCE;
use crate::nodes::Nodes;

/// Where a volume is.
struct Where {
    node: usize,
    path: String,
}

impl Release {
    /// The folder behind the volume of a pod.
    async fn volume_of(&self, pod: &str) -> Where {
        let claim = self.namespace.get(&format!("persistentvolumeclaim/data-{pod}")).await.unwrap();
        let volume = claim["spec"]["volumeName"].as_str().unwrap().to_owned();
        let volume = kubectl::get(&["persistentvolume", &volume]).await.unwrap();
        let terms = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
        let node = terms[0]["matchExpressions"][0]["values"][0].as_str().unwrap();
        let node = node.strip_prefix("node").unwrap().parse().unwrap();
        Where { node, path: volume["spec"]["local"]["path"].as_str().unwrap().to_owned() }
    }

    /// Keeps a pod from running while `change` is done to its volume, as a person does who puts a backup back.
    async fn with_its_pod_away(&self, nodes: &Nodes, pod: &str, change: &str) {
        let Where { node, .. } = self.volume_of(pod).await;
        kubectl(&["cordon", &format!("node{node}")]).await.unwrap();
        self.namespace.kubectl(&["delete", &format!("pod/{pod}")]).await.unwrap();
        println!("{}", nodes.in_node(node, &["sh", "-euxc", change]));
        kubectl(&["uncordon", &format!("node{node}")]).await.unwrap();
    }

    /// Writes a key again and again until told to stop; how often it was written.
    async fn write_until(&self, mut stop: watch::Receiver<bool>) -> u64 {
        let members = self.members();
        let (urls, http) = (members.urls(), reqwest::Client::new());
        let mut written = 0;
        for number in 0_usize.. {
            if *stop.borrow_and_update() {
                break;
            }
            let url = format!("{}/v1/kv/count", urls[number % urls.len()]);
            let put = http.put(url).timeout(Duration::from_secs(5)).body(number.to_string()).send().await;
            written += u64::from(put.is_ok_and(|answer| answer.status().is_success()));
        }
        written
    }
}

/// The condition `Degraded` of a cluster, as `status reason: message`.
fn degraded(status: &Value) -> String {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let degraded = conditions.find(|condition| condition["type"] == "Degraded");
    degraded.map_or_else(String::new, |it| {
        let text = |field: &str| it[field].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {}", text("status"), text("reason"), text("message"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_lose_their_volumes_under_writes_are_replaced_one_after_the_other() {
    let _nodes = Nodes::alone().await;
    let release = Release::running().await;
    let before = release.status_when("whole", |status| status["voters"] == 3).await;
    let (stop, stopped) = watch::channel(false);
    let writing = async {
        for pod in ["quorate-0", "quorate-1"] {
            let old = super::growing::ids(&before, pod);
            release.wipe(pod).await;
            let is_replaced = |status: &Value| {
                let new = super::growing::ids(status, pod);
                new.len() == 1 && new != old && status["members"].as_array().unwrap().len() == 3
            };
            let after = release.status_when("replaced", is_replaced).await;
            assert_eq!(after["clusterId"], before["clusterId"]);
            release.namespace.wait(&format!("pod/{pod}"), "condition=Ready", 60).await;
        }
        stop.send_replace(true);
    };
    let (written, ()) = tokio::join!(release.write_until(stopped), writing);
    println!("{written} writes were acknowledged while two pods lost their volumes, one after the other");
    assert!(written > 100, "{written}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_somebody_has_put_back_is_refused_and_a_condition_says_what_to_do() {
    let nodes = Nodes::alone().await;
    let release = Release::running().await;
    let (pod, namespace) = ("quorate-2", &release.namespace);
    let Where { path, .. } = release.volume_of(pod).await;
    release.with_its_pod_away(&nodes, pod, &format!("rm -rf {path}.old; cp -a {path} {path}.old")).await;
    namespace.wait(&format!("pod/{pod}"), "condition=Ready", 90).await;
    release.status_when("well again", |status| degraded(status).starts_with("False")).await;
    let restore = format!("rm -rf {path}/*; cp -a {path}.old/. {path}/; rm -rf {path}.old");
    release.with_its_pod_away(&nodes, pod, &restore).await;

    let is_told = |status: &Value| {
        let text = degraded(status);
        text.starts_with("True MembersRefused: quorate-2 is refused:") && text.contains("a copy of an older one")
    };
    let status = release.status_when("told", is_told).await;
    println!("{}", degraded(&status));
    assert_eq!(status["voters"], 3);
    let url = format!("/api/v1/namespaces/{}/pods/{pod}:9090/proxy/readyz?verbose", namespace.name);
    let ready = kubectl(&["get", "--raw", &url]).await;
    assert!(ready.as_ref().is_err(), "{ready:?}");
    let status = namespace.exec("quorate-0", &["quorate", "status"]).await.unwrap();
    assert!(status.contains("refused   quorate-2: this volume of quorate-2"), "{status}");
    namespace.exec("quorate-0", &["quorate", "put", "kv", "kept", "well"]).await.unwrap();

    // What the text says.
    release.wipe(pod).await;
    release.status_when("well again", |status| degraded(status).starts_with("False") && status["voters"] == 3).await;
    let deadline = Instant::now() + PATIENCE;
    while namespace.exec(pod, &["quorate", "get", "kv", "kept"]).await.as_deref() != Ok("well") {
        assert!(Instant::now() < deadline, "{pod} does not serve again");
        sleep(Duration::from_millis(500)).await;
    }
}
