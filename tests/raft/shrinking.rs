//! How a cluster gets smaller, and who leads it: members leave one after the other while it is written to, and what was
//! acknowledged stays.

use std::collections::BTreeSet;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate::machine::command::{Action, Author, Care, ClusterSize, Command, Steering};
use quorate::raft::{MembershipPhase, Phase, ProposeError, RaftHandle, RaftStatus, Unavailable};
use quorate::types::{Key, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::book::Book;
use crate::cluster::{Cluster, PATIENCE, name, put, soon};

const FIVE: [&str; 5] = ["q-0", "q-1", "q-2", "q-3", "q-4"];

/// Names of the voters and of the learners of a settled membership.
fn places(status: &RaftStatus) -> Option<(Vec<&str>, Vec<&str>)> {
    let names = |nodes: &'_ std::collections::BTreeMap<_, quorate::raft::MemberNode>| -> BTreeSet<String> {
        nodes.values().map(|node| node.name.clone()).collect()
    };
    let known = |names: BTreeSet<String>| FIVE.into_iter().filter(|name| names.contains(*name)).collect();
    let is_settled = status.membership == MembershipPhase::Settled;
    is_settled.then(|| (known(names(&status.voters)), known(names(&status.learners))))
}

/// A cluster with the book by which its members find it, and somebody who writes to its first member all the time.
struct Written {
    cluster: Cluster,
    book: Book,
    stop: watch::Sender<bool>,
    writer: JoinSet<Vec<String>>,
}

impl Written {
    /// One member alone.
    async fn alone() -> Self {
        let mut cluster = Cluster::new(&FIVE).await;
        let book = Book::of(&cluster.addresses);
        cluster.try_start("q-0", book.beginning("q-0")).await.unwrap();
        cluster.leader().await;
        let (stop, stopped) = watch::channel(false);
        let mut writer = JoinSet::new();
        writer.spawn(write(cluster.raft("q-0").clone(), stopped));
        Self { cluster, book, stop, writer }
    }

    /// As many voters as there are names.
    async fn of(size: usize) -> Self {
        let mut written = Self::alone().await;
        written.resize(u32::try_from(size).unwrap(), 0).await;
        for name in &FIVE[1..size] {
            written.start(name).await;
        }
        written.becomes(&FIVE[..size], &[]).await;
        written
    }

    async fn start(&mut self, name: &str) {
        self.cluster.try_start(name, self.book.beginning(name)).await.unwrap();
    }

    /// Lets whoever leads propose something, once it does.
    async fn propose(&self, action: Action) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut rafts = self.cluster.members.values().map(|member| &member.raft);
            if let Some((raft, leadership)) = rafts.find_map(|raft| Some((raft, raft.own_leadership()?))) {
                let (at, author) = (Timestamp::from_millis(1), Author::Duty(leadership));
                let command = Command { at, author, action: action.clone() };
                if raft.propose_here(command, soon()).await.is_ok_and(|done| done.answer.outcome.is_ok()) {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "nobody takes {action:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn resize(&self, voters: u32, learners: u32) {
        self.propose(Action::SetSize(ClusterSize { voters, learners })).await;
    }

    async fn steer(&self, preferred: Option<&str>, care: Care) {
        let preferred_leader = preferred.map(name);
        self.propose(Action::Steer(Steering { preferred_leader, care })).await;
    }

    /// Waits until the members that are to stay say that these vote, and those follow.
    async fn becomes(&self, voters: &[&str], learners: &[&str]) {
        for member in voters.iter().chain(learners) {
            let expected = Some((voters.to_vec(), learners.to_vec()));
            self.cluster.status(member, |status| places(status) == expected).await;
        }
    }

    /// Waits until this one leads, and its leadership has begun.
    async fn is_led_by(&self, name: &str) {
        let led = async {
            while self.cluster.raft(name).own_leadership().is_none() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, led).await.unwrap_or_else(|_| panic!("{name} does not lead"));
    }

    async fn transfer(&self, to: &str) {
        let member = self.cluster.raft(to).status().member;
        self.cluster.raft("q-0").transfer(member, soon()).await.unwrap();
        self.is_led_by(to).await;
    }

    /// Waits until a member says that it was removed.
    async fn is_removed(&self, name: &str) {
        self.cluster.waits(name, "was removed from its cluster and takes part in nothing any more").await;
    }

    /// Applications' calls go on coming to a member that is being removed: each comes to an end, and soon it says why.
    async fn turns_calls_away(&self, member: &str) {
        let (raft, removed) = (self.cluster.raft(member), Unavailable::Removed);
        let ended = async {
            let mut calls = FuturesUnordered::new();
            loop {
                calls.push(raft.propose(put("late", "x"), soon()));
                let ended = timeout(Duration::from_millis(50), calls.next()).await;
                if ended == Ok(Some(Err(ProposeError::NotApplied(removed.clone())))) {
                    return calls.count().await;
                }
            }
        };
        timeout(PATIENCE, ended).await.expect("nobody waits until its deadline");
        assert_eq!(raft.read(soon()).await.unwrap_err(), removed);
    }

    /// Waits until a member that has just started ends because it was removed, and starts it again, as another one.
    async fn sets_its_volume_aside(&mut self, name: &str) {
        let was_removed = |why: &str| why.contains("was removed from cluster");
        self.cluster.status(name, |status| matches!(&status.phase, Phase::Stopped(why) if was_removed(why))).await;
        self.cluster.crash(name);
        self.start(name).await;
    }

    /// Everything that was acknowledged is there.
    async fn has_lost_nothing(mut self) {
        self.stop.send_replace(true);
        let acknowledged = self.writer.join_next().await.unwrap().unwrap();
        assert!(acknowledged.len() > 20, "hardly anything was written: {acknowledged:?}");
        let state = self.cluster.raft("q-0").read(soon()).await.unwrap();
        let missing: Vec<_> =
            acknowledged.iter().filter(|key| state.keys().get(&Key::new((*key).clone()).unwrap()).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?} of {} writes are lost", acknowledged.len());
    }
}

/// Writes key after key until it is stopped; gives those that were acknowledged.
async fn write(raft: RaftHandle, stopped: watch::Receiver<bool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0_u64.. {
        if *stopped.borrow() {
            break;
        }
        let key = format!("written/{number}");
        if raft.propose(put(&key, "x"), Instant::now() + Duration::from_secs(2)).await.is_ok() {
            acknowledged.push(key);
        }
        sleep(Duration::from_millis(10)).await;
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_goes_from_one_to_five_and_back_to_one_while_it_is_written_to() {
    let mut written = Written::of(3).await;
    written.resize(5, 0).await;
    for name in ["q-3", "q-4"] {
        written.start(name).await;
    }
    written.becomes(&FIVE, &[]).await;

    // The one that is to go first leads.
    written.transfer("q-4").await;
    written.resize(3, 0).await;
    written.turns_calls_away("q-4").await;
    written.becomes(&FIVE[..3], &[]).await;
    for name in ["q-4", "q-3"] {
        written.is_removed(name).await;
    }
    let status = written.cluster.raft("q-0").status();
    sleep(Duration::from_secs(3)).await;
    let later = written.cluster.raft("q-0").status();
    assert_eq!((later.term, later.raft_leader), (status.term, status.raft_leader), "who was removed disturbs nobody");

    written.transfer("q-2").await;
    written.resize(1, 0).await;
    written.becomes(&FIVE[..1], &[]).await;
    for name in ["q-2", "q-1"] {
        written.is_removed(name).await;
    }
    written.has_lost_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_become_learners_and_voters_again() {
    let written = Written::of(5).await;
    written.resize(3, 2).await;
    written.becomes(&FIVE[..3], &FIVE[3..]).await;
    written.resize(5, 0).await;
    written.becomes(&FIVE, &[]).await;
    written.has_lost_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_members_leave_too_and_find_out_when_they_come_back() {
    let mut written = Written::of(5).await;
    if written.cluster.leader().await == "q-4" {
        written.transfer("q-0").await;
    }
    written.cluster.crash("q-4");
    written.resize(3, 0).await;
    written.becomes(&FIVE[..3], &[]).await;
    written.start("q-4").await;
    written.sets_its_volume_aside("q-4").await;
    written.cluster.waits("q-4", "the cluster should have 3 members and has them").await;
    written.has_lost_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_starts_anew_when_it_is_wanted_again_and_gets_another_id() {
    let mut written = Written::of(3).await;
    written.resize(1, 0).await;
    written.is_removed("q-2").await;
    written.is_removed("q-1").await;
    written.resize(3, 0).await;
    for name in ["q-1", "q-2"] {
        let member = written.cluster.members.get_mut(name).unwrap();
        let failure = timeout(PATIENCE, member.failures.next()).await.expect("it ends");
        assert_eq!(failure.task, "raft", "{failure:?}");
        let phase = written.cluster.raft(name).status().phase.clone();
        assert!(matches!(&phase, Phase::Stopped(why) if why.contains("wants a member of its name again")), "{phase:?}");
        written.cluster.crash(name);
        written.start(name).await;
        written.sets_its_volume_aside(name).await;
    }
    written.becomes(&FIVE[..3], &[]).await;
    let ids: Vec<_> = written.cluster.raft("q-0").status().voters.keys().map(|member| member.get()).collect();
    assert_eq!(ids, [1, 4, 5], "no id is given twice");
    written.has_lost_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_preferred_member_leads_whenever_it_can() {
    let mut written = Written::of(3).await;
    written.steer(Some("q-1"), Care::Active).await;
    written.is_led_by("q-1").await;

    // By an election it loses leadership, and gets it back once it is there again.
    written.cluster.crash("q-1");
    written.cluster.status("q-0", |status| status.raft_leader.is_some_and(|leader| leader.get() != 2)).await;
    written.start("q-1").await;
    written.is_led_by("q-1").await;

    // And after a transfer.
    let first = written.cluster.raft("q-0").status().member;
    written.cluster.raft("q-0").transfer(first, soon()).await.unwrap();
    written.is_led_by("q-1").await;

    // While nothing is to change, a transfer stays.
    written.steer(Some("q-1"), Care::Paused).await;
    written.transfer("q-0").await;
    sleep(Duration::from_secs(5)).await;
    assert!(written.cluster.raft("q-0").own_leadership().is_some(), "q-0 does not lead any more");
    written.has_lost_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_on_its_way_out_leads_while_another_can() {
    let written = Written::of(3).await;
    written.transfer("q-2").await;
    written.cluster.raft("q-2").set_unfit(["q-0", "q-2"].map(str::to_owned).into());
    written.is_led_by("q-1").await;

    // One that is about to stop is not given leadership, however much it is preferred.
    written.cluster.raft("q-0").stand_back();
    written.steer(Some("q-0"), Care::Active).await;
    let leaders = || (written.cluster.raft("q-1").own_leadership(), written.cluster.raft("q-0").own_leadership());
    let before = leaders();
    sleep(Duration::from_secs(4)).await;
    assert_eq!(leaders(), before, "leadership has moved");
    written.has_lost_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_is_paused_nobody_joins_or_leaves() {
    let mut written = Written::of(3).await;
    written.steer(None, Care::Paused).await;
    written.resize(5, 0).await;
    written.start("q-3").await;
    written.cluster.waits("q-3", "the QuorateCluster is paused").await;
    written.resize(1, 0).await;
    sleep(Duration::from_secs(2)).await;
    written.becomes(&FIVE[..3], &[]).await;
    written.steer(None, Care::Active).await;
    written.becomes(&FIVE[..1], &[]).await;
    written.has_lost_nothing().await;
}
