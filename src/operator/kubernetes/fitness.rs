//! Which members should not lead while another can: those whose pod is ending, or whose node takes no pods any more.
//!
//! Each member looks now and then at its own pod and the node of that, so that it lets others lead when the Raft leader is gone;
//! and the Raft leader at those of all, so that it hands over or passes them over. What cannot be seen changes nothing: without
//! the right to read nodes, only ending pods count.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use kube::api::{Api, GetParams};
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::Release;
use super::error::{ApiError, Reason, Trouble};
use super::metrics::{Operation, OperatorMetrics};
use super::writer::Rest;
use crate::coordinator::{Coordinator, Fitness};

/// Between two looks. A drain cordons the node first, and the pod that it ends hands leadership over by itself.
const EVERY: Duration = Duration::from_secs(5);

/// How long the API server may take for one look.
const PATIENCE: Duration = Duration::from_secs(4);

/// Without the right to read nodes, it is tried again after this: it may have been given.
const FORBIDDEN: Duration = Duration::from_mins(5);

/// Looks, lets the cluster know, and tells what keeps it from seeing. Never ends; when it is dropped, with the leadership, everybody
/// may lead.
pub(super) async fn watch(
    client: &Client,
    release: &Release,
    coordinator: &Coordinator,
    metrics: &OperatorMetrics,
    trouble: watch::Sender<Option<Trouble>>,
) {
    let _cleared = Cleared(coordinator);
    let mut looking = Looking::with(client, release, metrics);
    let (mut known, mut rest) = (BTreeSet::new(), None);
    loop {
        let status = coordinator.status();
        let members: BTreeSet<_> =
            status.voters.values().chain(status.learners.values()).map(|node| node.name.clone()).collect();
        let unfit = looking.look(members).await;
        if let Some(unfit) = &unfit {
            if *unfit != known {
                info!(members = ?unfit, "members that should not lead: their pods are ending, or their nodes are cordoned");
            }
            known.clone_from(unfit);
            coordinator.set_unfit(unfit.clone());
        }
        trouble.send_replace(looking.trouble());
        rest = next_look(rest, unfit.is_some()).await;
    }
}

/// Looks whether this member itself should lead, and lets it know. Never ends.
pub(super) async fn watch_own(
    client: &Client,
    release: &Release,
    coordinator: &Coordinator,
    metrics: &OperatorMetrics,
) {
    let mut looking = Looking::with(client, release, metrics);
    let (mut known, mut rest) = (Fitness::Fit, None);
    loop {
        let unfit = looking.look([release.own_pod()].into()).await;
        if let Some(unfit) = &unfit {
            let fitness = if unfit.is_empty() { Fitness::Fit } else { Fitness::Unfit };
            match fitness {
                _ if fitness == known => {}
                Fitness::Fit => info!("this member may lead again"),
                Fitness::Unfit => info!("this member should not lead: its pod is ending, or its node is cordoned"),
            }
            known = fitness;
            coordinator.set_fitness(fitness);
        }
        rest = next_look(rest, unfit.is_some()).await;
    }
}

/// Waits until it is time to look again: later each time that nothing could be seen, and not all members at once.
async fn next_look(former: Option<Rest>, was_seen: bool) -> Option<Rest> {
    let rest = (!was_seen).then(|| Rest::after_error(former, Instant::now() + EVERY));
    sleep_until(rest.as_ref().map_or(Instant::now() + EVERY, |rest| rest.until)).await;
    rest
}

/// What one leadership found out says nothing in the next.
struct Cleared<'a>(&'a Coordinator);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.0.set_unfit(BTreeSet::new());
    }
}

struct Looking {
    pods: Api<Pod>,
    nodes: Api<Node>,
    nodes_forbidden_until: Option<Instant>,
    metrics: OperatorMetrics,
    /// Why the last look has failed, and how many have in a row.
    failing: Option<(Reason, u32)>,
}

impl Looking {
    fn with(client: &Client, release: &Release, metrics: &OperatorMetrics) -> Self {
        Self {
            pods: Api::namespaced(client.clone(), release.namespace()),
            nodes: Api::all(client.clone()),
            nodes_forbidden_until: None,
            metrics: metrics.clone(),
            failing: None,
        }
    }

    /// The names of those who should not lead; `None` when that is not known now.
    async fn look(&mut self, members: BTreeSet<String>) -> Option<BTreeSet<String>> {
        let looked = timeout(PATIENCE, self.unfit(members)).await.unwrap_or_else(|_| Err(ApiError::timeout()));
        let failed = self.failing.map_or(0, |(_, times)| times);
        if let Err(error) = &looked {
            self.metrics.failed(Operation::Fitness, error.reason);
            match failed {
                0 => warn!(%error, "it is not known which members should not lead"),
                _ => debug!(%error, "it is still not known which members should not lead"),
            }
        }
        self.failing = looked.as_ref().err().map(|error| (error.reason, failed.saturating_add(1)));
        looked.ok()
    }

    /// What to tell people. That one look fails is nothing for them.
    fn trouble(&self) -> Option<Trouble> {
        let (reason, _) = self.failing.filter(|(_, times)| *times > 1)?;
        let why = match reason {
            Reason::Forbidden => "the members' ServiceAccount may not get them",
            other => other.text(),
        };
        Some(Trouble { reason: "PodsNotSeen", message: format!("pods of members are not seen: {why}") })
    }

    /// The names of those who should not lead.
    async fn unfit(&mut self, members: BTreeSet<String>) -> Result<BTreeSet<String>, ApiError> {
        // As the API server remembers them: that is cheap, and new enough.
        let read = async |name: &String| found(self.pods.get_with(name, &GetParams::any()).await);
        let pods = try_join_all(members.iter().map(read)).await?;
        let node_of = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let nodes: BTreeSet<_> = pods.iter().flatten().filter_map(node_of).collect();
        let cordoned = self.cordoned(&nodes).await?;
        let is_unfit = |pod: &Pod| {
            pod.metadata.deletion_timestamp.is_some() || node_of(pod).is_some_and(|node| cordoned.contains(&node))
        };
        let unfit = members.into_iter().zip(pods).filter(|(_, pod)| pod.as_ref().is_some_and(is_unfit));
        Ok(unfit.map(|(name, _)| name).collect())
    }

    /// Those of the nodes that take no pods any more; none without the right to see them.
    async fn cordoned<'a>(&mut self, nodes: &'a BTreeSet<String>) -> Result<BTreeSet<&'a String>, ApiError> {
        if self.nodes_forbidden_until.is_some_and(|until| Instant::now() < until) {
            return Ok(BTreeSet::new());
        }
        let read = async |node: &'a String| {
            let is_cordoned = |node: Node| node.spec?.unschedulable;
            let read = found(self.nodes.get_with(node, &GetParams::any()).await)?;
            Ok(read.and_then(is_cordoned).unwrap_or(false).then_some(node))
        };
        match try_join_all(nodes.iter().map(read)).await {
            Ok(cordoned) => Ok(cordoned.into_iter().flatten().collect()),
            Err(ApiError { reason: Reason::Forbidden, .. }) => {
                if self.nodes_forbidden_until.is_none() {
                    info!("nodes cannot be read, so a cordoned node does not make its member hand leadership over");
                }
                self.nodes_forbidden_until = Some(Instant::now() + FORBIDDEN);
                Ok(BTreeSet::new())
            }
            Err(error) => Err(error),
        }
    }
}

/// What there is, if it is there.
fn found<R>(got: kube::Result<R>) -> Result<Option<R>, ApiError> {
    match got.map_err(|error| ApiError::from(&error)) {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.reason == Reason::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
