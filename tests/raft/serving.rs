//! What a running cluster does.

use std::time::Duration;

use futures::future::join_all;
use quorate::machine::command::{Action, Author, Command, Metadata, NewSession};
use quorate::raft::{Phase, ProposeError, RaftHandle, SnapshotThresholds, Unavailable};
use quorate::tasks::{Exit, Tasks};
use quorate::types::{Leadership, MemberId, SessionId, Timestamp, Ttl};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Cluster, PATIENCE, name, put, soon, value, wait_for};

const NAMES: [&str; 3] = ["a", "b", "c"];

const LEADER_CHANGES: &str = "quorate_raft_leader_changes_total";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_found_a_cluster_and_serve_from_each_of_them() {
    let cluster = Cluster::founded(&NAMES).await;
    for writer in NAMES {
        let committed = cluster.raft(writer).propose(put(writer, "1"), soon()).await.unwrap();
        let here = cluster.raft(writer).state();
        assert_eq!(value(&here, writer).as_deref(), Some("1"), "a member sees its own write");
        for reader in NAMES {
            let state = cluster.raft(reader).read(soon()).await.unwrap();
            assert!(state.applied() >= Some(committed.index));
            assert_eq!(value(&state, writer).as_deref(), Some("1"), "written by {writer}, read by {reader}");
        }
    }
    let state = cluster.raft("a").read(soon()).await.unwrap();
    let status = cluster.raft("a").status();
    assert_eq!(state.cluster(), status.cluster.as_ref());
    assert_eq!(status.phase, Phase::Running);
    assert_eq!(status.voters.keys().map(|id| id.get()).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_announces_itself_and_digests_are_equal() {
    let cluster = Cluster::founded(&NAMES).await;
    let mut changes = cluster.raft("b").state_changes();
    let announced = changes.wait_for(|state| state.members().count() == 3);
    let state = timeout(PATIENCE, announced).await.unwrap().unwrap().clone();
    for ((id, record), (expected, text)) in state.members().zip([(1, "a"), (2, "b"), (3, "c")]) {
        assert_eq!((id.get(), &record.name, &record.url), (expected, &name(text), &format!("http://{text}.test")));
    }
    let committed = cluster.raft("a").propose(put("k", "v"), soon()).await.unwrap();
    let mut digests = Vec::new();
    for text in NAMES {
        let state = cluster.raft(text).read(soon()).await.unwrap();
        assert_eq!(state.applied(), Some(committed.index));
        digests.push(state.digest());
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
}

/// Waits until what a member says of its leadership, as far as a quorum keeps it, is so.
async fn kept(raft: &RaftHandle, is_so: impl Fn(Option<Leadership>) -> bool) {
    let reached = async {
        while !is_so(raft.kept_leadership()) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, reached).await.expect("it comes to that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leadership_is_kept_while_a_quorum_hears_of_it_and_nothing_else_happens_and_no_longer() {
    let mut cluster = Cluster::founded(&NAMES).await;
    let leader = cluster.leader().await;
    // Longer than any lease.
    sleep(Duration::from_secs(2)).await;
    kept(cluster.raft(&leader), |kept| kept.is_some()).await;
    for other in NAMES.into_iter().filter(|name| *name != leader) {
        cluster.crash(other);
    }
    kept(cluster.raft(&leader), |kept| kept.is_none()).await;
    assert!(cluster.raft(&leader).own_leadership().is_some(), "it knows of nobody else");

    let alone = Cluster::founded(&["a"]).await;
    sleep(Duration::from_secs(2)).await;
    assert!(alone.raft("a").kept_leadership().is_some(), "a quorum of one needs nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_leader_is_replaced_and_comes_back_with_everything() {
    let mut cluster = Cluster::founded(&NAMES).await;
    for round in 0..3 {
        let leader = cluster.leader().await;
        let before = format!("before-{round}");
        cluster.raft(&leader).propose(put(&before, "1"), soon()).await.unwrap();
        cluster.crash(&leader);
        let next = cluster.leader().await;
        assert_ne!(next, leader);
        let after = format!("after-{round}");
        let committed = cluster.raft(&next).propose(put(&after, "1"), soon()).await.unwrap();
        cluster.start(&leader).await;
        let state = cluster.raft(&leader).read(soon()).await.unwrap();
        assert!(state.applied() >= Some(committed.index));
        for key in [before, after] {
            assert_eq!(value(&state, &key).as_deref(), Some("1"), "{key}");
        }
    }
    let state = cluster.raft("a").read(soon()).await.unwrap();
    assert_eq!(state.members().count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_to_whom_it_is_given_from_any_member() {
    let cluster = Cluster::founded(&NAMES).await;
    for (asked, wanted) in [("a", 2), ("c", 3), ("b", 1), ("b", 1)] {
        let wanted = MemberId::new(wanted);
        assert_eq!(cluster.raft(asked).transfer(Some(wanted), soon()).await.unwrap(), wanted);
        cluster.status(asked, |status| status.raft_leader == Some(wanted)).await;
    }
    assert_eq!(cluster.labelled("a", LEADER_CHANGES, "first"), 1.0);
    wait_for("a hand-over is counted", || cluster.labelled("a", LEADER_CHANGES, "transfer") >= 1.0).await;
    let error = cluster.raft("a").transfer(Some(MemberId::new(9)), soon()).await.unwrap_err();
    assert_eq!(error.to_string(), "member 9 is not a voter of this cluster");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_stops_hands_over_first_and_nothing_fails() {
    let mut cluster = Cluster::founded(&NAMES).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let writer = cluster.raft(&follower).clone();
    let (tasks, mut failures) = Tasks::new();
    let (written, end) = oneshot::channel();
    tasks.spawn("writer", Exit::Normal, async move {
        for number in 0..200 {
            writer.propose(put("k", &number.to_string()), soon()).await.unwrap();
        }
        written.send(()).unwrap();
    });
    let mut stopped = cluster.members.remove(&leader).unwrap();
    stopped.raft.shutdown(soon()).await;
    assert!(matches!(stopped.raft.status().phase, Phase::Stopped(_)), "{:?}", stopped.raft.status().phase);
    let refused = stopped.raft.propose(put("k", "v"), soon()).await.unwrap_err();
    assert_eq!(refused, ProposeError::NotApplied(Unavailable::Stopping));
    assert!(timeout(Duration::from_millis(50), stopped.failures.next()).await.is_err(), "an ordered end is no failure");
    stopped.tasks.stop(PATIENCE).await;
    tokio::select! {
        failure = failures.next() => panic!("{failure:?}"),
        end = end => end.unwrap(),
    }
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    wait_for("the next one counts that it was given leadership", || {
        cluster.labelled(&next, LEADER_CHANGES, "transfer") == 1.0
    })
    .await;
    cluster.start(&leader).await;
    let state = cluster.raft(&leader).read(soon()).await.unwrap();
    assert_eq!(value(&state, "k").as_deref(), Some("199"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_a_command_is_unknown_or_not_applied_and_a_read_fails() {
    let mut cluster = Cluster::founded(&NAMES).await;
    let leader = cluster.leader().await;
    cluster.raft(&leader).propose(put("k", "u"), soon()).await.unwrap();
    for text in NAMES.iter().filter(|text| **text != leader) {
        cluster.crash(text);
    }
    let deadline = || Instant::now() + Duration::from_millis(300);
    let proposed = cluster.raft(&leader).propose(put("k", "v"), deadline()).await.unwrap_err();
    assert!(matches!(proposed, ProposeError::Unknown(Unavailable::Timeout)), "{proposed:?}");
    cluster.raft(&leader).read(deadline()).await.unwrap_err();
    assert!(cluster.raft(&leader).peers(deadline()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::new(&NAMES).await;
    cluster.snapshots = SnapshotThresholds { entries: 50, bytes: u64::MAX, kept: 10 };
    for text in NAMES {
        cluster.start(text).await;
    }
    let follower = cluster.follower().await;
    cluster.crash(&follower);
    let leader = cluster.leader().await;
    let large = "x".repeat(100_000);
    for number in 0..200 {
        cluster.raft(&leader).propose(put(&format!("k{}", number % 40), &large), soon()).await.unwrap();
    }
    cluster.status(&leader, |status| status.purged.is_some_and(|purged| purged.get() > 100)).await;
    cluster.start(&follower).await;
    let state = cluster.raft(&follower).read(soon()).await.unwrap();
    assert_eq!(state.keys().len(), 40);
    let behind = cluster.status(&follower, |status| status.snapshot.is_some()).await;
    assert!(behind.snapshot.is_some_and(|snapshot| snapshot.get() > 100), "{behind:?}");
    let compared = async {
        loop {
            let (one, other) = (cluster.raft(&leader).state(), cluster.raft(&follower).state());
            if one.applied() == other.applied() {
                return (one.digest(), other.digest());
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let (one, other) = timeout(PATIENCE, compared).await.unwrap();
    assert_eq!(one, other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_large_values_is_bounded_by_their_bytes() {
    let mut cluster = Cluster::new(&NAMES).await;
    let snapshots = SnapshotThresholds { bytes: 8 << 20, ..SnapshotThresholds::default() };
    cluster.snapshots = snapshots;
    for text in NAMES {
        cluster.start(text).await;
    }
    let large = "x".repeat(1 << 20);
    for _ in 0..80 {
        cluster.raft("a").propose(put("k", &large), soon()).await.unwrap();
    }
    for text in NAMES {
        // 32 MiB are kept behind a snapshot, and 8 MiB and what comes within a second before the next one.
        let status = cluster.status(text, |status| status.purged.is_some_and(|purged| purged.get() > 30)).await;
        assert!(status.last_log.is_some_and(|last| last.get() < snapshots.kept), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_too_long_for_a_message_is_refused_everywhere_and_stops_nobody() {
    let cluster = Cluster::founded(&NAMES).await;
    let long = "x".repeat(4 << 20);
    for text in NAMES {
        let refused = cluster.raft(text).propose(put("k", &long), soon()).await.unwrap_err();
        assert!(matches!(refused, ProposeError::NotApplied(Unavailable::Failed(_))), "{refused:?}");
        assert!(refused.to_string().ends_with("and at most 4194304 can be replicated"), "{refused}");
        cluster.raft(text).propose(put("k", "short"), soon()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_reads_share_few_rounds() {
    let cluster = Cluster::founded(&NAMES).await;
    let leader = cluster.leader().await;
    let reads = (0..400).map(|_| cluster.raft(&leader).read(soon()));
    for read in join_all(reads).await {
        read.unwrap();
    }
    let [reads, rounds] = ["quorate_linearizable_reads_total", "quorate_read_rounds_total"]
        .map(|counter| cluster.count(&leader, counter));
    assert!(reads >= 400.0 && rounds < 100.0, "{reads} reads in {rounds} rounds");
}

/// A session that lives for a minute: the first one of the cluster.
async fn first_session(cluster: &Cluster) -> SessionId {
    let session = NewSession { ttl: Ttl::from_millis(60_000).unwrap(), client: None, metadata: Metadata::new() };
    let action = Action::CreateSession { session, limit: 1 };
    let command = Command { at: Timestamp::from_millis(1), author: Author::Client(None), action };
    cluster.raft("a").propose(command, soon()).await.unwrap();
    SessionId::new(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_a_sign_of_life_is_heard_before_it_is_proposed_and_waits_for_a_proposed_end() {
    let cluster = Cluster::founded(&NAMES).await;
    let session = first_session(&cluster).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let attendance = cluster.raft(&leader).attendance();
    for text in [&leader, &follower] {
        let before = Instant::now();
        cluster.raft(text).propose_alive(put("k", text), session, soon()).await.unwrap();
        assert!(attendance.heard_after(session, before).is_some(), "{text} has not told the Raft leader");
    }
    assert_eq!(attendance.heard_after(session, Instant::now()), None, "from here on its end is proposed");
    let late = cluster.raft(&follower).propose_alive(put("k", "late"), session, soon());
    tokio::pin!(late);
    assert!(timeout(Duration::from_millis(300), &mut late).await.is_err(), "it is not known yet whether it lives");
    assert_ne!(value(&cluster.raft(&leader).state(), "k").as_deref(), Some("late"));
    attendance.forget(session);
    late.await.unwrap();
}

/// On one thread, so that all of them wait before a round can end.
#[tokio::test]
async fn ten_thousand_signs_of_life_that_wait_at_once_share_a_few_rounds() {
    let cluster = Cluster::founded(&NAMES).await;
    let session = [first_session(&cluster).await];
    let rounds = || NAMES.map(|text| cluster.count(text, "quorate_read_rounds_total")).iter().sum::<f64>();
    for text in [cluster.leader().await, cluster.follower().await] {
        let (before, deadline) = (rounds(), soon());
        let calls = (0..10_000).map(|_| cluster.raft(&text).keep_alive(&session, deadline));
        let states = tokio::task::unconstrained(join_all(calls)).await;
        assert!(states.into_iter().all(|state| state.is_ok_and(|state| state.sessions().len() == 1)));
        let more = rounds() - before;
        assert!((1.0..=20.0).contains(&more), "{more} rounds for the calls of {text}");
    }
}
