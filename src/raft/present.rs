//! What the metrics say of a member's present state, found when they are asked for: a commit pays nothing for it.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, IntGaugeVec, Opts};
use tokio::sync::watch;

use super::status::{RaftRole, RaftStatus};
use crate::machine::Machine;
use crate::types::LogIndex;

/// The gauges of one member's Raft and of what it has applied.
pub(super) struct Present {
    status: watch::Receiver<Arc<RaftStatus>>,
    state: watch::Receiver<Arc<Machine>>,
    is_leader: IntGauge,
    term: IntGauge,
    members: IntGaugeVec,
    max_lag: IntGauge,
    applied: IntGauge,
    revision: IntGauge,
    compacted: IntGauge,
    state_bytes: IntGauge,
    digest: IntGauge,
    forgotten_early: IntGauge,
}

impl Present {
    pub(super) fn new(
        status: watch::Receiver<Arc<RaftStatus>>,
        state: watch::Receiver<Arc<Machine>>,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            status,
            state,
            is_leader: IntGauge::new("quorate_raft_is_leader", "1 while this member is the Raft leader, else 0.")?,
            term: IntGauge::new("quorate_raft_term", "Raft's term.")?,
            members: IntGaugeVec::new(Opts::new("quorate_members", "Members of the cluster by role."), &["role"])?,
            max_lag: IntGauge::new(
                "quorate_raft_max_lag_entries",
                "On the Raft leader: log entries that the member farthest behind does not have.",
            )?,
            applied: IntGauge::new("quorate_applied_index", "Log index of the last entry applied by this member.")?,
            revision: IntGauge::new("quorate_applied_revision", "Revision of this member's state.")?,
            compacted: IntGauge::new("quorate_compacted_revision", "Oldest revision that can still be read.")?,
            state_bytes: IntGauge::new("quorate_state_bytes", "Encoded size of the replicated state.")?,
            digest: IntGauge::new(
                "quorate_state_digest",
                "48 bits of the state's digest; equal on all members that have applied the same index.",
            )?,
            forgotten_early: IntGauge::new(
                "quorate_requests_forgotten_early",
                "Requests forgotten before their time for want of room, since the cluster was founded.",
            )?,
        })
    }

    fn all(&self) -> [&dyn Collector; 10] {
        [
            &self.is_leader,
            &self.term,
            &self.members,
            &self.max_lag,
            &self.applied,
            &self.revision,
            &self.compacted,
            &self.state_bytes,
            &self.digest,
            &self.forgotten_early,
        ]
    }

    fn show(&self, status: &RaftStatus, state: &Machine) {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let count = |number: usize| gauge(number as u64);
        self.is_leader.set(i64::from(status.role == RaftRole::Leader));
        self.term.set(gauge(status.term.get()));
        self.members.with_label_values(&["voter"]).set(count(status.voters.len()));
        self.members.with_label_values(&["learner"]).set(count(status.learners.len()));
        let last = status.last_log.map_or(0, |index| index.get() + 1);
        let least = status.matched.values().map(|matched| matched.map_or(0, |index| index.get() + 1)).min();
        self.max_lag.set(gauge(least.map_or(0, |least| last.saturating_sub(least))));
        self.applied.set(gauge(state.applied().map_or(0, LogIndex::get)));
        self.revision.set(gauge(state.revision().get()));
        self.compacted.set(gauge(state.compacted().get()));
        self.state_bytes.set(gauge(state.state_bytes()));
        self.digest.set(state.digest().short());
        self.forgotten_early.set(gauge(state.requests().forgotten_early()));
    }
}

impl Collector for Present {
    fn desc(&self) -> Vec<&Desc> {
        self.all().iter().flat_map(|gauge| gauge.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (status, state) = (Arc::clone(&self.status.borrow()), Arc::clone(&self.state.borrow()));
        self.show(&status, &state);
        self.all().iter().flat_map(|gauge| gauge.collect()).collect()
    }
}
