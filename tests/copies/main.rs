//! How often a value is copied on its way through a cluster, seen from the memory that is asked for. Nothing else may happen in this
//! process meanwhile, so it is a ring of its own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test reports, and the counts are for its reader"
)]

#[allow(dead_code, reason = "another ring needs the rest")]
#[path = "../raft/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "another ring needs the rest")]
#[path = "../raft/counted.rs"]
mod counted;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use cluster::{Cluster, put, soon};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes of a value: so many that all else does not count.
const LARGE: usize = 1 << 20;

/// Writes whose mean is taken.
const WRITES: usize = 16;

/// How often three members may ask for as much memory as a value has. Each: once for the record of the log, twice for the page of
/// the file that it stands in, twice to hash what the key was and is, once for the key. The Raft leader: once for the command and
/// for each other member. Who reads from a connection doubles what it has until all has arrived. And some for the pages of a file.
const COPIES: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_is_copied_no_more_often_than_needed() {
    let cluster = Cluster::founded(&["a", "b", "c"]).await;
    for writer in [cluster.leader().await, cluster.follower().await] {
        let command = put("k", &"v".repeat(LARGE));
        cluster.raft(&writer).propose(command.clone(), soon()).await.unwrap();
        let region = Region::new(ALLOCATOR);
        for _ in 0..WRITES {
            cluster.raft(&writer).propose(command.clone(), soon()).await.unwrap();
        }
        for name in ["a", "b", "c"] {
            cluster.raft(name).read(soon()).await.unwrap();
        }
        let allocated = region.change().bytes_allocated / WRITES;
        println!("a value of {LARGE} bytes through {writer}: three members asked for {allocated} bytes");
        assert!(allocated <= COPIES * LARGE, "{allocated} bytes for one of {LARGE}");
    }
}
