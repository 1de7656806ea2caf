//! What an acknowledged write costs, against what the disk itself takes for a sync (`make bench`).
//!
//! One client writes 100 bytes after 100 bytes to the Raft leader of three members, whose directories share one disk. In
//! turns with it, in the same directory, 4 KiB are appended to a file and synced with fdatasync. Both are told as
//! quantiles, and as the ratio of their medians in each round.

#![allow(clippy::print_stdout, reason = "figures are what this is for")]
#![allow(clippy::unwrap_used, reason = "a panic is how it fails")]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "it measures time")]

#[path = "../tests/support/trio.rs"]
#[allow(dead_code, reason = "the process ring uses the rest")]
mod trio;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use trio::Trio;

const ROUNDS: usize = 15;
const WRITES: usize = 200;

#[tokio::main]
async fn main() {
    let trio = Trio::running().await;
    let leader = trio.leader().await;
    let url = format!("{}/v1/kv/bench", trio.url(leader));
    // The first ones open connections and files.
    writes(&trio, &url).await;
    let (mut commits, mut syncs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (mut round, mut disk) = (writes(&trio, &url).await, synced_appends(&trio.data(leader)));
        ratios.push(quantile(&mut round, 500).as_secs_f64() / quantile(&mut disk, 500).as_secs_f64());
        commits.extend(round);
        syncs.extend(disk);
    }
    ratios.sort_by(f64::total_cmp);
    show("acknowledged write", &mut commits);
    show("4 KiB and fdatasync", &mut syncs);
    let [least, median, greatest] = [0, ROUNDS / 2, ROUNDS - 1].map(|index| ratios[index]);
    println!("ratio of the medians: {median:.2} ({least:.2} to {greatest:.2} in {ROUNDS} rounds of {WRITES})");
}

/// How long each of some writes took until it was acknowledged.
async fn writes(trio: &Trio, url: &str) -> Vec<Duration> {
    let mut took = Vec::new();
    for _ in 0..WRITES {
        let began = Instant::now();
        let answer = trio.http.put(url).body([7; 100].as_slice()).send().await.unwrap();
        took.push(began.elapsed());
        assert!(answer.status().is_success(), "{answer:?}");
        // The connection is used again only when the answer was read to its end.
        answer.bytes().await.unwrap();
    }
    took
}

/// How long the disk took for each of some appends with a sync.
fn synced_appends(directory: &Path) -> Vec<Duration> {
    let path = directory.join("bench");
    let mut file = File::create(&path).unwrap();
    let append = |_| {
        let began = Instant::now();
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        began.elapsed()
    };
    let took = (0..WRITES).map(append).collect();
    std::fs::remove_file(path).unwrap();
    took
}

/// What so many of a thousand took at the most.
fn quantile(took: &mut [Duration], of_thousand: usize) -> Duration {
    took.sort();
    took[(took.len() - 1) * of_thousand / 1000]
}

fn show(what: &str, took: &mut [Duration]) {
    let [half, most, nearly_all] = [500, 900, 990].map(|part| quantile(took, part).as_micros());
    println!("{what:<20} p50 {half:>6} us   p90 {most:>6} us   p99 {nearly_all:>6} us");
}
