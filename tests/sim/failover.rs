//! How long a cluster is without a Raft leader, in the simulator's time: no clock of the machine is asked, so it can be a gate.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use quorate::coordinator::Write;
use quorate::machine::command::KeyCondition;
use quorate::raft::RaftRole;
use quorate::types::Key;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::runtime::{Builder, RngSeed};
use tokio::time::{Instant, sleep};

use crate::cluster::{Begins, Cluster, Loss, Running, name};
use crate::evidence::Deceit;
use crate::network::Weather;
use crate::support::effort::Effort;
use crate::trace::Trace;

/// Until a write is acknowledged, usually: about fourteen steps from one end of a wire or a disk to the other, each of which
/// takes one or two milliseconds, since that is how finely the simulator's time is divided.
const USUALLY: Duration = Duration::from_millis(40);

/// And in 99 of 100 seeds: a sync that stalls in between is in it, and an election timeout with its lease (450 to 600 ms) is not.
const NEARLY_ALWAYS: Duration = Duration::from_millis(300);

#[test]
fn after_a_crash_of_the_raft_leader_another_one_soon_acknowledges_writes() {
    let seeds = Effort::from_environment().pick(100, 500);
    let mut pauses: Vec<_> = (0..seeds).filter_map(|seed| run(seed, crash)).collect();
    pauses.sort();
    let at = |percent: usize| pauses[(pauses.len() - 1) * percent / 100];
    println!("{} crashes: p50 {:?}, p90 {:?}, p99 {:?}, longest {:?}", pauses.len(), at(50), at(90), at(99), at(100));
    assert!(at(50) <= USUALLY, "half of them take {:?}, which is more than {USUALLY:?}", at(50));
    assert!(at(99) <= NEARLY_ALWAYS, "one of a hundred takes {:?}, which is more than {NEARLY_ALWAYS:?}", at(99));
}

#[test]
fn a_living_raft_leader_that_all_call_dead_costs_an_election_and_nothing_else() {
    let deposed = (0..40).filter(|seed| run(*seed, calumny).is_some()).count();
    assert!(deposed > 30, "in {deposed} of 40 seeds only was a living leader deposed, so little was proved");
}

/// Runs what happens to a cluster, from a seed.
fn run<F>(seed: u64, story: impl FnOnce(Arc<Cluster>) -> F) -> Option<Duration>
where
    F: Future<Output = Option<Duration>>,
{
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
        .build()
        .expect("a runtime without I/O needs nothing");
    let told = async {
        let mut rng = SmallRng::seed_from_u64(seed);
        let cluster = Cluster::new_that(&mut rng, &Trace::new(false), Begins::Together);
        cluster.wires.set_weather(Weather::FAIR);
        (0..cluster.size()).for_each(|member| cluster.boot(member));
        while !cluster.is_whole() || leader(&cluster).is_none() {
            sleep(Duration::from_millis(10)).await;
        }
        put(&cluster, "before").await;
        // So that everybody has a connection to everybody.
        sleep(Duration::from_secs(1)).await;
        let pause = story(Arc::clone(&cluster)).await;
        assert!(cluster.violations.list().is_empty(), "seed {seed}: {:?}", cluster.violations.list());
        pause
    };
    runtime.block_on(DeterministicRng::<TokioRuntime>::scope(seed, told))
}

fn leader(cluster: &Cluster) -> Option<Running> {
    cluster.all_running().into_iter().find(|member| member.raft.own_leadership().is_some())
}

/// Writes through whichever member takes it, and says how long that took from the call on.
async fn put(cluster: &Cluster, key: &str) -> Duration {
    let began = Instant::now();
    loop {
        for Running { coordinator, life, .. } in cluster.all_running() {
            let write = Write { key: None, deadline: Instant::now() + Duration::from_secs(1) };
            let (key, value) = (Key::new(key).expect("a short name"), Bytes::from_static(b"value"));
            let putting = coordinator.put_key(key, value, None, KeyCondition::Always, write);
            if let Some(Ok(_)) = life.outlives(putting).await {
                return began.elapsed();
            }
        }
        sleep(Duration::from_millis(1)).await;
    }
}

async fn crash(cluster: Arc<Cluster>) -> Option<Duration> {
    let leader = leader(&cluster)?;
    cluster.end(leader.number, Loss::Process);
    let pause = put(&cluster, "after").await;
    let found = cluster.all_running().into_iter().all(|member| holds(&member, "before"));
    assert!(found, "what was acknowledged before the crash is gone");
    Some(pause)
}

/// Whether a living leader was deposed, and how long there was none.
async fn calumny(cluster: Arc<Cluster>) -> Option<Duration> {
    let accused = leader(&cluster)?;
    let term = accused.raft.status().term;
    cluster.wires.deceive(Deceit { lies: 1.0, ..Deceit::default() });
    cluster.wires.break_connections(&name(accused.number));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) && accused.raft.status().role == RaftRole::Leader {
        sleep(Duration::from_millis(1)).await;
    }
    let deposed = accused.raft.status().role != RaftRole::Leader;
    let pause = put(&cluster, "after").await;
    sleep(Duration::from_secs(1)).await;
    assert!(cluster.all_running().iter().all(|member| holds(member, "before") && holds(member, "after")));
    assert!(!deposed || accused.raft.status().term > term, "a new leader has a newer term");
    deposed.then_some(pause)
}

fn holds(member: &Running, key: &str) -> bool {
    member.raft.state().keys().get(&Key::new(key).expect("a short name")).is_some()
}
