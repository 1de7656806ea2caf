//! A real Kubernetes: API server, controllers, scheduler, kubelets and containers, on this machine.
//!
//! `cluster/` starts it (its page of help: `cluster/cluster`), `make kube` and `make kube-release` run these tests in it,
//! `make kube-up` keeps one for a person. Tests under `api` need nothing but the API server; those under `faults` break nodes;
//! those under `release`, and the longest of `faults`, install the chart.

#![allow(clippy::print_stdout, reason = "figures are part of what this ring is for")]
#![allow(clippy::disallowed_methods, reason = "a test may spawn as it likes, and read its own settings")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod abreast;
mod api;
mod applying;
mod clients;
mod command;
mod direct;
mod faults;
mod kubectl;
mod late;
mod members;
mod namespace;
mod nodes;
mod pods;
mod proxy;
mod release;
mod serving;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "each ring uses a part of what is shared")]
mod support;
mod trial;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::{Duration, sleep};

/// Whoever breaks nodes is alone with them, and whoever needs them as they are is beside others who do.
static NODES: RwLock<()> = RwLock::const_new(());

async fn alone() -> RwLockWriteGuard<'static, ()> {
    // Those who can be beside others come first, and share a turn.
    sleep(Duration::from_millis(100)).await;
    NODES.write().await
}

async fn beside_others() -> RwLockReadGuard<'static, ()> {
    NODES.read().await
}
