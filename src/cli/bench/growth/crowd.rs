//! More and more of a kind, and what one client notices of it.

use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use tokio::time::Instant;

use super::process::{Usage, members};
use super::report::Size;
use crate::cli::bench::figures::Figures;
use crate::cli::bench::peer::{Changes, Peer};
use crate::cli::bench::quorate::Quorate;
use crate::cli::bench::say;
use crate::cli::bench::trio::Trio;
use crate::settings::args::GrowthArgs;

/// How many there are, one size after the other.
const SIZES: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];

/// Connections over which they are made, to all members alike.
const MAKERS: usize = 64;

/// Watchers that connect at a time: not more than listeners have room for.
const CONNECTING: usize = 256;

/// Elections that one session holds: fewer than it may.
const HOLDS: usize = 1_000;

/// Sessions live for longer than a benchmark.
const TTL: Duration = Duration::from_mins(60);

/// What is written.
const VALUE: Bytes = Bytes::from_static(&[b'v'; 64]);

/// What there is more and more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Keys,
    Sessions,
    Watchers,
    Elections,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Keys, Self::Sessions, Self::Watchers, Self::Elections];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys: write one of them",
            Self::Sessions => "sessions: keep one of them alive",
            Self::Watchers => "watchers: write what one of them follows, until it hears",
            Self::Elections => "elections: win and resign another one",
        }
    }

    /// A watcher takes a connection, and an election with its holder is more than a key.
    const fn most(self) -> usize {
        match self {
            Self::Keys | Self::Sessions => 100_000,
            Self::Watchers | Self::Elections => 10_000,
        }
    }
}

/// What has been made.
#[derive(Default)]
struct Crowd {
    keys: usize,
    sessions: Vec<String>,
    watchers: Vec<<Quorate as Peer>::Changes>,
    elections: usize,
}

/// Makes them until each size is reached, and measures there.
pub(super) async fn grow(trio: &Trio, kind: Kind, args: &GrowthArgs) -> anyhow::Result<Vec<Size>> {
    let pids = members(trio)?;
    let (mut crowd, mut sizes, mut before) = (Crowd::default(), Vec::new(), None);
    for count in SIZES.into_iter().filter(|count| *count <= args.most.min(kind.most())) {
        say(&format!("{count} {}", kind.name()));
        // Members close a connection that nobody uses for long, as most of these are not while one client asks.
        let mut makers = try_join_all((0..MAKERS).map(|maker| connect(trio, maker))).await?;
        crowd.reach(trio, &mut makers, kind, count).await?;
        let figures = crowd.ask(trio, &mut makers[0], kind, args.duration).await?;
        let resident: Vec<_> = Usage::of_all(&pids)?.iter().map(|usage| usage.resident_bytes).collect();
        // What the fewest of them take is lost in what a member takes that has nothing.
        let empty = before.get_or_insert_with(|| resident.clone());
        sizes.push(Size::new(kind.name(), count, figures, &resident, empty));
    }
    Ok(sizes)
}

async fn connect(trio: &Trio, number: usize) -> anyhow::Result<Quorate> {
    Quorate::connect(&trio.urls[number % trio.urls.len()]).await
}

impl Crowd {
    async fn reach(&mut self, trio: &Trio, makers: &mut [Quorate], kind: Kind, count: usize) -> anyhow::Result<()> {
        match kind {
            Kind::Keys => {
                let first = std::mem::replace(&mut self.keys, count);
                share(makers, first..count, async |maker, key| maker.put(&format!("key-{key}"), VALUE).await).await?;
            }
            Kind::Sessions => {
                let begun = share(makers, self.sessions.len()..count, async |maker, _| maker.begin_session(TTL).await);
                self.sessions.extend(begun.await?);
            }
            Kind::Watchers => {
                while self.watchers.len() < count {
                    let first = self.watchers.len();
                    let numbers = first..count.min(first + CONNECTING);
                    let connected = numbers
                        .map(async |number| connect(trio, number).await?.watch(&format!("watched-{number:06}")).await);
                    self.watchers.extend(try_join_all(connected).await?);
                }
            }
            Kind::Elections => {
                let first = std::mem::replace(&mut self.elections, count);
                let holders =
                    share(makers, 0..(count - first).div_ceil(HOLDS), async |maker, _| maker.begin_session(TTL).await);
                let holders = holders.await?;
                share(makers, first..count, async |maker, number| {
                    maker.campaign(&format!("held-{number}"), &holders[(number - first) / HOLDS]).await
                })
                .await?;
            }
        }
        Ok(())
    }

    /// One client, one question after the other.
    async fn ask(
        &mut self,
        trio: &Trio,
        client: &mut Quorate,
        kind: Kind,
        duration: Duration,
    ) -> anyhow::Result<Figures> {
        let mut witness = connect(trio, 1).await?;
        let session = witness.begin_session(TTL).await?;
        let (began, mut took) = (Instant::now(), Vec::new());
        while began.elapsed() < duration {
            let (turn, sent) = (took.len(), Instant::now());
            match kind {
                // A step that shares no factor with the sizes visits all of them, and no neighbours one after the other.
                Kind::Keys => client.put(&format!("key-{}", turn * 7919 % self.keys), VALUE).await?,
                Kind::Sessions => {
                    let session = &self.sessions[turn * 7919 % self.sessions.len()];
                    client.keep_alive(std::slice::from_ref(session)).await?;
                }
                Kind::Watchers => {
                    let number = turn * 7919 % self.watchers.len();
                    let (key, watcher) = (format!("watched-{number:06}"), &mut self.watchers[number]);
                    tokio::try_join!(client.put(&key, VALUE), watcher.next())?;
                }
                Kind::Elections => {
                    let grant = client.campaign("another", &session).await?;
                    client.resign("another", &session, grant).await?;
                }
            }
            took.push(sent.elapsed());
        }
        Ok(Figures::of(took, began.elapsed()))
    }
}

/// Lets clients make all of that together.
async fn share<T>(
    makers: &mut [Quorate],
    numbers: std::ops::Range<usize>,
    make: impl AsyncFn(&mut Quorate, usize) -> anyhow::Result<T>,
) -> anyhow::Result<Vec<T>> {
    let together = makers.len();
    let shares = makers.iter_mut().enumerate().map(async |(maker, peer)| {
        let mut made = Vec::new();
        for number in numbers.clone().skip(maker).step_by(together) {
            made.push(make(peer, number).await?);
        }
        anyhow::Ok(made)
    });
    Ok(try_join_all(shares).await?.into_iter().flatten().collect())
}
