//! Many sessions that end together, and what others notice of it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::figures::Figures;
use super::peer::Peer;
use super::quorate::Quorate;
use super::say;
use super::trio::Trio;
use crate::settings::args::{ExpiryArgs, Pace};

/// Long enough for all of them to be begun, and kept alive once more, before the first one ends.
const TTL: Duration = Duration::from_secs(20);

/// Connections over which sessions are begun and kept alive, to all members alike.
const CONNECTIONS: usize = 96;

/// Sessions that are kept alive in one call.
const TOGETHER: usize = 1000;

/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(100);

/// What others did while nothing happened, and what they did while all sessions ended.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpiryReport {
    sessions: usize,
    begun_per_second: f64,
    kept_alive_per_second: f64,
    /// From when the first one was seen to be gone until the last one was, of a thousand that are spread over all.
    ended_within_ms: u128,
    writes_before: Figures,
    /// From a quarter of the TTL before they end until the last one was gone.
    writes_meanwhile: Figures,
}

/// Begins sessions, keeps them alive, falls silent, and writes keys all the while.
pub async fn measure(args: &ExpiryArgs) -> anyhow::Result<ExpiryReport> {
    let trio = Trio::quorate(args.directory.as_deref(), Pace::Default).await?;
    let report = on(&trio, args.sessions).await;
    trio.stop().await;
    report
}

async fn on(trio: &Trio, count: usize) -> anyhow::Result<ExpiryReport> {
    let connect = |number: usize| Quorate::connect(&trio.urls[number % trio.urls.len()]);
    let mut peers = try_join_all((0..CONNECTIONS).map(connect)).await?;
    say(&format!("{count} sessions begin"));
    let began = Instant::now();
    let sessions = begin(&mut peers, count).await?;
    let begun_per_second = rate(count, began.elapsed());

    say("they are kept alive, through all members");
    let began = Instant::now();
    let shares = peers.iter_mut().enumerate().map(async |(number, peer)| {
        for part in sessions.chunks(TOGETHER).skip(number).step_by(CONNECTIONS) {
            peer.keep_alive(part).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(shares).await?;
    let (heard, kept_alive_per_second) = (Instant::now(), rate(count, began.elapsed()));

    say("and fall silent");
    let mut writer = connect(0).await?;
    let (quiet, _) = write_until(&mut writer, async || Ok(heard.elapsed() > TTL * 3 / 4)).await?;
    let mut watcher = connect(1).await?;
    let (mut first_gone, mut left) = (None, sessions.iter().step_by(count.div_ceil(1000)).collect::<Vec<_>>());
    let mut looked = Instant::now();
    let are_gone = async || {
        if looked.elapsed() < LOOK {
            return Ok(false);
        }
        while let Some(session) = left.last()
            && !watcher.lives(session).await?
        {
            first_gone.get_or_insert_with(Instant::now);
            left.pop();
        }
        looked = Instant::now();
        Ok(left.is_empty())
    };
    let (meanwhile, ended) = write_until(&mut writer, are_gone).await?;
    Ok(ExpiryReport {
        sessions: count,
        begun_per_second,
        kept_alive_per_second,
        ended_within_ms: first_gone.map_or(0, |first| (ended - first).as_millis()),
        writes_before: quiet,
        writes_meanwhile: meanwhile,
    })
}

async fn begin(peers: &mut [Quorate], count: usize) -> anyhow::Result<Vec<String>> {
    let shares = peers.iter_mut().enumerate().map(async |(number, peer)| {
        let (mut sessions, mut kept) = (Vec::new(), Instant::now());
        for _ in (number..count).step_by(CONNECTIONS) {
            sessions.push(peer.begin_session(TTL).await?);
            if kept.elapsed() > TTL / 4 {
                kept = Instant::now();
                for part in sessions.chunks(TOGETHER) {
                    peer.keep_alive(part).await?;
                }
            }
        }
        anyhow::Ok(sessions)
    });
    Ok(try_join_all(shares).await?.concat())
}

/// Writes a key every few milliseconds; when it was over, and how long each write took.
async fn write_until(
    writer: &mut Quorate,
    mut is_over: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<(Figures, Instant)> {
    let (began, mut took) = (Instant::now(), Vec::new());
    while !is_over().await? {
        let sent = Instant::now();
        writer.put("meanwhile", Bytes::from_static(b"a value")).await?;
        took.push(sent.elapsed());
        sleep(Duration::from_millis(2)).await;
    }
    Ok((Figures::of(took, began.elapsed()), Instant::now()))
}

fn rate(count: usize, took: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / took.as_secs_f64()
}

impl fmt::Display for ExpiryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sessions, begun_per_second, kept_alive_per_second, ended_within_ms, .. } = self;
        writeln!(
            f,
            "{sessions} sessions: {begun_per_second:.0} begun a second, {kept_alive_per_second:.0} kept alive a second,"
        )?;
        writeln!(f, "all ended within {ended_within_ms} ms.")?;
        for (when, figures) in [("before", self.writes_before), ("meanwhile", self.writes_meanwhile)] {
            writeln!(f, "Writes of another client {when}: {figures}")?;
        }
        Ok(())
    }
}
