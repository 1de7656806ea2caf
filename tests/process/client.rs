//! The client for Rust, on members of which the one that it uses is killed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate::client::{Candidacy, Client, Freshness, Patience, Watch};
use quorate::types::{ContestName, Key, Namespace};
use serde_json::Value;
use tokio::time::timeout;

use crate::alone;
use crate::trio::{PATIENCE, Trio, name};

/// Keys that are written, half of them before the member is gone.
const KEYS: usize = 100;

const TTL: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_member_is_killed_goes_on_at_another_without_a_gap_and_keeps_what_it_holds() {
    let _alone = alone().await;
    let mut trio = Trio::running().await;
    let client = Client::new(&trio.urls(), Patience::Until(PATIENCE), 1).unwrap();
    let session = client.begin_session(TTL, Some("test".to_owned()), BTreeMap::new()).await.unwrap();
    let (namespace, election) = (Namespace::new("default").unwrap(), ContestName::new("main").unwrap());
    let grant = session.campaign(&namespace, &election, &Candidacy::default()).await.unwrap();
    let mut watch = client.watch_keys("k/");
    let snapshot = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert_eq!(snapshot.name, "snapshot");
    let following = tokio::spawn(async move {
        let last = snapshot.data["revision"].as_u64().unwrap();
        timeout(PATIENCE, follow(&mut watch, last)).await.expect("every write is seen")
    });

    let mut members = Vec::new();
    for number in 0..KEYS {
        if number == KEYS / 2 {
            assert!(members.iter().all(|member| *member == name(0)), "another member was used: {members:?}");
            trio.kill(0);
        }
        let written = client.put_key(&key(number), Bytes::from(number.to_string())).await.unwrap();
        members.push(written.member);
    }
    assert!(members[KEYS / 2..].iter().all(|member| *member != name(0)), "a dead member answers: {members:?}");
    let seen = following.await.unwrap();
    let expected: Vec<_> = (0..KEYS).map(|number| (key(number).to_string(), 1)).collect();
    assert_eq!(seen, expected, "each write is seen once, in order, whatever was tried again");

    // For longer than a session lives that nobody keeps alive.
    let lost = timeout(2 * TTL, grant.lost()).await;
    assert!(lost.is_err(), "it was lost: {lost:?}");
    assert!(grant.is_valid() && session.is_valid());
    let led = client.election(&namespace, &election).await.unwrap().body;
    assert_eq!(led.leaders[0].fencing_token, grant.fencing_token());
    assert_eq!(led.transitions, 0, "nobody has led in between");
    let value = client.key(&key(KEYS - 1), Freshness::Linearizable).await.unwrap();
    assert_eq!(value.body, (KEYS - 1).to_string());
}

fn key(number: usize) -> Key {
    Key::new(format!("k/{number:03}")).unwrap()
}

/// Follows the writes to the last one: the key and the version of each. Every event names the one before it.
async fn follow(watch: &mut Watch, mut last: u64) -> Vec<(String, u64)> {
    let mut seen = Vec::new();
    while seen.len() < KEYS {
        let event = watch.next().await.unwrap();
        let number = |field: &str| event.data[field].as_u64();
        match event.name.as_str() {
            "put" => {
                assert_eq!(number("prevRevision"), Some(last), "something is missing before {}", event.data);
                last = number("revision").unwrap();
                let text = |field: &str| event.data.pointer(field).and_then(Value::as_str).unwrap().to_owned();
                let version = event.data.pointer("/kv/version").and_then(Value::as_u64).unwrap();
                seen.push((text("/kv/key"), version));
            }
            "heartbeat" => {}
            other => panic!("a watch that goes on has no {other}: {}", event.data),
        }
    }
    seen
}
