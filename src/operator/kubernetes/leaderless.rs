//! What members do when nobody leads. Then there is no Raft leader whose operator could act, so the members take turns, and do
//! only two things: one tells people that there is no quorum, and any of them brings back pods of voters that were scaled away.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::Release;
use super::client::ApiServer;
use super::error::ApiError;
use super::events::{Teller, events, reference};
use super::metrics::{Operation, OperatorMetrics};
use super::watching::Kind;
use super::writer::Rest;
use crate::coordinator::{Consistency, Coordinator, Read};
use crate::operator::resources::{
    API_VERSION, ConditionType, Finding, MemberState, QuorateCluster, QuorateClusterStatus, Truth, conditions,
};

/// Without a quorum for so long, something is done; before that the members elect.
const PATIENCE: Duration = Duration::from_secs(10);

/// The member with the lowest id acts first; each next one waits so much longer, and finds it done. Longer than a look and the time
/// between two of them, by which members differ in when they miss the quorum.
const TURN: Duration = Duration::from_secs(5);

/// A member that a Raft leader has called unreachable is most likely cut off alone, and tells of a lost quorum only after this.
const DOUBT: Duration = Duration::from_mins(1);

/// Between two looks at the quorum, and at the API server unless it has failed; and how long one of the former may take.
const LOOK: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(1);

/// How long the API server may take.
const REQUEST: Duration = Duration::from_secs(5);

/// The name under which a member without a Raft leader owns what it writes.
const MANAGER: &str = "quorate-leaderless";

/// Looks, and does what has to be done. Never ends.
pub(super) async fn watch(
    api_server: &ApiServer,
    release: &Release,
    coordinator: &Coordinator,
    metrics: &OperatorMetrics,
) {
    let (teller, events) = events(&api_server.client, release, metrics);
    let watching = Leaderless { client: &api_server.client, release, coordinator, metrics, teller };
    tokio::join!(events.write(), watching.watch());
}

struct Leaderless<'a> {
    client: &'a Client,
    release: &'a Release,
    coordinator: &'a Coordinator,
    metrics: &'a OperatorMetrics,
    teller: Teller,
}

/// The API server did not do what it was asked for; that is counted and logged already.
struct Failed;

/// Whether a member has told of this loss of the quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    Open,
    Done,
}

impl Leaderless<'_> {
    async fn watch(&self) {
        let (mut alone_since, mut telling, mut rest) = (None, Telling::Open, None::<Rest>);
        loop {
            let looked = Instant::now();
            if self.has_quorum().await {
                (alone_since, telling, rest) = (None, Telling::Open, None);
            } else {
                let since = *alone_since.get_or_insert(looked);
                let is_due = rest.as_ref().is_none_or(|rest| rest.until <= Instant::now());
                if is_due && since.elapsed() >= PATIENCE + TURN * self.turn() {
                    rest = match self.act(&mut telling, since.elapsed()).await {
                        Ok(()) => None,
                        Err(Failed) => Some(Rest::after_error(rest, Instant::now())),
                    };
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Whether a quorum answers. One that is only slow is the Raft leader's matter, but not one that has left it: then it writes
    /// nothing.
    async fn has_quorum(&self) -> bool {
        let deadline = Instant::now() + ANSWER;
        let read = Read { consistency: Consistency::Linearizable, min_revision: None, deadline };
        self.coordinator.read(read).await.is_ok()
            || self.coordinator.kept_leadership().is_some()
            || self.coordinator.cluster().await.available
    }

    /// Which turn this member has: its place among the voters.
    fn turn(&self) -> u32 {
        let status = self.coordinator.status();
        let before = status.voters.keys().filter(|voter| Some(**voter) < status.member).count();
        u32::try_from(before).unwrap_or(u32::MAX)
    }

    async fn act(&self, telling: &mut Telling, alone: Duration) -> Result<(), Failed> {
        let (clusters, sets) = (self.clusters(), self.stateful_sets());
        let name = self.release.name();
        let looked = timeout(REQUEST, futures::future::try_join(clusters.get_opt(name), sets.get_opt(name))).await;
        let (cluster, set) = match looked {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(self.failed(Operation::Watch, &ApiError::from(&error))),
            Err(_) => return Err(self.failed(Operation::Watch, &ApiError::timeout())),
        };
        let is_paused = cluster.as_ref().is_some_and(|cluster| cluster.spec.paused);
        let brought = match set.filter(|_| !is_paused) {
            Some(set) => self.bring_back(&set).await,
            None => Ok(()),
        };
        let is_open = |cluster: &QuorateCluster| *telling == Telling::Open && !self.is_doubtful(cluster, alone);
        if let Some(cluster) = cluster.filter(is_open) {
            self.tell(&cluster).await?;
            *telling = Telling::Done;
        }
        brought
    }

    /// Gives the StatefulSet the replicas that all voters need, if it has fewer: a release that comes back on old volumes begins
    /// with one, and somebody may have scaled it down.
    async fn bring_back(&self, set: &StatefulSet) -> Result<(), Failed> {
        let status = self.coordinator.status();
        let needed = status.voters.values().filter_map(|node| self.release.ordinal_of(&node.name)).max();
        let (Some(needed), present) =
            (needed.map(|ordinal| ordinal + 1), set.spec.as_ref().and_then(|spec| spec.replicas))
        else {
            return Ok(());
        };
        if present.is_none_or(|present| i64::from(present) >= i64::from(needed)) {
            return Ok(());
        }
        warn!(?present, needed, "there is no quorum, and pods of voters are not there: scaling the StatefulSet up");
        let change = json!({
            "metadata": { "resourceVersion": set.metadata.resource_version },
            "spec": { "replicas": needed },
        });
        let (sets, parameters) = (self.stateful_sets(), parameters());
        let change = Patch::Merge(change);
        let scaled = timeout(REQUEST, sets.patch_scale(self.release.name(), &parameters, &change));
        self.count(Operation::Scale, scaled.await.map(|scaled| scaled.map(drop)))
    }

    /// Whether it may be this member alone that hears nobody: a Raft leader has written so.
    fn is_doubtful(&self, cluster: &QuorateCluster, alone: Duration) -> bool {
        let own = self.coordinator.status().member.and_then(|member| i64::try_from(member.get()).ok());
        let members = cluster.status.iter().flat_map(|status| &status.members);
        let is_missed = members.into_iter().any(|it| Some(it.id) == own && it.state == MemberState::Unreachable);
        is_missed && alone < DOUBT
    }

    /// Tells that there is no quorum, once for each loss: who is only cut off itself must not say it again and again.
    async fn tell(&self, cluster: &QuorateCluster) -> Result<(), Failed> {
        let status = cluster.status.clone().unwrap_or_default();
        let Some(told) = self.loss(cluster, &status) else { return Ok(()) };
        let (api, name) = (self.clusters(), self.release.name());
        let document = Patch::Apply(json!({
            "apiVersion": API_VERSION,
            "kind": "QuorateCluster",
            "metadata": {
                "name": name,
                "namespace": self.release.namespace(),
                // Whoever has written in between knows more.
                "resourceVersion": cluster.metadata.resource_version,
            },
            "status": told,
        }));
        let parameters = PatchParams::apply(MANAGER).force();
        let written = timeout(REQUEST, api.patch_status(name, &parameters, &document)).await;
        self.count(Operation::WriteStatus, written.map(|written| written.map(drop)))?;
        let uid = cluster.metadata.uid.clone().unwrap_or_default();
        let about = reference(Kind::Cluster, self.release.namespace(), name, &uid);
        self.teller.tell_turned(&about, &status.conditions, &told.conditions);
        Ok(())
    }

    /// What to tell; nothing when it is told already, when the resource is not this cluster's, or when a newer leadership than
    /// this member has heard of writes it: then only this member is cut off.
    fn loss(&self, cluster: &QuorateCluster, status: &QuorateClusterStatus) -> Option<QuorateClusterStatus> {
        let state = self.coordinator.state();
        let (id, leadership) = (state.cluster()?.to_string(), state.leadership()?.leadership);
        let is_told = |condition: ConditionType| {
            let known = status.conditions.iter().find(|known| known.type_ == condition.as_str());
            known.is_some_and(|known| known.status == Truth::False.as_str())
        };
        let lost = [ConditionType::QuorumAvailable, ConditionType::Ready];
        let own = i64::try_from(leadership.get()).ok();
        if status.cluster_id.as_ref() != Some(&id) || status.observed_leadership > own || lost.into_iter().all(is_told)
        {
            return None;
        }
        let findings = lost.map(|condition| Finding {
            condition,
            truth: Truth::False,
            reason: "NoQuorum",
            message: "no majority of the voters has answered for 10 seconds; what needs one waits".to_owned(),
        });
        let now = self.coordinator.time_of_day();
        Some(QuorateClusterStatus {
            cluster_id: Some(id),
            observed_leadership: own,
            conditions: conditions(&status.conditions, &findings, cluster.metadata.generation, now),
            ..QuorateClusterStatus::default()
        })
    }

    fn count(&self, operation: Operation, done: Result<kube::Result<()>, Elapsed>) -> Result<(), Failed> {
        match done {
            Ok(Ok(())) => {
                self.metrics.written(operation);
                Ok(())
            }
            Ok(Err(error)) => Err(self.failed(operation, &ApiError::from(&error))),
            Err(_) => Err(self.failed(operation, &ApiError::timeout())),
        }
    }

    fn failed(&self, operation: Operation, error: &ApiError) -> Failed {
        self.metrics.failed(operation, error.reason);
        debug!(%error, "nothing could be done about a lost quorum yet");
        Failed
    }

    fn clusters(&self) -> Api<QuorateCluster> {
        Api::namespaced(self.client.clone(), self.release.namespace())
    }

    fn stateful_sets(&self) -> Api<StatefulSet> {
        Api::namespaced(self.client.clone(), self.release.namespace())
    }
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}
