//! What the machine itself takes, in the same run: a sync of the disk, and a round trip on loopback.

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::figures::Figures;

/// What is appended before each sync: a page.
const PAGE: usize = 4096;

/// What goes to and fro: a small message.
const MESSAGE: usize = 64;

/// No commit is faster than one sync, and no answer than one round trip.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Floor {
    pub disk_sync: Figures,
    pub round_trip: Figures,
}

/// Measures each for that long; the disk is that of the directory.
pub async fn measure(directory: &Path, duration: Duration) -> anyhow::Result<Floor> {
    let directory = directory.to_owned();
    let syncs = tokio::task::spawn_blocking(move || syncs(&directory, duration)).await??;
    Ok(Floor { disk_sync: syncs, round_trip: round_trips(duration).await? })
}

/// Appends a page to a file, and syncs it with `fdatasync`.
fn syncs(directory: &Path, duration: Duration) -> anyhow::Result<Figures> {
    let mut file = tempfile::tempfile_in(directory)?;
    let step = |file: &mut File| {
        file.write_all(&[7; PAGE])?;
        file.sync_data()
    };
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < duration {
        let sent = Instant::now();
        step(&mut file)?;
        took.push(sent.elapsed());
    }
    Ok(Figures::of(took, began.elapsed()))
}

/// Sends a small message to a socket of this process, which sends it back.
async fn round_trips(duration: Duration) -> anyhow::Result<Figures> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
    let (mut near, (mut far, _)) = (near?, far?);
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = async {
        let mut message = [0; MESSAGE];
        loop {
            far.read_exact(&mut message).await?;
            far.write_all(&message).await?;
        }
    };
    let ask = async {
        let (began, mut took, mut message) = (Instant::now(), Vec::new(), [7; MESSAGE]);
        while began.elapsed() < duration {
            let sent = Instant::now();
            near.write_all(&message).await?;
            near.read_exact(&mut message).await?;
            took.push(sent.elapsed());
        }
        anyhow::Ok(Figures::of(took, began.elapsed()))
    };
    tokio::select! {
        figures = ask => figures,
        broken = echo => broken,
    }
}
