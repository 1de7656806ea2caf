//! Writes what the Raft leader has to write: statuses, and the StatefulSet's size.
//!
//! What should be there is offered again and again; what is on its way or rests after an error is not begun twice. So there is
//! no queue that could grow, and what is written is always the newest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::error::{ApiError, Reason, Trouble};
use super::index::ObjectKey;
use super::metrics::{Operation, OperatorMetrics};
use super::object::Object;
use super::watching::{Kind, growing};

/// Writes on their way at a time: enough to be fast, few enough to be polite.
const IN_FLIGHT: usize = 8;

/// A write that takes longer has failed; whether it happened is seen by the watch.
const PATIENCE: Duration = Duration::from_secs(10);

/// One status is written so often at most, however often consumers or members change.
const POLITE: Duration = Duration::from_millis(500);

/// What could not be written for so long is told: that one write fails, or somebody else is faster, is nothing for people.
const TOLD: Duration = Duration::from_secs(2);

/// So long after a rest it is forgotten that there was an error.
const FORGIVEN: Duration = Duration::from_secs(30);

/// The name under which the Raft leader owns fields of a status.
pub(super) const MANAGER: &str = "quorate";

/// What is written to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) key: ObjectKey,
}

/// A write that has come to an end.
pub(super) struct Written {
    pub(super) target: Target,
    /// The object as it is now.
    pub(super) result: Result<Object, ApiError>,
    effect: Effect,
}

/// What came of a write that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Written,
    /// It was not the right thing to do any more.
    LeftOut,
}

/// After an error, or for politeness.
pub(super) struct Rest {
    pub(super) until: Instant,
    pauses: Option<ExponentialBackoff>,
}

impl Rest {
    /// A rest without an error.
    pub(super) fn until(until: Instant) -> Self {
        Self { until, pauses: None }
    }

    /// The next pause after an error, longer than the one before.
    pub(super) fn after_error(former: Option<Self>, now: Instant) -> Self {
        let known = former.and_then(|rest| rest.pauses);
        let mut pauses = known.unwrap_or_else(|| growing().build());
        let pause = pauses.next().unwrap_or(PATIENCE);
        Self { until: now + pause, pauses: Some(pauses) }
    }
}

/// Nothing but errors came of tries to write something.
struct Failing {
    since: Instant,
    /// The last try.
    until: Instant,
    reason: Reason,
}

/// Writes, a few at a time.
pub(super) struct StatusWriter {
    client: Client,
    metrics: OperatorMetrics,
    writing: FuturesUnordered<BoxFuture<'static, Written>>,
    on_their_way: BTreeSet<Target>,
    rests: BTreeMap<Target, Rest>,
    /// What is wrong with the API server is so for all objects of a kind: then none of them is tried.
    kinds: BTreeMap<Kind, Rest>,
    failing: BTreeMap<Target, Failing>,
}

impl StatusWriter {
    pub(super) fn new(client: Client, metrics: OperatorMetrics) -> Self {
        Self {
            client,
            metrics,
            writing: FuturesUnordered::new(),
            on_their_way: BTreeSet::new(),
            rests: BTreeMap::new(),
            kinds: BTreeMap::new(),
            failing: BTreeMap::new(),
        }
    }

    /// Whether a write to the target would begin now.
    pub(super) fn is_ready(&self, target: &Target, now: Instant) -> bool {
        self.writing.len() < IN_FLIGHT
            && !self.is_on_its_way(target)
            && self.rests.get(target).is_none_or(|rest| rest.until <= now)
            && self.kinds.get(&target.kind).is_none_or(|rest| rest.until <= now)
    }

    pub(super) fn is_on_its_way(&self, target: &Target) -> bool {
        self.on_their_way.contains(target)
    }

    /// Begins to write a status. It is meant for the object with that uid, not for a later one of the same name.
    pub(super) fn write_status(&mut self, target: Target, uid: &str, status: &Value) {
        let resource = target.kind.api_resource();
        let api = Api::<Object>::namespaced_with(self.client.clone(), &target.key.namespace, &resource);
        let document = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": { "name": target.key.name, "namespace": target.key.namespace, "uid": uid },
            "status": status,
        });
        let name = target.key.name.clone();
        self.begin(target, async move {
            let object = api.patch_status(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(document)).await?;
            Ok((object, Effect::Written))
        });
    }

    /// Begins to set how many replicas a StatefulSet has, if it is of that version still and `confirmed` says so right before.
    pub(super) fn scale(
        &mut self,
        target: Target,
        version: Option<u64>,
        replicas: i64,
        confirmed: impl Future<Output = bool> + Send + 'static,
    ) {
        let version = version.map(|version| version.to_string());
        let api =
            Api::<Object>::namespaced_with(self.client.clone(), &target.key.namespace, &target.kind.api_resource());
        let name = target.key.name.clone();
        self.begin(target, async move {
            let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            let change = json!({ "metadata": { "resourceVersion": version }, "spec": { "replicas": replicas } });
            let effect = match confirmed.await {
                true => api.patch_scale(&name, &parameters, &Patch::Merge(change)).await.map(|_| Effect::Written)?,
                false => Effect::LeftOut,
            };
            Ok((api.get(&name).await?, effect))
        });
    }

    fn begin(&mut self, target: Target, write: impl Future<Output = kube::Result<(Object, Effect)>> + Send + 'static) {
        self.on_their_way.insert(target.clone());
        let write = timeout(PATIENCE, write);
        self.writing.push(Box::pin(async move {
            let result = match write.await {
                Ok(result) => result.map_err(|error| ApiError::from(&error)),
                Err(_) => Err(ApiError::timeout()),
            };
            let effect = result.as_ref().map_or(Effect::LeftOut, |(_, effect)| *effect);
            Written { target, result: result.map(|(object, _)| object), effect }
        }));
    }

    /// Waits until a write has come to an end; for ever when there is none.
    pub(super) async fn next(&mut self) -> Written {
        let Some(written) = self.writing.next().await else { return std::future::pending().await };
        let (target, now) = (&written.target, Instant::now());
        self.on_their_way.remove(target);
        let operation = if target.kind == Kind::StatefulSet { Operation::Scale } else { Operation::WriteStatus };
        match &written.result {
            Ok(_) => {
                if written.effect == Effect::Written {
                    self.metrics.written(operation);
                }
                self.kinds.remove(&target.kind);
                self.failing.remove(target);
                self.rests.insert(target.clone(), Rest::until(now + POLITE));
            }
            Err(error) => {
                self.metrics.failed(operation, error.reason);
                let since = self.failing.get(target).map_or(now, |failing| failing.since);
                self.failing.insert(target.clone(), Failing { since, until: now, reason: error.reason });
                if error.reason.is_general() {
                    let former = self.kinds.remove(&target.kind);
                    if former.is_none() {
                        warn!(kind = target.kind.plural(), %error, "nothing can be written; it is tried again");
                    }
                    self.kinds.insert(target.kind, Rest::after_error(former, now));
                } else {
                    if error.reason != Reason::NotFound {
                        warn!(kind = target.kind.plural(), resource = %target.key, %error, "not written; it is tried again");
                    }
                    let former = self.rests.remove(target);
                    self.rests.insert(target.clone(), Rest::after_error(former, now));
                }
            }
        }
        written
    }

    /// What is not written: the StatefulSet, and statuses, once for each kind and reason. The log has the objects and the API server's
    /// words.
    pub(super) fn troubles(&self, now: Instant) -> impl Iterator<Item = Trouble> {
        let failing = self.failing(now).filter(|(kind, _)| *kind != Kind::StatefulSet);
        let kinds: BTreeSet<_> = failing.map(|(kind, reason)| (kind.plural(), reason.refused())).collect();
        let unwritten = kinds.into_iter().map(|(kind, why)| Trouble {
            reason: "StatusesNotWritten",
            message: format!("statuses of {kind} are not written: {why}"),
        });
        self.unscaled(now).into_iter().chain(unwritten)
    }

    fn unscaled(&self, now: Instant) -> Option<Trouble> {
        let (_, reason) = self.failing(now).find(|(kind, _)| *kind == Kind::StatefulSet)?;
        let why = match reason {
            Reason::Forbidden => {
                "the members' ServiceAccount may not patch its scale, or an admission policy refuses it"
            }
            other => other.text(),
        };
        Some(Trouble { reason: "NotScaled", message: format!("the StatefulSet is not scaled: {why}") })
    }

    /// What has failed for a while, and why. Whoever is gone gets nothing any more, which is nobody's mistake.
    fn failing(&self, now: Instant) -> impl Iterator<Item = (Kind, Reason)> {
        let failing = self.failing.iter().map(|(target, failing)| (target.kind, failing));
        let told = failing.filter(move |(_, it)| now >= it.since + TOLD && it.reason != Reason::NotFound);
        told.map(|(kind, failing)| (kind, failing.reason))
    }

    /// When something that rests may be written again.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Instant> {
        self.rests.retain(|_, rest| now < rest.until + FORGIVEN);
        self.failing.retain(|_, failing| now < failing.until + FORGIVEN);
        let rests = self.rests.values().chain(self.kinds.values());
        rests.map(|rest| rest.until).filter(|until| *until > now).min()
    }
}
