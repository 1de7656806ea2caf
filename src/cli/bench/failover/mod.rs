//! `quorate bench failover`: whoever leads is killed, stopped, paused or told to hand over, again and again, and a client at the
//! other two says how long it took until a write was acknowledged; and whoever holds an election goes, and the next candidate says
//! when it was granted.
//!
//! Read next: `observer.rs` (what the client does), `contestant.rs` (how it asks each of them), `load.rs` (who else writes
//! meanwhile), `candidates.rs` (elections), `lease.rs` (candidates for a Kubernetes Lease), `report.rs` (what is told).

mod candidates;
mod contestant;
mod lease;
mod load;
mod observer;
mod report;

use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::etcd::Etcd;
use super::machine::Machine;
use super::quorate::Quorate;
use super::say;
use super::trio::{SIZE, Trio};
use crate::settings::args::{FailoverArgs, FailoverRival, Pace};
use candidates::{Candidates, hand_on};
use contestant::Contestant;
use lease::Lease;
use load::Load;
use observer::observe;
pub use report::{FailoverReport, Fault, Series};

/// How long after all serve again the next leader is harmed: between these, so that no timer falls in step with the rounds.
const LEAST_REST: Duration = Duration::from_millis(700);
const MORE_REST: Duration = Duration::from_millis(37);

/// Different rests.
const RESTS: u32 = 17;

/// How long those that are left may take to find a leader before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets all of them fail in turns, so that whatever else the machine does meets all alike.
pub async fn measure(args: &FailoverArgs) -> anyhow::Result<FailoverReport> {
    let mut sides = Vec::new();
    let measured = async {
        start(args, &mut sides).await?;
        rounds(args, &mut sides).await
    };
    let measured = measured.await;
    for side in sides {
        side.stop().await;
    }
    measured
}

/// Who is measured.
enum Side {
    Quorate(Trio),
    Etcd(Trio),
    EtcdTuned(Trio),
    Lease(Box<Lease>),
}

impl Side {
    /// What the report calls it.
    const fn name(&self) -> &'static str {
        match self {
            Self::Quorate(_) => "Quorate",
            Self::Etcd(_) => "etcd",
            Self::EtcdTuned(_) => "etcd, tuned",
            Self::Lease(_) => "Lease",
        }
    }

    /// Whether that can be done to it, and tells something: a Lease has no leader behind it, and one that is silent is as good as
    /// killed; what etcd's own leader is tuned to makes no difference to the holder of an election.
    const fn suffers(&self, fault: Fault) -> bool {
        match fault {
            Fault::Kill | Fault::Stop | Fault::Pause | Fault::Transfer | Fault::KillUnderLoad => {
                !matches!(self, Self::Lease(_))
            }
            Fault::HolderKilled | Fault::HolderReleased => !matches!(self, Self::EtcdTuned(_)),
            Fault::HolderExpired => matches!(self, Self::Quorate(_) | Self::Etcd(_)),
        }
    }

    async fn suffer(&mut self, fault: Fault, turn: &Turn) -> anyhow::Result<Duration> {
        match self {
            Self::Quorate(trio) => harm::<Quorate>(trio, fault, turn).await,
            Self::Etcd(trio) | Self::EtcdTuned(trio) => harm::<Etcd>(trio, fault, turn).await,
            Self::Lease(lease) => lease.hand_on(fault, turn.rest).await,
        }
    }

    async fn stop(self) {
        match self {
            Self::Quorate(trio) | Self::Etcd(trio) | Self::EtcdTuned(trio) => trio.stop().await,
            Self::Lease(lease) => lease.stop().await,
        }
    }
}

/// Starts all sides; what has been started when one of them fails is in `sides`.
async fn start(args: &FailoverArgs, sides: &mut Vec<Side>) -> anyhow::Result<()> {
    let directory = args.directory.as_deref();
    let quorate = Trio::quorate(directory, Pace::Default).await.context("Quorate does not start")?;
    sides.push(Side::Quorate(quorate));
    if args.against.contains(&FailoverRival::Etcd) {
        let etcd =
            async |pace| Trio::etcd(&args.etcd, directory, pace).await.context("etcd does not start (see --etcd)");
        sides.push(Side::Etcd(etcd(Pace::Default).await?));
        sides.push(Side::EtcdTuned(etcd(Pace::Tuned).await?));
    }
    if args.against.contains(&FailoverRival::Lease) {
        let kubeconfig = args.kubeconfig.as_deref().context("--kubeconfig is missing")?;
        let lease = Lease::start(&args.lease_program, kubeconfig).await;
        let lease = lease.context("the Lease has no holder (see --lease-program and --kubeconfig)")?;
        sides.push(Side::Lease(Box::new(lease)));
    }
    Ok(())
}

/// What a round is like.
struct Turn {
    round: usize,
    rest: Duration,
    writers: usize,
}

async fn rounds(args: &FailoverArgs, sides: &mut [Side]) -> anyhow::Result<FailoverReport> {
    let faults: Vec<_> = Fault::ALL.into_iter().filter(|fault| is_wanted(args, *fault)).collect();
    let mut series = Vec::new();
    for fault in &faults {
        series.extend(sides.iter().filter(|side| side.suffers(*fault)).map(|side| Series::new(*fault, side.name())));
    }
    for round in 0..args.rounds {
        say(&format!("round {} of {}", round + 1, args.rounds));
        let rest = LEAST_REST + MORE_REST * (u32::try_from(round).unwrap_or_default() % RESTS);
        let (turn, mut all) = (Turn { round, rest, writers: args.writers }, series.iter_mut());
        for fault in &faults {
            for side in sides.iter_mut().filter(|side| side.suffers(*fault)) {
                let name = side.name();
                let took = side.suffer(*fault, &turn).await.with_context(|| format!("{name}, {fault}"))?;
                all.next().context("each side has a series for each harm")?.add(took);
            }
        }
    }
    let folder = args.directory.clone().unwrap_or_else(tempfile::env::temp_dir);
    let etcd = args.against.contains(&FailoverRival::Etcd).then_some(args.etcd.as_path());
    let machine = Machine::here(&folder).with_etcd(etcd).await?;
    Ok(FailoverReport::new(machine, args.rounds, args.writers, series))
}

fn is_wanted(args: &FailoverArgs, fault: Fault) -> bool {
    let text = fault.to_string();
    text.contains(&args.only) && !args.skip.as_ref().is_some_and(|skipped| text.contains(skipped))
}

/// Harms whoever leads once, says how long nobody did, and lets it come back.
async fn harm<C: Candidates>(trio: &mut Trio, fault: Fault, turn: &Turn) -> anyhow::Result<Duration> {
    trio.wait_until_it_serves::<C>().await?;
    sleep(turn.rest).await;
    match fault {
        Fault::Kill => end::<C>(trio, Signal::KILL).await,
        Fault::Stop => end::<C>(trio, Signal::TERM).await,
        Fault::Pause => pause::<C>(trio).await,
        Fault::Transfer => transfer::<C>(trio).await,
        Fault::KillUnderLoad => {
            let leader = leader::<C>(trio).await?;
            let load = Load::start::<C>(&others(trio, leader), turn.writers).await?;
            let took = end::<C>(trio, Signal::KILL).await;
            drop(load);
            took
        }
        Fault::HolderKilled | Fault::HolderReleased | Fault::HolderExpired => {
            hand_on::<C>(&trio.urls, fault, turn.round).await
        }
    }
}

/// Sends a signal to the leader that ends it, and starts it again.
async fn end<C: Contestant>(trio: &mut Trio, signal: Signal) -> anyhow::Result<Duration> {
    let leader = leader::<C>(trio).await?;
    let took = observe::<C>(&others(trio, leader), PATIENCE, async || {
        trio.signal(leader, signal);
        Ok(())
    })
    .await;
    trio.restart(leader).await?;
    took
}

async fn pause<C: Contestant>(trio: &Trio) -> anyhow::Result<Duration> {
    let leader = leader::<C>(trio).await?;
    let took = observe::<C>(&others(trio, leader), PATIENCE, async || {
        trio.signal(leader, Signal::STOP);
        Ok(())
    })
    .await;
    trio.signal(leader, Signal::CONT);
    took
}

async fn transfer<C: Contestant>(trio: &Trio) -> anyhow::Result<Duration> {
    let leader = leader::<C>(trio).await?;
    let others = others(trio, leader);
    observe::<C>(&others, PATIENCE, async || C::hand_over(&trio.urls[leader], &others[0]).await).await
}

/// Where clients reach those that do not lead.
fn others(trio: &Trio, leader: usize) -> Vec<String> {
    (0..SIZE).filter(|number| *number != leader).map(|number| trio.urls[number].clone()).collect()
}

/// The one that leads, once there is one.
async fn leader<C: Contestant>(trio: &Trio) -> anyhow::Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(leader) = contestant::leader::<C>(&trio.urls).await {
            return Ok(leader);
        }
        if Instant::now() > deadline {
            bail!("nobody leads");
        }
        sleep(Duration::from_millis(20)).await;
    }
}
