//! Whatever a client sends that is not valid gets its documented problem, and changes nothing.

use axum::http::Method;
use serde_json::{Value, json};

use quorate::machine::keys::KeyRange;
use quorate::types::SessionId;

use crate::fixture::{Answer, Request, Service, contest};

/// A request, the status and kind that it gets, and a part of what the detail says.
struct Case {
    request: Request,
    status: u16,
    kind: &'static str,
    says: &'static str,
}

fn case(request: Request, status: u16, kind: &'static str, says: &'static str) -> Case {
    Case { request, status, kind, says }
}

fn invalid(request: Request, says: &'static str) -> Case {
    case(request, 400, "invalid-request", says)
}

fn too_large(request: Request, says: &'static str) -> Case {
    case(request, 413, "too-large", says)
}

fn names() -> Vec<Case> {
    let long = "n".repeat(64);
    vec![
        invalid(Request::get(format!("/v1/config/{long}/shop")), "namespace"),
        invalid(Request::get("/v1/config/Default/shop"), "DNS label"),
        invalid(Request::get("/v1/config/default/shop_1"), "DNS subdomain"),
        invalid(Request::get(format!("/v1/config/default/{}", "a".repeat(254))), "DNS subdomain"),
        invalid(Request::get("/v1/config/default/shop/keys/..%2Fetc"), "data key"),
        invalid(Request::get("/v1/config/default%00/shop"), "DNS label"),
        invalid(Request::get("/v1/config/%ff/shop"), "UTF-8"),
        invalid(Request::get("/v1/kv/%ff%fe"), "UTF-8"),
        invalid(Request::get("/v1/kv/a%00b"), "control characters"),
        invalid(Request::get("/v1/kv/a/../b"), "'..'"),
        invalid(Request::get("/v1/kv/a/%2e%2e/b"), "'..'"),
        invalid(Request::get("/v1/kv/a%zz"), "hexadecimal"),
        invalid(Request::get("/v1/kv/a%"), "hexadecimal"),
        invalid(Request::get("/v1/config/default%2/shop"), "hexadecimal"),
        invalid(Request::get("/v1/config/default/shop%/watch"), "hexadecimal"),
        too_large(Request::get(format!("/v1/kv/{}", "k".repeat(513))), "513 bytes"),
        too_large(Request::put(format!("/v1/kv/{}", "k".repeat(513)), "x"), "513 bytes"),
        too_large(Request::get(format!("/v1/kv?after={}", "k".repeat(513))), "513 bytes"),
        invalid(Request::put("/v1/kv/..", "x"), "'..'"),
        invalid(Request::delete("/v1/kv/a%0ab"), "control characters"),
    ]
}

fn parameters() -> Vec<Case> {
    let mut cases = vec![
        invalid(Request::get("/v1/kv/a?revision=-1"), "whole number from 0"),
        invalid(Request::get("/v1/kv/a?revision=99999999999999999999999"), "revision"),
        invalid(Request::get("/v1/kv/a?consistency=eventual"), "linearizable"),
        invalid(Request::get("/v1/kv/a?minRevision=x"), "minRevision"),
        invalid(Request::get("/v1/kv/a?timeoutMs=0"), "timeoutMs"),
        invalid(Request::get("/v1/kv/a?timeoutMs=99999999"), "timeoutMs"),
        invalid(Request::get("/v1/kv/a?nonsense=1"), "no such parameter"),
        invalid(Request::get("/v1/kv/a?revision=1&revision=2"), "twice"),
        invalid(Request::get("/v1/kv?limit=0"), "limit"),
        invalid(Request::get("/v1/kv?limit=1001"), "limit"),
        invalid(Request::get("/v1/kv?end=b"), "start"),
        invalid(Request::get("/v1/kv?prefix=a&start=b"), "combined"),
        invalid(Request::get("/v1/kv?prefix=%ff"), "UTF-8"),
        invalid(Request::get("/v1/kv?prefix=%4"), "hexadecimal"),
        invalid(Request::get("/v1/watch?prefix=%g0"), "hexadecimal"),
        invalid(Request::get("/v1/config/default/shop/watch?waitMs=1&consistency=new"), "linearizable"),
        invalid(Request::get("/v1/kv?after=%2e%2e"), "'..'"),
        invalid(Request::get("/v1/watch?fromRevision=later"), "fromRevision"),
        invalid(Request::get("/v1/watch").header("last-event-id", "what"), "EPOCH-REVISION"),
        invalid(Request::get("/v1/leader/watch?fromRevision=-1"), "fromRevision"),
        invalid(Request::get("/v1/config/default/shop/watch?version=1"), "waitMs"),
        invalid(Request::get("/v1/config/default/shop/watch?waitMs=99999999"), "waitMs"),
        invalid(Request::get("/v1/config/default/shop?version=-3"), "version"),
        invalid(Request::get("/v1/leader?x=1"), "no such parameter"),
        invalid(Request::get("/v1/leader/self?x=1"), "no such parameter"),
        invalid(Request::get("/v1/cluster?x=1"), "no such parameter"),
        invalid(Request::get("/?x=1"), "no such parameter"),
        invalid(Request::get("/v1/config/default?x=1"), "no such parameter"),
        invalid(Request::get("/v1/config/default/shop/history?x=1"), "no such parameter"),
    ];
    cases.extend([
        invalid(Request::put("/v1/kv/a?x=1", "v"), "no such parameter"),
        invalid(Request::delete("/v1/kv/a?x=1"), "no such parameter"),
        invalid(Request::post("/v1/txn?x=1", "{}").json(), "no such parameter"),
        invalid(Request::post("/v1/cluster/transfer-leadership?x=1", "{}").json(), "no such parameter"),
    ]);
    cases
}

fn headers() -> Vec<Case> {
    let put = || Request::put("/v1/kv/a", "v");
    let long = "k".repeat(65);
    vec![
        invalid(put().header("if-match", "17"), "entity tag"),
        invalid(put().header("if-match", "\"-1\""), "entity tag"),
        invalid(put().header("if-none-match", "\"17\""), "`*`"),
        invalid(put().header("if-match", "*").header("if-none-match", "*"), "combined"),
        invalid(put().header("idempotency-key", ""), "idempotency key"),
        invalid(put().header("idempotency-key", &long), "idempotency key"),
        invalid(Request::delete("/v1/config/default/shop").header("if-match", "x"), "entity tag"),
        invalid(put().header("idempotency-key", "k-1").header("idempotency-key", "k-2"), "twice"),
        invalid(put().header("if-match", "\"1\"").header("if-match", "\"2\""), "twice"),
        too_large(Request::get("/v1/leader").header("x-large", &"v".repeat(16 << 10)), "16384"),
        too_large(Request::get(format!("/v1/kv?prefix={}", "k".repeat(16 << 10))), "16384"),
        case(Request::get("/v1/kv/a").header("accept", "text/html"), 406, "not-acceptable", "application/json"),
        case(put().header("accept", "image/png, video/*"), 406, "not-acceptable", "application/json"),
    ]
}

fn bodies() -> Vec<Case> {
    let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
    let deepest = "[".repeat(100_000);
    let config = |body: &str| Request::put("/v1/config/default/shop", body).json();
    let txn = |body: &str| Request::post("/v1/txn", body).json();
    vec![
        invalid(config(""), "EOF"),
        invalid(config("{"), "EOF"),
        invalid(config("[]"), "expected"),
        invalid(config("{}"), "data"),
        invalid(config(r#"{"data":{},"extra":1}"#), "unknown field `extra`"),
        invalid(config(r#"{"data":{"a":1}}"#), "/data/a"),
        invalid(config(r#"{"data":{"a/b":"x"}}"#), "/data/a~1b: data key"),
        invalid(config(r#"{"data":{"a~b":"x"}}"#), "/data/a~0b: data key"),
        invalid(config(r#"{"data":{},"historyLimit":0}"#), "1 to 100"),
        invalid(config(r#"{"data":{},"historyLimit":-1}"#), "/historyLimit"),
        invalid(config(r#"{"data":{},"historyLimit":1e99}"#), "/historyLimit"),
        invalid(config(r#"{"data":{}} trailing"#), "trailing"),
        invalid(config("{\"data\":{\"a\":\"\u{0}\"}}"), "control character"),
        invalid(Request::put_bytes("/v1/config/default/shop", b"{\"data\":{\"a\":\"\xff\"}}").json(), "unicode"),
        invalid(txn(&deep), "deeper than 64"),
        invalid(txn(&deepest), "deeper than 64"),
        invalid(txn(r#"{"compare":[{"key":"a","target":"modified","op":"=","value":1}]}"#), "/compare/0/target"),
        invalid(txn(r#"{"compare":[{"key":"a","target":"version","op":"~","value":1}]}"#), "/compare/0/op"),
        invalid(txn(r#"{"compare":[{"key":"a","target":"version","op":"=","value":"AA=="}]}"#), "number"),
        invalid(txn(r#"{"compare":[{"key":"a","target":"value","op":"=","value":1}]}"#), "base64"),
        invalid(txn(r#"{"compare":[{"key":"","target":"version","op":"=","value":1}]}"#), "/compare/0/key"),
        invalid(txn(r#"{"compare":[{"key":"a","target":"version","op":"=","value":-1}]}"#), "/compare/0"),
        invalid(txn(r#"{"success":[{"op":"put","key":"a","value":"not base64!"}]}"#), "/success/0/value"),
        invalid(txn(r#"{"success":[{"op":"increment","key":"a"}]}"#), "/success/0"),
        invalid(txn(r#"{"success":[{"op":"put","key":"a","value":"","x":1}]}"#), "x"),
        invalid(txn(r#"{"success":[{"op":"put","key":"a","value":""},{"op":"delete","key":"a"}]}"#), "written twice"),
        case(
            txn(&format!(r#"{{"success":[{}]}}"#, vec![r#"{"op":"get","key":"a"}"#; 129].join(","))),
            413,
            "too-large",
            "129",
        ),
        case(Request::put("/v1/config/default/shop", "{}"), 415, "unsupported-media-type", "application/json"),
        case(
            Request::put("/v1/config/default/shop", "data: {}").header("content-type", "application/yaml"),
            415,
            "unsupported-media-type",
            "application/yaml",
        ),
        too_large(Request::put("/v1/kv/a", &"v".repeat((1 << 20) + 1)), "1048577"),
        too_large(Request::put("/v1/kv/a", &"v".repeat(2 << 20)), "1572864"),
        too_large(config(&format!(r#"{{"data":{{"a":"{}"}}}}"#, "v".repeat(1 << 20))), "config"),
        too_large(txn(&format!(r#"{{"success":[{{"op":"get","key":"{}"}}]}}"#, "k".repeat(513))), "/success/0/key"),
        invalid(Request::post("/v1/cluster/transfer-leadership", "[]").json(), "expected an object"),
        invalid(txn("[[],[],[]]"), "expected an object"),
        invalid(txn(r#"{"compare":[["a","version","=",1]]}"#), "/compare/0"),
        invalid(txn(r#"{"success":[["get","a"]]}"#), "/success/0"),
        case(Request::post("/v1/cluster/transfer-leadership", "{}"), 415, "unsupported-media-type", "application/json"),
        invalid(Request::post("/v1/cluster/transfer-leadership", r#"{"to":"Nobody!"}"#).json(), "/to"),
        case(Request::post("/v1/cluster/transfer-leadership", r#"{"to":"nobody"}"#).json(), 404, "not-found", "nobody"),
    ]
}

fn holdings(session: &str) -> Vec<Case> {
    let create = |body: &str| Request::post("/v1/sessions", body).json();
    let campaign = |body: &Value| contest("/v1/elections/default/main/campaign", session, body);
    let acquire = |body: &Value| contest("/v1/locks/default/disk/acquire", session, body);
    let resign = |body: &Value| contest("/v1/elections/default/main/resign", session, body);
    let keep_alive = |session: &str| Request::post(format!("/v1/sessions/{session}/keepalive"), "");
    let keep_all_alive = |sessions: &[&str]| {
        Request::post("/v1/sessions/keepalive", &json!({ "sessions": sessions }).to_string()).json()
    };
    let verify = |body: &str| Request::post("/v1/fence/verify", body).json();
    let large = "m".repeat(1 << 20);
    let prefix = session.split_once('-').unwrap().0;
    let of = |session: String| json!({ "session": session });
    let campaign_of = |session: String| Request::post("/v1/elections/default/main/campaign", &of(session).to_string());
    vec![
        invalid(create(r#"{"ttlMs":499}"#), "500"),
        invalid(create(r#"{"ttlMs":86400001}"#), "86400000"),
        invalid(create(r#"{"ttlMs":-1}"#), "/ttlMs"),
        invalid(create(r#"{"client":""}"#), "/client"),
        invalid(create(r#"{"metadata":{"a":1}}"#), "/metadata/a"),
        too_large(create(&json!({"metadata": {"a": large}}).to_string()), "4096"),
        case(keep_alive(&format!("{prefix}-999999")), 404, "not-found", "never created"),
        case(keep_alive("ffffffff-1"), 404, "not-found", "another cluster"),
        invalid(keep_alive("nonsense"), "session"),
        invalid(keep_all_alive(&[]), "1 to 1000"),
        invalid(keep_all_alive(&vec![session; 1001]), "1 to 1000"),
        invalid(keep_all_alive(&[session, "nonsense"]), "/sessions/1"),
        case(keep_all_alive(&["ffffffff-1"]), 404, "not-found", "another cluster"),
        invalid(keep_alive(&format!("{prefix}-01")), "session"),
        invalid(Request::delete(format!("/v1/sessions/{session}?cause=removed")), "client-exited"),
        invalid(Request::post("/v1/elections/default/main/campaign", "{}").json(), "session"),
        case(campaign_of(format!("{prefix}-999999")).json(), 404, "not-found", "never created"),
        case(campaign_of("ffffffff-1".to_owned()).json(), 404, "not-found", "another cluster"),
        invalid(campaign(&json!({"waitMs": -1})), "/waitMs"),
        invalid(campaign(&json!({"waitMs": 60_001})), "60000"),
        invalid(campaign(&json!({"priority": 1_u64 << 40})), "/priority"),
        invalid(campaign(&json!({"releaseOnDisconnect": true})), "text/event-stream"),
        invalid(campaign(&json!({"candidate": "c".repeat(300)})), "/candidate"),
        too_large(campaign(&json!({"metadata": {"a": large}})), "4096"),
        invalid(Request::get("/v1/elections/default/Main"), "DNS subdomain"),
        case(Request::get("/v1/elections/default/never"), 404, "not-found", "never"),
        invalid(resign(&json!({"fencingToken": 1_u64 << 53})), "9007199254740991"),
        invalid(resign(&json!({"fencingToken": 0})), "/fencingToken"),
        invalid(resign(&json!({"cause": "removed"})), "/cause"),
        case(resign(&json!({"fencingToken": 1})), 409, "conflict", "does not hold"),
        invalid(acquire(&json!({"permits": 0})), "/permits"),
        invalid(acquire(&json!({"capacity": 0})), "/capacity"),
        invalid(acquire(&json!({"permits": 2, "mode": "shared"})), "/permits"),
        invalid(acquire(&json!({"mode": "greedy"})), "/mode"),
        invalid(acquire(&json!({"capacity": 2, "permits": 3})), "can never give 3"),
        invalid(acquire(&json!({"waitMs": -5})), "/waitMs"),
        invalid(Request::delete("/v1/locks/default/disk/holder?fencingToken=0"), "fencingToken"),
        invalid(verify(r#"{"kind":"latch","namespace":"a","name":"b","fencingToken":1}"#), "/kind"),
        invalid(
            verify(r#"{"kind":"lock","namespace":"a","name":"b","fencingToken":9007199254740992}"#),
            "/fencingToken",
        ),
        invalid(verify(r#"{"kind":"lock","namespace":"a","name":"b"}"#), "fencingToken"),
        invalid(Request::put("/v1/kv/a?session=x", "v"), "session"),
        case(Request::put(format!("/v1/kv/a?session={prefix}-999999"), "v"), 404, "not-found", "never created"),
    ]
}

fn routes() -> Vec<Case> {
    let patch = Method::PATCH;
    vec![
        case(Request::get("/v2/leader"), 404, "not-found", "/v2/leader"),
        case(Request::get("/v1/kv/"), 404, "not-found", "/v1/kv/"),
        case(Request::get("/v1/config/default/absent"), 404, "not-found", "default/absent"),
        case(Request::get("/v1/config/default/absent/history"), 404, "not-found", "default/absent"),
        case(Request::get("/v1/config/default/absent/keys/a"), 404, "not-found", "default/absent"),
        case(Request::get("/v1/kv/absent"), 404, "not-found", "absent"),
        case(Request::get("/v1/kv/a?revision=999999"), 410, "gone", "future"),
        case(Request::new(patch, "/v1/kv/a"), 405, "method-not-allowed", "PATCH"),
        case(Request::post("/v1/leader", ""), 405, "method-not-allowed", "POST"),
        case(Request::delete("/v1/cluster"), 405, "method-not-allowed", "DELETE"),
        case(Request::get("/v1/txn"), 405, "method-not-allowed", "GET"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_request_gets_its_problem_and_changes_nothing() {
    let service = Service::start().await;
    service.send(Request::put("/v1/kv/there", "before")).await.expect(200);
    let session = service.session(86_400_000).await;
    let before = service.coordinator.state();
    let mut wrong = Vec::new();
    let cases: Vec<_> =
        [names(), parameters(), headers(), bodies(), holdings(&session), routes()].into_iter().flatten().collect();
    for case in &cases {
        let answer = service.send(case.request.clone()).await;
        if let Some(complaint) = complaint(case, &answer) {
            wrong.push(format!("{}: {complaint}\n   {}", case.request, answer.text()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} answers are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let after = service.coordinator.state();
    assert_eq!(after.revision(), before.revision(), "a refused request has changed something");
    // The digest covers the log index and the remembered requests too, which refused commands move; what they hold is the same.
    let everything = KeyRange::Prefix(String::new());
    assert_eq!(after.keys().range(&everything, None, 10), before.keys().range(&everything, None, 10));
    assert_eq!(after.configs().list(None).count(), 0);
    assert_eq!((after.sessions().len(), after.contests().of_session(SessionId::new(1)).count()), (1, 0));
    after.check().expect("every invariant holds");
}

/// Made from the OpenAPI document, so that no route is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn no_documented_call_takes_what_it_does_not_know() {
    let service = Service::start().await;
    let document = service.send(Request::get("/openapi.json")).await.expect(200).json();
    let before = service.coordinator.state();
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path.replace("{namespace}", "default").replace("{name}", "shop").replace("{key}", "k");
        for (method, operation) in operations.as_object().unwrap() {
            for case in strange_requests(&path, method, operation) {
                tried += 1;
                let answer = service.send(case.request.clone()).await;
                if let Some(complaint) = complaint(&case, &answer) {
                    wrong.push(format!("{}: {complaint}\n   {}", case.request, answer.text()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {tried} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried > 80, "{tried} requests");
    assert_eq!(service.coordinator.state().revision(), before.revision(), "a refused request has changed something");
}

/// What no call may take, whatever it does: an unknown parameter, numbers that are none, bodies of another kind.
fn strange_requests(path: &str, method: &str, operation: &Value) -> Vec<Case> {
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
    let takes_json = operation["requestBody"]["content"]["application/json"].is_object();
    let request = |path: String, body: &str| {
        let request = Request::new(method.clone(), path).body(body);
        if takes_json { request.json() } else { request }
    };
    let usual = if takes_json { "{\"data\":{}}" } else { "" };
    let mut cases = vec![invalid(request(format!("{path}?nonsense=1"), usual), "")];
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let types = parameter["schema"]["type"].to_string();
        if parameter["in"] == "query" && types.contains("integer") {
            let name = parameter["name"].as_str().unwrap();
            let numbers = ["-1", "99999999999999999999", "1.5", "x", ""];
            cases.extend(numbers.map(|number| invalid(request(format!("{path}?{name}={number}"), usual), "")));
        }
    }
    if takes_json {
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        let bodies = ["{", "7", "[]", "null", "{\"nonsense\":1}", "{} {}", "\u{feff}{}", &deep];
        cases.extend(bodies.map(|body| invalid(request(path.to_owned(), body), "")));
        let plain = Request::new(method.clone(), path).body("{}").header("content-type", "text/plain");
        cases.push(case(plain, 415, "unsupported-media-type", "application/json"));
    }
    cases
}

/// What is wrong with an answer, if anything.
fn complaint(case: &Case, answer: &Answer) -> Option<String> {
    if answer.status != case.status {
        return Some(format!("status {} instead of {}", answer.status, case.status));
    }
    if answer.header("content-type") != "application/problem+json" {
        return Some(format!("content type {}", answer.header("content-type")));
    }
    let problem = answer.json();
    if problem["type"] != format!("https://quorate.io/problems/{}", case.kind) {
        return Some(format!("type {}", problem["type"]));
    }
    let detail = problem["detail"].as_str().unwrap_or_default();
    if detail.starts_with(':') {
        return Some("the detail begins with the name of nothing".to_owned());
    }
    if !detail.contains(case.says) {
        return Some(format!("the detail does not say {:?}", case.says));
    }
    if case.status == 405 && answer.header("allow").is_empty() {
        return Some("no Allow header".to_owned());
    }
    let facts_agree = problem["status"] == case.status && problem["outcome"] == "not-applied";
    (!facts_agree || problem["title"].as_str().is_none()).then(|| "the document is not complete".to_owned())
}
