//! A member whose copy of the state is another one, though every checksum is right: broken memory, or a release that
//! computes something else. The members compare digests, and it must not go on serving.

use std::fs;
use std::path::Path;

use quorate::raft::{Phase, ProposeError, SnapshotThresholds, Unavailable};
use tokio::time::timeout;

use crate::cluster::{Cluster, PATIENCE, put, soon, value};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Members keep a digest every 4,096 entries: one more write than that passes one.
const PAST_A_DIGEST: usize = 4_097;

/// Writes that are in flight at a time.
const AT_A_TIME: usize = 128;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_state_differs_stops_and_says_why() {
    let (mut cluster, broken) = with_a_broken_copy().await;
    let leader = cluster.leader().await;
    assert_ne!(leader, broken);
    write(&cluster, &leader, PAST_A_DIGEST).await;
    stops(&mut cluster, &broken).await;
    assert_eq!(mismatches(&cluster, &leader), 1.0);
    cluster.crash(&broken);
    cluster.raft(&leader).propose(put("k", "the others go on"), soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raft_leader_whose_state_differs_stops_and_another_leads() {
    let (mut cluster, broken) = with_a_broken_copy().await;
    let member = cluster.raft(&broken).status().member;
    // On a busy machine leadership may move on before anybody looks.
    while cluster.leader().await != broken {
        cluster.raft(&broken).transfer(member, soon()).await.unwrap();
    }
    write(&cluster, &broken, PAST_A_DIGEST).await;
    stops(&mut cluster, &broken).await;
    assert!(mismatches(&cluster, &broken) >= 1.0);
    cluster.crash(&broken);
    let next = cluster.leader().await;
    cluster.raft(&next).propose(put("k", "the others go on"), soon()).await.unwrap();
    assert_eq!(value(&cluster.raft(&next).state(), "who").as_deref(), Some("everybody"));
}

/// A cluster in which one follower has restarted from a snapshot that the test has changed; its name.
async fn with_a_broken_copy() -> (Cluster, String) {
    let mut cluster = Cluster::new(&NAMES).await;
    // All of the log stays, so that the follower catches up from it and keeps the state of its own snapshot.
    cluster.snapshots = SnapshotThresholds { entries: 500, bytes: u64::MAX, kept: 1_000_000 };
    for text in NAMES {
        cluster.start(text).await;
    }
    let leader = cluster.leader().await;
    cluster.raft(&leader).propose(put("who", "everybody"), soon()).await.unwrap();
    write(&cluster, &leader, 600).await;
    let broken = cluster.follower().await;
    cluster.status(&broken, |status| status.snapshot.is_some()).await;
    cluster.crash(&broken);
    cluster.snapshots = SnapshotThresholds::default();
    // Until the directory is free again, a snapshot may still be on its way into it.
    drop(cluster.volume(&broken).await);
    change_snapshot(&cluster.directory(&broken), b"everybody", b"nobody at");
    cluster.start(&broken).await;
    let state = cluster.raft(&broken).read(soon()).await.unwrap();
    assert_eq!(value(&state, "who").as_deref(), Some("nobody at"), "the planted state is served until it is noticed");
    (cluster, broken)
}

async fn write(cluster: &Cluster, member: &str, count: usize) {
    for first in (0..count).step_by(AT_A_TIME) {
        let numbers = first..count.min(first + AT_A_TIME);
        let writes = numbers.map(|number| cluster.raft(member).propose(put("k", &number.to_string()), soon()));
        for written in futures::future::join_all(writes).await {
            written.unwrap();
        }
    }
}

/// Waits until a member has stopped because of its digest, which is the end of its process: a task has ended that must not.
async fn stops(cluster: &mut Cluster, broken: &str) {
    let status = cluster.status(broken, |status| matches!(status.phase, Phase::Stopped(_))).await;
    let Phase::Stopped(cause) = &status.phase else { unreachable!("it was waited for") };
    assert!(cause.starts_with("the state of this member after log entry 4096 has digest "), "{cause}");
    assert!(cause.contains("its copy is broken"), "{cause}");
    let failure = timeout(PATIENCE, cluster.members.get_mut(broken).unwrap().failures.next()).await.unwrap();
    assert_eq!(failure.task, "raft");
    let refused = cluster.raft(broken).propose(put("k", "v"), soon()).await.unwrap_err();
    assert!(matches!(&refused, ProposeError::NotApplied(Unavailable::Failed(_))), "{refused:?}");
    assert!(cluster.raft(broken).read(soon()).await.is_err());
}

fn mismatches(cluster: &Cluster, member: &str) -> f64 {
    cluster.count(member, "quorate_digest_mismatches_total")
}

/// Replaces a text in the newest snapshot by another of the same length, and makes the record's checksum right again.
fn change_snapshot(directory: &Path, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_snapshot = |path: &std::path::PathBuf| {
        path.file_name().unwrap().to_str().unwrap().starts_with("snapshot-") && path.extension().is_none()
    };
    let path = files.filter(is_snapshot).max().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // Magic and format; then each record: its length, its checksum, its content.
    let (mut offset, mut changed) = (12, 0);
    for number in 0.. {
        let Some(prefix) = bytes.get(offset..offset + 4) else { break };
        let length = u32::from_le_bytes(prefix.try_into().unwrap()) as usize;
        let (checksum, content) = bytes[offset + 4..offset + 4 + length].split_at_mut(4);
        if let Some(at) = content.windows(from.len()).position(|window| window == from) {
            content[at..at + from.len()].copy_from_slice(to);
            let named = crc32c::crc32c(format!("snapshot record {number}").as_bytes());
            checksum.copy_from_slice(&crc32c::crc32c_append(named, content).to_le_bytes());
            changed += 1;
        }
        offset += 4 + length;
    }
    assert_eq!(changed, 1, "the value stands in one record");
    fs::write(&path, bytes).unwrap();
}
