//! How a cluster gets new members, and how one that lost its volume comes back as a new one.

use std::collections::BTreeMap;
use std::fs;

use quorate::machine::command::{Action, Author, ClusterSize, Command};
use quorate::raft::{MembershipPhase, Phase, RaftRole, RaftStatus};
use quorate::types::Timestamp;
use tokio::time::{Duration, sleep, timeout};

use crate::book::Book;
use crate::cluster::{Cluster, PATIENCE, name, put, soon, value};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Voters of a settled membership as `id name`.
fn voters(status: &RaftStatus) -> Vec<String> {
    match status.membership {
        MembershipPhase::Settled => status.voters.iter().map(|(id, node)| format!("{id} {}", node.name)).collect(),
        MembershipPhase::Changing => Vec::new(),
    }
}

fn learners(status: &RaftStatus) -> Vec<String> {
    status.learners.iter().map(|(id, node)| format!("{id} {}", node.name)).collect()
}

/// Says how large the cluster should be, as a duty of whoever leads.
pub async fn set_size(cluster: &Cluster, voters: u32, learners: u32) {
    let begun = async {
        loop {
            let mut rafts = cluster.members.values().map(|member| &member.raft);
            if let Some(leading) = rafts.find_map(|raft| Some((raft, raft.own_leadership()?))) {
                return leading;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let (raft, leadership) = timeout(PATIENCE, begun).await.expect("a leadership begins");
    let author = Author::Duty(leadership);
    let action = Action::SetSize(ClusterSize { voters, learners });
    let command = Command { at: Timestamp::from_millis(1), author, action };
    let committed = raft.propose_here(command, soon()).await.unwrap();
    assert!(committed.answer.outcome.is_ok(), "{committed:?}");
}

/// Waits until every running member sees these voters and nothing in progress.
pub async fn settles(cluster: &Cluster, expected: &[&str]) {
    for text in cluster.members.keys() {
        cluster.status(text, |status| voters(status) == expected).await;
    }
}

/// Every member serves a write and a read, and all have the same state in the end.
async fn serves(cluster: &Cluster, round: &str) {
    for text in cluster.members.keys() {
        cluster.raft(text).propose(put(text, round), soon()).await.unwrap();
    }
    for text in cluster.members.keys() {
        let state = cluster.raft(text).read(soon()).await.unwrap();
        assert!(cluster.members.keys().all(|key| value(&state, key).as_deref() == Some(round)), "{text}");
    }
    // Members speak of themselves now and then, so that not all are at the same entry at once.
    let same = async {
        loop {
            let states: Vec<_> = cluster.members.values().map(|member| member.raft.state()).collect();
            if states.iter().all(|state| state.applied() == states[0].applied()) {
                return states.iter().map(|state| state.digest()).collect::<Vec<_>>();
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let digests = timeout(PATIENCE, same).await.expect("all members come to the same entry");
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_founds_by_its_registry_and_others_join_and_vote_when_they_are_wanted() {
    let mut cluster = Cluster::new(&["a", "b", "c", "d"]).await;
    let book = Book::of(&cluster.addresses);
    cluster.try_start("a", book.beginning("a")).await.unwrap();
    settles(&cluster, &["1 a"]).await;
    assert_eq!(cluster.raft("a").status().cluster, book.recorded());
    cluster.try_start("b", book.beginning("b")).await.unwrap();
    cluster.waits("b", "nobody has said that it should be larger").await;
    set_size(&cluster, 3, 0).await;
    settles(&cluster, &["1 a", "2 b"]).await;
    cluster.try_start("c", book.beginning("c")).await.unwrap();
    settles(&cluster, &["1 a", "2 b", "3 c"]).await;
    serves(&cluster, "1").await;
    cluster.try_start("d", book.beginning("d")).await.unwrap();
    cluster.waits("d", "should have 3 members and has them: a, b, c").await;
    set_size(&cluster, 3, 1).await;
    let fourth = cluster.status("d", |status| learners(status) == ["4 d"]).await;
    assert_eq!((fourth.role, voters(&fourth).len()), (RaftRole::Learner, 3));
    serves(&cluster, "2").await;
    let state = cluster.raft("d").state();
    let known: Vec<_> = state.members().map(|(member, record)| format!("{member} {}", record.name)).collect();
    assert_eq!(known, ["1 a", "2 b", "3 c", "4 d"]);
    let leader = cluster.leader().await;
    assert!(
        cluster.raft(&leader).transfer(Some(fourth.member.unwrap()), soon()).await.is_err(),
        "a learner leads never"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_volume_was_emptied_joins_as_a_new_one_and_takes_its_own_place() {
    let mut cluster = Cluster::founded(&NAMES).await;
    serves(&cluster, "0").await;
    let founded = cluster.raft("a").status().cluster.clone();
    let mut expected = BTreeMap::from([("a", 1), ("b", 2), ("c", 3)]);
    for (text, id) in [("b", 4), ("a", 5), ("c", 6), ("c", 7)] {
        let other = NAMES.into_iter().find(|other| *other != text).unwrap();
        cluster.crash(text);
        cluster.empty(text).await;
        cluster.raft(other).propose(put("meanwhile", text), soon()).await.unwrap();
        cluster.start(text).await;
        expected.insert(text, id);
        let mut voters: Vec<_> = expected.iter().map(|(name, id)| format!("{id} {name}")).collect();
        voters.sort();
        settles(&cluster, &voters.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(cluster.raft(text).status().cluster, founded, "it founds nothing");
        serves(&cluster, text).await;
        let leader = cluster.leader().await;
        let known = || cluster.raft(&leader).state().members().map(|(member, _)| member.get()).collect::<Vec<_>>();
        let mut left: Vec<_> = expected.values().copied().collect();
        left.sort_unstable();
        let forgotten = async {
            while known() != left {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, forgotten).await.unwrap_or_else(|_| panic!("the machine knows {:?}, not {left:?}", known()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_back_with_its_volume_keeps_its_id() {
    let mut cluster = Cluster::founded(&NAMES).await;
    cluster.crash("c");
    sleep(Duration::from_secs(4)).await;
    cluster.start("c").await;
    settles(&cluster, &["1 a", "2 b", "3 c"]).await;
    serves(&cluster, "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nobody_is_let_in_and_nobody_founds() {
    let mut cluster = Cluster::founded(&NAMES).await;
    serves(&cluster, "1").await;
    for text in ["a", "b"] {
        cluster.crash(text);
        cluster.empty(text).await;
    }
    for text in ["a", "b"] {
        cluster.start(text).await;
        // Without a quorum, c leads nobody, or knows of nobody who leads.
        cluster.waits(text, "has not let it in yet (c: ").await;
    }
    sleep(Duration::from_secs(2)).await;
    for text in ["a", "b"] {
        assert_eq!(cluster.raft(text).status().cluster, None);
        assert!(!cluster.directory(text).join("log.redb").exists(), "{text} has no log to vote with");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_is_away_is_not_promoted_and_costs_nothing() {
    let (mut cluster, book) = alone().await;
    set_size(&cluster, 1, 1).await;
    cluster.try_start("b", book.beginning("b")).await.unwrap();
    cluster.status("a", |status| learners(status) == ["2 b"]).await;
    cluster.status("b", |status| status.phase == Phase::Running).await;
    cluster.crash("b");
    sleep(Duration::from_millis(1500)).await;
    set_size(&cluster, 3, 0).await;
    sleep(Duration::from_secs(2)).await;
    cluster.raft("a").propose(put("k", "v"), soon()).await.unwrap();
    assert_eq!(voters(&cluster.raft("a").status()), ["1 a"]);
    // Without its volume it comes back as another learner, and the first is no member any more.
    cluster.empty("b").await;
    cluster.try_start("b", book.beginning("b")).await.unwrap();
    settles(&cluster, &["1 a", "3 b"]).await;
    cluster.status("a", |status| learners(status).is_empty()).await;
    serves(&cluster, "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_was_put_back_to_an_older_state_is_refused() {
    let (mut cluster, book) = alone().await;
    cluster.try_start("b", book.beginning("b")).await.unwrap();
    cluster.waits("b", "nobody has said").await;
    let identity = cluster.directory("b").join("identity");
    let before = fs::read(&identity).unwrap();
    set_size(&cluster, 3, 0).await;
    cluster.status("b", |status| status.role == RaftRole::Follower).await;
    cluster.try_start("c", book.beginning("c")).await.unwrap();
    settles(&cluster, &["1 a", "2 b", "3 c"]).await;
    cluster.crash("b");
    cluster.empty("b").await;
    fs::create_dir(cluster.directory("b")).unwrap();
    fs::write(&identity, before).unwrap();
    cluster.try_start("b", book.beginning("b")).await.unwrap();
    cluster.waits("b", "the volume of b is that of member 2, but without what it held").await;
    assert_eq!(cluster.raft("b").status().member, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_join_while_the_raft_leader_changes_and_crashes() {
    let (mut cluster, book) = alone().await;
    set_size(&cluster, 3, 0).await;
    for text in ["b", "c"] {
        cluster.try_start(text, book.beginning(text)).await.unwrap();
        let leader = cluster.members.keys().next().unwrap().clone();
        sleep(Duration::from_millis(300)).await;
        cluster.crash(&leader);
        cluster.try_start(&leader, book.beginning(&leader)).await.unwrap();
    }
    for text in NAMES {
        cluster.status(text, |status| voters(status).len() == 3).await;
    }
    serves(&cluster, "1").await;
}

/// A cluster that `a` has founded alone, with its book.
pub async fn alone() -> (Cluster, Book) {
    let mut cluster = Cluster::new(&NAMES).await;
    let book = Book::of(&cluster.addresses);
    cluster.try_start("a", book.beginning("a")).await.unwrap();
    cluster.leader().await;
    assert!(cluster.addresses.contains_key(&name("c")));
    (cluster, book)
}
