//! Volumes that are not what they should be: copies of older ones, swapped ones, those of another cluster, and those of members
//! that were removed.

use std::fs;
use std::path::Path;

use quorate::raft::{Beginning, Phase};
use tokio::time::{Duration, sleep, timeout};

use crate::cluster::{Cluster, PATIENCE, name, put, soon, value};
use crate::joining::settles;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Copies a directory of a member; it holds files only.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

impl Cluster {
    /// Keeps what is on the volume of a member that has crashed.
    async fn keep(&self, text: &str, under: &str) {
        drop(self.volume(text).await);
        copy(&self.directory(text), &self.directory(under));
    }

    /// Puts a kept volume in the place of the one of a member that has crashed.
    async fn put_back(&self, text: &str, under: &str) {
        self.empty(text).await;
        copy(&self.directory(under), &self.directory(text));
    }

    /// Waits until a member is refused, with a text that contains `wanted`, and until the Raft leader knows of it.
    async fn is_refused(&self, text: &str, wanted: &str) {
        let refused = |phase: &Phase| matches!(phase, Phase::Refused(reason) if reason.contains(wanted));
        self.status(text, |status| refused(&status.phase)).await;
        let Some(other) = self.members.keys().find(|other| *other != text) else { return };
        let told = async {
            while !self.raft(other).refused().get(&name(text)).is_some_and(|reason| reason.contains(wanted)) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("{other} knows of {:?}", self.raft(other).refused()));
    }

    /// Empties the volume of a refused member, as it says, and sees it come back under an id.
    async fn heals(&mut self, text: &str, voters: &[&str]) {
        self.crash(text);
        self.empty(text).await;
        self.start(text).await;
        settles(self, voters).await;
        let other = self.members.keys().find(|other| *other != text).unwrap();
        self.raft(other).propose(put("healed", text), soon()).await.unwrap();
        let state = self.raft(text).read(soon()).await.unwrap();
        assert_eq!(value(&state, "healed").as_deref(), Some(text));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_from_before_the_last_start_is_refused_by_members_that_have_all_started_since() {
    let mut cluster = Cluster::founded(&NAMES).await;
    cluster.raft("a").propose(put("k", "1"), soon()).await.unwrap();
    cluster.crash("b");
    cluster.keep("b", "old").await;
    cluster.start("b").await;
    settles(&cluster, &["1 a", "2 b", "3 c"]).await;
    cluster.raft("b").propose(put("k", "2"), soon()).await.unwrap();
    for text in NAMES {
        cluster.crash(text);
    }
    cluster.put_back("b", "old").await;
    for text in ["a", "c"] {
        cluster.start(text).await;
    }
    cluster.leader().await;
    cluster.start("b").await;
    cluster.is_refused("b", "the cluster has recorded start").await;
    cluster.raft("c").propose(put("k", "3"), soon()).await.unwrap();
    cluster.heals("b", &["1 a", "3 c", "4 b"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_has_forgotten_what_it_acknowledged_is_refused_by_whoever_remembers() {
    let mut cluster = Cluster::founded(&NAMES).await;
    let text = cluster.follower().await;
    cluster.raft(&text).propose(put("k", "1"), soon()).await.unwrap();
    // Nobody writes meanwhile, so that the copy is one that a disk could have made.
    sleep(Duration::from_millis(500)).await;
    copy(&cluster.directory(&text), &cluster.directory("old"));
    cluster.raft(&text).propose(put("k", "2"), soon()).await.unwrap();
    cluster.raft(&text).read(soon()).await.unwrap();
    cluster.crash(&text);
    cluster.put_back(&text, "old").await;
    cluster.start(&text).await;
    cluster.is_refused(&text, "and it has acknowledged one that ends").await;
    let other = NAMES.into_iter().find(|other| *other != text).unwrap();
    cluster.raft(other).propose(put("k", "3"), soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_start_from_one_volume_the_second_is_refused() {
    let mut cluster = Cluster::founded(&NAMES).await;
    cluster.crash("b");
    cluster.keep("b", "copy").await;
    let mut twin = cluster.twin("b").await;
    copy(&cluster.directory("copy"), &twin.directory("b"));
    cluster.start("b").await;
    settles(&cluster, &["1 a", "2 b", "3 c"]).await;
    cluster.raft("b").read(soon()).await.unwrap();
    twin.start("b").await;
    twin.is_refused("b", "another process runs on a newer one").await;
    cluster.raft("b").propose(put("k", "1"), soon()).await.unwrap();
    assert!(matches!(cluster.raft("b").status().phase, Phase::Running));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_left_behind_by_the_next_one_of_its_member_is_shut_out_and_stops() {
    let cluster = Cluster::founded(&NAMES).await;
    let leader = cluster.leader().await;
    let text = cluster.follower().await;
    sleep(Duration::from_millis(500)).await;
    let mut twin = cluster.twin(&text).await;
    copy(&cluster.directory(&text), &twin.directory(&text));
    // The next process: it goes on from the life that the first one has begun.
    twin.start(&text).await;
    let is_left_behind = |phase: &Phase| matches!(phase, Phase::Stopped(why) if why.contains("another process runs"));
    cluster.status(&text, |status| is_left_behind(&status.phase)).await;
    cluster.raft(&leader).propose(put("k", "1"), soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_volume_of_another_cluster_is_refused_with_both_ids() {
    let mut one = Cluster::founded(&NAMES).await;
    let mut other = Cluster::founded(&NAMES).await;
    let (own, foreign) = (one.raft("a").status().cluster.clone(), other.raft("a").status().cluster.clone());
    for text in NAMES {
        other.crash(text);
    }
    other.keep("c", "foreign").await;
    one.crash("c");
    one.empty("c").await;
    copy(&other.directory("foreign"), &one.directory("c"));
    one.start("c").await;
    one.is_refused("c", &format!("is in cluster {}", own.unwrap())).await;
    one.is_refused("c", &format!("member 3 of cluster {}", foreign.unwrap())).await;
    one.heals("c", &["1 a", "2 b", "4 c"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swapped_volumes_are_refused_and_serve_again_where_they_belong() {
    let mut cluster = Cluster::founded(&NAMES).await;
    for text in ["b", "c"] {
        cluster.crash(text);
        cluster.keep(text, &format!("volume of {text}")).await;
    }
    for (text, other) in [("b", "c"), ("c", "b")] {
        cluster.put_back(text, &format!("volume of {other}")).await;
        cluster.start(text).await;
    }
    cluster.is_refused("b", "this volume belongs to c (member 3 of cluster").await;
    cluster.is_refused("c", "not to c; check which data directory is mounted where").await;
    assert_eq!(cluster.raft("b").status().member, None, "it votes for nobody");
    for text in ["b", "c"] {
        cluster.crash(text);
        cluster.put_back(text, &format!("volume of {text}")).await;
        cluster.start(text).await;
    }
    settles(&cluster, &["1 a", "2 b", "3 c"]).await;
    cluster.raft("b").propose(put("k", "1"), soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_volume_of_a_removed_member_is_set_aside_and_it_joins_as_a_new_one() {
    let mut cluster = Cluster::founded(&NAMES).await;
    cluster.crash("b");
    cluster.keep("b", "old").await;
    cluster.empty("b").await;
    cluster.start("b").await;
    settles(&cluster, &["1 a", "3 c", "4 b"]).await;
    cluster.crash("b");
    cluster.put_back("b", "old").await;
    cluster.start("b").await;
    let status = cluster.status("b", |status| matches!(status.phase, Phase::Stopped(_))).await;
    assert!(format!("{:?}", status.phase).contains("member 2 was removed from cluster"), "{:?}", status.phase);
    cluster.crash("b");
    cluster.start("b").await;
    settles(&cluster, &["1 a", "3 c", "5 b"]).await;
    cluster.raft("b").propose(put("k", "1"), soon()).await.unwrap();
    assert!(cluster.directory("b").join("retired-2").join("log.redb").exists());
    assert!(cluster.directory("b").join("log.redb").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nobody_is_taken_for_removed() {
    let mut cluster = Cluster::founded(&NAMES).await;
    cluster.crash("b");
    cluster.keep("b", "old").await;
    cluster.empty("b").await;
    cluster.start("b").await;
    settles(&cluster, &["1 a", "3 c", "4 b"]).await;
    for text in NAMES {
        cluster.crash(text);
    }
    cluster.put_back("b", "old").await;
    cluster.start("a").await;
    cluster.start("b").await;
    // One of three knows, and nobody leads: that is not enough to give a volume up.
    sleep(Duration::from_secs(4)).await;
    assert!(!cluster.directory("b").join("retired-2").exists());
    assert!(!matches!(cluster.raft("b").status().phase, Phase::Stopped(_)), "{:?}", cluster.raft("b").status().phase);
    cluster.start("c").await;
    cluster.status("b", |status| matches!(&status.phase, Phase::Stopped(why) if why.contains("was removed"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_start_on_their_own_volumes_need_nobody_who_remembers_them() {
    let mut cluster = Cluster::founded(&NAMES).await;
    cluster.raft("a").propose(put("k", "1"), soon()).await.unwrap();
    for round in 0..3 {
        for text in NAMES {
            cluster.crash(text);
        }
        // Two are enough, whichever they are.
        let down = NAMES[round];
        for text in NAMES.into_iter().filter(|text| *text != down) {
            cluster.start(text).await;
        }
        let up = NAMES[(round + 1) % 3];
        cluster.raft(up).propose(put("k", &round.to_string()), soon()).await.unwrap();
        cluster.start(down).await;
        let state = cluster.raft(down).read(soon()).await.unwrap();
        assert_eq!(value(&state, "k"), Some(round.to_string()));
    }
    assert!(cluster.members.values().all(|member| member.raft.refused().is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_without_its_log_is_refused_and_founds_nothing() {
    let mut cluster = Cluster::founded(&NAMES).await;
    cluster.crash("a");
    drop(cluster.volume("a").await);
    fs::remove_file(cluster.directory("a").join("log.redb")).unwrap();
    cluster.try_start("a", Beginning::Together(cluster.addresses.clone())).await.unwrap();
    // Whether it had seen its cluster exist before or not, it is not the volume any more that the cluster knows.
    cluster.is_refused("a", "so that it joins as a new member").await;
    cluster.raft("b").propose(put("k", "1"), soon()).await.unwrap();
}
