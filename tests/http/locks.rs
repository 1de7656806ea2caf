//! Locks, semaphores, and fencing tokens.

use std::future::ready;

use futures::{StreamExt, stream};
use quorate::coordinator::Write;
use quorate::machine::command::{ContestId, ContestKind, Metadata, NewClaim, Otherwise, Permits};
use quorate::types::{SessionId, SessionName};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::fixture::{PATIENCE, Request, Service, contest};

const LOCK: &str = "/v1/locks/default/disk";

fn acquire(session: &str, more: &Value) -> Request {
    contest(&format!("{LOCK}/acquire"), session, more)
}

fn release(session: &str, more: &Value) -> Request {
    contest(&format!("{LOCK}/release"), session, more)
}

async fn sessions(service: &Service) -> [String; 3] {
    [service.session(60_000).await, service.session(60_000).await, service.session(60_000).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_tried_waited_for_in_order_and_released() {
    let service = Service::start().await;
    let [a, b, c] = sessions(&service).await;
    let first = service.send(acquire(&a, &json!({}))).await.expect(200).json();
    let again = service.send(acquire(&a, &json!({}))).await.expect(200).json();
    assert_eq!(first["fencingToken"], again["fencingToken"]);
    let held = service.send(acquire(&b, &json!({}))).await.expect(409).json();
    assert_eq!((&held["current"]["session"], &held["current"]["fencingToken"]), (&json!(a), &first["fencingToken"]));
    service.send(acquire(&b, &json!({"waitMs": 1}))).await.expect(504);
    let last = service.send(acquire(&c, &json!({"waitMs": 1}))).await.expect(504).json();
    assert_eq!(last["current"]["ahead"], 1);
    let seen = service.send(Request::get(LOCK)).await.expect(200).json();
    assert_eq!((&seen["holders"][0]["session"], &seen["holders"][0]["mode"]), (&json!(a), &json!("exclusive")));
    assert_eq!((&seen["waiting"], &seen["queue"][0]["session"]), (&json!(2), &json!(b)));

    let released = service.send(release(&a, &json!({"fencingToken": first["fencingToken"]}))).await.expect(200).json();
    let second = service.send(acquire(&b, &json!({}))).await.expect(200).json();
    assert_eq!(second["fencingToken"], released["revision"], "the next is granted in the same commit");
    service.send(Request::delete(format!("/v1/sessions/{c}"))).await.expect(200);
    assert_eq!(service.send(Request::get(LOCK)).await.json()["waiting"], 0, "who has ended leaves the queue");
    service.send(release(&b, &json!({}))).await.expect(200);
    let free = service.send(Request::get(LOCK)).await.expect(200).json();
    assert_eq!(free, json!({"holders": [], "waiting": 0, "queue": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_free_or_becomes_free_soon_is_granted_without_a_round_of_the_members() {
    let service = Service::start().await;
    let [a, b, _] = sessions(&service).await;
    let rounds = service.count("quorate_read_rounds_total");
    let first = service.send(acquire(&a, &json!({}))).await.expect(200).json();
    assert_eq!(first["validForMs"], 59_400, "it is a sign of life");
    let next = service.send(acquire(&b, &json!({"waitMs": 60_000})));
    let handed_over = async {
        while service.coordinator.state().contests().of_session(session_id(&b)).next().is_none() {
            tokio::task::yield_now().await;
        }
        service.send(release(&a, &json!({}))).await.expect(200)
    };
    let (second, _) = tokio::join!(next, handed_over);
    assert!(second.expect(200).json()["fencingToken"].as_u64() > first["fencingToken"].as_u64());
    assert_eq!(service.count("quorate_read_rounds_total"), rounds);
}

fn session_id(name: &str) -> SessionId {
    name.parse::<SessionName>().unwrap().session
}

/// Comes into the queue of the lock.
async fn queue_up(service: &Service, session: SessionId) {
    let contest =
        ContestId { kind: ContestKind::Lock, namespace: "default".parse().unwrap(), name: "disk".parse().unwrap() };
    let claim = NewClaim {
        candidate: None,
        priority: 0,
        permits: Permits::All,
        capacity: None,
        otherwise: Otherwise::Wait,
        metadata: Metadata::new(),
    };
    let write = Write { key: None, deadline: Instant::now() + PATIENCE };
    service.coordinator.claim(contest, session, claim, write).await.unwrap();
}

/// Waiters of one lock, as the members are set unless somebody says otherwise.
const WAITING: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_wait_for_one_lock_and_one_more_is_refused_until_there_is_room() {
    let service = Service::start().await;
    let holder = service.session(600_000).await;
    service.send(acquire(&holder, &json!({}))).await.expect(200);
    let sessions = stream::iter((0..=WAITING).map(|_| service.session(600_000)));
    let sessions: Vec<_> = sessions.buffered(512).collect().await;
    let (last, waiters) = sessions.split_last().unwrap();
    // Without the look at the queue that a call takes before it is answered: it would count ten thousand others each time. Those
    // whose places are looked at come one after the other.
    let (first, others) = waiters.split_at(8);
    for session in first {
        queue_up(&service, session_id(session)).await;
    }
    let claims = stream::iter(others.iter().map(|session| queue_up(&service, session_id(session)))).buffered(512);
    claims.for_each(|()| ready(())).await;

    let wait = |session: &str| service.send(acquire(session, &json!({"waitMs": 1})));
    let full = wait(last).await.expect(429).json();
    assert_eq!(full["type"], "https://quorate.io/problems/too-many");
    assert_eq!((&full["outcome"], &full["retryable"]), (&json!("not-applied"), &json!(true)));
    assert!(full["detail"].as_str().unwrap().contains("10000 claims wait for lock default/disk"), "{full}");
    let again = wait(&waiters[7]).await.expect(504).json();
    assert_eq!(again["current"]["ahead"], 7, "who waits already goes on waiting");
    assert_eq!(service.send(Request::get(LOCK)).await.expect(200).json()["waiting"], WAITING);
    service.send(release(&holder, &json!({}))).await.expect(200);
    assert_eq!(wait(last).await.expect(504).json()["current"]["ahead"], WAITING - 1);
    assert_eq!(service.send(Request::get(LOCK)).await.json()["holders"][0]["session"], json!(waiters[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_share_a_lock_and_a_writer_that_waits_is_not_overtaken() {
    let service = Service::start().await;
    let [a, b, c] = sessions(&service).await;
    service.send(acquire(&a, &json!({"mode": "shared"}))).await.expect(200);
    service.send(acquire(&b, &json!({"mode": "exclusive", "waitMs": 1}))).await.expect(504);
    service.send(acquire(&c, &json!({"mode": "shared"}))).await.expect(409);
    service.send(acquire(&c, &json!({"mode": "shared", "waitMs": 1}))).await.expect(504);
    let seen = service.send(Request::get(LOCK)).await.expect(200).json();
    assert_eq!((&seen["holders"][0]["mode"], &seen["queue"][0]["mode"]), (&json!("shared"), &json!("exclusive")));
    service.send(release(&a, &json!({}))).await.expect(200);
    service.send(release(&b, &json!({}))).await.expect(200);
    let seen = service.send(Request::get(LOCK)).await.expect(200).json();
    assert_eq!((&seen["holders"][0]["session"], &seen["holders"][0]["mode"]), (&json!(c), &json!("shared")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_semaphore_gives_no_more_permits_than_its_first_use_has_fixed() {
    let service = Service::start().await;
    let [a, b, c] = sessions(&service).await;
    service.send(acquire(&a, &json!({"capacity": 3, "permits": 2}))).await.expect(200);
    service.send(acquire(&b, &json!({"capacity": 3}))).await.expect(200);
    service.send(acquire(&c, &json!({"capacity": 3}))).await.expect(409);
    let other = service.send(acquire(&c, &json!({"capacity": 4}))).await.expect(409).json();
    assert_eq!(other["current"], json!({"capacity": 3}));
    service.send(acquire(&c, &json!({"capacity": 3, "permits": 4}))).await.expect(400);
    let seen = service.send(Request::get(LOCK)).await.expect(200).json();
    assert_eq!((&seen["capacity"], &seen["holders"][0]["permits"]), (&json!(3), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_takes_a_lock_away_and_its_holder_is_told() {
    let service = Service::start().await;
    let [a, b, _] = sessions(&service).await;
    let token = service.send(acquire(&a, &json!({}))).await.expect(200).json()["fencingToken"].as_u64().unwrap();
    let wrong = service.send(Request::delete(format!("{LOCK}/holder?fencingToken={}", token + 1))).await;
    assert_eq!(wrong.expect(200).json()["revoked"], 0);
    service.send(acquire(&b, &json!({"waitMs": 1}))).await.expect(504);
    let taken = service.send(Request::delete(format!("{LOCK}/holder"))).await.expect(200).json();
    assert_eq!(taken["revoked"], 1);
    let seen = service.send(Request::get(LOCK)).await.expect(200).json();
    assert_eq!(seen["holders"][0]["session"], b);
    service.send(release(&a, &json!({"fencingToken": token}))).await.expect(409);
    let alive = service.send(Request::post(format!("/v1/sessions/{a}/keepalive"), "")).await.expect(200).json();
    assert_eq!(alive["holds"], json!([]), "its session lives on, without the lock");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_grows_with_every_grant_of_any_kind_and_is_current_until_the_next() {
    let service = Service::start().await;
    let [a, b, _] = sessions(&service).await;
    let verify = |kind: &str, name: &str, token: u64| {
        let body = json!({"kind": kind, "namespace": "default", "name": name, "fencingToken": token});
        Request::post("/v1/fence/verify", &body.to_string()).json()
    };
    let lock = service.send(acquire(&a, &json!({}))).await.expect(200).json()["fencingToken"].as_u64().unwrap();
    let campaign = contest("/v1/elections/default/main/campaign", &a, &json!({}));
    let election = service.send(campaign).await.expect(200).json()["fencingToken"].as_u64().unwrap();
    assert!(election > lock);
    let current = service.send(verify("lock", "disk", lock)).await.expect(200).json();
    assert_eq!(current, json!({"current": true, "newest": lock}));
    let other = service.send(verify("election", "main", lock)).await.expect(200).json();
    assert_eq!(other, json!({"current": false, "newest": election}));

    service.send(release(&a, &json!({}))).await.expect(200);
    let newer = service.send(acquire(&b, &json!({}))).await.expect(200).json()["fencingToken"].as_u64().unwrap();
    assert!(newer > election);
    let stale = service.send(verify("lock", "disk", lock)).await.expect(200).json();
    assert_eq!(stale, json!({"current": false, "newest": newer}));
    let never = service.send(verify("lock", "never", 1)).await.expect(200).json();
    assert_eq!(never, json!({"current": false, "newest": null}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_guarded_by_a_token() {
    let service = Service::start().await;
    let [a, b, _] = sessions(&service).await;
    let token = service.send(acquire(&a, &json!({}))).await.expect(200).json()["fencingToken"].as_u64().unwrap();
    let guarded = |token: u64, value: &str| {
        let fence = json!({"kind": "lock", "namespace": "default", "name": "disk", "fencingToken": token});
        let body = json!({
            "compare": [{"fence": fence}],
            "success": [{"op": "put", "key": "ledger", "value": value}],
        });
        Request::post("/v1/txn", &body.to_string()).json()
    };
    assert_eq!(service.send(guarded(token, "YQ==")).await.expect(200).json()["succeeded"], true);
    service.send(release(&a, &json!({}))).await.expect(200);
    let newer = service.send(acquire(&b, &json!({}))).await.expect(200).json()["fencingToken"].as_u64().unwrap();
    assert_eq!(service.send(guarded(token, "Yg==")).await.expect(200).json()["succeeded"], false);
    assert_eq!(service.send(Request::get("/v1/kv/ledger")).await.text(), "a", "the late write has changed nothing");
    assert_eq!(service.send(guarded(newer, "Yw==")).await.expect(200).json()["succeeded"], true);
    assert_eq!(service.send(Request::get("/v1/kv/ledger")).await.text(), "c");
}
