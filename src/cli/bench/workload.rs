//! What clients do while they are measured: each does one thing after another, and waits for nothing but the answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use tokio::time::Instant;

use super::figures::Round;
use super::peer::{Changes, Freshness, Peer};

/// Sessions live for longer than a benchmark.
const TTL: Duration = Duration::from_mins(10);

/// Sessions that are kept alive.
const SESSIONS: usize = 10_000;

/// Connections over which sessions are begun.
const STARTERS: usize = 64;

/// So many clients, and values of so many bytes, for what depends on them.
const CLIENTS: [usize; 3] = [1, 64, 256];
const BYTES: [usize; 3] = [64, 1 << 10, 64 << 10];

/// When the time of a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// When the write is sent.
    Sent,
    /// When it is acknowledged; an event that is there by then took no time.
    Acknowledged,
}

/// What so many clients do.
#[derive(Debug, Clone, Copy)]
pub enum Workload {
    /// Write a key of one's own.
    Put { clients: usize, bytes: usize },
    /// Read a key that nobody writes.
    Get { clients: usize, bytes: usize, freshness: Freshness },
    /// Follow one key, which is written again when all have heard of the last change.
    Watch { clients: usize, since: Since },
    /// Acquire and release a lock that nobody else wants.
    OwnLock { clients: usize },
    /// Acquire and release one lock that all want.
    OneLock { clients: usize },
    /// Win and resign an election in which another one waits already.
    Election { clients: usize },
    /// Keep sessions alive, so many at a time.
    KeepAlive { clients: usize, together: usize },
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Put { clients, .. }
        | Self::Get { clients, .. }
        | Self::Watch { clients, .. }
        | Self::OwnLock { clients }
        | Self::OneLock { clients }
        | Self::Election { clients }
        | Self::KeepAlive { clients, .. }) = self;
        let who = if *clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") };
        match self {
            Self::Put { bytes, .. } => write!(f, "write of {bytes} bytes, {who}"),
            Self::Get { bytes, freshness: Freshness::Linearizable, .. } => {
                write!(f, "linearizable read of {bytes} bytes, {who}")
            }
            Self::Get { bytes, freshness: Freshness::Stale, .. } => write!(f, "stale read of {bytes} bytes, {who}"),
            Self::Watch { since: Since::Sent, .. } => write!(f, "watch, from a write until its event, {who}"),
            Self::Watch { since: Since::Acknowledged, .. } => {
                write!(f, "watch, from a write's acknowledgement until its event, {who}")
            }
            Self::OwnLock { .. } => write!(f, "lock acquired and released, {who} with a lock each"),
            Self::OneLock { .. } => write!(f, "lock acquired and released, {who} with one lock"),
            Self::Election { .. } => write!(f, "election won and resigned, {who}, two for an election"),
            Self::KeepAlive { together, .. } => {
                write!(f, "keep-alive of {SESSIONS} sessions, {who}, {together} at a time")
            }
        }
    }
}

impl Workload {
    /// Everything that is measured, in the order in which it is told.
    pub fn all() -> Vec<Self> {
        let sized = || BYTES.into_iter().flat_map(|bytes| CLIENTS.map(|clients| (clients, bytes)));
        let get = |freshness| sized().map(move |(clients, bytes)| Self::Get { clients, bytes, freshness });
        let watch = |clients| [Since::Sent, Since::Acknowledged].map(|since| Self::Watch { clients, since });
        let kept = |together| CLIENTS.map(|clients| Self::KeepAlive { clients, together });
        sized()
            .map(|(clients, bytes)| Self::Put { clients, bytes })
            .chain(get(Freshness::Linearizable))
            .chain(get(Freshness::Stale))
            .chain([1, 1000].into_iter().flat_map(watch))
            .chain(CLIENTS.map(|clients| Self::OwnLock { clients }))
            .chain([2, 64, 256].map(|clients| Self::OneLock { clients }))
            .chain([2, 64, 256].map(|clients| Self::Election { clients }))
            .chain([1, 500].into_iter().flat_map(kept))
            .collect()
    }

    /// Lets clients of all members do it for that long. Names differ from round to round.
    pub async fn run<P: Peer>(self, urls: &[String], round: usize, duration: Duration) -> anyhow::Result<Round> {
        match self {
            Self::Put { clients, bytes } => {
                let value = Bytes::from(vec![b'v'; bytes]);
                measure(connected::<P>(urls, clients).await?, duration, async |client, peer| {
                    peer.put(&format!("put-{client}"), value.clone()).await
                })
                .await
            }
            Self::Get { clients, bytes, freshness } => {
                let mut workers = connected::<P>(urls, clients).await?;
                let (key, value) = (format!("get-{bytes}"), Bytes::from(vec![b'v'; bytes]));
                for peer in workers.iter_mut().take(1) {
                    peer.put(&key, value.clone()).await?;
                }
                measure(workers, duration, async |_, peer| {
                    let found = peer.get(&key, freshness).await?;
                    anyhow::ensure!(found == value, "a key was written and is not there");
                    Ok(())
                })
                .await
            }
            Self::Watch { clients, since } => {
                follow(connected::<P>(urls, clients + 1).await?, since, round, duration).await
            }
            Self::OwnLock { clients } => {
                let workers = holders::<P>(urls, clients).await?;
                let name = |client| format!("own-{round}-{client}");
                measure(workers, duration, async |client, (peer, session)| {
                    let grant = peer.lock(&name(client), session).await?;
                    peer.unlock(&name(client), session, grant).await
                })
                .await
            }
            Self::OneLock { clients } => {
                let workers = holders::<P>(urls, clients).await?;
                let name = format!("one-{round}");
                measure(workers, duration, async |_, (peer, session)| {
                    let grant = peer.lock(&name, session).await?;
                    peer.unlock(&name, session, grant).await
                })
                .await
            }
            Self::Election { clients } => {
                let workers = holders::<P>(urls, clients).await?;
                let name = |client| format!("election-{round}-{clients}-{}", client / 2);
                measure(workers, duration, async |client, (peer, session)| {
                    let grant = peer.campaign(&name(client), session).await?;
                    peer.resign(&name(client), session, grant).await
                })
                .await
            }
            Self::KeepAlive { clients, together } => {
                let sessions = Arc::new(sessions::<P>(urls).await?);
                let workers = connected::<P>(urls, clients).await?.into_iter().enumerate().collect();
                let kept = measure(workers, duration, async |_, (turn, peer)| {
                    let first = *turn * together % sessions.len();
                    *turn += clients;
                    peer.keep_alive(&sessions[first..first + together]).await
                });
                let Round { figures, samples_us } = kept.await?;
                Ok(Round { figures: figures.times(together), samples_us })
            }
        }
    }
}

/// Clients, each with a connection of its own, to all members alike.
async fn connected<P: Peer>(urls: &[String], clients: usize) -> anyhow::Result<Vec<P>> {
    try_join_all((0..clients).map(|client| P::connect(&urls[client % urls.len()]))).await
}

/// Clients, each with a session of its own.
async fn holders<P: Peer>(urls: &[String], clients: usize) -> anyhow::Result<Vec<(P, P::Session)>> {
    try_join_all((0..clients).map(async |client| {
        let mut peer = P::connect(&urls[client % urls.len()]).await?;
        let session = peer.begin_session(TTL).await?;
        Ok((peer, session))
    }))
    .await
}

async fn sessions<P: Peer>(urls: &[String]) -> anyhow::Result<Vec<P::Session>> {
    let begun = try_join_all((0..STARTERS).map(async |starter| {
        let mut peer = P::connect(&urls[starter % urls.len()]).await?;
        let mut sessions = Vec::new();
        for _ in (starter..SESSIONS).step_by(STARTERS) {
            sessions.push(peer.begin_session(TTL).await?);
        }
        anyhow::Ok(sessions)
    }))
    .await?;
    Ok(begun.concat())
}

/// Lets the first client write a key that all others follow, and measures from each write until each of them has heard of it.
async fn follow<P: Peer>(mut clients: Vec<P>, since: Since, round: usize, duration: Duration) -> anyhow::Result<Round> {
    let mut writer = clients.remove(0);
    let key = format!("watch-{round}-{}", clients.len());
    let mut watchers = try_join_all(clients.into_iter().map(|client| client.watch(&key))).await?;
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < duration {
        let sent = Instant::now();
        let write = async { writer.put(&key, Bytes::from_static(b"news")).await.map(|()| Instant::now()) };
        let hear = watchers.iter_mut().map(async |watcher| watcher.next().await.map(|()| Instant::now()));
        let (acknowledged, heard) = tokio::try_join!(write, try_join_all(hear))?;
        let from = match since {
            Since::Sent => sent,
            Since::Acknowledged => acknowledged,
        };
        took.extend(heard.into_iter().map(|at| at.saturating_duration_since(from)));
    }
    Ok(Round::of(took, began.elapsed()))
}

/// Lets every worker take step after step.
async fn measure<W>(
    workers: Vec<W>,
    duration: Duration,
    step: impl AsyncFn(usize, &mut W) -> anyhow::Result<()>,
) -> anyhow::Result<Round> {
    let began = Instant::now();
    let steps = workers.into_iter().enumerate().map(async |(client, mut worker)| {
        let mut took = Vec::new();
        while began.elapsed() < duration {
            let sent = Instant::now();
            step(client, &mut worker).await?;
            took.push(sent.elapsed());
        }
        anyhow::Ok(took)
    });
    let took = join_all(steps).await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Round::of(took.concat(), began.elapsed()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_workload_has_a_description_of_its_own() {
        let described: BTreeSet<_> = Workload::all().iter().map(ToString::to_string).collect();
        assert_eq!(described.len(), Workload::all().len());
        for wanted in ["write of 65536 bytes, 256 clients", "stale read of 1024 bytes, 1 client"] {
            assert!(described.contains(wanted), "{described:?}");
        }
    }
}
