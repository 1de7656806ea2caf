//! What sessions, elections and locks tell Prometheus.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, exponential_buckets,
};

use crate::machine::Machine;
use crate::machine::command::{ContestId, ContestKind};
use crate::machine::event::{Cause, Change};
use crate::raft::RaftHandle;
use crate::types::FencingToken;
use crate::watch::{Filter, Hub, Next};

const KINDS: [ContestKind; 2] = [ContestKind::Election, ContestKind::Lock];

/// What is counted as it happens.
#[derive(Debug, Clone)]
pub(super) struct SessionMetrics {
    pub(super) keep_alives: IntCounter,
    ended: IntCounterVec,
    transitions: IntCounterVec,
    leaderless_seconds: Histogram,
}

impl SessionMetrics {
    /// Declares the metrics in `registry`.
    ///
    /// # Errors
    /// When they are declared there already.
    pub(super) fn register(registry: &Registry, raft: &RaftHandle) -> Result<Self, prometheus::Error> {
        let ended = Opts::new("quorate_sessions_ended_total", "Sessions that this member has seen end, by cause.");
        let transitions = Opts::new(
            "quorate_grants_ended_total",
            "Grants that this member has seen end, by kind of contest and cause.",
        );
        let leaderless = HistogramOpts::new(
            "quorate_election_leaderless_seconds",
            "Time between the end of an election's leader, as its deadline has it, and the grant to the next.",
        );
        let metrics = Self {
            keep_alives: IntCounter::new(
                "quorate_keep_alives_total",
                "Signs of life of sessions that this member took.",
            )?,
            ended: IntCounterVec::new(ended, &["cause"])?,
            transitions: IntCounterVec::new(transitions, &["kind", "cause"])?,
            leaderless_seconds: Histogram::with_opts(leaderless.buckets(exponential_buckets(0.001, 2.0, 18)?))?,
        };
        for cause in Cause::ALL {
            metrics.ended.with_label_values(&[cause.as_str()]);
            for kind in KINDS {
                metrics.transitions.with_label_values(&[kind.as_str(), cause.as_str()]);
            }
        }
        registry.register(Box::new(metrics.keep_alives.clone()))?;
        registry.register(Box::new(metrics.ended.clone()))?;
        registry.register(Box::new(metrics.transitions.clone()))?;
        registry.register(Box::new(metrics.leaderless_seconds.clone()))?;
        registry.register(Box::new(Present::new(raft.clone())?))?;
        Ok(metrics)
    }

    /// Counts what happens. Never ends.
    pub(super) async fn follow(self, raft: RaftHandle, hub: Hub) {
        loop {
            let mut claims = hub.subscribe(Filter::Claims, hub.newest());
            while let Next::Notice(notice) = claims.next().await {
                let state = raft.state();
                notice.changes.iter().for_each(|change| self.count(change, &state));
            }
        }
    }

    fn count(&self, change: &Change, state: &Arc<Machine>) {
        match change {
            Change::SessionEnded { cause, .. } => self.ended.with_label_values(&[cause.as_str()]).inc(),
            Change::Lost { contest, cause, .. } => {
                self.transitions.with_label_values(&[contest.kind.as_str(), cause.as_str()]).inc();
            }
            Change::Granted { contest, grant, .. } if contest.kind == ContestKind::Election => {
                if let Some(millis) = leaderless_before(state, contest, grant.token) {
                    #[expect(clippy::cast_precision_loss, reason = "it is a time, not a count")]
                    self.leaderless_seconds.observe(millis as f64 / 1e3);
                }
            }
            Change::KeyPut { .. }
            | Change::KeyDeleted { .. }
            | Change::ConfigPut { .. }
            | Change::ConfigDeleted { .. }
            | Change::SessionCreated { .. }
            | Change::Waiting { .. }
            | Change::Granted { .. }
            | Change::Withdrawn { .. }
            | Change::ElectionSet { .. }
            | Change::ConsumerReported { .. }
            | Change::LeadershipBegun { .. }
            | Change::MemberAnnounced { .. }
            | Change::MemberForgotten { .. }
            | Change::SizeSet(_)
            | Change::Steered(_)
            | Change::ClusterFounded
            | Change::Compacted { .. } => {}
        }
    }
}

/// For how long nobody held it before that grant; `None` when it is not the successor of another, or long ago.
fn leaderless_before(state: &Machine, contest: &ContestId, grant: FencingToken) -> Option<u64> {
    let recent = &state.contests().get(contest)?.recent;
    let mut successors = recent.iter().filter_map(|transition| transition.successor);
    successors.find(|(token, _)| *token == grant).map(|(_, vacant_ms)| vacant_ms)
}

/// What is there, found when it is asked for.
struct Present {
    raft: RaftHandle,
    sessions: IntGauge,
    held: IntGaugeVec,
    waiting: IntGaugeVec,
}

impl Present {
    fn new(raft: RaftHandle) -> Result<Self, prometheus::Error> {
        let held = Opts::new("quorate_grants", "Grants that are held, by kind of contest.");
        let waiting = Opts::new("quorate_claims_waiting", "Candidates and waiters in queues, by kind of contest.");
        Ok(Self {
            raft,
            sessions: IntGauge::new("quorate_sessions", "Sessions that live.")?,
            held: IntGaugeVec::new(held, &["kind"])?,
            waiting: IntGaugeVec::new(waiting, &["kind"])?,
        })
    }
}

impl Collector for Present {
    fn desc(&self) -> Vec<&Desc> {
        [self.sessions.desc(), self.held.desc(), self.waiting.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let state = self.raft.state();
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.sessions.set(gauge(state.sessions().len() as u64));
        for kind in KINDS {
            let contests = || state.contests().list(kind, None);
            let waiting: u64 = contests().map(|(_, record)| u64::from(record.waiting)).sum();
            let held: usize = contests().map(|(contest, _)| state.contests().holders(contest).count()).sum();
            self.waiting.with_label_values(&[kind.as_str()]).set(gauge(waiting));
            self.held.with_label_values(&[kind.as_str()]).set(gauge(held as u64));
        }
        [self.sessions.collect(), self.held.collect(), self.waiting.collect()].concat()
    }
}
