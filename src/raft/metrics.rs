//! What consensus counts for Prometheus. The log store declares its own metrics, the transport too; what is there at present is in
//! `present.rs`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets};
use tokio::time::Instant;

use super::read_barrier::RoundMetrics;
use crate::types::MemberId;

/// Why the Raft leader changed, as far as this member can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeCause {
    /// This member did not know a Raft leader before.
    First,
    /// The one before made way.
    Transfer,
    /// Nobody listened at the address of the one before any more.
    ProcessGone,
    /// The one before was not heard any more.
    Election,
}

impl ChangeCause {
    const ALL: [Self; 4] = [Self::First, Self::Transfer, Self::ProcessGone, Self::Election];

    const fn label(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Transfer => "transfer",
            Self::ProcessGone => "process-gone",
            Self::Election => "election",
        }
    }
}

/// How the leadership before this one ended, as far as this member can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastEnd {
    MadeWay,
    ProcessGone,
    Unheard,
}

/// Why a Raft leader handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandoverCause {
    /// It was told to stop.
    Stopping,
    /// Somebody wanted it.
    Requested,
    /// It is to vote no more.
    Leaving,
    /// Its pod is ending, or its node takes no pods any more.
    Unfit,
    /// Another one is preferred.
    Preferred,
    /// Its disk took too long for seconds.
    SlowDisk,
    /// Its process got no processor for seconds.
    Starved,
}

impl HandoverCause {
    const ALL: [Self; 7] =
        [Self::Stopping, Self::Requested, Self::Leaving, Self::Unfit, Self::Preferred, Self::SlowDisk, Self::Starved];

    const fn label(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::Requested => "requested",
            Self::Leaving => "leaving",
            Self::Unfit => "unfit",
            Self::Preferred => "preferred",
            Self::SlowDisk => "slow-disk",
            Self::Starved => "starved",
        }
    }
}

/// What became of a suspicion against the Raft leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// Most voters saw that its process is gone.
    Gone,
    /// It answered.
    Alive,
    /// It could not be told in time.
    Unsure,
    /// Something else takes connections for it, so that it cannot be told.
    Proxied,
    /// This member saw that its process is gone, and too few others did.
    Outvoted,
    /// There was another Raft leader already.
    Superseded,
}

impl Suspicion {
    const ALL: [Self; 6] = [Self::Gone, Self::Alive, Self::Unsure, Self::Proxied, Self::Outvoted, Self::Superseded];

    const fn label(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Alive => "alive",
            Self::Unsure => "unsure",
            Self::Proxied => "proxied",
            Self::Outvoted => "outvoted",
            Self::Superseded => "superseded",
        }
    }
}

/// What was changed in the membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MembershipChange {
    /// A learner came in.
    Added,
    /// A learner became a voter.
    Promoted,
    /// A learner became a voter in the place of a member that lost its volume.
    Replaced,
    /// A voter became a learner.
    Demoted,
    /// A learner was taken away, that lost its volume or has no place any more.
    Removed,
}

impl MembershipChange {
    const ALL: [Self; 5] = [Self::Added, Self::Promoted, Self::Replaced, Self::Demoted, Self::Removed];

    const fn label(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Promoted => "promoted",
            Self::Replaced => "replaced",
            Self::Demoted => "demoted",
            Self::Removed => "removed",
        }
    }
}

/// The metrics of one member's Raft.
#[derive(Debug)]
pub(super) struct RaftMetrics {
    leader_changes: IntCounterVec,
    handovers: IntCounterVec,
    suspicions: IntCounterVec,
    /// Members whose end cannot be seen.
    pub(super) proxied: IntGauge,
    leaderless_seconds: Histogram,
    pub(super) commit_seconds: Histogram,
    membership_changes: IntCounterVec,
    pub(super) rounds: RoundMetrics,
    pub(super) reads: IntCounter,
    pub(super) forwarded: IntCounter,
    pub(super) digest_comparisons: IntCounter,
    pub(super) digest_mismatches: IntCounter,
    /// The Raft leader that was heard last, and when.
    heard: Mutex<Option<(MemberId, Instant)>>,
    /// Whether a Raft leader was known before.
    led_before: AtomicBool,
}

/// From half a millisecond to some seconds.
fn seconds(name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(exponential_buckets(0.000_5, 2.0, 15)?))
}

impl RaftMetrics {
    /// Declares the metrics in `registry`.
    ///
    /// # Errors
    /// When they are declared there already.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let changes = Opts::new("quorate_raft_leader_changes_total", "Changes of the Raft leader seen by this member.");
        let handovers =
            Opts::new("quorate_raft_handovers_total", "Times that this member handed Raft leadership over, by cause.");
        let suspicions = Opts::new(
            "quorate_raft_suspicions_total",
            "Times that this member looked whether the Raft leader's process is there, by what it found.",
        );
        let membership_changes = Opts::new(
            "quorate_membership_changes_total",
            "Changes of the membership made by this member as the Raft leader.",
        );
        let calls = HistogramOpts::new(
            "quorate_read_round_calls",
            "Reads and signs of life that shared one round of this member.",
        );
        let metrics = Self {
            leader_changes: IntCounterVec::new(changes, &["cause"])?,
            handovers: IntCounterVec::new(handovers, &["cause"])?,
            suspicions: IntCounterVec::new(suspicions, &["outcome"])?,
            proxied: IntGauge::new(
                "quorate_raft_proxied_members",
                "Members whose end this one cannot see, because something else takes connections for them.",
            )?,
            leaderless_seconds: seconds(
                "quorate_raft_leaderless_seconds",
                "Time between the last word of one Raft leader and the first of the next.",
            )?,
            commit_seconds: seconds(
                "quorate_raft_commit_seconds",
                "Time from proposing a command on the Raft leader until it was applied there.",
            )?,
            membership_changes: IntCounterVec::new(membership_changes, &["change"])?,
            rounds: RoundMetrics {
                rounds: IntCounter::new(
                    "quorate_read_rounds_total",
                    "Rounds in which this member made sure that a linearizable read is fresh.",
                )?,
                calls: Histogram::with_opts(calls.buckets(exponential_buckets(1.0, 4.0, 9)?))?,
            },
            reads: IntCounter::new(
                "quorate_linearizable_reads_total",
                "Linearizable reads served by this member; many share a round.",
            )?,
            forwarded: IntCounter::new(
                "quorate_proposals_forwarded_total",
                "Commands that this member sent on to the Raft leader.",
            )?,
            digest_comparisons: IntCounter::new(
                "quorate_digest_comparisons_total",
                "Comparisons of another member's state with this one's, made while this member led.",
            )?,
            digest_mismatches: IntCounter::new(
                "quorate_digest_mismatches_total",
                "Members whose state differed from that of most members at the same log index; must stay 0.",
            )?,
            heard: Mutex::new(None),
            led_before: AtomicBool::new(false),
        };
        for cause in ChangeCause::ALL {
            metrics.leader_changes.with_label_values(&[cause.label()]);
        }
        for cause in HandoverCause::ALL {
            metrics.handovers.with_label_values(&[cause.label()]);
        }
        for suspicion in Suspicion::ALL {
            metrics.suspicions.with_label_values(&[suspicion.label()]);
        }
        for change in MembershipChange::ALL {
            metrics.membership_changes.with_label_values(&[change.label()]);
        }
        for collector in metrics.collectors() {
            registry.register(collector)?;
        }
        Ok(metrics)
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.leader_changes.clone()),
            Box::new(self.handovers.clone()),
            Box::new(self.suspicions.clone()),
            Box::new(self.proxied.clone()),
            Box::new(self.leaderless_seconds.clone()),
            Box::new(self.commit_seconds.clone()),
            Box::new(self.membership_changes.clone()),
            Box::new(self.rounds.rounds.clone()),
            Box::new(self.rounds.calls.clone()),
            Box::new(self.reads.clone()),
            Box::new(self.forwarded.clone()),
            Box::new(self.digest_comparisons.clone()),
            Box::new(self.digest_mismatches.clone()),
        ]
    }

    /// The Raft leader gave a sign of life; on that leader itself, it is leading.
    pub(super) fn heard(&self, leader: MemberId) {
        let now = Instant::now();
        let before = self.heard.lock().unwrap_or_else(PoisonError::into_inner).replace((leader, now));
        if let Some((_, at)) = before.filter(|(previous, _)| *previous != leader) {
            self.leaderless_seconds.observe(now.duration_since(at).as_secs_f64());
        }
    }

    /// When a Raft leader was heard of last.
    pub(super) fn last_heard(&self) -> Option<Instant> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).map(|(_, at)| at)
    }

    /// Whether a Raft leader gave a sign of life within this time.
    pub(super) fn heard_within(&self, time: Duration) -> bool {
        self.last_heard().is_some_and(|at| at.elapsed() < time)
    }

    /// Counts a change of the Raft leader, and says why it changed.
    pub(super) fn leader_changed(&self, last_end: LastEnd) -> ChangeCause {
        let cause = match (self.led_before.swap(true, Ordering::AcqRel), last_end) {
            (false, _) => ChangeCause::First,
            (true, LastEnd::MadeWay) => ChangeCause::Transfer,
            (true, LastEnd::ProcessGone) => ChangeCause::ProcessGone,
            (true, LastEnd::Unheard) => ChangeCause::Election,
        };
        self.leader_changes.with_label_values(&[cause.label()]).inc();
        cause
    }

    /// Counts that this member has handed over.
    pub(super) fn handed_over(&self, cause: HandoverCause) {
        self.handovers.with_label_values(&[cause.label()]).inc();
    }

    /// Counts a suspicion.
    pub(super) fn suspected(&self, outcome: Suspicion) {
        self.suspicions.with_label_values(&[outcome.label()]).inc();
    }

    /// Counts a change of the membership.
    pub(super) fn membership_changed(&self, change: MembershipChange) {
        self.membership_changes.with_label_values(&[change.label()]).inc();
    }
}
