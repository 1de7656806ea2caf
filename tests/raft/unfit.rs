//! Members whose pods are ending, or whose nodes take no pods any more, and who leads instead of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate::raft::{Fitness, Phase, RaftRole};
use quorate::settings::{FastFailover, Timing};
use tokio::time::{Instant, timeout};

use crate::cluster::{Cluster, PATIENCE, put, soon, value};

/// The last has the greatest id, and so is everybody's choice where all have the same log.
const NAMES: [&str; 3] = ["a", "b", "c"];
const BEST_PLACED: &str = "c";

/// Short, so that an election by timeouts does not take long.
const SHORT: Timing = Timing {
    heartbeat: Duration::from_millis(50),
    election_min: Duration::from_millis(200),
    election_max: Duration::from_millis(400),
    fast_failover: FastFailover::Off,
};

async fn founded(timing: Timing) -> Cluster {
    let mut cluster = Cluster::new(&NAMES).await;
    cluster.timing = timing;
    for text in NAMES {
        cluster.start(text).await;
    }
    cluster.leader().await;
    cluster
}

/// Leadership goes from a member to one of the others.
async fn take_from(cluster: &Cluster, unfit: &str) {
    while cluster.leader().await == unfit {
        cluster.raft(unfit).transfer(None, soon()).await.unwrap();
    }
}

/// Whether a member has led since this was asked for.
fn has_led(cluster: &Cluster, text: &str) -> Arc<AtomicBool> {
    let (led, mut changes) = (Arc::new(AtomicBool::new(false)), cluster.raft(text).status_changes());
    let seen = Arc::clone(&led);
    #[expect(clippy::disallowed_methods, reason = "it ends with the cluster that it watches")]
    tokio::spawn(async move {
        while changes.wait_for(|status| status.role == RaftRole::Leader).await.is_ok() {
            seen.store(true, Ordering::Release);
            if changes.changed().await.is_err() {
                return;
            }
        }
    });
    led
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfit_member_never_leads_while_another_can_however_often_the_raft_leader_crashes() {
    for (timing, crashes) in [(Timing::default(), 20), (SHORT, 5)] {
        let mut cluster = founded(timing).await;
        take_from(&cluster, BEST_PLACED).await;
        cluster.raft(BEST_PLACED).set_fitness(Fitness::Unfit);
        leads_after_no_crash(&mut cluster, BEST_PLACED, crashes).await;

        // And fit again, it leads again. A transfer may come to nothing while a member that has just started announces itself.
        cluster.raft(BEST_PLACED).set_fitness(Fitness::Fit);
        let own = cluster.raft(BEST_PLACED).status().member;
        let given = async {
            while cluster.leader().await != BEST_PLACED {
                drop(cluster.raft(BEST_PLACED).transfer(own, soon()).await);
            }
        };
        timeout(PATIENCE, given).await.expect("it is given leadership");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_about_to_stop_never_leads_however_often_the_raft_leader_crashes() {
    for (timing, crashes) in [(Timing::default(), 10), (SHORT, 5)] {
        let mut cluster = founded(timing).await;
        take_from(&cluster, BEST_PLACED).await;
        cluster.raft(BEST_PLACED).stand_back();
        leads_after_no_crash(&mut cluster, BEST_PLACED, crashes).await;
    }
}

/// Crashes the Raft leader so many times; a member never leads, although it has everything.
async fn leads_after_no_crash(cluster: &mut Cluster, unfit: &str, crashes: usize) {
    let led = has_led(cluster, unfit);
    for crash in 0..crashes {
        let (leader, key) = (cluster.leader().await, format!("before-{crash}"));
        cluster.raft(&leader).propose(put(&key, "1"), soon()).await.unwrap();
        // Every member has it, so that each of them can lead.
        for member in cluster.members.values() {
            member.raft.read(soon()).await.unwrap();
        }
        cluster.crash(&leader);
        let next = cluster.leader().await;
        assert_ne!(next, unfit, "after crash {crash}");
        let state = cluster.raft(&next).read(soon()).await.unwrap();
        assert_eq!(value(&state, &key).as_deref(), Some("1"), "what was acknowledged is there");
        cluster.start(&leader).await;
        cluster.status(&leader, |status| status.phase == Phase::Running).await;
    }
    assert!(!led.load(Ordering::Acquire), "it has led in between");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_are_unfit_one_of_them_leads_all_the_same() {
    for timing in [Timing::default(), SHORT] {
        let mut cluster = founded(timing).await;
        for member in cluster.members.values() {
            member.raft.set_fitness(Fitness::Unfit);
        }
        let leader = cluster.leader().await;
        cluster.raft(&leader).propose(put("k", "1"), soon()).await.unwrap();
        cluster.crash(&leader);
        let began = Instant::now();
        let next = cluster.leader().await;
        println!(
            "{next} leads {:.1?} after {leader} has crashed, fast fail-over {:?}",
            began.elapsed(),
            timing.fast_failover
        );
        let state = cluster.raft(&next).read(soon()).await.unwrap();
        assert_eq!(value(&state, "k").as_deref(), Some("1"), "what was acknowledged is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_left_alone_with_an_unfit_one_that_has_more_of_the_log_does_not_keep_it_from_leading() {
    let mut cluster = founded(SHORT).await;
    take_from(&cluster, BEST_PLACED).await;
    let leader = cluster.leader().await;
    let other = NAMES.into_iter().find(|name| *name != leader && *name != BEST_PLACED).unwrap();
    cluster.raft(BEST_PLACED).set_fitness(Fitness::Unfit);
    // It misses what the two that are left acknowledge.
    cluster.crash(other);
    cluster.raft(&leader).propose(put("k", "1"), soon()).await.unwrap();
    cluster.raft(BEST_PLACED).read(soon()).await.unwrap();
    cluster.crash(&leader);
    cluster.start(other).await;
    assert_eq!(cluster.leader().await, BEST_PLACED, "nobody else has what was acknowledged");
    let state = cluster.raft(other).read(soon()).await.unwrap();
    assert_eq!(value(&state, "k").as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raft_leader_that_stops_hands_over_to_a_fit_member() {
    for _ in 0..3 {
        let cluster = founded(Timing::default()).await;
        take_from(&cluster, BEST_PLACED).await;
        cluster.raft(BEST_PLACED).set_fitness(Fitness::Unfit);
        let led = has_led(&cluster, BEST_PLACED);
        let leader = cluster.leader().await;
        cluster.raft(&leader).shutdown(soon()).await;
        let wanted = NAMES.into_iter().find(|name| *name != leader && *name != BEST_PLACED).unwrap();
        let leads = cluster.status(wanted, |status| status.role == RaftRole::Leader);
        timeout(PATIENCE, leads).await.unwrap();
        assert!(!led.load(Ordering::Acquire), "the unfit member has led");
    }
}
