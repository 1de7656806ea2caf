//! What a commit costs, counted and not timed: syncs of disks, and messages between members.

use futures::future::join_all;
use quorate::raft::transport::Lane;

use crate::cluster::{Cluster, put, soon, wait_for};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Commits that are counted.
const COMMITS: usize = 200;

/// What was spent: syncs of each member, and messages with entries that the Raft leader sent.
#[derive(Debug, Clone)]
struct Spent {
    syncs: Vec<u64>,
    messages: u64,
    forwards: u64,
}

impl Spent {
    /// By members that have all applied the same.
    async fn by(cluster: &Cluster, leader: &str) -> Self {
        wait_for("all have applied the same", || {
            let applied = |name: &str| cluster.raft(name).state().applied();
            NAMES.iter().all(|name| applied(name) == cluster.raft(leader).status().last_log)
        })
        .await;
        let sent = |name: &str, lane| cluster.members[name].messages.sent(lane);
        Self {
            syncs: NAMES.iter().map(|name| cluster.observed(name, "quorate_log_sync_seconds")).collect(),
            messages: sent(leader, Lane::Replication),
            forwards: NAMES.iter().map(|name| sent(name, Lane::Forward)).sum(),
        }
    }

    fn since(&self, before: &Self) -> Self {
        let syncs = self.syncs.iter().zip(&before.syncs).map(|(after, before)| after - before).collect();
        Self { syncs, messages: self.messages - before.messages, forwards: self.forwards - before.forwards }
    }
}

/// That many commits by one client that waits for each, and by as many clients at once.
async fn commit(cluster: &Cluster, leader: &str, writer: &str) -> [Spent; 2] {
    let raft = cluster.raft(writer);
    let before = Spent::by(cluster, leader).await;
    for number in 0..COMMITS {
        raft.propose(put("k", &number.to_string()), soon()).await.unwrap();
    }
    let between = Spent::by(cluster, leader).await;
    let together = (0..COMMITS).map(|number| raft.propose(put("k", &number.to_string()), soon()));
    join_all(together).await.into_iter().for_each(|committed| drop(committed.unwrap()));
    let after = Spent::by(cluster, leader).await;
    [between.since(&before), after.since(&between)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_one_sync_of_each_member_and_two_messages_to_each_other_and_many_share_them() {
    let cluster = Cluster::founded(&NAMES).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    for writer in [&leader, &follower] {
        let [alone, together] = commit(&cluster, &leader, writer).await;
        println!("{COMMITS} commits through {writer}, one after the other {alone:?}, together {together:?}");
        // A few more for what the cluster does by itself.
        let (commits, few) = (COMMITS as u64, 10);
        assert!(alone.syncs.iter().all(|syncs| *syncs <= commits + few), "a commit is synced once");
        assert!(alone.messages <= 4 * commits + few, "the entry, and that it is committed, to two members");
        assert!(together.syncs.iter().all(|syncs| *syncs <= commits / 10), "those that wait share a sync");
        assert!(together.messages <= commits / 5, "and messages");
        let forwards = if writer == &leader { 0 } else { commits };
        assert!(alone.forwards <= forwards + few && together.forwards <= forwards + few, "a command is sent on once");
    }
}
