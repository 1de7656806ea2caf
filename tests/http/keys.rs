//! Keys, ranges and transactions.

use serde_json::json;

use crate::fixture::{Request, Service};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_set_read_and_deleted_with_its_numbers() {
    let service = Service::start().await;
    let put = service.send(Request::put_bytes("/v1/kv/jobs/7", b"\x00\xffraw")).await.expect(200);
    let revision = put.json()["modRevision"].as_u64().unwrap();
    assert_eq!(put.json(), json!({"createRevision": revision, "modRevision": revision, "version": 1}));
    assert_eq!(put.header("etag"), format!("\"{revision}\""));
    assert_eq!(put.header("quorate-revision"), revision.to_string());

    let got = service.send(Request::get("/v1/kv/jobs/7")).await.expect(200);
    assert_eq!(got.body.as_ref(), b"\x00\xffraw");
    assert_eq!(got.header("content-type"), "application/octet-stream");
    assert_eq!(got.header("quorate-mod-revision"), revision.to_string());
    assert_eq!(got.header("quorate-version"), "1");
    assert!(!got.headers.contains_key("quorate-stale"));
    let same = Request::get("/v1/kv/jobs/7").header("if-none-match", &format!("\"{revision}\""));
    assert!(service.send(same).await.expect(304).body.is_empty());

    let percent = service.send(Request::get("/v1/kv/jobs%2F7?consistency=stale")).await.expect(200);
    assert_eq!((percent.body.clone(), percent.header("quorate-stale")), (got.body, "true"));

    let deleted = service.send(Request::delete("/v1/kv/jobs/7")).await.expect(200).json();
    assert_eq!(deleted, json!({"deleted": true, "revision": revision + 1}));
    let again = service.send(Request::delete("/v1/kv/jobs/7")).await.expect(200).json();
    assert_eq!(again, json!({"deleted": false, "revision": revision + 1}));
    service.send(Request::get("/v1/kv/jobs/7")).await.expect(404);
    let past = service.send(Request::get(format!("/v1/kv/jobs/7?revision={revision}"))).await.expect(200);
    assert_eq!(past.header("quorate-create-revision"), revision.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_hold_or_the_answer_says_what_is_there() {
    let service = Service::start().await;
    let first = service.send(Request::put("/v1/kv/a", "1").header("if-none-match", "*")).await.expect(200).json();
    let revision = first["modRevision"].as_u64().unwrap();
    let refused = service.send(Request::put("/v1/kv/a", "2").header("if-none-match", "*")).await.expect(412).json();
    assert_eq!(refused["current"], json!({"createRevision": revision, "modRevision": revision, "version": 1}));
    assert_eq!(refused["outcome"], "not-applied");
    let tag = format!("\"{revision}\"");
    service.send(Request::put("/v1/kv/a", "2").header("if-match", &tag)).await.expect(200);
    service.send(Request::put("/v1/kv/a", "3").header("if-match", &tag)).await.expect(412);
    service.send(Request::delete("/v1/kv/a").header("if-match", &tag)).await.expect(412);
    let absent = service.send(Request::put("/v1/kv/b", "1").header("if-match", "*")).await.expect(412).json();
    assert!(absent["current"].is_null());
    assert_eq!(service.send(Request::get("/v1/kv/a")).await.text(), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_with_the_same_key_gets_the_first_answer_and_another_request_a_conflict() {
    let service = Service::start().await;
    let put = |value| Request::put("/v1/kv/a", value).header("idempotency-key", "k-1");
    let first = service.send(put("1")).await.expect(200).json();
    service.send(Request::put("/v1/kv/a", "2")).await.expect(200);
    assert_eq!(service.send(put("1")).await.expect(200).json(), first);
    assert_eq!(service.send(Request::get("/v1/kv/a")).await.text(), "2", "the retry has changed nothing");
    let reused = service.send(put("3")).await.expect(409).json();
    assert_eq!(reused["type"], "https://quorate.io/problems/conflict");
    let conditional = || Request::put("/v1/kv/a", "4").header("if-none-match", "*").header("idempotency-key", "k-2");
    let refused = service.send(conditional()).await.expect(412).json();
    service.send(Request::delete("/v1/kv/a")).await.expect(200);
    assert_eq!(service.send(conditional()).await.expect(412).json(), refused, "a refusal is remembered too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_comes_in_pages_of_one_revision() {
    let service = Service::start().await;
    for name in ["a/1", "a/2", "a/3", "b/1"] {
        service.send(Request::put(format!("/v1/kv/{name}"), name)).await.expect(200);
    }
    let page = service.send(Request::get("/v1/kv?prefix=a/&limit=2")).await.expect(200).json();
    let keys = |page: &serde_json::Value| -> Vec<String> {
        page["kvs"].as_array().unwrap().iter().map(|kv| kv["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((keys(&page), &page["more"]), (vec!["a/1".to_owned(), "a/2".to_owned()], &json!(true)));
    assert_eq!(page["kvs"][0]["value"], "YS8x");
    let rest = service.send(Request::get("/v1/kv?prefix=a/&limit=2&after=a/2")).await.expect(200).json();
    assert_eq!((keys(&rest), &rest["more"]), (vec!["a/3".to_owned()], &json!(false)));
    let between = service.send(Request::get("/v1/kv?start=a/2&end=b")).await.expect(200).json();
    assert_eq!(keys(&between), ["a/2", "a/3"]);

    let before = page["revision"].as_u64().unwrap();
    service.send(Request::delete("/v1/kv/a/2")).await.expect(200);
    let past = service.send(Request::get(format!("/v1/kv?prefix=a/&revision={before}"))).await.expect(200).json();
    assert_eq!((keys(&past).len(), past["revision"].as_u64()), (3, Some(before)));
    assert_eq!(keys(&service.send(Request::get("/v1/kv?prefix=a/")).await.json()), ["a/1", "a/3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_does_one_list_in_one_revision() {
    let service = Service::start().await;
    let body = json!({
        "compare": [{"key": "lock", "target": "version", "op": "=", "value": 0}],
        "success": [{"op": "put", "key": "lock", "value": "bWU="}, {"op": "put", "key": "count", "value": "MQ=="}],
        "failure": [{"op": "get", "key": "lock"}, {"op": "delete", "key": "absent"}],
    });
    let txn = || Request::post("/v1/txn", &body.to_string()).json();
    let won = service.send(txn()).await.expect(200).json();
    let revision = won["revision"].as_u64().unwrap();
    assert_eq!(won["succeeded"], true);
    assert_eq!(won["results"][1]["op"], "put");
    assert_eq!(won["results"][1]["modRevision"].as_u64(), Some(revision), "both puts have one revision");
    let lost = service.send(txn()).await.expect(200).json();
    assert_eq!((&lost["succeeded"], lost["revision"].as_u64()), (&json!(false), Some(revision)));
    assert_eq!(lost["results"][0]["kv"]["value"], "bWU=");
    assert_eq!(lost["results"][1], json!({"op": "delete", "deleted": false}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_waits_for_the_revision_that_it_asks_for() {
    let service = Service::start().await;
    let put = service.send(Request::put("/v1/kv/a", "1")).await.expect(200).json();
    let next = put["modRevision"].as_u64().unwrap() + 1;
    let late = Request::get(format!("/v1/kv/a?minRevision={next}&timeoutMs=50"));
    let problem = service.send(late).await.expect(504).json();
    assert_eq!((&problem["outcome"], &problem["retryable"]), (&json!("not-applied"), &json!(true)));
    let waiting = service.send(Request::get(format!("/v1/kv/a?consistency=stale&minRevision={next}")));
    let (got, put) = tokio::join!(waiting, service.send(Request::put("/v1/kv/a", "2")));
    put.expect(200);
    assert_eq!(got.expect(200).text(), "2");
}
