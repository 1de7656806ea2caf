//! A state that is full: writes while snapshots of it are taken, and a member that starts with it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

use super::report::Full;
use crate::cli::bench::figures::Figures;
use crate::cli::bench::peer::{Freshness, Peer};
use crate::cli::bench::quorate::Quorate;
use crate::cli::bench::say;
use crate::cli::bench::trio::{SIZE, Trio};
use crate::settings::args::GrowthArgs;

/// Of each of the values that fill the state.
const BYTES: usize = 64 << 10;

/// Connections over which it is filled.
const FILLERS: usize = 8;

/// Between two of the writes that make the next snapshot due: a member takes one when it has applied 64 MiB.
const CHURN: Duration = Duration::from_millis(10);

/// Between two of the writes that are measured.
const PAUSE: Duration = Duration::from_millis(2);

/// How long a snapshot may take to come about before the run is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Writes of one client, told apart by whether a snapshot was under way.
#[derive(Default)]
struct Writes {
    quiet: Vec<Duration>,
    meanwhile: Vec<Duration>,
}

pub(super) async fn measure(trio: &mut Trio, args: &GrowthArgs) -> anyhow::Result<Full> {
    let values = (args.state << 20) / BYTES;
    say(&format!("{} MiB of values are written", args.state));
    fill(trio, values).await?;
    let before = term(trio).await?;
    say(&format!("writes during {} snapshots", args.snapshots));
    let began = Instant::now();
    let writes = write_during_snapshots(trio, values, args.snapshots).await?;
    let took = began.elapsed();
    let elections = term(trio).await? - before;
    let snapshot_bytes = newest_snapshot(&trio.data(0))?;
    say("a member starts anew");
    let restart = restart(trio).await?;
    Ok(Full {
        value_bytes: u64::try_from(values * BYTES)?,
        snapshot_bytes,
        snapshots: args.snapshots,
        quiet: Figures::of(writes.quiet, took),
        meanwhile: Figures::of(writes.meanwhile, took),
        elections,
        restart_ms: u64::try_from(restart.as_millis())?,
    })
}

/// Of the Raft leader; over a connection of its own, as members close one that nobody uses for long.
async fn term(trio: &Trio) -> anyhow::Result<u64> {
    Quorate::connect(&trio.urls[0]).await?.term().await
}

async fn fill(trio: &Trio, values: usize) -> anyhow::Result<()> {
    let fillers = (0..FILLERS).map(async |filler| {
        let mut peer = Quorate::connect(&trio.urls[filler % SIZE]).await?;
        for number in (filler..values).step_by(FILLERS) {
            peer.put(&format!("full-{number}"), value(number)).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(fillers).await.context("the state does not take so much (see --state)")?;
    Ok(())
}

/// No two alike, as they would be.
fn value(number: usize) -> Bytes {
    Bytes::from(number.to_le_bytes().repeat(BYTES / size_of::<usize>()))
}

/// Writes small values, and large ones beside them that make snapshots due, until each member has finished so many.
async fn write_during_snapshots(trio: &Trio, values: usize, snapshots: usize) -> anyhow::Result<Writes> {
    let churn = async {
        let mut peer = Quorate::connect(&trio.urls[1]).await?;
        for number in (0..values).cycle() {
            peer.put(&format!("full-{number}"), value(number)).await?;
            sleep(CHURN).await;
        }
        anyhow::Ok(Writes::default())
    };
    tokio::select! {
        broken = churn => broken,
        writes = writes(trio, snapshots) => writes,
    }
}

async fn writes(trio: &Trio, snapshots: usize) -> anyhow::Result<Writes> {
    let folders: Vec<_> = (0..SIZE).map(|number| trio.data(number)).collect();
    let look = || folders.iter().map(|folder| Look::at(folder)).collect::<anyhow::Result<Vec<_>>>();
    let mut peer = Quorate::connect(&trio.urls[0]).await?;
    let (mut writes, mut finished, mut before) = (Writes::default(), [0; SIZE], look()?);
    let mut deadline = Instant::now() + PATIENCE;
    while finished.iter().any(|finished| *finished < snapshots) {
        ensure!(Instant::now() < deadline, "no snapshot is taken: {finished:?}");
        let sent = Instant::now();
        peer.put("small", Bytes::from_static(&[b'v'; 64])).await?;
        let (took, after) = (sent.elapsed(), look()?);
        let has_new = |number: usize| before[number].newest != after[number].newest;
        // A write is beside a snapshot that was there before it, or after it, or came and went meanwhile.
        let is_beside = before.iter().chain(&after).any(|look| look.is_under_way) || (0..SIZE).any(has_new);
        if is_beside { &mut writes.meanwhile } else { &mut writes.quiet }.push(took);
        for number in (0..SIZE).filter(|number| has_new(*number)) {
            finished[number] += 1;
            deadline = Instant::now() + PATIENCE;
        }
        before = after;
        sleep(PAUSE).await;
    }
    ensure!(!writes.quiet.is_empty(), "snapshots follow one another without a pause");
    Ok(writes)
}

/// The snapshots of a member, as its folder shows them.
struct Look {
    is_under_way: bool,
    /// The name of the newest one that is finished.
    newest: Option<String>,
}

impl Look {
    fn at(data: &Path) -> anyhow::Result<Self> {
        let (unfinished, finished): (Vec<_>, Vec<_>) =
            snapshots(data)?.into_iter().map(|(name, _)| name).partition(|name| name.ends_with(UNFINISHED));
        Ok(Self { is_under_way: !unfinished.is_empty(), newest: finished.into_iter().max() })
    }
}

/// What the name of a snapshot ends with that is being written.
const UNFINISHED: &str = ".unfinished";

/// How large the newest one is that is finished.
fn newest_snapshot(data: &Path) -> anyhow::Result<u64> {
    let finished = snapshots(data)?.into_iter().filter(|(name, _)| !name.ends_with(UNFINISHED));
    finished.max().map(|(_, bytes)| bytes).context("there is no snapshot")
}

/// The names of the files of snapshots, and how large they are.
fn snapshots(data: &Path) -> anyhow::Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // One that is renamed or removed meanwhile is not there any more.
        if let Ok(metadata) = entry.metadata()
            && name.starts_with("snapshot-")
        {
            found.push((name, metadata.len()));
        }
    }
    Ok(found)
}

/// Kills a member that does not lead, writes once more, and says how long it takes, once it is started, until it answers with that.
async fn restart(trio: &mut Trio) -> anyhow::Result<Duration> {
    let mut follower = None;
    for number in 0..SIZE {
        if !Quorate::connect(&trio.urls[number]).await?.leads().await? {
            follower = Some(number);
        }
    }
    let number = follower.context("everybody leads")?;
    trio.signal(number, Signal::KILL);
    let mut other = Quorate::connect(&trio.urls[(number + 1) % SIZE]).await?;
    let news = Bytes::from_static(b"written while it was away");
    other.put("small", news.clone()).await?;
    trio.restart(number).await?;
    let (started, url) = (Instant::now(), trio.urls[number].clone());
    let answers = async {
        loop {
            let asked = async { Quorate::connect(&url).await?.get("small", Freshness::Linearizable).await };
            if asked.await.is_ok_and(|found| found == news) {
                return started.elapsed();
            }
            sleep(CHURN).await;
        }
    };
    timeout(PATIENCE, answers).await.context("the member does not come back")
}
