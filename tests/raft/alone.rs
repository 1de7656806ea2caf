//! How one member begins a cluster by a registry: a crash at each step, and what stops it from founding a second one.

use std::path::Path;
use std::sync::Arc;

use quorate::raft::founding::Stage;
use quorate::raft::identity::IDENTITY_FILE;
use quorate::raft::{MembershipPhase, Phase, ProposeError, Unavailable};
use quorate::types::ClusterId;
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::book::{Book, Trouble};
use crate::cluster::{Cluster, PATIENCE, put, soon, value};
use crate::cut::CutVolume;
use crate::joining::{alone, set_size, settles};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// The cluster id on a volume, as far as its bytes show it.
fn is_on_volume(directory: &Path, cluster: &ClusterId) -> bool {
    let bytes = std::fs::read(directory.join(IDENTITY_FILE)).unwrap();
    bytes.windows(32).any(|window| window == cluster.as_str().as_bytes())
}

/// The founder and its book, and whether it serves.
async fn serves(cluster: &Cluster, book: &Book) {
    settles(cluster, &["1 a"]).await;
    cluster.raft("a").propose(put("k", "v"), soon()).await.unwrap();
    let mut states = cluster.raft("a").state_changes();
    let founded = timeout(PATIENCE, states.wait_for(|state| state.cluster().is_some())).await;
    assert_eq!(founded.unwrap().unwrap().cluster().cloned(), book.recorded());
}

/// A cluster that `a` has founded and `b` and `c` have joined, one after the other.
async fn grown() -> (Cluster, Book) {
    let (mut cluster, book) = alone().await;
    set_size(&cluster, 3, 0).await;
    for (text, voters) in [("b", &["1 a", "2 b"][..]), ("c", &["1 a", "2 b", "3 c"])] {
        cluster.try_start(text, book.beginning(text)).await.unwrap();
        settles(&cluster, voters).await;
    }
    (cluster, book)
}

/// A founder that is stuck with a prepared volume, whose id nobody has recorded or somebody has.
async fn prepared(trouble: Trouble) -> (Cluster, Book, ClusterId) {
    let mut cluster = Cluster::new(&NAMES).await;
    let book = Book::of(&cluster.addresses);
    book.trouble(Some(trouble));
    cluster.try_start("a", book.beginning("a")).await.unwrap();
    let status = cluster.status("a", |status| status.cluster.is_some()).await;
    let id = status.cluster.clone().unwrap();
    // It opens its log before it asks for the record.
    let asks = async {
        while book.looks() < 2 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, asks).await.unwrap();
    assert!(is_on_volume(&cluster.directory("a"), &id), "the id is on the volume before it is recorded");
    (cluster, book, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_before_anything_is_prepared_begins_anew() {
    let mut cluster = Cluster::new(&NAMES).await;
    let book = Book::of(&cluster.addresses);
    book.trouble(Some(Trouble::Away));
    cluster.try_start("a", book.beginning("a")).await.unwrap();
    cluster.waits("a", "the book is away").await;
    assert_eq!(cluster.raft("a").status().cluster, None);
    cluster.crash("a");
    book.trouble(None);
    cluster.try_start("a", book.beginning("a")).await.unwrap();
    serves(&cluster, &book).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_before_the_id_is_recorded_goes_on_with_the_prepared_one() {
    let (mut cluster, book, id) = prepared(Trouble::StuckBefore).await;
    assert_eq!(book.recorded(), None);
    cluster.crash("a");
    book.trouble(None);
    cluster.try_start("a", book.beginning("a")).await.unwrap();
    serves(&cluster, &book).await;
    assert_eq!(book.recorded(), Some(id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_after_the_id_is_recorded_goes_on_when_both_agree() {
    let (mut cluster, book, id) = prepared(Trouble::StuckAfter).await;
    let recorded = async {
        while book.recorded().is_none() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, recorded).await.unwrap();
    cluster.crash("a");
    // By now others may have been there.
    book.volumes(&["data-b"]);
    book.trouble(None);
    cluster.try_start("a", book.beginning("a")).await.unwrap();
    serves(&cluster, &book).await;
    assert_eq!(book.recorded(), Some(id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_after_the_id_is_recorded_waits_when_they_do_not_agree() {
    let (mut cluster, book, id) = prepared(Trouble::StuckBefore).await;
    cluster.crash("a");
    book.trouble(None);
    let other = ClusterId::from_random(77);
    book.write(Some(other.clone()));
    cluster.try_start("a", book.beginning("a")).await.unwrap();
    cluster
        .waits("a", &format!("was prepared to found cluster {id}, which is not recorded in the book; cluster {other}"))
        .await;
    cluster.crash("a");
    book.write(None);
    book.volumes(&["data-b", "data-c"]);
    cluster.try_start("a", book.beginning("a")).await.unwrap();
    cluster.waits("a", "other volumes exist (data-b, data-c)").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.raft("a").status().voters.len(), 0, "Raft is not initialized");
    // Once a person has deleted them, it goes on.
    book.volumes(&[]);
    serves(&cluster, &book).await;
    assert_eq!(book.recorded(), Some(id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_power_may_fail_before_every_sync_and_rename_of_the_beginning() {
    let (mut ended, mut seen, mut is_initialized) = (0, Vec::new(), false);
    for steps in 0.. {
        let mut cluster = Cluster::new(&NAMES).await;
        let book = Book::of(&cluster.addresses);
        let volume = Arc::new(CutVolume::new(cluster.volume("a").await, steps));
        let started = cluster.start_on("a", book.beginning("a"), Arc::clone(&volume) as _).await.is_ok();
        if started {
            cluster
                .status("a", |status| {
                    status.membership == MembershipPhase::Settled || matches!(status.phase, Phase::Stopped(_))
                })
                .await;
            volume.rest().await;
        }
        let before = started.then(|| cluster.raft("a").status().cluster.clone()).flatten();
        // One that fails at once may not come to tell of it; what is cut off later has at least what was there before.
        is_initialized |= started && !cluster.raft("a").status().voters.is_empty();
        if started {
            cluster.crash("a");
        }
        let was_cut = volume.is_cut();
        drop(volume);
        seen.push((cluster.identity("a").await.stage(), book.recorded().is_some(), is_initialized));
        cluster.try_start("a", book.beginning("a")).await.unwrap();
        serves(&cluster, &book).await;
        if book.recorded() != before {
            assert!(before.is_none(), "after {steps} steps it was {before:?} and is {:?}", book.recorded());
        }
        if !was_cut {
            break;
        }
        ended += 1;
    }
    assert!(ended >= 10, "only {ended} steps were seen");
    seen.dedup();
    let steps = [
        (Stage::Empty, false, false),
        (Stage::Assigned, false, false),
        (Stage::Assigned, true, false),
        (Stage::Assigned, true, true),
        (Stage::Founded, true, true),
    ];
    assert_eq!(seen, steps, "prepared, recorded, initialized, done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_registry_an_empty_volume_waits_and_a_full_one_serves() {
    let (mut cluster, book) = grown().await;
    cluster.raft("a").propose(put("k", "v"), soon()).await.unwrap();
    NAMES.into_iter().for_each(|text| cluster.crash(text));
    book.trouble(Some(Trouble::Away));
    cluster.empty("c").await;
    let looks = book.looks();
    for text in ["a", "b"] {
        cluster.try_start(text, book.beginning(text)).await.unwrap();
    }
    assert_eq!(value(&cluster.raft("b").read(soon()).await.unwrap(), "k").as_deref(), Some("v"));
    assert_eq!(book.looks(), looks, "who has a place asks nobody");
    cluster.try_start("c", book.beginning("c")).await.unwrap();
    cluster.waits("c", "whether a cluster is recorded in the book is not known: the book is away").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.raft("c").status().cluster, None);
    book.trouble(None);
    settles(&cluster, &["1 a", "2 b", "4 c"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_a_whole_cluster_serves_nobody_where_another_one_is_recorded() {
    let (mut cluster, book) = alone().await;
    serves(&cluster, &book).await;
    cluster.crash("a");
    let own = book.recorded();
    book.write(Some(ClusterId::from_random(77)));
    cluster.try_start("a", book.beginning("a")).await.unwrap();
    let is_refused =
        |phase: &Phase| matches!(phase, Phase::Refused(why) if why.contains("of which nobody else answers"));
    cluster.status("a", |status| is_refused(&status.phase)).await;
    // By now it has elected itself, for which it needs nobody.
    sleep(Duration::from_secs(1)).await;
    let (raft, end) = (cluster.raft("a"), Instant::now() + Duration::from_millis(300));
    let written = raft.propose(put("k", "of another cluster"), end).await;
    assert!(matches!(written, Err(ProposeError::NotApplied(Unavailable::Waiting(_)))), "{written:?}");
    let read = raft.read(end).await.map(|state| value(&state, "k"));
    assert!(matches!(read, Err(Unavailable::Waiting(_))), "{read:?}");
    assert_eq!(value(&raft.state(), "k").as_deref(), Some("v"));
    cluster.crash("a");
    book.write(own);
    cluster.try_start("a", book.beginning("a")).await.unwrap();
    serves(&cluster, &book).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_founder_of_a_living_cluster_joins_it_and_founds_no_second_one() {
    let (mut cluster, book) = grown().await;
    cluster.raft("b").propose(put("k", "v"), soon()).await.unwrap();
    let id = book.recorded();
    cluster.crash("a");
    cluster.empty("a").await;
    book.volumes(&["data-b", "data-c"]);
    cluster.try_start("a", book.beginning("a")).await.unwrap();
    settles(&cluster, &["2 b", "3 c", "4 a"]).await;
    assert_eq!(cluster.raft("a").status().cluster, id);
    assert_eq!(book.recorded(), id);
    assert_eq!(value(&cluster.raft("a").read(soon()).await.unwrap(), "k").as_deref(), Some("v"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_with_an_empty_volume_waits_while_other_volumes_exist_and_no_cluster_is_recorded() {
    let (mut cluster, book) = grown().await;
    let id = book.recorded();
    NAMES.into_iter().for_each(|text| cluster.crash(text));
    // Installed again: the record is gone with the one that held it, and so is the founder's volume.
    cluster.empty("a").await;
    book.write(None);
    book.volumes(&["data-b", "data-c"]);
    cluster.try_start("a", book.beginning("a")).await.unwrap();
    cluster.waits("a", "no cluster is recorded in the book, but other volumes exist (data-b, data-c)").await;
    // Its members run again, and know better than the record.
    for text in ["b", "c"] {
        cluster.try_start(text, book.beginning(text)).await.unwrap();
    }
    cluster.waits("a", "which is not recorded in the book").await;
    book.write(id.clone());
    settles(&cluster, &["2 b", "3 c", "4 a"]).await;
    assert_eq!(cluster.raft("a").status().cluster, id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_may_not_found_waits_for_the_one_that_may() {
    let mut cluster = Cluster::new(&NAMES).await;
    let book = Book::of(&cluster.addresses);
    cluster.try_start("b", book.beginning("b")).await.unwrap();
    cluster.waits("b", "the cluster is being founded by a").await;
    cluster.try_start("a", book.beginning("a")).await.unwrap();
    cluster.waits("b", "nobody has said that it should be larger").await;
    assert_eq!(cluster.raft("b").status().cluster, None);
}
