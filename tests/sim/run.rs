//! One run: everything that happens follows from its seed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft_rt::AsyncRuntime;
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use quorate::coordinator::{Consistency, Read, Write};
use quorate::machine::command::KeyCondition;
use quorate::types::Key;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::{Builder, RngSeed};
use tokio::time::{Instant, sleep};

use crate::candidate::Candidate;
use crate::client::{Client, do_duties};
use crate::cluster::{Begins, Cluster, Running};
use crate::counts::Counts;
use crate::growth::resize;
use crate::life::Life;
use crate::nemesis::Nemesis;
use crate::network::MessageCounts;
use crate::support::linearizability::{self, Verdict};
use crate::support::revisions;
use crate::trace::Trace;
use crate::violation::{Check, Violation};

const CLIENTS: usize = 4;
const CANDIDATES: usize = 5;

/// How long things fail, and how long the cluster may take to serve again afterwards.
const RAGE: Duration = Duration::from_secs(6);
const RECOVERY: Duration = Duration::from_secs(30);

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    pub trace: u64,
    pub counts: Counts,
    pub messages: MessageCounts,
    pub violations: Vec<Violation>,
}

/// Runs a seed to its end; with `print`, shows everything that happens.
pub fn run(seed: u64, print: bool) -> Report {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
        .build()
        .expect("a runtime without I/O needs nothing");
    runtime.block_on(DeterministicRng::<TokioRuntime>::scope(seed, simulate(seed, print)))
}

async fn simulate(seed: u64, print: bool) -> Report {
    let mut rng = SmallRng::seed_from_u64(seed);
    let trace = Trace::new(print);
    let cluster = Cluster::new(&mut rng, &trace);
    for member in 0..cluster.scale() {
        cluster.boot(member);
    }
    if cluster.begins() == Begins::Alone {
        let resizing = resize(Arc::clone(&cluster), Instant::now() + RAGE, SmallRng::from_rng(&mut rng));
        drop(DeterministicRng::<TokioRuntime>::spawn(resizing));
    }
    if rng.random_bool(0.7) {
        // In the other runs the cluster is founded under fire.
        sleep(Duration::from_secs(2)).await;
    }
    let working = Life::default();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (client, working) = (Client::new(number, &cluster, SmallRng::from_rng(&mut rng)), working.clone());
            DeterministicRng::<TokioRuntime>::spawn(async move { working.outlives(client.work()).await })
        })
        .collect();
    let candidates: Vec<_> = (0..CANDIDATES)
        .map(|number| {
            let candidate = Candidate::new(number, &cluster, SmallRng::from_rng(&mut rng));
            let working = working.clone();
            DeterministicRng::<TokioRuntime>::spawn(async move { working.outlives(candidate.campaign_on()).await })
        })
        .collect();
    let (duties, still_working) = (do_duties(Arc::clone(&cluster), SmallRng::from_rng(&mut rng)), working.clone());
    let duties = DeterministicRng::<TokioRuntime>::spawn(async move { still_working.outlives(duties).await });
    let mut nemesis = Nemesis::new(&cluster, SmallRng::from_rng(&mut rng));
    nemesis.rage(Instant::now() + RAGE).await;
    nemesis.make_peace();
    sleep(Duration::from_millis(500)).await;
    working.end();
    for task in clients.into_iter().chain(candidates).chain([duties]) {
        task.await.expect("a client never panics");
    }
    settle(&cluster).await;
    if print {
        let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        println!("{alive} tasks are alive at the end");
    }
    judge(&cluster);
    report(&cluster)
}

/// Waits until every member serves writes and reads and all have applied the same.
async fn settle(cluster: &Cluster) {
    let deadline = Instant::now() + RECOVERY;
    for member in 0..cluster.size() {
        while !serves(cluster, member).await {
            if Instant::now() > deadline {
                let phase = cluster.running(member).map(|running| running.raft.status().phase.clone());
                let text = format!("member {member} does not serve {RECOVERY:?} after peace: {phase:?}");
                return cluster.violations.add(Check::Liveness, text);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
    while !cluster.is_whole() {
        if Instant::now() > deadline {
            let status = |running: &Running| {
                let status = running.raft.status();
                (status.member, status.voters.keys().copied().collect::<Vec<_>>(), status.membership)
            };
            let seen: Vec<_> = cluster.all_running().iter().map(status).collect();
            return cluster
                .violations
                .add(Check::Liveness, format!("the membership is {seen:?} {RECOVERY:?} after peace"));
        }
        sleep(Duration::from_millis(20)).await;
    }
    while !have_applied_the_same(&cluster.all_running()) {
        if Instant::now() > deadline {
            let applied: Vec<_> =
                cluster.all_running().iter().map(|running| running.coordinator.state().applied()).collect();
            let text = format!("the members have applied up to {applied:?} {RECOVERY:?} after peace");
            return cluster.violations.add(Check::Liveness, text);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn serves(cluster: &Cluster, member: usize) -> bool {
    let Some(Running { coordinator, life, .. }) = cluster.running(member) else { return false };
    let deadline = Instant::now() + Duration::from_secs(1);
    let key = Key::new("peace").expect("a short name");
    let write = Write { key: None, deadline };
    let read = Read { consistency: Consistency::Linearizable, min_revision: None, deadline };
    let (value, session) = (Bytes::copy_from_slice(&cluster.next_value().to_be_bytes()), None);
    let served = async {
        let put = coordinator.put_key(key, value, session, KeyCondition::Always, write).await;
        put.is_ok() && coordinator.read(read).await.is_ok()
    };
    life.outlives(served).await.unwrap_or(false)
}

fn have_applied_the_same(running: &[Running]) -> bool {
    let mut applied = running.iter().map(|running| running.coordinator.state().applied());
    let first = applied.next();
    applied.all(|other| Some(other) == first)
}

/// Holds everything that was written down against the rules.
fn judge(cluster: &Cluster) {
    let operations = cluster.recorder.operations();
    match linearizability::check(&operations) {
        Verdict::Linearizable => {}
        Verdict::Violation(text) => cluster.violations.add(Check::Linearizable, text),
        Verdict::Undecided => cluster.violations.add(Check::Linearizable, "the search did not come to an end"),
    }
    if let Err(text) = revisions::check(&operations) {
        cluster.violations.add(Check::RevisionOrder, text);
    }
    for running in cluster.all_running() {
        let state = running.coordinator.state();
        cluster.ledger.show(running.number, &state);
        if let Err(violation) = state.check() {
            cluster.violations.add(Check::Invariants, format!("member {}: {violation}", running.number));
        }
    }
    cluster.ledger.judge(&operations);
    cluster.reigns.judge(&cluster.violations);
}

fn report(cluster: &Cluster) -> Report {
    let operations = cluster.recorder.operations();
    for operation in &operations {
        cluster.trace.note(format_args!("{operation:?}"));
    }
    cluster.count_all_failovers();
    let mut counts = cluster.counts();
    counts.operations = operations.len() as u64;
    counts.unknown_operations = operations.iter().filter(|operation| operation.returned.is_none()).count() as u64;
    counts.reigns = cluster.reigns.count();
    counts.founded_alone = u64::from(cluster.begins() == Begins::Alone);
    counts.ids_given_later = cluster.ids_given().saturating_sub(cluster.size() as u64);
    counts.registry_errors = cluster.registry().errors();
    counts.events = cluster.trace.events();
    cluster.ledger.count(&mut counts);
    Report {
        trace: cluster.trace.hash(),
        counts,
        messages: cluster.wires.counts(),
        violations: cluster.violations.list(),
    }
}
