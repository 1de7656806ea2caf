//! Configuration documents over HTTP.

use serde_json::{Value, json};

use crate::fixture::{Request, Service, contest};

fn put(body: &Value) -> Request {
    Request::put("/v1/config/default/shop", &body.to_string()).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_has_versions_a_history_and_a_way_back() {
    let service = Service::start().await;
    let first = service.send(put(&json!({"data": {"app.yaml": "a: 1\n"}}))).await.expect(200);
    assert_eq!((first.header("etag"), &first.json()["changed"]), ("\"1\"", &json!(true)));
    let same = service.send(put(&json!({"data": {"app.yaml": "a: 1\n"}}))).await.expect(200).json();
    assert_eq!((&same["version"], &same["changed"]), (&json!(1), &json!(false)));
    service.send(put(&json!({"data": {"app.yaml": "a: 2\n"}}))).await.expect(200);

    let now = service.send(Request::get("/v1/config/default/shop")).await.expect(200);
    assert_eq!(now.json()["data"]["app.yaml"], "a: 2\n");
    assert_eq!((now.header("etag"), &now.json()["managed"]), ("\"2\"", &json!(false)));
    assert!(now.json()["contentHash"].as_str().unwrap().starts_with("sha256:"));
    let known = Request::get("/v1/config/default/shop").header("if-none-match", "\"2\"");
    service.send(known).await.expect(304);
    let old = service.send(Request::get("/v1/config/default/shop?version=1")).await.expect(200).json();
    assert_eq!(old["data"]["app.yaml"], "a: 1\n");
    let text = service.send(Request::get("/v1/config/default/shop/keys/app.yaml")).await.expect(200);
    assert_eq!(text.text(), "a: 2\n");

    let back = service.send(put(&json!({"data": {"app.yaml": "a: 3\n"}, "rollbackTo": 1}))).await.expect(200).json();
    assert_eq!(back["version"], 3, "a rollback is a new version");
    let served = service.send(Request::get("/v1/config/default/shop")).await.json();
    assert_eq!((&served["data"]["app.yaml"], &served["rollbackOf"]), (&json!("a: 1\n"), &json!(1)));
    let history = service.send(Request::get("/v1/config/default/shop/history")).await.expect(200).json();
    let versions: Vec<_> = history["versions"].as_array().unwrap().iter().map(|v| v["version"].as_u64()).collect();
    assert_eq!(versions, [Some(3), Some(2), Some(1)]);
    service.send(put(&json!({"data": {}, "rollbackTo": 9}))).await.expect(404);

    let list = service.send(Request::get("/v1/config/default")).await.expect(200).json();
    assert_eq!(list["configs"][0]["name"], "shop");
    assert!(list["configs"][0].get("data").is_none());
    assert_eq!(service.send(Request::get("/v1/config/other")).await.expect(200).json()["configs"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_is_guarded_by_its_version() {
    let service = Service::start().await;
    service.send(put(&json!({"data": {"a": "1"}})).header("if-none-match", "*")).await.expect(200);
    let refused = service.send(put(&json!({"data": {"a": "2"}})).header("if-none-match", "*")).await.expect(412);
    assert_eq!(refused.json()["current"], json!({"version": 1}));
    service.send(put(&json!({"data": {"a": "2"}})).header("if-match", "\"1\"")).await.expect(200);
    service.send(Request::delete("/v1/config/default/shop").header("if-match", "\"1\"")).await.expect(412);
    let deleted = service.send(Request::delete("/v1/config/default/shop").header("if-match", "\"2\"")).await;
    assert_eq!(deleted.expect(200).json()["deleted"], true);
    service.send(Request::get("/v1/config/default/shop")).await.expect(404);
    let again = service.send(Request::delete("/v1/config/default/shop")).await.expect(200).json();
    assert_eq!(again["deleted"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_answers_on_the_next_version_or_says_that_there_is_none() {
    let service = Service::start().await;
    service.send(put(&json!({"data": {"a": "1"}}))).await.expect(200);
    let poll = |query: &str| Request::get(format!("/v1/config/default/shop/watch?{query}"));
    let at_once = service.send(poll("waitMs=10000&version=0")).await.expect(200);
    assert_eq!(at_once.json()["version"], 1);
    service.send(poll("waitMs=30&version=1")).await.expect(304);
    let (polled, written) =
        tokio::join!(service.send(poll("waitMs=10000&version=1")), service.send(put(&json!({"data": {"a": "2"}}))));
    written.expect(200);
    assert_eq!(polled.expect(200).json()["data"]["a"], "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_say_which_version_they_run_for_as_long_as_their_sessions_live() {
    let service = Service::start().await;
    let path = "/v1/config/default/shop";
    let (a, b) = (service.session(60_000).await, service.session(60_000).await);
    let applied = |session: &str, more: &Value| contest(&format!("{path}/applied"), session, more);
    let put = |text: &str| Request::put(path, &json!({"data": {"a": text}}).to_string()).json();
    service.send(applied(&a, &json!({"version": 1, "ok": true}))).await.expect(404);
    service.send(put("1")).await.expect(200);
    service.send(applied(&a, &json!({"version": 1, "ok": true}))).await.expect(200);
    service.send(applied(&b, &json!({"version": 1, "ok": false, "message": "no such shop"}))).await.expect(200);
    let future = service.send(applied(&a, &json!({"version": 2, "ok": true}))).await.expect(404).json();
    assert!(future["detail"].as_str().unwrap().contains("has no version 2"), "{future}");
    let consumers = || service.send(Request::get(format!("{path}/consumers")));
    let seen = consumers().await.expect(200).json();
    assert_eq!((&seen["registered"], &seen["applied"], &seen["version"]), (&json!(2), &json!(1), &json!(1)));
    let straggler = &seen["stragglers"][0];
    assert_eq!((&straggler["session"], &straggler["message"]), (&json!(b), &json!("no such shop")));

    service.send(put("2")).await.expect(200);
    assert_eq!(consumers().await.json()["applied"], 0, "there is a newer version");
    service.send(applied(&a, &json!({"version": 2, "ok": true}))).await.expect(200);
    service.send(Request::delete(format!("/v1/sessions/{b}"))).await.expect(200);
    let seen = consumers().await.expect(200).json();
    assert_eq!((&seen["registered"], &seen["applied"], &seen["stragglers"]), (&json!(1), &json!(1), &json!([])));
    service.send(applied(&b, &json!({"version": 2, "ok": true}))).await.expect(410);
    let long = json!({"version": 2, "ok": false, "message": "m".repeat(1025)});
    service.send(applied(&a, &long)).await.expect(413);
    service.send(Request::get("/v1/config/default/none/consumers")).await.expect(404);
}
