//! What the member's dealings with the API server tell Prometheus.

use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::error::Reason;
use super::watching::Kind;

/// What is asked of the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Watch,
    WriteStatus,
    Scale,
    WriteEvent,
    /// To label the pod of a leader, or to take the label away.
    Label,
    /// To keep a Lease.
    Lease,
    /// To see which members should not lead.
    Fitness,
}

impl Operation {
    const ALL: [Self; 7] =
        [Self::Watch, Self::WriteStatus, Self::Scale, Self::WriteEvent, Self::Label, Self::Lease, Self::Fitness];

    fn label(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::WriteStatus => "status",
            Self::Scale => "scale",
            Self::WriteEvent => "event",
            Self::Label => "label",
            Self::Lease => "lease",
            Self::Fitness => "fitness",
        }
    }
}

/// The metrics of one member's operator.
#[derive(Debug, Clone)]
pub struct OperatorMetrics {
    watching: IntGaugeVec,
    writes: IntCounterVec,
    errors: IntCounterVec,
    invalid: IntGaugeVec,
}

impl OperatorMetrics {
    /// Declares the metrics in `registry`.
    ///
    /// # Errors
    /// When they are declared there already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let watching = Opts::new(
            "quorate_kubernetes_watching",
            "1 while this member, as the Raft leader, sees what resources there are, else 0; by kind.",
        );
        let writes = Opts::new("quorate_kubernetes_writes_total", "Writes that the API server took; by operation.");
        let errors = Opts::new(
            "quorate_kubernetes_errors_total",
            "Requests that the API server did not answer, or refused; by operation and reason.",
        );
        let invalid = Opts::new(
            "quorate_resources_invalid",
            "Resources that are not valid, so that their last good version stays; by kind.",
        );
        let metrics = Self {
            watching: IntGaugeVec::new(watching, &["kind"])?,
            writes: IntCounterVec::new(writes, &["operation"])?,
            errors: IntCounterVec::new(errors, &["operation", "reason"])?,
            invalid: IntGaugeVec::new(invalid, &["kind"])?,
        };
        let all: [Box<dyn Collector>; 4] = [
            Box::new(metrics.watching.clone()),
            Box::new(metrics.writes.clone()),
            Box::new(metrics.errors.clone()),
            Box::new(metrics.invalid.clone()),
        ];
        all.into_iter().try_for_each(|collector| registry.register(collector))?;
        metrics.show_all();
        Ok(metrics)
    }

    /// Series that are there from the start can be alerted on.
    fn show_all(&self) {
        for kind in Kind::ALL {
            self.watching.with_label_values(&[kind.plural()]);
            self.invalid.with_label_values(&[kind.plural()]);
        }
        for operation in Operation::ALL {
            self.writes.with_label_values(&[operation.label()]);
            for reason in Reason::ALL {
                self.errors.with_label_values(&[operation.label(), reason.label()]);
            }
        }
    }

    pub(super) fn watching(&self, kind: Kind, sees: bool) {
        self.watching.with_label_values(&[kind.plural()]).set(i64::from(sees));
    }

    /// This member does not lead any more.
    pub(super) fn rest(&self) {
        for kind in Kind::ALL {
            self.watching(kind, false);
            self.invalid(kind, 0);
        }
    }

    pub(super) fn invalid(&self, kind: Kind, resources: usize) {
        self.invalid.with_label_values(&[kind.plural()]).set(i64::try_from(resources).unwrap_or(i64::MAX));
    }

    pub(super) fn written(&self, operation: Operation) {
        self.writes.with_label_values(&[operation.label()]).inc();
    }

    pub(super) fn failed(&self, operation: Operation, reason: Reason) {
        self.errors.with_label_values(&[operation.label(), reason.label()]).inc();
    }
}
