//! Sessions that fall silent: when they end after a change of the Raft leader.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::alone;
use crate::trio::{SIZE, Trio, wait_for};

/// What a machine that is busy with other tests adds to what is promised; less than the TTL, so that a second one would be seen.
const BUSY: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_session_ends_one_ttl_after_the_raft_leader_changed_and_not_before() {
    let _alone = alone().await;
    let (mut trio, ttl) = (Trio::running().await, Duration::from_secs(2));
    let leader = trio.leader().await;
    let survivor = (leader + 1) % SIZE;
    let begin = trio.http.post(format!("{}/v1/sessions", trio.url(survivor))).json(&json!({ "ttlMs": 2000 }));
    let session = begin.send().await.unwrap().json::<Value>().await.unwrap()["session"].as_str().unwrap().to_owned();
    let began = Instant::now();
    // Reading it is no sign of life.
    let path = format!("/v1/sessions/{session}");
    while began.elapsed() < ttl * 3 / 4 {
        trio.get_json(survivor, &path).await.expect("it lives");
    }

    trio.kill(leader);
    let killed = Instant::now();
    trio.leader().await;
    let led_again = Instant::now();
    wait_for("a silent session does not end", async || {
        let answer = trio.http.get(format!("{}{path}?consistency=stale", trio.url(survivor))).send().await.ok()?;
        (answer.status() == 410).then_some(())
    })
    .await;
    let (ended, lived) = (Instant::now(), began.elapsed());
    println!(
        "a session with a TTL of {ttl:?} whose Raft leader was killed after {:?} lived for {lived:?}",
        killed - began
    );
    assert!(ended - killed >= ttl, "a new Raft leader gives it its whole time again");
    let patient = ttl.mul_f64(1.01) + BUSY;
    assert!(ended - led_again <= patient, "it ended {:?} after there was a Raft leader again", ended - led_again);
}
