//! How long the loss of a member was felt: from the end of its process to the first acknowledged write.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior};

use crate::client::{Client, Patience};
use crate::raft::Clock;
use crate::server::SystemClock;
use crate::types::Key;

/// What was seen after a member was lost.
#[derive(Debug, Clone)]
pub struct FailOver {
    pub lost: String,
    /// Who leads now, and after how long a write was acknowledged; `None` when none was.
    pub writes: Option<(String, Duration)>,
}

/// A write is tried this often.
const PROBE: Duration = Duration::from_millis(2);
/// One try; it waits inside the member for a Raft leader.
const TRY: Duration = Duration::from_millis(100);
/// Tries in flight: as many as begin while one waits.
const IN_FLIGHT: usize = 50;
/// Without a majority no write is ever acknowledged.
const GIVE_UP: Duration = Duration::from_secs(10);

/// Writes to the survivors in turn until one is acknowledged.
pub async fn measure(lost: String, ended: Instant, survivors: &[String]) -> FailOver {
    let acknowledged = tokio::time::timeout(GIVE_UP, first_write(ended, survivors)).await;
    let writes = match acknowledged {
        Ok(Some(after)) => Some((leader(survivors).await, after)),
        Ok(None) | Err(_) => None,
    };
    FailOver { lost, writes }
}

async fn first_write(ended: Instant, survivors: &[String]) -> Option<Duration> {
    let key = Key::new("quorate-dev/probe").ok()?;
    let client = |url: &String| Client::new(std::slice::from_ref(url), Patience::Once(TRY), SystemClock.random()).ok();
    let clients: Vec<_> = survivors.iter().filter_map(client).collect();
    let mut ticks = tokio::time::interval(PROBE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut tries = FuturesUnordered::new();
    let mut turns = clients.iter().cycle();
    loop {
        let room = tries.len() < IN_FLIGHT;
        tokio::select! {
            Some(Ok(_)) = tries.next(), if !tries.is_empty() => return Some(ended.elapsed()),
            _ = ticks.tick(), if room => tries.push(turns.next()?.put_key(&key, Bytes::from_static(b"probe"))),
            // One of as many tries as there may be has failed, and made room.
            else => {}
        }
    }
}

async fn leader(survivors: &[String]) -> String {
    match Client::new(survivors, Patience::Until(Duration::from_secs(2)), SystemClock.random()) {
        Ok(client) => client.leader().await.map_or_else(|_| "nobody".to_owned(), |answer| answer.body.name),
        Err(_) => "nobody".to_owned(),
    }
}
