//! Members whose wall clocks jump by a month: sessions end by the monotonic clock, and by nothing else.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::alone;
use crate::trio::{SIZE, Trio, wait_for};

const MONTH: Duration = Duration::from_hours(30 * 24);

/// How long nothing may happen for after a jump.
const WATCHED: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn wall_clocks_that_jump_by_thirty_days_end_no_session_and_grant_nothing() {
    let _alone = alone().await;
    let (trio, clocks) = trio_with_clocks().await;
    let long = begin(&trio, 0, 600_000).await;
    let held =
        post(&trio, 0, "/v1/locks/default/disk/acquire", &json!({"session": long})).await["fencingToken"].clone();
    let next = begin(&trio, 0, 600_000).await;
    // Stays in the queue when the call is over.
    post(&trio, 0, "/v1/locks/default/disk/acquire", &json!({"session": next, "waitMs": 1})).await;
    let before = trio.get_json(0, "/v1/locks/default/disk").await.unwrap();
    assert_eq!((&before["holders"][0]["fencingToken"], &before["waiting"]), (&held, &json!(1)));

    let leader = trio.leader().await;
    for (member, days) in [(leader, 30), (leader, -30), ((leader + 1) % SIZE, -30), ((leader + 1) % SIZE, 30)] {
        clocks.jump(&trio, member, days).await;
        // This one is silent, and ends by the time that has really passed.
        let short = begin(&trio, 0, 1_000).await;
        let began = Instant::now();
        post(&trio, 0, "/v1/elections/default/brief/campaign", &json!({"session": short})).await;
        wait_for("a silent session does not end", async || {
            let seen = trio.get_json(0, "/v1/elections/default/brief").await?;
            (seen["leaders"] == json!([])).then_some(())
        })
        .await;
        let lived = began.elapsed();
        assert!(lived > Duration::from_millis(900), "a session with a TTL of a second has ended after {lived:?}");
        sleep(WATCHED.saturating_sub(lived)).await;
        let after = trio.get_json(0, "/v1/locks/default/disk").await.unwrap();
        assert_eq!(after, before, "{days} days at member {member}");
        let alive = post(&trio, 0, &format!("/v1/sessions/{long}/keepalive"), &Value::Null).await;
        assert_eq!(alive["holds"][0]["fencingToken"], held);
    }
}

/// Files that say by how much the wall clock of each member is moved.
struct Clocks(TempDir);

impl Clocks {
    fn file(&self, member: usize) -> PathBuf {
        self.0.path().join(member.to_string())
    }

    /// Moves a member's wall clock to a month from now, and sees that it has moved.
    async fn jump(&self, trio: &Trio, member: usize, days: i32) {
        fs::write(self.file(member), format!("{days:+}d")).unwrap();
        // A session says when it began, by the clock of the member that was asked to begin it.
        let session = begin(trio, member, 500).await;
        let seen = trio.get_json(member, &format!("/v1/sessions/{session}")).await.unwrap();
        let began: Timestamp = seen["createdAt"].as_str().unwrap().parse().unwrap();
        let moved = began.duration_since(Timestamp::now()).as_secs_f64();
        let expected = MONTH.as_secs_f64() * f64::from(days.signum());
        assert!((moved - expected).abs() < 3600.0, "the clock of member {member} has moved by {moved} s");
    }
}

/// Three members with clocks that can be moved.
async fn trio_with_clocks() -> (Trio, Clocks) {
    let clocks = Clocks(tempfile::tempdir().unwrap());
    let mut trio = Trio::new();
    for member in 0..SIZE {
        fs::write(clocks.file(member), "+0d").unwrap();
        let mut command = trio.command(member);
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", clocks.file(member))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        trio.start_with(member, command);
    }
    trio.start_all().await;
    (trio, clocks)
}

/// Debian's package `faketime` has it (`make tools`).
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|path| path.exists()).expect("`make tools` installs libfaketime")
}

/// The name of a new session.
async fn begin(trio: &Trio, member: usize, ttl_ms: u64) -> String {
    let body = json!({ "ttlMs": ttl_ms });
    post(trio, member, "/v1/sessions", &body).await["session"].as_str().unwrap().to_owned()
}

async fn post(trio: &Trio, member: usize, path: &str, body: &Value) -> Value {
    let request = trio.http.post(format!("{}{path}", trio.url(member)));
    let request = if body.is_null() { request } else { request.json(body) };
    request.send().await.unwrap().json().await.unwrap()
}
