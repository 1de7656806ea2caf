//! What the transport tells Prometheus.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::hello::RefusalCause;

/// Why a connection that another member (or a stranger) opened was closed by this member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// The hello was refused.
    Refused(RefusalCause),
    /// What came was no frame, or none that belongs there.
    Garbage,
    /// No hello came in time.
    SlowHello,
    /// Nothing came for so long that the other end must be gone.
    Silent,
    /// The other end does not read what it asked for.
    Stuck,
    /// There are too many connections already.
    TooMany,
    /// The layer under the frames could not be set up.
    Tls,
}

impl Closed {
    const ALL: [Self; 13] = [
        Self::Refused(RefusalCause::Protocol),
        Self::Refused(RefusalCause::Cluster),
        Self::Refused(RefusalCause::Member),
        Self::Refused(RefusalCause::Incarnation),
        Self::Refused(RefusalCause::Superseded),
        Self::Refused(RefusalCause::Seat),
        Self::Refused(RefusalCause::Stopping),
        Self::Garbage,
        Self::SlowHello,
        Self::Silent,
        Self::Stuck,
        Self::TooMany,
        Self::Tls,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Refused(cause) => cause.label(),
            Self::Garbage => "garbage",
            Self::SlowHello => "slow-hello",
            Self::Silent => "silent",
            Self::Stuck => "stuck",
            Self::TooMany => "too-many",
            Self::Tls => "tls",
        }
    }
}

/// The transport's metrics. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct TransportMetrics {
    closed: IntCounterVec,
    /// Connections that other members have opened to this one.
    pub(super) connections: IntGauge,
    /// Attempts to connect to another member that failed.
    pub(super) failed_dials: IntCounter,
}

impl TransportMetrics {
    /// Declares the metrics in `registry`.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let closed = Opts::new(
            "quorate_member_connections_closed_total",
            "Connections to the member port that this member refused or closed, by cause.",
        );
        let metrics = Self {
            closed: IntCounterVec::new(closed, &["cause"])?,
            connections: IntGauge::new(
                "quorate_member_connections",
                "Connections that other members have opened to this one.",
            )?,
            failed_dials: IntCounter::new(
                "quorate_member_dials_failed_total",
                "Attempts to connect to another member that failed.",
            )?,
        };
        for cause in Closed::ALL {
            metrics.closed.with_label_values(&[cause.label()]);
        }
        registry.register(Box::new(metrics.closed.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.failed_dials.clone()))?;
        Ok(metrics)
    }

    /// Counts a connection that this member closed.
    pub(super) fn closed(&self, cause: Closed) {
        self.closed.with_label_values(&[cause.label()]).inc();
    }
}
