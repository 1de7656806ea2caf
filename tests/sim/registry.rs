//! The seam for what knows of a cluster outside of its volumes, in the simulator: it answers late, or with an error, or with an
//! error though it has done what was asked.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use quorate::raft::{ClusterRegistry, Known, Recorded, RegistryError};
use quorate::types::ClusterId;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use crate::cluster::{initial_cluster, name};

/// What is recorded. Clones share it.
#[derive(Clone)]
pub struct SimRegistry {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    rng: SmallRng,
    recorded: Option<ClusterId>,
    /// Members that have ever had a volume.
    volumes: BTreeSet<usize>,
    is_away: bool,
    errors: u64,
}

/// It, as one member asks it.
struct Door {
    registry: SimRegistry,
    member: usize,
}

impl SimRegistry {
    pub fn new(rng: &mut SmallRng) -> Self {
        let (rng, volumes) = (SmallRng::from_rng(rng), BTreeSet::new());
        Self { inner: Arc::new(Mutex::new(Inner { rng, recorded: None, volumes, is_away: false, errors: 0 })) }
    }

    /// What a member is given.
    pub fn door(&self, member: usize) -> Arc<dyn ClusterRegistry> {
        self.inner().volumes.insert(member);
        Arc::new(Door { registry: self.clone(), member })
    }

    /// From now on it answers nothing, or again.
    pub fn set_away(&self, is_away: bool) {
        self.inner().is_away = is_away;
    }

    /// How often it gave an error.
    pub fn errors(&self) -> u64 {
        self.inner().errors
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    async fn travel(&self) {
        let delay = Duration::from_micros(self.inner().rng.random_range(100..50_000));
        sleep(delay).await;
    }

    /// An answer, unless it gets lost.
    fn answer<T>(&self, answer: T) -> Result<T, RegistryError> {
        let mut inner = self.inner();
        let is_lost = inner.rng.random_bool(0.2);
        if inner.is_away || is_lost {
            inner.errors += 1;
            return Err(RegistryError("the registry is away".to_owned()));
        }
        Ok(answer)
    }
}

impl ClusterRegistry for Door {
    fn place(&self) -> String {
        "the registry".to_owned()
    }

    fn look(&self) -> BoxFuture<'_, Result<Known, RegistryError>> {
        async {
            self.registry.travel().await;
            let known = {
                let inner = self.registry.inner();
                let others = inner.volumes.iter().filter(|member| **member != self.member);
                let other_volumes = others.map(|member| format!("data-{}", name(*member))).collect();
                Known { recorded: inner.recorded.clone(), other_volumes, others: initial_cluster() }
            };
            self.registry.travel().await;
            self.registry.answer(known)
        }
        .boxed()
    }

    fn record<'a>(&'a self, cluster: &'a ClusterId) -> BoxFuture<'a, Result<Recorded, RegistryError>> {
        async {
            self.registry.travel().await;
            self.registry.answer(())?;
            let recorded = self.registry.inner().recorded.get_or_insert_with(|| cluster.clone()).clone();
            self.registry.travel().await;
            self.registry.answer(if recorded == *cluster { Recorded::AsAsked } else { Recorded::Other(recorded) })
        }
        .boxed()
    }
}
