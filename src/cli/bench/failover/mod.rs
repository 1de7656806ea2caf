//! `quorate bench failover`: whoever leads is killed, stopped or paused, again and again, and a client at the other two says
//! how long it took until a write was acknowledged.
//!
//! Read next: `observer.rs` (what the client does), `contestant.rs` (how it asks each of them), `report.rs` (what is told).

mod contestant;
mod observer;
mod report;

use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::etcd::Etcd;
use super::quorate::Quorate;
use super::say;
use super::trio::{Pace, SIZE, Trio};
use crate::cli::Failure;
use crate::settings::args::{FailoverArgs, FailoverRival};
use contestant::Contestant;
use observer::observe;
use report::{FailoverReport, Fault, Series};

/// How long after all serve again the next leader is harmed: between these, so that no timer falls in step with the rounds.
const LEAST_REST: Duration = Duration::from_millis(700);
const MORE_REST: Duration = Duration::from_millis(37);

/// Different rests.
const RESTS: u32 = 17;

/// How long those that are left may take to find a leader before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets all of them fail in turns, so that whatever else the machine does meets all alike.
pub async fn measure(args: &FailoverArgs) -> Result<FailoverReport, Failure> {
    if args.against.contains(&FailoverRival::Lease) {
        let text = "a Lease needs a Kubernetes cluster with client-go, which this release does not start; leave lease out \
                    of --against; allowed: etcd";
        return Err(Failure::usage(anyhow!(text)));
    }
    let mut trios = start(args).await.map_err(Failure::failed)?;
    let measured = rounds(args, &mut trios).await;
    for (_, trio) in trios {
        trio.stop().await;
    }
    measured.map_err(Failure::failed)
}

/// Who is measured, under the name that the report has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Quorate,
    Etcd,
    EtcdTuned,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::Quorate => "Quorate",
            Self::Etcd => "etcd",
            Self::EtcdTuned => "etcd, tuned",
        }
    }
}

async fn start(args: &FailoverArgs) -> anyhow::Result<Vec<(Side, Trio)>> {
    let directory = args.directory.as_deref();
    let mut trios = vec![(Side::Quorate, Trio::quorate(directory).await.context("Quorate does not start")?)];
    if args.against.contains(&FailoverRival::Etcd) {
        for (side, pace) in [(Side::Etcd, Pace::Default), (Side::EtcdTuned, Pace::Tuned)] {
            match Trio::etcd(&args.etcd, directory, pace).await.context("etcd does not start (see --etcd)") {
                Ok(trio) => trios.push((side, trio)),
                Err(error) => {
                    for (_, trio) in trios {
                        trio.stop().await;
                    }
                    return Err(error);
                }
            }
        }
    }
    Ok(trios)
}

async fn rounds(args: &FailoverArgs, trios: &mut [(Side, Trio)]) -> anyhow::Result<FailoverReport> {
    let mut series: Vec<_> = Fault::ALL
        .into_iter()
        .flat_map(|fault| trios.iter().map(move |(side, _)| Series::new(fault, side.name())))
        .collect();
    for round in 0..args.rounds {
        say(&format!("round {} of {}", round + 1, args.rounds));
        let rest = LEAST_REST + MORE_REST * (u32::try_from(round).unwrap_or_default() % RESTS);
        for fault in Fault::ALL {
            for (side, trio) in &mut *trios {
                let took = match side {
                    Side::Quorate => harm::<Quorate>(trio, fault, rest).await,
                    Side::Etcd | Side::EtcdTuned => harm::<Etcd>(trio, fault, rest).await,
                };
                let took = took.with_context(|| format!("{}, {fault}", side.name()))?;
                series.iter_mut().filter(|series| series.is_of(fault, side.name())).for_each(|one| one.add(took));
            }
        }
    }
    Ok(FailoverReport::new(args.rounds, series))
}

/// Harms the leader once, says how long no write was acknowledged, and lets it come back.
async fn harm<C: Contestant>(trio: &mut Trio, fault: Fault, rest: Duration) -> anyhow::Result<Duration> {
    trio.wait_until_it_serves::<C>().await?;
    sleep(rest).await;
    let leader = leader::<C>(trio).await?;
    let others: Vec<_> = (0..SIZE).filter(|number| *number != leader).map(|number| trio.urls[number].clone()).collect();
    let observed = observe::<C>(&others, PATIENCE, || {
        trio.signal(
            leader,
            match fault {
                Fault::Kill => Signal::KILL,
                Fault::Stop => Signal::TERM,
                Fault::Pause => Signal::STOP,
            },
        );
    });
    let took = observed.await;
    match fault {
        Fault::Kill | Fault::Stop => trio.restart(leader).await?,
        Fault::Pause => trio.signal(leader, Signal::CONT),
    }
    took
}

/// The one that leads, once there is one.
async fn leader<C: Contestant>(trio: &Trio) -> anyhow::Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(leader) = contestant::leader::<C>(&trio.urls).await {
            return Ok(leader);
        }
        anyhow::ensure!(Instant::now() < deadline, "nobody leads");
        sleep(Duration::from_millis(20)).await;
    }
}
