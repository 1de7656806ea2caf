//! Who leads, who is there, and the headers of every answer.

use serde_json::json;

use crate::fixture::{Request, Service};

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_told_in_every_shape() {
    let service = Service::start().await;
    let leader = service.send(Request::get("/v1/leader")).await.expect(200).json();
    assert_eq!((&leader["name"], &leader["self"]), (&json!("solo"), &json!(true)));
    assert_eq!(leader["url"], "http://solo:8080");
    assert_eq!(leader["since"], "2026-01-31T12:00:00.000Z");
    assert_eq!(service.send(Request::get("/v1/leader/self")).await.expect(200).json()["name"], "solo");
    assert_eq!(service.send(Request::get("/")).await.expect(200).json(), json!({"name": "solo"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_tells_of_its_members_and_its_quorum() {
    let service = Service::start().await;
    let answer = service.send(Request::get("/v1/cluster")).await.expect(200);
    let cluster = answer.json();
    assert_eq!(cluster["quorum"], json!({"available": true, "size": 1, "failureTolerance": 0}));
    assert_eq!((&cluster["leader"], &cluster["stale"]), (&json!("solo"), &json!(false)));
    let member = &cluster["members"][0];
    assert_eq!((&member["role"], &member["state"]), (&json!("voter"), &json!("leader")));
    assert_eq!((&member["lagEntries"], &member["version"]), (&json!(0), &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!(answer.header("quorate-cluster"), cluster["clusterId"].as_str().unwrap());
    assert_eq!(answer.header("quorate-member"), "solo");
    assert_eq!(answer.header("quorate-revision"), cluster["revision"].to_string());
    let refused = service.send(Request::get("/v1/kv/absent")).await.expect(404);
    assert_eq!(refused.header("quorate-member"), "solo", "a problem says who gave it, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_stays_where_nobody_else_could_take_it() {
    let service = Service::start().await;
    let transfer = |body: &str| Request::post("/v1/cluster/transfer-leadership", body).json();
    service.send(Request::post("/v1/cluster/transfer-leadership", "")).await.expect(409);
    let problem = service.send(transfer("{}")).await.expect(409).json();
    assert_eq!(problem["type"], "https://quorate.io/problems/conflict");
    service.send(transfer(r#"{"to":"nobody"}"#)).await.expect(404);
    let kept = service.send(transfer(r#"{"to":"solo"}"#)).await.expect(200).json();
    assert_eq!(kept["leader"], service.send(Request::get("/v1/leader")).await.json());
    assert_eq!(service.send(Request::get("/v1/leader")).await.expect(200).json()["name"], "solo");
}
