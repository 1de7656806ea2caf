//! Sessions: how they begin, live and end, and what ends with them.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use quorate::settings::SessionSettings;
use quorate::watch::HubLimits;
use serde_json::json;
use tokio::time::{Duration, Instant};

use crate::fixture::{PATIENCE, Request, Service, contest};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_begins_is_kept_alive_is_read_and_ends() {
    let service = Service::start().await;
    let body = r#"{"ttlMs":3000,"client":"pod-a","metadata":{"zone":"a"}}"#;
    let created = service.send(Request::post("/v1/sessions", body).json()).await.expect(201).json();
    let session = created["session"].as_str().unwrap();
    assert_eq!(created, json!({"session": session, "ttlMs": 3000, "validForMs": 2970}));
    let cluster = service.send(Request::get("/v1/cluster")).await.json();
    assert!(session.starts_with(&cluster["clusterId"].as_str().unwrap()[..8]), "{session} names its cluster");

    let revision = service.coordinator.state().revision();
    let path = format!("/v1/sessions/{session}");
    let alive = service.send(Request::post(format!("{path}/keepalive"), "")).await.expect(200).json();
    let valid = alive["validForMs"].as_u64().unwrap();
    assert!((2970..=3200).contains(&valid), "{valid}");
    assert_eq!(alive["holds"], json!([]));
    assert_eq!(service.coordinator.state().revision(), revision, "a sign of life writes nothing");

    let read = service.send(Request::get(&path)).await.expect(200).json();
    assert_eq!(
        (&read["ttlMs"], &read["client"], &read["metadata"]["zone"]),
        (&json!(3000), &json!("pod-a"), &json!("a"))
    );
    let ended = service.send(Request::delete(format!("{path}?cause=client-exited"))).await.expect(200).json();
    assert_eq!(ended["deleted"], true);
    assert_eq!(service.send(Request::delete(&path)).await.expect(200).json()["deleted"], false);
    for gone in [Request::get(&path), Request::post(format!("{path}/keepalive"), "")] {
        let gone = service.send(gone).await.expect(410).json();
        assert_eq!(
            (&gone["type"], &gone["current"]["cause"]),
            (&json!("https://quorate.io/problems/gone"), &json!("client-exited"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_are_kept_alive_at_once_and_those_that_are_over_are_told_apart() {
    let service = Service::start().await;
    let (first, ended, last) = (service.session(3000).await, service.session(3000).await, service.session(5000).await);
    service.send(Request::delete(format!("/v1/sessions/{ended}"))).await.expect(200);
    let acquire = contest("/v1/locks/default/disk/acquire", &first, &json!({}));
    let token = service.send(acquire).await.expect(200).json();
    let body = json!({ "sessions": [last, ended, first] }).to_string();
    let kept = service.send(Request::post("/v1/sessions/keepalive", &body).json()).await.expect(200).json();
    let [one, other] = &kept["alive"].as_array().unwrap()[..] else { panic!("{kept}") };
    assert_eq!((&one["session"], &one["validForMs"], &one["holds"]), (&json!(last), &json!(4950), &json!([])));
    assert_eq!((&other["session"], &other["validForMs"]), (&json!(first), &json!(2970)));
    assert_eq!(other["holds"][0]["fencingToken"], token["fencingToken"]);
    assert_eq!(kept["over"][0]["session"], json!(ended));
    assert!(kept["over"][0]["detail"].as_str().unwrap().contains("has ended"), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_session_ends_after_its_time_and_one_that_is_kept_alive_does_not() {
    let service = Service::start().await;
    let began = Instant::now();
    let (kept, silent) = (service.session(1000).await, service.session(1500).await);
    let waiting = service.expired(&silent);
    let keeping = async {
        loop {
            service.send(Request::post(format!("/v1/sessions/{kept}/keepalive"), "")).await.expect(200);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = waiting => {}
        () = keeping => {}
    }
    assert!(began.elapsed() >= Duration::from_millis(1500), "it has ended too early: {:?}", began.elapsed());
    service.send(Request::get(format!("/v1/sessions/{kept}"))).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bound_to_a_session_ends_with_it() {
    let service = Service::start().await;
    let (session, next) = (service.session(60_000).await, service.session(60_000).await);
    service.send(Request::put(format!("/v1/kv/pods/a?session={session}"), "10.0.0.1")).await.expect(200);
    service.send(Request::put("/v1/kv/pods/b", "10.0.0.2")).await.expect(200);
    let acquire = |session: &str| contest("/v1/locks/default/disk/acquire", session, &json!({}));
    let grant = service.send(acquire(&session)).await.expect(200).json();
    let campaign = |session: &str| contest("/v1/elections/default/main/campaign", session, &json!({"waitMs": 0}));
    service.send(campaign(&session)).await.expect(200);
    service.send(campaign(&next)).await.expect(504);
    let alive = service.send(Request::post(format!("/v1/sessions/{session}/keepalive"), "")).await.expect(200).json();
    let holds: Vec<_> = alive["holds"].as_array().unwrap().iter().map(|hold| (&hold["kind"], &hold["name"])).collect();
    assert_eq!(holds, [(&json!("election"), &json!("main")), (&json!("lock"), &json!("disk"))]);

    service.send(Request::delete(format!("/v1/sessions/{session}"))).await.expect(200);
    service.send(Request::get("/v1/kv/pods/a")).await.expect(404);
    service.send(Request::get("/v1/kv/pods/b")).await.expect(200);
    assert_eq!(service.send(Request::get("/v1/locks/default/disk")).await.json()["holders"], json!([]));
    let election = service.send(Request::get("/v1/elections/default/main")).await.expect(200).json();
    assert_eq!(election["leaders"][0]["session"], next);
    assert_eq!(election["lastTransition"]["cause"], "session-ended");
    assert!(election["leaders"][0]["fencingToken"].as_u64() > grant["fencingToken"].as_u64());
    let refused = service.send(Request::put(format!("/v1/kv/pods/c?session={session}"), "x")).await.expect(410).json();
    assert_eq!(refused["current"]["cause"], "session-ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_a_beginning_is_the_same_session() {
    let service = Service::start().await;
    let create = || Request::post("/v1/sessions", "{}").json().header("idempotency-key", "begin-1");
    let first = service.send(create()).await.expect(201).json();
    let again = service.send(create()).await.expect(201).json();
    assert_eq!(first["session"], again["session"]);
    assert_eq!(first["ttlMs"], 3000, "the usual");
    let path = format!("/v1/sessions/{}", first["session"].as_str().unwrap());
    service.send(Request::delete(path)).await.expect(200);
    service.send(create()).await.expect(410);
}

/// Sessions that one command ends at most.
const BATCH: usize = 512;

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_end_at_once_in_batches_and_others_come_between() {
    let service = Service::start().await;
    // A key of each tells when it has ended.
    let created = (0..2000).map(async |number: usize| {
        let session = service.session(5000).await;
        service.send(Request::put(format!("/v1/kv/of/{number}?session={session}"), "")).await;
        session
    });
    let sessions: Vec<_> = stream::iter(created).buffered(256).collect().await;
    for together in sessions.chunks(1000) {
        let body = json!({ "sessions": together }).to_string();
        service.send(Request::post("/v1/sessions/keepalive", &body).json()).await.expect(200);
    }
    // On a machine that is too slow for their TTL some have ended before.
    let mut watch = service.watch(Request::get("/v1/watch")).await;
    let mut alive = 0;
    loop {
        let snapshot = watch.next().await.unwrap().data;
        alive += snapshot["kvs"].as_array().unwrap().len();
        if snapshot["more"] != true {
            break;
        }
    }
    assert!(alive > BATCH, "only {alive} are left, which may end at once");
    let writing = async {
        loop {
            service.send(Request::put("/v1/kv/a", "meanwhile")).await.expect(200);
        }
    };
    // How many each revision has ended, and where others wrote between them.
    let watching = async {
        let (mut left, mut ended, mut between) = (alive, BTreeMap::new(), 0);
        while left > 0 {
            let event = watch.next().await.expect("a watch that keeps up");
            match event.kind.as_str() {
                "put" => between += usize::from(!ended.is_empty()),
                "delete" => {
                    *ended.entry(event.data["revision"].as_u64().unwrap()).or_insert(0) += 1;
                    left -= 1;
                }
                other => panic!("{other} of {}", event.data),
            }
        }
        (ended, between)
    };
    let (ended, between) = tokio::select! {
        watched = watching => watched,
        () = writing => unreachable!("it never ends"),
        () = tokio::time::sleep(3 * PATIENCE) => panic!("{} sessions live still", service.coordinator.state().sessions().len()),
    };
    println!("{alive} sessions ended in {ended:?}, and others wrote {between} times between them");
    assert!(ended.values().all(|count| *count <= BATCH), "{ended:?}");
    assert!(between > 0, "all others have waited for the last of {ended:?}");
    service.send(Request::get(format!("/v1/sessions/{}", sessions[7]))).await.expect(410);
    // What is counted was seen in a watch, a moment after it was done.
    let deadline = Instant::now() + PATIENCE;
    while service.count("quorate_sessions_ended_total") < 2000 {
        assert!(Instant::now() < deadline, "{} are counted", service.count("quorate_sessions_ended_total"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_is_a_setting_and_says_what_to_do_when_it_is_reached() {
    let limits =
        SessionSettings { max_sessions: 4, max_holds: 2, max_waiting: 1, max_metadata: 10, ..Default::default() };
    let service = Service::start_with(HubLimits::default(), limits).await;
    let sessions = stream::iter(0..4).then(|_| service.session(60_000)).collect::<Vec<_>>().await;
    let refused = async |request: Request, status: u16, says: &str| {
        let problem = service.send(request).await.expect(status).json();
        assert_eq!(problem["outcome"], "not-applied");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    };
    refused(Request::post("/v1/sessions", "{}").json(), 429, "there are 4 sessions").await;
    let large = r#"{"metadata":{"zone":"1234567"}}"#;
    refused(Request::post("/v1/sessions", large).json(), 413, "11 bytes, and at most 10").await;

    let campaign = |election: &str, session: &str| {
        contest(&format!("/v1/elections/default/{election}/campaign"), session, &json!({"waitMs": 0}))
    };
    service.send(campaign("a", &sessions[0])).await.expect(200);
    service.send(campaign("a", &sessions[1])).await.expect(504);
    refused(campaign("a", &sessions[2]), 429, "1 claims wait for election default/a").await;
    service.send(campaign("a", &sessions[1])).await.expect(504);
    service.send(campaign("b", &sessions[0])).await.expect(200);
    refused(campaign("c", &sessions[0]), 429, "has 2 claims").await;
    let election = service.send(Request::get("/v1/elections/default/a")).await.expect(200).json();
    assert_eq!((&election["waiting"], &election["queue"][0]["session"]), (&json!(1), &json!(sessions[1])));
    service.send(Request::delete(format!("/v1/sessions/{}", sessions[3]))).await.expect(200);
    service.session(60_000).await;
}
