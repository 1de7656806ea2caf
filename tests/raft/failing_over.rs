//! What happens when the Raft leader's process is gone, or only seems to be.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate::settings::{FastFailover, Timing};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::cluster::{Cluster, name, put, soon, value, wait_for};
use crate::proxy::Proxy;

/// So long that an election after it is not taken for a fail-over, and short enough for a first election that fails.
const LONG: Timing = Timing {
    heartbeat: Duration::from_millis(100),
    election_min: Duration::from_secs(2),
    election_max: Duration::from_secs(3),
    fast_failover: FastFailover::On,
};

const SUSPICIONS: &str = "quorate_raft_suspicions_total";
const CHANGES: &str = "quorate_raft_leader_changes_total";

async fn founded(names: &[&str], timing: Timing) -> Cluster {
    let mut cluster = Cluster::new(names).await;
    cluster.timing = timing;
    for text in names {
        cluster.start(text).await;
    }
    cluster.leader().await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_raft_leader_is_replaced_without_an_election_timeout() {
    for names in [&["a", "b", "c"][..], &["a", "b", "c", "d", "e"]] {
        let mut cluster = founded(names, LONG).await;
        // As many as may fail, one after the other.
        for crash in 0..names.len() / 2 {
            let (leader, key) = (cluster.leader().await, format!("before-{crash}"));
            cluster.raft(&leader).propose(put(&key, "1"), soon()).await.unwrap();
            cluster.crash(&leader);
            let next = cluster.leader().await;
            let state = cluster.raft(&next).read(soon()).await.unwrap();
            assert_eq!(value(&state, &key).as_deref(), Some("1"), "what was acknowledged is there");
            let causes: Vec<_> =
                cluster.members.keys().map(|member| cluster.labelled(member, CHANGES, "process-gone")).collect();
            assert!(causes.iter().any(|count| *count >= 1.0), "{causes:?}");
            assert!(cluster.members.keys().all(|member| cluster.labelled(member, CHANGES, "election") == 0.0));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_off_a_crash_is_noticed_by_an_election_timeout() {
    let timing = Timing { fast_failover: FastFailover::Off, ..Timing::default() };
    let mut cluster = founded(&["a", "b", "c"], timing).await;
    let leader = cluster.leader().await;
    cluster.crash(&leader);
    cluster.leader().await;
    for member in cluster.members.keys() {
        for outcome in ["gone", "alive", "unsure", "proxied", "outvoted", "superseded"] {
            assert_eq!(cluster.labelled(member, SUSPICIONS, outcome), 0.0, "{member} {outcome}");
        }
        assert_eq!(cluster.labelled(member, CHANGES, "election"), 1.0, "{member}");
    }
}

/// Three members, each behind a proxy.
async fn proxied(timing: Timing) -> (Cluster, BTreeMap<String, Proxy>) {
    let names = ["a", "b", "c"];
    let mut cluster = Cluster::new(&names).await;
    cluster.timing = timing;
    let (mut proxies, mut kept) = (BTreeMap::new(), Vec::new());
    for text in names {
        // Bound and given back, so that the port is free when the member takes it.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behind = listener.local_addr().unwrap().to_string();
        kept.push(listener);
        let proxy = Proxy::start(behind.clone()).await;
        cluster.addresses.insert(name(text), proxy.address.clone());
        cluster.behind.insert(name(text), behind);
        proxies.insert(text.to_owned(), proxy);
    }
    drop(kept);
    for text in names {
        cluster.start(text).await;
    }
    cluster.leader().await;
    (cluster, proxies)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_while_the_raft_leader_lives_changes_nothing() {
    let (cluster, proxies) = proxied(LONG).await;
    let leader = cluster.leader().await;
    let others: Vec<_> = cluster.members.keys().filter(|member| **member != leader).collect();
    let alive = || others.iter().map(|member| cluster.labelled(member, SUSPICIONS, "alive")).sum::<f64>();
    let term = cluster.raft(&leader).status().term;
    for _ in 0..5 {
        let before = alive();
        // Again and again, since there may be no connection yet; not so often that it breaks those that are made to look.
        let mut broken = Instant::now();
        proxies[&leader].break_connections();
        wait_for("a member looks whether the Raft leader is there", || {
            if broken.elapsed() > Duration::from_secs(1) {
                broken = Instant::now();
                proxies[&leader].break_connections();
            }
            alive() > before
        })
        .await;
    }
    cluster.raft(&leader).propose(put("k", "v"), soon()).await.unwrap();
    assert_eq!((cluster.leader().await, cluster.raft(&leader).status().term), (leader.clone(), term));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_proxy_that_answers_for_the_dead_an_election_timeout_passes_and_the_metric_says_so() {
    let (mut cluster, proxies) = proxied(Timing::default()).await;
    let leader = cluster.leader().await;
    cluster.raft(&leader).propose(put("k", "v"), soon()).await.unwrap();
    cluster.crash(&leader);
    cluster.leader().await;
    let proxied = |member: &String| {
        let families = cluster.members[member].registry.gather();
        let family = families.iter().find(|family| family.name() == "quorate_raft_proxied_members").unwrap();
        family.get_metric()[0].get_gauge().get_value()
    };
    wait_for("a member says that it cannot see the other one's end", || {
        cluster.members.keys().any(|member| proxied(member) == 1.0)
    })
    .await;
    for member in cluster.members.keys() {
        assert_eq!(cluster.labelled(member, SUSPICIONS, "gone"), 0.0, "{member}");
        assert_eq!(cluster.labelled(member, CHANGES, "election"), 1.0, "{member}");
    }
    drop(proxies);
}
