//! How a member's Raft comes to life: what it is made of, and the order in which the parts are put together.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};
use prometheus::Registry;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, watch};

use super::attendance::Attendance;
use super::beginning::Beginning;
use super::clock::Clock;
use super::confirming;
use super::digests::Digests;
use super::failover::Failover;
use super::handle::RaftHandle;
use super::identity::{Identity, IdentityError};
use super::inbox::Reception;
use super::log_writer::LogMetrics;
use super::member::Member;
use super::metrics::RaftMetrics;
use super::present::Present;
use super::proposals::IN_FLIGHT;
use super::read_barrier::Rounds;
use super::receiving::Receiving;
use super::reports::Reports;
use super::room::Room;
use super::running::{Inlets, Running};
use super::status::{MembershipPhase, Phase, RaftRole, RaftStatus};
use super::tending::JOINING;
use super::transport::Network;
use super::volume::{Volume, blocking, tidy};
use crate::machine::command::MemberRecord;
use crate::machine::{FEATURE_LEVEL, Limits, Machine};
use crate::settings::Timing;
use crate::tasks::{Exit, Tasks};
use crate::types::{MemberName, Term};
use crate::watch::Hub;

/// What a member's Raft is made of.
pub struct Parts {
    pub name: MemberName,
    /// Base URL of this member's HTTP API, as other machines reach it.
    pub url: String,
    pub beginning: Beginning,
    pub timing: Timing,
    pub snapshots: SnapshotThresholds,
    pub volume: Arc<dyn Volume>,
    pub network: Arc<dyn Network>,
    pub clock: Arc<dyn Clock>,
    pub hub: Hub,
    pub registry: Registry,
}

/// When a snapshot is taken, and how much log is kept behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotThresholds {
    /// Log entries since the last one.
    pub entries: u64,
    /// Bytes of commands since the last one.
    pub bytes: u64,
    /// Entries that stay in the log, so that a member that restarts catches up from it. Large ones are fewer: those that are
    /// still in memory.
    pub kept: u64,
}

impl Default for SnapshotThresholds {
    fn default() -> Self {
        Self { entries: 50_000, bytes: 64 << 20, kept: 20_000 }
    }
}

/// Why a member cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("cannot use the data directory: {0}")]
    Volume(#[from] io::Error),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("cannot declare the metrics of Raft: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("the timing of elections cannot work: {0}")]
    Timing(#[from] openraft::ConfigError),
}

impl RaftHandle {
    /// Reads who this member is and starts the rest in the background: founding or joining a cluster, the log, Raft.
    /// [`RaftHandle::status`] tells how far that is, and that the member is refused when the volume is not its own. The end of
    /// Raft is the end of a task that must not end.
    ///
    /// # Errors
    /// When the volume cannot be read or is damaged, or what it is given cannot work.
    pub async fn start(parts: Parts, tasks: &Tasks) -> Result<Self, StartError> {
        let config = Arc::new(config(parts.timing, parts.snapshots)?);
        let (volume, name, clock) = (Arc::clone(&parts.volume), parts.name.clone(), Arc::clone(&parts.clock));
        let load = move || {
            tidy(&*volume)?;
            match Identity::load(&*volume, &name, &*clock) {
                Ok(identity) => Ok((identity, None)),
                Err(error) if error.is_about_whose_it_is() => {
                    Ok((Identity::stranger(&name, &*clock), Some(error.to_string())))
                }
                Err(error) => Err(error),
            }
        };
        let (identity, refused) = blocking(&*parts.volume, load).await??;
        let log_metrics = LogMetrics::register(&parts.registry)?;
        let metrics = RaftMetrics::register(&parts.registry)?;

        let (assigning, assignments) = mpsc::channel(1);
        let (joining, joins) = mpsc::channel(JOINING);
        let (confirmations, idle_confirmations) = Rounds::new();
        let (failover, suspicions) = Failover::new(parts.timing.fast_failover);
        let (questions, idle_questions) = Rounds::new();
        let member = Arc::new(Member {
            record: MemberRecord {
                name: parts.name.clone(),
                incarnation: identity.incarnation.clone(),
                url: parts.url,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                features: FEATURE_LEVEL,
                life: identity.life(),
            },
            tasks: tasks.clone(),
            lease: parts.timing.election_max,
            network: parts.network,
            clock: parts.clock,
            status: watch::Sender::new(Arc::new(first_status(&identity))),
            leading: watch::Sender::new(None),
            identity: watch::Sender::new(identity),
            assigning,
            joining,
            raft: watch::Sender::new(None),
            state: watch::Sender::new(Arc::new(Machine::new(Limits::default()))),
            confirmations,
            questions,
            attendance: Attendance::default(),
            proposals: Semaphore::new(IN_FLIGHT),
            receiving: Receiving::default(),
            guard: Arc::default(),
            reports: Reports::default(),
            met: Mutex::default(),
            digests: Digests::default(),
            metrics,
            room: Room::register(&parts.registry)?,
            failing: watch::Sender::new(None),
            removed: watch::Sender::new(false),
            stopping: AtomicBool::new(false),
            standing_back: AtomicBool::new(false),
            fitness: watch::Sender::default(),
            unfit: Mutex::default(),
            step: watch::Sender::default(),
            made_way: Mutex::new(None),
            failover,
            ails: AtomicBool::new(false),
        });
        parts.registry.register(Box::new(Present::new(member.status.subscribe(), member.state.subscribe())?))?;
        idle_confirmations.start(tasks, member.metrics.rounds.clone(), confirming::with_quorum(&member));
        idle_questions.start(tasks, member.metrics.rounds.clone(), confirming::with_leader(&member));
        let reception = Reception { member: Arc::downgrade(&member), identity: member.identity.subscribe() };
        member.network.open(Arc::new(reception), tasks);
        let running = Running {
            member: Arc::clone(&member),
            config,
            volume: parts.volume,
            hub: parts.hub,
            beginning: parts.beginning,
            snapshot_bytes: parts.snapshots.bytes,
            log_metrics,
            refused,
        };
        tasks.spawn("raft", Exit::Fatal, running.run(Inlets { assignments, joins, suspicions }));
        Ok(Self { member })
    }
}

fn first_status(identity: &Identity) -> RaftStatus {
    RaftStatus {
        phase: Phase::Waiting("it is starting".to_owned()),
        name: identity.name.clone(),
        incarnation: identity.incarnation.clone(),
        member: identity.seat().map(|seat| seat.member),
        cluster: identity.seat().map(|seat| seat.cluster.clone()),
        role: RaftRole::Learner,
        term: Term::ZERO,
        raft_leader: None,
        last_log: None,
        committed: None,
        applied: None,
        snapshot: None,
        purged: None,
        voters: BTreeMap::new(),
        learners: BTreeMap::new(),
        membership: MembershipPhase::Changing,
        quorum_acknowledged: None,
        matched: BTreeMap::new(),
    }
}

/// openraft's settings, with the reason where it is not plain.
fn config(timing: Timing, snapshots: SnapshotThresholds) -> Result<Config, openraft::ConfigError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: "quorate".to_owned(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        // A restarted leader must be elected again: its state machine begins at its snapshot, and it would serve old reads.
        enable_leader_restore: Some(false),
        // A member that was cut off must not depose a healthy leader when it comes back.
        enable_pre_vote: Some(true),
        // The log store cuts a batch at 4 MiB as well.
        max_payload_entries: 512,
        max_append_entries: Some(4096),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshots.entries),
        max_in_snapshot_log_to_keep: snapshots.kept,
        // Behind by more than is kept: then the log cannot help any more.
        replication_lag_threshold: snapshots.entries.saturating_add(snapshots.kept),
        // For the whole of a snapshot; each part has a deadline of its own.
        install_snapshot_timeout: 600_000,
        // About an election timeout at most, so that a member that comes back is heard before it starts an election.
        backoff: "20ms 40ms 80ms ...500ms".to_owned(),
        // Callers are bounded (see `proposals.rs`); this is room for all of them and for the other members' calls.
        api_channel_size: Some(8192),
        ..Config::default()
    };
    config.validate()
}
