//! What the observing client asks of each side.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use tokio::time::timeout;

use crate::cli::bench::etcd::Etcd;
use crate::cli::bench::peer::Peer;
use crate::cli::bench::quorate::Quorate;

/// How long a member may take to say whether it leads.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is written all the time.
const KEY: &str = "failover";
const VALUE: Bytes = Bytes::from_static(b"a value");

/// A member that can be written to, with many calls at a time.
pub(super) trait Contestant: Peer + 'static {
    /// Where a member is reached: what each call needs.
    type Door: Send + Sync + 'static;

    async fn open(url: &str) -> anyhow::Result<Self::Door>;

    /// Writes once, and waits for the answer.
    fn write(door: &Self::Door) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Whether the member at that URL leads, as far as it knows.
    async fn leads(url: &str) -> anyhow::Result<bool>;

    /// Asks the leader to let another one lead; to which one it says itself, or else the one at the other URL.
    async fn hand_over(leader: &str, to: &str) -> anyhow::Result<()>;

    /// How many hold an election or wait for it.
    async fn candidates(&mut self, election: &str) -> anyhow::Result<usize>;
}

/// The only one of them that leads, if there is one. Who does not answer does not count.
pub(super) async fn leader<C: Contestant>(urls: &[String]) -> Option<usize> {
    let mut leaders = Vec::new();
    for (number, url) in urls.iter().enumerate() {
        if let Ok(Ok(true)) = timeout(PATIENCE, C::leads(url)).await {
            leaders.push(number);
        }
    }
    if let [leader] = leaders[..] { Some(leader) } else { None }
}

impl Contestant for Quorate {
    /// HTTP/1.1 has one call at a time on a connection, so each call makes its own, which is part of what it takes.
    type Door = String;

    async fn open(url: &str) -> anyhow::Result<String> {
        Ok(url.to_owned())
    }

    async fn write(url: &String) -> anyhow::Result<()> {
        Self::connect(url).await?.put(KEY, VALUE).await
    }

    async fn leads(url: &str) -> anyhow::Result<bool> {
        Self::connect(url).await?.leads().await
    }

    /// It chooses the most caught-up voter.
    async fn hand_over(leader: &str, _: &str) -> anyhow::Result<()> {
        Self::connect(leader).await?.transfer().await
    }

    async fn candidates(&mut self, election: &str) -> anyhow::Result<usize> {
        Self::candidates(self, election).await
    }
}

impl Contestant for Etcd {
    type Door = Self;

    async fn open(url: &str) -> anyhow::Result<Self> {
        Self::connect(url).await
    }

    async fn write(door: &Self) -> anyhow::Result<()> {
        door.share().put(KEY, VALUE).await
    }

    async fn leads(url: &str) -> anyhow::Result<bool> {
        Self::connect(url).await?.leads().await
    }

    async fn hand_over(leader: &str, to: &str) -> anyhow::Result<()> {
        let to = Self::connect(to).await?.member().await.context("who is to lead")?;
        Self::connect(leader).await?.move_leader(to).await
    }

    async fn candidates(&mut self, election: &str) -> anyhow::Result<usize> {
        Self::candidates(self, election).await
    }
}
