//! How fast what is declared is there, who has it, and who runs it.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use quorate::operator::resources::ReplicatedConfig;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::elected::LONG;
use super::operated::{Operated, PATIENCE};
use crate::support::effort::Effort;
use crate::support::trio::{SIZE, name};

/// Half of the times are no longer than this, nor than so many times what nobody can do without: a write of the API server, and a commit.
/// The longest ones are printed only: they say how the processors are shared with whatever else runs, and docs/performance.md has those
/// of a machine with nothing beside it.
const SOON: Duration = Duration::from_millis(100);
const PLAIN: u32 = 10;

/// Applies a config through a client, as an operator has one: a process of kubectl takes longer than all the rest.
async fn apply(cluster: &Operated, text: &str) {
    let configs = Api::<ReplicatedConfig>::namespaced(cluster.look.client.clone(), &cluster.resources.namespace.name);
    let document = json!({
        "apiVersion": "quorate.io/v1alpha1", "kind": "ReplicatedConfig", "metadata": { "name": "web" },
        "spec": { "cluster": cluster.cluster, "data": { "text": text } },
    });
    configs.patch("web", &PatchParams::apply("tool"), &Patch::Apply(document)).await.unwrap();
}

/// Waits until a member serves it.
async fn is_readable(cluster: &Operated, member: usize, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while cluster.served(member, "web").await.as_deref() != Some(text) {
        assert!(Instant::now() < deadline, "{} does not serve {text}", name(member));
        sleep(Duration::from_millis(5)).await;
    }
}

/// What nobody can do without.
async fn plain(cluster: &Operated, value: &str) -> Duration {
    let maps = Api::<ConfigMap>::namespaced(cluster.look.client.clone(), &cluster.resources.namespace.name);
    let map =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "plain" }, "data": { "a": value } });
    let (began, url) = (Instant::now(), format!("{}/v1/kv/plain", cluster.trio.url(0)));
    maps.patch("plain", &PatchParams::apply("tool"), &Patch::Apply(map)).await.unwrap();
    assert!(cluster.trio.http.put(url).body(value.to_owned()).send().await.unwrap().status().is_success());
    began.elapsed()
}

/// Prints how times are distributed; their median.
fn distribution(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    let [half, most, nearly_all, all] = [50, 90, 99, 100].map(at);
    println!(
        "{what}, {} times: median {half:.1?}, 90 % {most:.1?}, 99 % {nearly_all:.1?}, longest {all:.1?}",
        times.len()
    );
    half
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_readable_on_every_member_within_100_ms_at_the_median() {
    let (effort, cluster) = (Effort::from_environment(), Operated::running().await);
    apply(&cluster, "begun").await;
    cluster.wait_until_served("web", Some("begun")).await;
    let (mut took, mut without) = (Vec::new(), Vec::new());
    for round in 0..effort.pick(30, 400) {
        let (text, began) = (round.to_string(), Instant::now());
        apply(&cluster, &text).await;
        join_all((0..SIZE).map(|member| is_readable(&cluster, member, &text))).await;
        took.push(began.elapsed());
        without.push(plain(&cluster, &text).await);
    }
    let took = distribution("from before an apply until every member served it", took);
    let without = distribution("a write of the API server and a commit", without);
    assert!(took <= SOON.max(without * PLAIN), "{took:?}, and {without:?} of it are others'");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_names_the_consumers_that_lag_until_they_have_caught_up() {
    let cluster = Operated::running().await;
    cluster.apply_text("web", "one").await;
    cluster.wait_for("rcfg/web", "Applied", "True").await;
    let post = async |path: &str, body: Value| -> Value {
        let answer = cluster.trio.http.post(cluster.trio.url(0) + path).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {:?}", answer.text().await);
        answer.json().await.unwrap()
    };
    let path = format!("/v1/config/{}/web/applied", cluster.resources.namespace.name);
    let report = async |session: &Value, version: u64| {
        post(&path, json!({ "session": session, "version": version, "ok": true, "message": "" })).await;
    };
    let mut sessions = Vec::new();
    for client in ["prompt", "lazy"] {
        let session = post("/v1/sessions", json!({ "ttlMs": LONG, "client": client })).await["session"].take();
        report(&session, 1).await;
        sessions.push(session);
    }
    let counts = |applied: u64| json!({ "registered": 2, "applied": applied });
    let is_counted = |object: &Value| object["status"]["consumers"] == counts(2);
    cluster.wait_until("rcfg/web", "run by two", is_counted).await;

    cluster.apply_text("web", "two").await;
    cluster.wait_until_served("web", Some("two")).await;
    report(&sessions[0], 2).await;
    let is_told = |object: &Value| object["status"]["consumers"] == counts(1) && object["status"]["version"] == 2;
    let lagging = cluster.wait_until("rcfg/web", "run by one", is_told).await["status"].take();
    assert_eq!(lagging["stragglers"], json!(["lazy"]), "{lagging:#}");
    cluster.wait_for("rcfg/web", "Applied", "False").await;
    cluster.wait_for("rcfg/web", "Ready", "True").await;

    report(&sessions[1], 2).await;
    cluster.wait_for("rcfg/web", "Applied", "True").await;
    let status = cluster.wait_until("rcfg/web", "run by two", is_counted).await["status"].take();
    assert_eq!(status["stragglers"].as_array().map_or(0, Vec::len), 0, "{status:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_says_how_many_members_have_a_version_while_one_of_them_is_stopped() {
    let mut cluster = Operated::running().await;
    cluster.apply_text("web", "one").await;
    cluster.wait_for("rcfg/web", "Replicated", "True").await;
    let stopped = (cluster.trio.leader().await + 1) % SIZE;
    cluster.trio.kill(stopped);
    cluster.apply_text("web", "two").await;
    let is_on = |members: &'static str| move |object: &Value| object["status"]["replicatedTo"] == members;
    cluster.wait_until("rcfg/web", "on two members", is_on("2/3")).await;
    let (reason, message) = cluster.wait_for("rcfg/web", "Replicated", "False").await;
    assert_eq!((reason.as_str(), message.as_str()), ("OnSomeMembers", "2 of 3 members have it"));
    cluster.wait_for("rcfg/web", "Ready", "True").await;
    cluster.start(stopped);
    cluster.wait_for("rcfg/web", "Replicated", "True").await;
    cluster.wait_until("rcfg/web", "on every member", is_on("3/3")).await;
    cluster.wait_until_served("web", Some("two")).await;
}
