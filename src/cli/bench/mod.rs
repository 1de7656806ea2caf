//! `quorate bench`: what Quorate does in a second, beside a peer that does the same on the same disk in the same run.
//!
//! Read next: `workload.rs` (what clients do), `peer.rs` (what that takes of a peer), `quorate.rs` and `etcd.rs` (how each
//! of them does it), `floor.rs` (what the machine itself takes), `expiry.rs` (sessions that end together), `failover/` (a leader
//! that is harmed), `trio.rs` (three processes on loopback), `figures.rs` (how results are told).

mod etcd;
mod expiry;
mod failover;
mod figures;
mod floor;
mod peer;
mod quorate;
mod trio;
mod workload;

use std::time::Duration;

use anyhow::Context;

use super::Failure;
use super::output::print;
use crate::settings::args::{BenchCommand, LoadArgs, Rival};
use etcd::Etcd;
use figures::{Comparison, Report};
use quorate::Quorate;
use trio::{Pace, Trio};
use workload::Workload;

/// Runs a benchmark and prints what came of it.
pub async fn run(command: BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Load(args) => {
            let report = load(&args).await.map_err(Failure::failed)?;
            print(args.output, &report, Report::to_string)?;
        }
        BenchCommand::Expiry(args) => {
            let report = expiry::measure(&args).await.map_err(Failure::failed)?;
            print(args.output, &report, ToString::to_string)?;
        }
        BenchCommand::Failover(args) => {
            let report = failover::measure(&args).await?;
            print(args.output, &report, ToString::to_string)?;
        }
    }
    Ok(())
}

async fn load(args: &LoadArgs) -> anyhow::Result<Report> {
    let quorate = Trio::quorate(args.directory.as_deref()).await.context("Quorate does not start")?;
    let report = beside(args, &quorate).await;
    quorate.stop().await;
    report
}

async fn beside(args: &LoadArgs, quorate: &Trio) -> anyhow::Result<Report> {
    let etcd = match args.against {
        Some(Rival::Etcd) => {
            let etcd = Trio::etcd(&args.etcd, args.directory.as_deref(), Pace::Default).await;
            Some(etcd.context("etcd does not start (see --etcd)")?)
        }
        None => None,
    };
    let measured = async {
        let floor = floor::measure(quorate.folder(), args.duration).await?;
        anyhow::Ok((floor, compare(args, quorate, etcd.as_ref()).await?))
    };
    let measured = measured.await;
    if let Some(etcd) = etcd {
        etcd.stop().await;
    }
    let (floor, comparisons) = measured?;
    Ok(Report::new(args, floor, comparisons))
}

/// Lets both do everything in turns, so that whatever else the machine does meets both alike.
async fn compare(args: &LoadArgs, quorate: &Trio, etcd: Option<&Trio>) -> anyhow::Result<Vec<Comparison>> {
    let mut comparisons = Vec::new();
    for workload in Workload::ALL.into_iter().filter(|workload| workload.to_string().contains(&args.only)) {
        let mut comparison = Comparison::of(workload);
        for round in 0..args.rounds {
            say(&format!("{workload}, round {} of {}", round + 1, args.rounds));
            comparison.quorate.push(workload.run::<Quorate>(&quorate.urls, round, args.duration).await?);
            tokio::time::sleep(REST).await;
            if let Some(etcd) = etcd {
                comparison.etcd.push(workload.run::<Etcd>(&etcd.urls, round, args.duration).await?);
                tokio::time::sleep(REST).await;
            }
        }
        comparisons.push(comparison);
    }
    Ok(comparisons)
}

#[expect(clippy::print_stderr, reason = "standard output is for the results")]
fn say(text: &str) {
    eprintln!("quorate: {text}");
}

/// Between two rounds, so that what one has left to write does not burden the next.
const REST: Duration = Duration::from_millis(300);
