//! What sessions, elections and locks tell Prometheus: the numbers themselves.

use std::collections::BTreeMap;

use prometheus::TextEncoder;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::fixture::{PATIENCE, Request, Service, contest};

/// Every line of some metrics, by name and labels.
fn values(service: &Service, names: &str) -> BTreeMap<String, f64> {
    let text = TextEncoder::new().encode_to_string(&service.registry.gather()).unwrap();
    let lines = text.lines().filter(|line| line.starts_with(names)).map(|line| line.rsplit_once(' ').unwrap());
    lines.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

/// The one value of a metric.
fn value(service: &Service, name: &str) -> f64 {
    values(service, name).remove(name).unwrap_or_else(|| panic!("there is no {name}"))
}

fn of_kinds(name: &str, [election, lock]: [f64; 2]) -> BTreeMap<String, f64> {
    let of_kind = |kind: &str, value| (format!("{name}{{kind=\"{kind}\"}}"), value);
    BTreeMap::from([of_kind("election", election), of_kind("lock", lock)])
}

async fn campaign(service: &Service, session: &str, status: u16) {
    let waiting = json!({"waitMs": 0});
    service.send(contest("/v1/elections/default/main/campaign", session, &waiting)).await.expect(status);
}

async fn acquire(service: &Service, session: &str, status: u16) {
    service.send(contest("/v1/locks/default/disk/acquire", session, &json!({"waitMs": 1}))).await.expect(status);
}

async fn resign(service: &Service, session: &str, cause: &str) {
    let body = json!({ "cause": cause });
    service.send(contest("/v1/elections/default/main/resign", session, &body)).await.expect(200);
}

async fn end(service: &Service, session: &str) {
    service.send(Request::delete(format!("/v1/sessions/{session}"))).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_and_what_waits_is_told_as_it_is() {
    let service = Service::start().await;
    let [a, b] = [service.session(60_000).await, service.session(60_000).await];
    let is = |grants, waiting| {
        assert_eq!(values(&service, "quorate_grants{"), of_kinds("quorate_grants", grants));
        assert_eq!(values(&service, "quorate_claims_waiting"), of_kinds("quorate_claims_waiting", waiting));
    };
    is([0.0, 0.0], [0.0, 0.0]);
    campaign(&service, &a, 200).await;
    campaign(&service, &b, 504).await;
    is([1.0, 0.0], [1.0, 0.0]);
    acquire(&service, &b, 200).await;
    acquire(&service, &a, 504).await;
    is([1.0, 1.0], [1.0, 1.0]);
    assert_eq!(value(&service, "quorate_sessions"), 2.0);
    end(&service, &a).await;
    is([1.0, 1.0], [0.0, 0.0]);
    end(&service, &b).await;
    is([0.0, 0.0], [0.0, 0.0]);
    assert_eq!(value(&service, "quorate_sessions"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sign_of_life_is_counted_and_how_many_calls_shared_a_round() {
    let service = Service::start().await;
    let [a, b] = [service.session(60_000).await, service.session(60_000).await];
    let count = || {
        ["quorate_keep_alives_total", "quorate_read_rounds_total", "quorate_read_round_calls_sum"]
            .map(|name| value(&service, name))
    };
    let before = count();
    service.send(Request::post(format!("/v1/sessions/{a}/keepalive"), "")).await.expect(200);
    let both = json!({ "sessions": [a, b] }).to_string();
    service.send(Request::post("/v1/sessions/keepalive", &both).json()).await.expect(200);
    let after = count();
    let more: Vec<_> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(more, [3.0, 2.0, 2.0], "three signs of life came in two calls, each with a round of its own");
    assert_eq!(value(&service, "quorate_read_round_calls_count"), after[1], "every round is in the histogram");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_grant_that_ends_is_counted_by_its_cause_and_the_time_without_a_leader_is_what_the_election_says() {
    let service = Service::start().await;
    let [a, b, short] = [service.session(60_000).await, service.session(60_000).await, service.session(500).await];
    campaign(&service, &a, 200).await;
    campaign(&service, &b, 504).await;
    resign(&service, &a, "resigned").await;
    end(&service, &b).await;
    campaign(&service, &a, 200).await;
    resign(&service, &a, "client-exited").await;
    campaign(&service, &short, 200).await;
    campaign(&service, &a, 504).await;
    acquire(&service, &short, 200).await;
    service.expired(&short).await;
    acquire(&service, &a, 200).await;
    service.send(Request::delete("/v1/locks/default/disk/holder")).await.expect(200);
    acquire(&service, &a, 200).await;
    service.send(contest("/v1/locks/default/disk/release", &a, &json!({}))).await.expect(200);

    let ended = |kind: &str, cause: &str| format!("quorate_grants_ended_total{{cause=\"{cause}\",kind=\"{kind}\"}}");
    let expected = BTreeMap::from([
        (ended("election", "resigned"), 1.0),
        (ended("election", "session-ended"), 1.0),
        (ended("election", "client-exited"), 1.0),
        (ended("election", "session-expired"), 1.0),
        (ended("lock", "session-expired"), 1.0),
        (ended("lock", "removed"), 1.0),
        (ended("lock", "resigned"), 1.0),
    ]);
    // What is counted was seen in a watch, a moment after it was done.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut counted = values(&service, "quorate_grants_ended_total");
        counted.retain(|_, count| *count > 0.0);
        if counted == expected {
            break;
        }
        assert!(Instant::now() < deadline, "{counted:#?} are counted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let election = service.send(Request::get("/v1/elections/default/main")).await.expect(200).json();
    let told = election["recentTransitions"].as_array().unwrap().iter();
    let leaderless: Vec<_> = told.map(|transition| transition["leaderlessMs"].as_u64().unwrap()).collect();
    assert_eq!(leaderless.len(), 4, "{election}");
    assert!(leaderless[0] >= 10, "twice the bound of clock drift lies between a deadline and an expiry: {election}");
    assert_eq!(value(&service, "quorate_election_leaderless_seconds_count"), 4.0);
    #[expect(clippy::cast_precision_loss, reason = "it is a time, not a count")]
    let sum = leaderless.iter().sum::<u64>() as f64 / 1e3;
    let counted = value(&service, "quorate_election_leaderless_seconds_sum");
    assert!((counted - sum).abs() < 1e-6, "{counted} s are counted of {sum} s");
    assert_eq!(election["lastTransition"]["cause"], Value::from("session-expired"));
}
