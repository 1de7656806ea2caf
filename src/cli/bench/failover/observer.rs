//! The client that observes: it writes through the members that are not harmed, all the time, and does not wait for one
//! answer before it sends the next write.
//!
//! A write may hang for long at a member that believes in the leader that is gone, and a client with a single one in flight
//! would measure its own patience. What counts is the longest time in which none of all the writes was acknowledged.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

use super::contestant::{Contestant, leader};

/// Between two writes, to one member and the other in turns; and between two looks at who leads.
const WRITE_EVERY: Duration = Duration::from_millis(2);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A write that was acknowledged.
struct Acknowledged {
    sent: Instant,
    at: Instant,
}

/// Lets the harm be done, and says for how long nothing was acknowledged: until one of the others leads, and a write that was
/// sent after that is acknowledged.
pub(super) async fn observe<C: Contestant>(
    urls: &[String],
    patience: Duration,
    harm: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Duration> {
    let mut doors = Vec::new();
    for url in urls {
        let door = Arc::new(C::open(url).await?);
        // The first call makes the connection.
        C::write(&door).await.context("a write before the harm")?;
        doors.push(door);
    }
    let harmed = Instant::now();
    // A harm that takes time, such as a question, is waited for like an answer.
    let observed = async { Ok(write_on::<C>(urls, &doors, harmed).await) };
    let both = async { tokio::try_join!(harm(), observed) };
    let ((), longest) = timeout(patience, both)
        .await
        .with_context(|| format!("nobody else leads and takes writes within {patience:?}"))??;
    Ok(longest)
}

/// The longest gap from `harmed` on.
async fn write_on<C: Contestant>(urls: &[String], doors: &[Arc<C::Door>], harmed: Instant) -> Duration {
    let mut writes: JoinSet<Option<Acknowledged>> = JoinSet::new();
    let mut turns = doors.iter().cycle();
    let (mut due, mut look) = (steady(WRITE_EVERY), steady(LOOK_EVERY));
    let (mut last, mut longest, mut led_since) = (harmed, Duration::ZERO, None);
    loop {
        tokio::select! {
            biased;
            Some(written) = writes.join_next(), if !writes.is_empty() => {
                let Ok(Some(Acknowledged { sent, at })) = written else { continue };
                longest = longest.max(at.saturating_duration_since(last));
                last = last.max(at);
                if led_since.is_some_and(|since| sent > since) {
                    return longest;
                }
            }
            _ = due.tick() => {
                let Some(door) = turns.next().cloned() else { continue };
                writes.spawn(async move {
                    let sent = Instant::now();
                    C::write(&door).await.ok().map(|()| Acknowledged { sent, at: Instant::now() })
                });
            }
            _ = look.tick(), if led_since.is_none() => {
                if leader::<C>(urls).await.is_some() {
                    led_since = Some(Instant::now());
                }
            }
        }
    }
}

fn steady(every: Duration) -> Interval {
    let mut interval = interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
