//! How fast what is declared is there, who has it, and who runs it.

use serde_json::{Value, json};

use super::elected::LONG;
use super::operated::Operated;
use crate::applying::Applying;
use crate::support::trio::SIZE;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_readable_on_every_member_within_100_ms_at_the_median() {
    let cluster = Operated::running().await;
    let applying = Applying {
        client: cluster.look.client.clone(),
        http: cluster.trio.http.clone(),
        namespace: cluster.resources.namespace.name.clone(),
        cluster: cluster.cluster.clone(),
        members: (0..SIZE).map(|member| cluster.trio.url(member)).collect(),
    };
    applying.assert_soon().await;
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
