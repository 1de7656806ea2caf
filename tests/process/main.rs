//! Real `quorate serve` processes on loopback: killed, stopped, with emptied volumes and failing disks, and among strangers.

#![allow(clippy::print_stdout, reason = "figures are part of what this ring is for")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]
#![allow(clippy::disallowed_methods, reason = "a test may spawn as it likes")]

mod benchmarks;
mod candidates;
mod client;
mod clocks;
mod commands;
mod concepts;
mod crowds;
mod examples;
mod faults;
mod fuzzing;
mod kills;
mod metrics;
mod pauses;
mod running;
mod silence;
mod stopping;
mod streams;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "each ring uses a part of what is shared")]
mod support;

use support::trio;
use tokio::sync::{Mutex, MutexGuard};

/// Only one cluster runs at a time: its figures would mean nothing otherwise.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}
