//! `quorate bench load`: what clients get done in a second, beside a peer.

use std::time::Duration;

use anyhow::Context;

use super::etcd::Etcd;
use super::figures::{Comparison, Report};
use super::machine::Machine;
use super::quorate::Quorate;
use super::trio::Trio;
use super::workload::Workload;
use super::{floor, say};
use crate::settings::args::{LoadArgs, Rival};

/// Between two rounds, so that what one has left to write does not burden the next.
const REST: Duration = Duration::from_millis(300);

pub async fn measure(args: &LoadArgs) -> anyhow::Result<Report> {
    let quorate = Trio::quorate(args.directory.as_deref(), args.pace).await.context("Quorate does not start")?;
    let report = beside(args, &quorate).await;
    quorate.stop().await;
    report
}

async fn beside(args: &LoadArgs, quorate: &Trio) -> anyhow::Result<Report> {
    let etcd = match args.against {
        Some(Rival::Etcd) => {
            let etcd = Trio::etcd(&args.etcd, args.directory.as_deref(), args.pace).await;
            Some(etcd.context("etcd does not start (see --etcd)")?)
        }
        None => None,
    };
    let measured = async {
        let machine = Machine::here(quorate.folder()).with_etcd(etcd.as_ref().map(|_| args.etcd.as_path())).await?;
        let floor = floor::measure(quorate.folder(), args.duration).await?;
        anyhow::Ok((machine, floor, compare(args, quorate, etcd.as_ref()).await?))
    };
    let measured = measured.await;
    if let Some(etcd) = etcd {
        etcd.stop().await;
    }
    let (machine, floor, comparisons) = measured?;
    Ok(Report::new(args, machine, floor, comparisons))
}

/// Lets both do everything in turns, so that whatever else the machine does meets both alike.
async fn compare(args: &LoadArgs, quorate: &Trio, etcd: Option<&Trio>) -> anyhow::Result<Vec<Comparison>> {
    let mut comparisons = Vec::new();
    for workload in Workload::all().into_iter().filter(|workload| workload.to_string().contains(&args.only)) {
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
