//! Kubernetes at the edge: resources in, statuses out.
//!
//! Every member runs this; it acts on the Raft leader only, in its leadership. Nothing of the data plane waits for the API
//! server: what cannot be read or written now is read or written later, in its newest form.
//!
//! Read next: `watching.rs` and `object.rs` (what the API server tells), `index.rs` (all of it, in memory), `statuses/` (what
//! should be told to people), `lapses.rs` (what was wrong last), `writer.rs` (who writes it), `controller.rs` (who runs them
//! when), `fitness.rs` (who should not lead), `labelling.rs` and `lease_mirror.rs` (the leaders' pods and Leases),
//! `leaderless.rs` (what members do when nobody leads), `registry.rs` (where a cluster that begins from one pod is recorded).

mod budgets;
mod client;
mod confirming;
mod controller;
mod error;
mod events;
mod fitness;
mod index;
mod labelling;
mod lapses;
mod leader_label;
mod leaderless;
mod leaders;
mod lease;
mod lease_mirror;
mod members;
mod metrics;
mod object;
mod objects;
mod registry;
mod replication;
mod statuses;
mod watching;
mod writer;

use tokio_util::sync::CancellationToken;

pub use client::{ApiServer, NoApiServer};
pub use metrics::OperatorMetrics;
pub use registry::QuorateClusterRegistry;

use crate::coordinator::Coordinator;
use crate::settings::Pod;
use crate::types::{MemberName, Namespace};

/// One installation, of which this member is a part: the StatefulSet, and the `QuorateCluster` of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    pub pod: Pod,
    /// Resources of other clusters are left alone.
    pub cluster: Namespace,
    /// The same in every pod.
    pub member_port: u16,
}

impl Release {
    /// `host:port` of this pod's member port, as other pods reach it.
    pub fn address(&self) -> String {
        self.address_of(self.pod.ordinal)
    }

    /// The only pod that may found a cluster.
    pub fn founder(&self) -> MemberName {
        MemberName::new(format!("{}-0", self.name())).expect("a pod's name with the shortest ordinal")
    }

    /// The ordinal of a pod of this StatefulSet.
    fn ordinal_of(&self, pod: &str) -> Option<u32> {
        pod.strip_prefix(self.name())?.strip_prefix('-')?.parse().ok()
    }

    /// A pod has the name, for as long as it has its place in the StatefulSet, that the headless Service gives it.
    fn address_of(&self, ordinal: u32) -> String {
        let (name, namespace) = (self.name(), self.namespace());
        format!("{name}-{ordinal}.{name}-members.{namespace}.svc:{}", self.member_port)
    }

    /// The name of this pod.
    fn own_pod(&self) -> String {
        format!("{}-{}", self.name(), self.pod.ordinal)
    }

    fn name(&self) -> &str {
        &self.pod.stateful_set
    }

    fn namespace(&self) -> &str {
        self.pod.namespace.as_str()
    }
}

/// Runs until `stopping`.
pub async fn run(
    api_server: ApiServer,
    release: Release,
    coordinator: Coordinator,
    metrics: OperatorMetrics,
    stopping: CancellationToken,
) {
    let leading = coordinator
        .in_each_leadership(|leadership| controller::run(&api_server, &release, &coordinator, &metrics, leadership));
    let watching = leaderless::watch(&api_server, &release, &coordinator, &metrics);
    let looking = fitness::watch_own(&api_server.client, &release, &coordinator, &metrics);
    stopping.run_until_cancelled(futures::future::join3(leading, watching, looking)).await;
}
