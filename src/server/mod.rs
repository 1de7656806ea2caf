//! A member, built from top to bottom, and how it ends.
//!
//! This is the only place that knows every part. Read next: `shutdown.rs` (who asks to stop, and in which order the parts
//! do), `readiness.rs` (what the probes of the health port ask), `descriptors.rs` (how many clients there is room for),
//! `source.rs` (where resources come from), `clock.rs`.

mod clock;
mod descriptors;
mod readiness;
mod shutdown;
mod source;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpListener;
use tracing::info;

pub use clock::SystemClock;
pub use shutdown::{Stop, Stops};

use crate::api::{self, Api, HttpMetrics, health};
use crate::coordinator::Coordinator;
use crate::duties;
use crate::operator::kubernetes::{NoApiServer, OperatorMetrics};
use crate::raft::transport::{BindError, Layer, TcpNetwork};
use crate::raft::volume::{DiskVolume, VolumeError};
use crate::raft::{Clock, Parts, Phase, RaftHandle, SnapshotThresholds, StartError};
use crate::settings::MemberSettings;
use crate::tasks::{Failures, Tasks};
use crate::telemetry::new_registry;
use crate::watch::{Hub, HubLimits};
use readiness::Readiness;
use source::Source;

/// Why a member did not start, or could not go on.
#[derive(Debug, Error)]
pub enum MemberError {
    #[error("cannot listen on {address} ({setting}): {source}; stop what uses it, or set another address")]
    Listen { setting: &'static str, address: SocketAddr, source: io::Error },
    #[error(transparent)]
    MemberPort(#[from] BindError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Raft(#[from] StartError),
    #[error(transparent)]
    Kubernetes(#[from] NoApiServer),
    #[error("cannot declare the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    #[error("this member cannot go on: {0}")]
    Failed(String),
}

/// Runs a member until it is asked to stop or cannot go on.
///
/// # Errors
/// When it did not start, or could not go on.
pub async fn run(settings: MemberSettings) -> Result<(), MemberError> {
    let mut stops = Stops::listen().map_err(MemberError::Signals)?;
    let mut member = Member::start(&settings).await?;
    let stop = tokio::select! {
        biased;
        stop = stops.next() => stop,
        stop = shutdown::parent_gone(), if settings.stop_with_parent => stop,
        cause = member.failure() => return Err(MemberError::Failed(cause)),
    };
    info!(why = %stop, "stopping");
    shutdown::in_order(&member, settings.stop_delay, settings.stop_timeout, stops).await;
    info!("stopped");
    Ok(())
}

/// A running member.
struct Member {
    raft: RaftHandle,
    readiness: Arc<Readiness>,
    /// What uses the cluster: HTTP, resources, duties. Stopped first.
    front: Tasks,
    front_failures: Failures,
    /// What is the cluster: Raft, the member port; and the health port, which tells how the rest stops.
    back: Tasks,
    back_failures: Failures,
}

impl Member {
    async fn start(settings: &MemberSettings) -> Result<Self, MemberError> {
        let (back, back_failures) = Tasks::new();
        let (front, front_failures) = Tasks::new();
        let registry = new_registry();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let hub = Hub::new(HubLimits::default());

        // Everything that only this member may have is taken before anything is begun.
        let http = listen("--http", settings.http).await?;
        let health = listen("--health", settings.health).await?;
        let network = TcpNetwork::bind(&settings.member_listen.to_string(), Layer::Plain, &registry).await?;
        let volume = DiskVolume::open(&settings.data_dir)?;
        let source = Source::of(settings).await?;

        let parts = Parts {
            name: settings.name.clone(),
            url: settings.advertise_http.clone(),
            beginning: source.beginning(settings),
            timing: settings.timing,
            snapshots: SnapshotThresholds::default(),
            volume,
            network,
            clock: Arc::clone(&clock),
            hub: hub.clone(),
            registry: registry.clone(),
        };
        let raft = RaftHandle::start(parts, &back).await?;
        let coordinator = Coordinator::start(raft.clone(), hub, clock, settings.sessions, &registry, &front)?;

        duties::start(coordinator.clone(), &front);
        let operator_metrics = OperatorMetrics::register(&registry)?;
        source.start(coordinator.clone(), operator_metrics, &front);
        let readiness = Readiness::start(coordinator.clone(), &back);
        let http_metrics = HttpMetrics::register(&registry)?;
        let api = Api::new(coordinator, http_metrics, front.clone());
        let connections = descriptors::for_clients();
        api::listener::serve(http, api::router(api), connections, &front);
        api::listener::serve(health, health::router(readiness.probes(), registry), descriptors::PROBES, &back);
        let MemberSettings { name, http, health, member_listen, .. } = settings;
        info!(%name, %http, %health, %member_listen, "serving");
        Ok(Self { raft, readiness, front, front_failures, back, back_failures })
    }

    /// Waits until something has ended that must not end; says why.
    async fn failure(&mut self) -> String {
        let failure = tokio::select! {
            failure = self.back_failures.next() => failure,
            failure = self.front_failures.next() => failure,
        };
        match &self.raft.status().phase {
            Phase::Stopped(why) => why.clone(),
            Phase::Waiting(_) | Phase::Refused(_) | Phase::Running => format!("{}: {}", failure.task, failure.cause),
        }
    }
}

async fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, MemberError> {
    TcpListener::bind(address).await.map_err(|source| MemberError::Listen { setting, address, source })
}
