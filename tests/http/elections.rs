//! Elections: campaigns as calls and as streams, resignations, what an observer sees.

use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::fixture::{Events, PATIENCE, Request, Service, contest};

const ELECTION: &str = "/v1/elections/default/main";

fn campaign(session: &str, more: &Value) -> Request {
    contest(&format!("{ELECTION}/campaign"), session, more)
}

async fn stream(service: &Service, session: &str, more: &Value) -> Events {
    service.watch(campaign(session, more).header("accept", "text/event-stream")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_leads_the_next_waits_and_leads_when_the_first_resigns() {
    let service = Service::start().await;
    service.send(Request::get(ELECTION)).await.expect(404);
    let (a, b) = (service.session(60_000).await, service.session(60_000).await);
    let first =
        service.send(campaign(&a, &json!({"candidate": "pod-a", "metadata": {"url": "x"}}))).await.expect(200).json();
    let again = service.send(campaign(&a, &json!({"candidate": "pod-a"}))).await.expect(200).json();
    assert_eq!(first["fencingToken"], again["fencingToken"], "a second campaign of a session continues the first");
    let waits = service.send(campaign(&b, &json!({"candidate": "pod-b", "waitMs": 10}))).await.expect(504).json();
    assert_eq!((&waits["current"], &waits["outcome"]), (&json!({"ahead": 0}), &json!("applied")));
    assert_eq!(waits["retryable"], true);

    let seen = service.send(Request::get(ELECTION)).await.expect(200).json();
    assert_eq!(
        (&seen["leaders"][0]["candidate"], &seen["seats"], &seen["waiting"]),
        (&json!("pod-a"), &json!(1), &json!(1))
    );
    assert_eq!(
        (&seen["leaders"][0]["metadata"]["url"], &seen["queue"][0]["candidate"]),
        (&json!("x"), &json!("pod-b"))
    );

    let long = service.send(campaign(&b, &json!({"candidate": "pod-b", "waitMs": 20_000})));
    let resign = async {
        let token = first["fencingToken"].as_u64().unwrap();
        let released = contest(&format!("{ELECTION}/resign"), &a, &json!({"fencingToken": token}));
        service.send(released).await.expect(200).json()
    };
    let (second, released) = tokio::join!(long, resign);
    let second = second.expect(200).json();
    assert_eq!(released["fencingToken"], first["fencingToken"]);
    assert_eq!(second["fencingToken"], released["revision"], "the next is granted in the same commit");
    let seen = service.send(Request::get(ELECTION)).await.expect(200).json();
    assert_eq!((&seen["transitions"], &seen["lastTransition"]["cause"]), (&json!(1), &json!("resigned")));
    assert_eq!(seen["lastTransition"]["leaderlessMs"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_token_resigns_nothing_and_a_place_in_the_queue_can_be_left() {
    let service = Service::start().await;
    let (a, b) = (service.session(60_000).await, service.session(60_000).await);
    let token = service.send(campaign(&a, &json!({}))).await.expect(200).json()["fencingToken"].as_u64().unwrap();
    service.send(campaign(&b, &json!({"waitMs": 0}))).await.expect(504);
    let resign = |session: &str, more: &Value| contest(&format!("{ELECTION}/resign"), session, more);
    let old = service.send(resign(&a, &json!({"fencingToken": token - 1}))).await.expect(409).json();
    assert_eq!((&old["current"]["fencingToken"], &old["outcome"]), (&json!(token), &json!("not-applied")));
    let foreign = service.send(resign(&b, &json!({"fencingToken": token}))).await.expect(409).json();
    assert_eq!(foreign["current"], Value::Null);
    assert_eq!(service.send(resign(&b, &json!({}))).await.expect(200).json()["fencingToken"], Value::Null);
    assert_eq!(service.send(Request::get(ELECTION)).await.json()["waiting"], 0);
    let cause = json!({"fencingToken": token, "cause": "client-exited"});
    service.send(resign(&a, &cause)).await.expect(200);
    let seen = service.send(Request::get(ELECTION)).await.expect(200).json();
    assert_eq!((&seen["leaders"], &seen["lastTransition"]["cause"]), (&json!([]), &json!("client-exited")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greater_priority_leads_next() {
    let service = Service::start().await;
    let [a, b, c] = [service.session(60_000).await, service.session(60_000).await, service.session(60_000).await];
    service.send(campaign(&a, &json!({}))).await.expect(200);
    service.send(campaign(&b, &json!({"waitMs": 0}))).await.expect(504);
    service.send(campaign(&c, &json!({"waitMs": 0, "priority": 5}))).await.expect(504);
    service.send(contest(&format!("{ELECTION}/resign"), &a, &json!({}))).await.expect(200);
    assert_eq!(service.send(Request::get(ELECTION)).await.json()["leaders"][0]["session"], c);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_waiting_granted_and_lost_and_keeps_its_session_alive() {
    let service = Service::start().await;
    let (a, b) = (service.session(60_000).await, service.session(900).await);
    service.send(campaign(&a, &json!({}))).await.expect(200);
    let mut events = stream(&service, &b, &json!({})).await;
    let waiting = events.next().await.unwrap();
    assert_eq!((waiting.kind.as_str(), waiting.data), ("waiting", json!({"ahead": 0})));
    // More than twice its time, in looks of a third of it each.
    for _ in 0..7 {
        assert_eq!(events.next().await.unwrap().kind, "waiting");
    }
    service.send(Request::delete(format!("/v1/sessions/{a}"))).await.expect(200);
    let granted = loop {
        let event = events.next().await.unwrap();
        if event.kind == "granted" {
            break event;
        }
    };
    let token = granted.data["fencingToken"].clone();
    let beat = events.next().await.unwrap();
    assert_eq!((beat.kind.as_str(), &beat.data["fencingToken"]), ("heartbeat", &token));
    assert!(beat.data["validForMs"].as_u64() > granted.data["validForMs"].as_u64(), "it counts from the request");

    service.send(Request::delete(format!("/v1/sessions/{b}"))).await.expect(200);
    let lost = loop {
        let event = events.next().await.unwrap();
        if event.kind != "heartbeat" {
            break event;
        }
    };
    assert_eq!((lost.kind.as_str(), lost.data), ("lost", json!({"cause": "session-ended", "fencingToken": token})));
    assert!(events.next().await.is_none(), "nothing comes after it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_stream_releases_at_once_if_it_asked_for_that_and_otherwise_leads_on() {
    let service = Service::start().await;
    let [a, b, c] = [service.session(60_000).await, service.session(60_000).await, service.session(60_000).await];
    let mut leaves = stream(&service, &a, &json!({"releaseOnDisconnect": true})).await;
    assert_eq!(leaves.next().await.unwrap().kind, "granted");
    let mut stays = stream(&service, &b, &json!({})).await;
    assert_eq!(stays.next().await.unwrap().kind, "waiting");
    drop(leaves);
    while stays.next().await.unwrap().kind != "granted" {}
    let seen = service.send(Request::get(ELECTION)).await.expect(200).json();
    assert_eq!(seen["lastTransition"]["cause"], "client-exited");
    drop(stays);
    service.send(campaign(&c, &json!({"waitMs": 300}))).await.expect(504);
    let seen = service.send(Request::get(ELECTION)).await.expect(200).json();
    assert_eq!((&seen["leaders"][0]["session"], &seen["transitions"]), (&json!(b), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_whose_stream_breaks_while_it_waits_keeps_its_place_until_its_session_ends() {
    let service = Service::start().await;
    let [a, b, c] = [service.session(60_000).await, service.session(60_000).await, service.session(900).await];
    service.send(campaign(&a, &json!({}))).await.expect(200);
    let began = Instant::now();
    for (session, release, ahead) in [(&b, false, 0), (&c, true, 1)] {
        let mut events = stream(&service, session, &json!({"releaseOnDisconnect": release})).await;
        assert_eq!(events.next().await.unwrap().data, json!({"ahead": ahead}));
        drop(events);
    }
    // Both go in one commit, so a session that is found alive was waiting just before.
    loop {
        let waiting = service.send(Request::get(ELECTION)).await.json()["waiting"].clone();
        if service.send(Request::get(format!("/v1/sessions/{c}"))).await.status == 410 {
            break;
        }
        assert_eq!(waiting, 2, "a place in the queue is given up before its session ends");
        assert!(began.elapsed() < PATIENCE, "a stream that broke keeps its session alive");
    }
    assert!(began.elapsed() > Duration::from_millis(900), "it lived for {:?} only", began.elapsed());
    let seen = service.send(Request::get(ELECTION)).await.expect(200).json();
    assert_eq!((&seen["waiting"], &seen["queue"][0]["session"]), (&json!(1), &json!(b)));
    service.send(Request::delete(format!("/v1/sessions/{a}"))).await.expect(200);
    assert_eq!(service.send(Request::get(ELECTION)).await.json()["leaders"][0]["session"], b);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_ends_when_its_session_does() {
    let service = Service::start().await;
    let (a, b) = (service.session(60_000).await, service.session(60_000).await);
    service.send(campaign(&a, &json!({}))).await.expect(200);
    service.send(campaign(&b, &json!({"waitMs": 0}))).await.expect(504);
    let waits = service.send(campaign(&b, &json!({"waitMs": 20_000})));
    let ends = async { service.send(Request::delete(format!("/v1/sessions/{b}"))).await.expect(200) };
    let (waited, _) = tokio::join!(waits, ends);
    assert_eq!(waited.expect(410).json()["current"]["cause"], "session-ended");
    service.send(Request::delete(format!("/v1/sessions/{a}"))).await.expect(200);
    assert_eq!(
        service.send(Request::get(ELECTION)).await.json()["leaders"],
        json!([]),
        "who has ended is never granted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_every_grant_and_every_loss_with_its_cause() {
    let service = Service::start().await;
    let (a, b) = (service.session(60_000).await, service.session(60_000).await);
    let mut watch = service.watch(Request::get(format!("{ELECTION}/watch"))).await;
    let snapshot = watch.next().await.unwrap();
    assert_eq!((snapshot.kind.as_str(), &snapshot.data["election"]), ("snapshot", &Value::Null));
    service.send(campaign(&a, &json!({"candidate": "pod-a"}))).await.expect(200);
    service.send(campaign(&b, &json!({"candidate": "pod-b", "waitMs": 0}))).await.expect(504);
    service.send(Request::delete(format!("/v1/sessions/{a}"))).await.expect(200);
    let granted = watch.next().await.unwrap();
    assert_eq!((granted.kind.as_str(), &granted.data["leader"]["candidate"]), ("granted", &json!("pod-a")));
    let lost = watch.next().await.unwrap();
    assert_eq!((lost.kind.as_str(), &lost.data["lost"]["cause"]), ("lost", &json!("session-ended")));
    let next = watch.next().await.unwrap();
    assert_eq!((next.kind.as_str(), &next.data["leader"]["candidate"]), ("granted", &json!("pod-b")));
    assert_eq!(next.data["revision"], lost.data["revision"], "both come about in one commit");
    let mut late = service.watch(Request::get(format!("{ELECTION}/watch"))).await;
    assert_eq!(late.next().await.unwrap().data["election"]["leaders"][0]["candidate"], "pod-b");
}
