//! What an installed release asks of the API server while nothing is declared anew: nothing.

use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use tokio::time::{Instant, interval, sleep};

use super::audit;
use super::helm::Release;
use crate::alone;
use crate::kubectl::kubectl;
use crate::nodes::Nodes;
use crate::support::effort::Effort;

/// Clients, each of which writes a key at this pace: 1,000 writes a second together.
const CLIENTS: usize = 50;
const PACE: Duration = Duration::from_millis(50);

/// How long whatever is on its way to the API server may take.
const SETTLED: Duration = Duration::from_secs(5);

/// Requests of Quorate's operator that changed something, as the API server counts them.
async fn writes() -> f64 {
    let metrics = kubectl(&["get", "--raw", "/metrics"]).await.unwrap();
    let is_write = |line: &&str| {
        ["POST", "PUT", "PATCH", "APPLY", "DELETE"].iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")))
    };
    let is_ours = |line: &&str| {
        ["quorate.io", "apps", "events.k8s.io"].iter().any(|group| line.contains(&format!("group=\"{group}\"")))
    };
    let requests = metrics.lines().filter(|line| line.starts_with("apiserver_request_total{"));
    let counts = requests.filter(is_write).filter(is_ours).map(|line| line.rsplit_once(' ').unwrap().1);
    counts.map(|count| count.parse::<f64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_applications_write_a_thousand_keys_a_second_nothing_is_written_to_the_api_server() {
    let nodes = Nodes::alone().await;
    let writes_of_each = Effort::from_environment().pick(200, 800);
    let release = Release::running().await;
    for number in 0..10 {
        let config = format!(
            "apiVersion: quorate.io/v1alpha1\nkind: ReplicatedConfig\nmetadata: {{name: config-{number}}}\nspec: {{data: {{a: b}}}}"
        );
        release.namespace.apply(&config).await.unwrap();
    }
    for number in 0..10 {
        release.namespace.wait(&format!("replicatedconfig/config-{number}"), "condition=Replicated", 60).await;
    }
    sleep(SETTLED).await;
    let audited = || audit::writes(&nodes, &release.namespace.name).len();
    let (before, audited_before, began) = (writes().await, audited(), Instant::now());
    assert!(before > 10.0, "the statuses are counted: {before}");
    let urls = release.members().urls();
    let http = Client::new();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (http, url) = (http.clone(), urls[client % urls.len()].clone());
            tokio::spawn(async move {
                let mut pace = interval(PACE);
                for number in 0..writes_of_each {
                    pace.tick().await;
                    let url = format!("{url}/v1/kv/key-{client}-{number}");
                    assert!(http.put(url).body("1").send().await.unwrap().status().is_success());
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let (all, took) = (CLIENTS * writes_of_each, began.elapsed());
    sleep(SETTLED).await;
    let after = writes().await;
    println!("{all} writes in {took:.1?}; the API server took {} from the operator", after - before);
    assert!(after <= before);
    // What members ask for in the name of their account, and cannot be told from others' by the kind.
    assert_eq!(audited(), audited_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_away_are_told_and_missed_by_no_application_and_made_up_for_when_they_are_back() {
    let _alone = alone().await;
    let release = Release::running().await;
    let namespace = &release.namespace;
    let binding = format!("clusterrolebinding/quorate:{}:quorate", namespace.name);
    kubectl(&["delete", &binding]).await.unwrap();
    let is_degraded = |status: &Value| {
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        let degraded = conditions.find(|it| it["type"] == "Degraded" && it["status"] == "True");
        degraded.is_some_and(|it| it["message"].as_str().unwrap().contains("may not list or watch"))
    };
    release.status_when("told", is_degraded).await;
    let config = "apiVersion: quorate.io/v1alpha1\nkind: ReplicatedConfig\nmetadata: {name: web}\nspec: {data: {a: b}}";
    namespace.apply(config).await.unwrap();
    let http = Client::new();
    for url in release.members().urls() {
        let written = http.put(format!("{url}/v1/kv/key")).body("1").send().await.unwrap();
        assert!(written.status().is_success(), "{written:?}");
    }
    release.upgrade(&["--wait"]).await.unwrap();
    namespace.wait("replicatedconfig/web", "condition=Replicated", 60).await;
    release.status_when("well", |status| !is_degraded(status)).await;
}
