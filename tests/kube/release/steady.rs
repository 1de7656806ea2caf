//! What an installed release asks of the API server while nothing is declared anew: nothing.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, sleep};

use super::audit;
use super::helm::Release;
use crate::alone;
use crate::kubectl::kubectl;
use crate::members::sum;
use crate::nodes::Nodes;
use crate::support::effort::Effort;

/// Clients, each of which writes a key at this pace: 2,000 writes a second together.
const CLIENTS: usize = 400;
const PACE: Duration = Duration::from_millis(200);

/// Writes a second that must be acknowledged, also on a machine that is busy with something else.
const RATE: f64 = 1_000.0;

/// How long whatever is on its way to the API server may take.
const SETTLED: Duration = Duration::from_secs(5);

/// An application's connection to a member. Not optimised, as everything is here, a client that does more would need more of the processors
/// than the members, and they would wait for it.
struct Connection {
    http: SendRequest<String>,
    host: String,
}

impl Connection {
    async fn to(url: &str) -> Self {
        let host = url.strip_prefix("http://").unwrap().to_owned();
        let stream = TcpStream::connect(&host).await.unwrap();
        let (http, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { http, host }
    }

    /// Writes a key, and waits until that is acknowledged.
    async fn put(&mut self, key: &str) {
        let request = Request::put(format!("/v1/kv/{key}")).header("host", &self.host).body("1".to_owned()).unwrap();
        self.http.ready().await.unwrap();
        let answer = self.http.send_request(request).await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        answer.into_body().collect().await.unwrap();
    }
}

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
    let writes_of_each = Effort::from_environment().pick(50, 200);
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
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let url = urls[client % urls.len()].clone();
            tokio::spawn(async move {
                let (mut member, mut pace) = (Connection::to(&url).await, interval(PACE));
                for number in 0..writes_of_each {
                    pace.tick().await;
                    member.put(&format!("key-{client}-{number}")).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let (all, took) = (CLIENTS * writes_of_each, began.elapsed());
    let rate = all as f64 / took.as_secs_f64();
    sleep(SETTLED).await;
    let after = writes().await;
    println!(
        "{all} writes in {took:.1?}, {rate:.0} a second; the API server took {} from the operator",
        after - before
    );
    assert!(rate >= RATE, "{rate:.0} writes a second are not the load that this is about");
    assert!(after <= before);
    // What members ask for in the name of their account, and cannot be told from others' by the kind.
    assert_eq!(audited(), audited_before);
}

/// Requests of the Raft leader's that the API server has forbidden.
async fn forbidden(release: &Release) -> f64 {
    let members = release.members();
    let metrics = members.metrics(members.whole().await.leader).await;
    sum(&metrics, "quorate_kubernetes_errors_total", "reason=\"forbidden\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_away_are_told_and_missed_by_no_application_and_made_up_for_when_they_are_back() {
    let _alone = alone().await;
    let release = Release::running().await;
    let namespace = &release.namespace;
    let before = forbidden(&release).await;
    let binding = format!("clusterrolebinding/quorate:{}:quorate", namespace.name);
    kubectl(&["delete", &binding]).await.unwrap();
    let is_degraded = |status: &Value| {
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        let degraded = conditions.find(|it| it["type"] == "Degraded" && it["status"] == "True");
        degraded.is_some_and(|it| it["message"].as_str().unwrap().contains("may not list or watch"))
    };
    let status = release.status_when("told", is_degraded).await;
    assert!(forbidden(&release).await > before, "it is not counted");
    let leader = status["raftLeader"].as_str().unwrap();
    release
        .says(leader, "replicatedconfigs are not seen: the members' ServiceAccount may not list or watch them")
        .await;
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

    // The right to make room for more members alone.
    let role = namespace.get("role/quorate").await.unwrap();
    let scales = |rule: &Value| rule["resources"] == json!(["statefulsets/scale"]);
    let rules = role["rules"].as_array().unwrap();
    let others: Vec<_> = rules.iter().filter(|rule| !scales(rule)).collect();
    assert_eq!(others.len() + 1, rules.len(), "the chart gives it");
    let give = async |rules: Value| {
        let patch = json!({ "rules": rules }).to_string();
        namespace.kubectl(&["patch", "role/quorate", "--type=merge", "--patch", &patch]).await.unwrap();
    };
    give(json!(others)).await;
    namespace.kubectl(&["scale", "qc/quorate", "--replicas=5"]).await.unwrap();
    let is_not_scaled = |status: &Value| {
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.any(|it| it["type"] == "Degraded" && it["reason"] == "NotScaled")
    };
    let status = release.status_when("told that it cannot be scaled", is_not_scaled).await;
    release
        .says(status["raftLeader"].as_str().unwrap(), "the StatefulSet is not scaled: the members' ServiceAccount")
        .await;
    give(json!(rules)).await;
    release.status_when("as large as declared", |status| status["voters"] == 5 && !is_not_scaled(status)).await;
}
