//! What an installed release asks of the API server while nothing is declared anew and nobody else leads: nothing.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, sleep};

use super::audit;
use super::helm::Release;
use crate::kubectl::kubectl;
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
async fn while_applications_write_a_thousand_keys_a_second_and_one_leads_nothing_is_written_to_the_api_server() {
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
    release.declare_waiting().await;
    release.campaign("waiting-0").await;
    release.namespace.wait("pod/waiting-0", r"jsonpath={.metadata.labels.quorate\.io/leader}=true", 60).await;
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
