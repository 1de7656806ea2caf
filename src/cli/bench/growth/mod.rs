//! `quorate bench growth`: what more of everything costs. One client asks while there are ever more keys, sessions, watchers and
//! elections; it writes while snapshots of a full state are taken; a member starts anew with that state; and nobody does anything.
//!
//! Read next: `crowd.rs` (more and more of a kind), `full.rs` (a state that is full), `process.rs` (what the kernel says of a
//! member), `report.rs` (what is told).

mod crowd;
mod full;
mod process;
mod report;

use anyhow::Context;
use tokio::time::{Instant, sleep};

use super::machine::Machine;
use super::quorate::Quorate;
use super::say;
use super::trio::Trio;
use crate::settings::args::{GrowthArgs, Pace};
use crowd::Kind;
use process::Usage;
pub use report::GrowthReport;
use report::Idle;

/// Measures everything that is asked for, each on members of its own.
pub async fn measure(args: &GrowthArgs) -> anyhow::Result<GrowthReport> {
    let folder = args.directory.clone().unwrap_or_else(tempfile::env::temp_dir);
    let mut report = GrowthReport::new(Machine::here(&folder));
    let is_wanted = |what: &str| what.contains(&args.only);
    if is_wanted("idle") {
        say(&format!("idle for {:?}", args.idle));
        let trio = start(args).await?;
        let idle = idle(&trio, args).await;
        trio.stop().await;
        report.idle = idle?;
    }
    for kind in Kind::ALL.into_iter().filter(|kind| is_wanted(kind.name())) {
        let trio = start(args).await?;
        let sizes = crowd::grow(&trio, kind, args).await.with_context(|| kind.name());
        trio.stop().await;
        report.results.extend(sizes?);
    }
    if is_wanted("snapshot") {
        let mut trio = start(args).await?;
        let full = full::measure(&mut trio, args).await.context("a full state");
        trio.stop().await;
        report.full = Some(full?);
    }
    Ok(report)
}

async fn start(args: &GrowthArgs) -> anyhow::Result<Trio> {
    let mut trio = Trio::quorate(args.directory.as_deref(), Pace::Default).await.context("Quorate does not start")?;
    trio.wait_until_it_serves::<Quorate>().await?;
    Ok(trio)
}

/// What each member takes while nobody asks anything.
async fn idle(trio: &Trio, args: &GrowthArgs) -> anyhow::Result<Vec<Idle>> {
    let pids = process::members(trio)?;
    let (before, began) = (Usage::of_all(&pids)?, Instant::now());
    sleep(args.idle).await;
    let (after, took) = (Usage::of_all(&pids)?, began.elapsed());
    let members = before.iter().zip(&after);
    Ok(members.map(|(before, after)| Idle::between(before, after, took)).collect())
}
