//! Labels the pods of leaders, for as long as this member leads.
//!
//! It runs beside the rest of the operator, because seconds count less there than milliseconds here. Each write is one to a
//! version of a pod, and begins only after a quorum has confirmed that this member leads. So a Raft leader that is cut off labels
//! nothing; a request of a former one that was on its way already is refused if its successor has changed that pod since, and
//! else is taken back by the successor as soon as the watch tells of it. When nobody knows whether a label was set, for want of an
//! answer, that pod is looked at before another one is labelled.
//!
//! What to do is decided in `leader_label.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{AbortHandle, BoxStream, FuturesUnordered, SelectAll, abortable};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1;
use kube::Client;
use kube::api::{Api, ApiResource, ListParams, Patch, PatchParams};
use kube::runtime::watcher;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::confirming::confirmed;
use super::error::{ApiError, Reason, Trouble};
use super::index::ObjectKey;
use super::leader_label::{Change, Planned, Pod, Step, Wish, plan};
use super::leaders::{AllMarked, AllMarks, Marked, leaders};
use super::metrics::{Operation, OperatorMetrics};
use super::object::Object;
use super::objects::Objects;
use super::watching::watch_objects;
use super::writer::{MANAGER, Rest};
use crate::coordinator::Coordinator;
use crate::machine::Machine;
use crate::machine::command::ContestId;
use crate::operator::resources::LeaderLabel;
use crate::types::Leadership;

/// Between two looks at the state, which may change thousands of times in a second.
const SETTLING: Duration = Duration::from_millis(3);

/// Writes on their way at a time: a node that fails may have had the leaders of many elections.
const IN_FLIGHT: usize = 16;

/// A write that takes longer has failed; whether it happened is seen by the watch.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest that is waited between the removal of a label and its next setting.
const APART: Duration = Duration::from_millis(200);

/// Without a reason to look, there is a look so often.
const LOOK: Duration = Duration::from_secs(5);

/// Labels that are to go at a time: somebody may change a resource again and again where nothing can be written.
const MOST_LEAVING: usize = 100;

/// What is read from the API server and written to it.
pub(super) struct Labelling<'a> {
    pub(super) client: Client,
    pub(super) coordinator: &'a Coordinator,
    pub(super) leadership: Leadership,
    pub(super) metrics: &'a OperatorMetrics,
}

/// A namespace whose pods are watched.
struct Watched {
    pods: Objects<Pod>,
    ends: AbortHandle,
}

/// A watch that is not wanted any more ends.
impl Drop for Watched {
    fn drop(&mut self) {
        self.ends.abort();
    }
}

struct News {
    namespace: String,
    event: Result<watcher::Event<Object>, ApiError>,
}

/// A write that has come to an end, or a look at what became of it.
struct Written {
    election: ObjectKey,
    pod: ObjectKey,
    what: What,
    /// How long the API server took for it.
    took: Duration,
    result: Result<Object, NotWritten>,
}

enum What {
    /// The version is that of the pod for which it was decided.
    Change(Change, String),
    Look,
}

enum NotWritten {
    /// No quorum has confirmed in time that this member leads.
    Unconfirmed,
    /// It is not wanted any more.
    Moot,
    Refused(ApiError),
}

/// A label that is, or was, declared.
#[derive(Clone, PartialEq)]
struct Labelled {
    key: ObjectKey,
    label: LeaderLabel,
    /// Whose leaders should have it; nobody, when it is not declared any more.
    election: Option<ContestId>,
}

/// The pods of the leaders, by election.
type Leading = BTreeMap<ContestId, BTreeSet<String>>;

/// The work of one leadership.
struct Work<'a> {
    labelling: Labelling<'a>,
    marks: watch::Receiver<Arc<AllMarks>>,
    marked: watch::Sender<AllMarked>,
    /// Those that are declared, and then those that were and are there still.
    labels: Vec<Labelled>,
    namespaces: BTreeMap<String, Watched>,
    news: SelectAll<BoxStream<'static, News>>,
    writing: FuturesUnordered<BoxFuture<'static, Written>>,
    /// By pod: the election that is being set there, as long as it is not known what became of that; none where a label is being
    /// removed.
    on_their_way: BTreeMap<ObjectKey, Option<ContestId>>,
    rests: BTreeMap<ObjectKey, Rest>,
    /// Before when nobody is labelled for an election that has just removed a label: for as long again as that took. Kubernetes' own
    /// controller writes an EndpointSlice for each change, which takes about as long; and when the second change comes before it
    /// has seen that of the first, it tries again only after a second.
    apart: BTreeMap<ObjectKey, Instant>,
    /// Who led when it was planned last; `None` when something else has changed since.
    planned_for: Option<Leading>,
}

impl Labelling<'_> {
    /// Works for as long as it is polled.
    pub(super) async fn follow(self, marks: watch::Receiver<Arc<AllMarks>>, marked: watch::Sender<AllMarked>) {
        let work = Work {
            labelling: self,
            marks,
            marked,
            labels: Vec::new(),
            namespaces: BTreeMap::new(),
            news: SelectAll::new(),
            writing: FuturesUnordered::new(),
            on_their_way: BTreeMap::new(),
            rests: BTreeMap::new(),
            apart: BTreeMap::new(),
            planned_for: None,
        };
        work.follow().await;
    }

    fn pods(&self, namespace: &str) -> Api<Object> {
        Api::namespaced_with(self.client.clone(), namespace, &ApiResource::erase::<v1::Pod>(&()))
    }
}

impl Work<'_> {
    async fn follow(mut self) {
        let mut state = self.labelling.coordinator.state_changes();
        loop {
            let present = Arc::clone(&state.borrow_and_update());
            let now = Instant::now();
            self.act(&present, now);
            let settled = now + SETTLING;
            let due = self.rests.values().map(|rest| rest.until).filter(|until| *until > now);
            let next = due.fold(now + LOOK, Instant::min);
            tokio::select! {
                biased;
                Some(news) = self.news.next() => {
                    self.take(news);
                    while let Some(news) = self.news.next().now_or_never().flatten() {
                        self.take(news);
                    }
                }
                Some(written) = self.writing.next() => self.take_written(written),
                () = sleep_until(next) => self.planned_for = None,
                Ok(()) = self.marks.changed() => self.take_marks(),
                Ok(()) = state.changed(), if !self.labels.is_empty() => sleep_until(settled).await,
            }
        }
    }

    /// Takes in which labels are declared. One that is no more is to go.
    fn take_marks(&mut self) {
        let marks = Arc::clone(&self.marks.borrow_and_update());
        let declared = marks.iter().filter_map(|(key, marks)| {
            Some(Labelled { key: key.clone(), label: marks.label.clone()?, election: Some(marks.election.clone()) })
        });
        let former = std::mem::replace(&mut self.labels, declared.collect());
        let leaving = former.into_iter().filter(|former| !self.labels.contains(former));
        let leaving: Vec<_> = leaving.map(|former| Labelled { election: None, ..former }).collect();
        self.labels.extend(leaving.into_iter().take(MOST_LEAVING));
        self.watch_namespaces();
        self.planned_for = None;
    }

    /// Watches the pods of those namespaces in which there is a label.
    fn watch_namespaces(&mut self) {
        let wanted: BTreeSet<_> = self.labels.iter().map(|label| label.key.namespace.clone()).collect();
        self.namespaces.retain(|namespace, _| wanted.contains(namespace));
        for namespace in wanted {
            if !self.namespaces.contains_key(&namespace) {
                let (events, ends) = abortable(watch_objects(self.labelling.pods(&namespace)));
                let of = namespace.clone();
                self.news.push(events.map(move |event| News { namespace: of.clone(), event }).boxed());
                self.namespaces.insert(namespace, Watched { pods: Objects::default(), ends });
            }
        }
    }

    fn take(&mut self, News { namespace, event }: News) {
        match &event {
            Err(error) => {
                self.labelling.metrics.failed(Operation::Watch, error.reason);
                debug!(namespace, %error, "a watch of pods has ended with an error; it begins anew");
            }
            // Whatever was refused may be right for the pod as it is now.
            Ok(watcher::Event::Apply(object)) => {
                let name = object.metadata.name.clone().unwrap_or_default();
                self.rests.remove(&ObjectKey { namespace: namespace.clone(), name });
            }
            Ok(_) => {}
        }
        let Some(watched) = self.namespaces.get_mut(&namespace) else { return };
        watched.pods.take(event, |object, _| pod(&object));
        self.planned_for = None;
    }

    /// Begins the writes that are due, and tells what is labelled.
    fn act(&mut self, state: &Machine, now: Instant) {
        let pods =
            |election: &ContestId| leaders(state, election).into_iter().filter_map(|leader| leader.pod).collect();
        let elections = self.labels.iter().filter_map(|label| label.election.as_ref());
        let leading: Leading = elections.map(|election| (election.clone(), pods(election))).collect();
        if self.planned_for.as_ref() == Some(&leading) {
            return;
        }
        let (mut marked, mut gone, mut steps) = (AllMarked::new(), Vec::new(), Vec::new());
        for (label, planned) in self.plan(&leading) {
            let watched = &self.namespaces[&label.key.namespace];
            if label.election.is_none() && watched.pods.listed && planned.steps.is_empty() {
                gone.push(label.clone());
            }
            steps.extend(planned.steps.iter().map(|step| (label.clone(), step.clone())));
            if label.election.is_some() {
                marked.insert(label.key.clone(), tell(&label.key.namespace, watched, planned));
            }
        }
        for (label, step) in steps {
            self.begin(label, step, &leading, now);
        }
        if !gone.is_empty() {
            self.labels.retain(|label| !gone.contains(label));
            self.watch_namespaces();
        }
        self.marked.send_if_modified(|known| std::mem::replace(known, marked.clone()) != marked);
        self.planned_for = Some(leading);
    }

    /// What is to be done for each label.
    fn plan(&self, leading: &Leading) -> Vec<(Labelled, Planned)> {
        let mut all = Vec::new();
        for (namespace, watched) in &self.namespaces {
            let labels: Vec<_> = self.labels.iter().filter(|label| label.key.namespace == *namespace).collect();
            // Before all of them are seen, somebody who is labelled could be missed.
            let pods = watched.pods.iter().filter(|_| watched.pods.listed);
            let pods = pods.map(|(key, pod)| (key.name.as_str(), pod)).collect();
            let wish = |label: &&Labelled| {
                let leaders = label.election.as_ref().and_then(|election| leading.get(election));
                // One that leaves is as another election's: what is declared comes before it.
                let name = match label.election {
                    Some(_) => label.key.name.clone(),
                    None => format!("{}, as it was", label.key.name),
                };
                (name, Wish { label: label.label.clone(), leaders: leaders.cloned().unwrap_or_default() })
            };
            let wishes: Vec<_> = labels.iter().map(wish).collect();
            all.extend(labels.into_iter().cloned().zip(plan(&wishes, &pods)));
        }
        all
    }

    /// Begins a write, unless one to this pod is on its way or rests, or somebody who does not lead any more is being labelled.
    fn begin(&mut self, label: Labelled, step: Step, leading: &Leading, now: Instant) {
        let pod = ObjectKey { namespace: label.key.namespace.clone(), name: step.pod.clone() };
        let rests = self.rests.get(&pod).is_some_and(|rest| rest.until > now);
        if rests || self.on_their_way.contains_key(&pod) || self.writing.len() >= IN_FLIGHT {
            return;
        }
        let set = label.election.clone().filter(|_| step.change != Change::Remove);
        if set.as_ref().is_some_and(|election| self.labels_another(election, leading)) {
            return;
        }
        self.on_their_way.insert(pod.clone(), set);
        let Labelling { coordinator, leadership, .. } = &self.labelling;
        let (coordinator, leadership) = ((*coordinator).clone(), *leadership);
        let api = self.labelling.pods(&pod.namespace);
        let not_before = match step.change {
            Change::Set(_) => self.apart.get(&label.key).copied().unwrap_or(now),
            Change::Remove => now,
        };
        self.writing.push(Box::pin(async move {
            let (version, change) = (step.version.clone(), step.change.clone());
            sleep_until(not_before).await;
            let state = confirmed(&coordinator, leadership).await;
            let began = Instant::now();
            let result = match state {
                Some(state) => write(&api, &state, label.election, step).await,
                None => Err(NotWritten::Unconfirmed),
            };
            let what = What::Change(change, version);
            Written { election: label.key, pod, what, took: began.elapsed(), result }
        }));
    }

    /// Looks, after a rest, at a pod that is labelled or not: nobody knows. Until it is seen, nobody else is labelled.
    fn look(&mut self, election: ObjectKey, pod: ObjectKey, set: Option<ContestId>, now: Instant) {
        let (api, not_before) = (self.labelling.pods(&pod.namespace), self.rest(&pod, now));
        self.on_their_way.insert(pod.clone(), set);
        self.writing.push(Box::pin(async move {
            sleep_until(not_before).await;
            let began = Instant::now();
            // The members may list pods, and not get one.
            let named = ListParams::default().fields(&format!("metadata.name={}", pod.name));
            let result = match timeout(PATIENCE, api.list(&named)).await {
                Ok(Ok(seen)) => seen.items.into_iter().next().ok_or(NotWritten::Moot),
                Ok(Err(error)) => Err(NotWritten::Refused(ApiError::from(&error))),
                Err(_) => Err(NotWritten::Refused(ApiError::timeout())),
            };
            Written { election, pod, what: What::Look, took: began.elapsed(), result }
        }));
    }

    /// Whether a pod is being labelled for an election whose leader is not in it any more.
    fn labels_another(&self, election: &ContestId, leading: &Leading) -> bool {
        let leaders = leading.get(election);
        let mut pods = self.on_their_way.iter().filter(|(_, set)| set.as_ref() == Some(election));
        pods.any(|(pod, _)| leaders.is_none_or(|leaders| !leaders.contains(&pod.name)))
    }

    fn take_written(&mut self, written: Written) {
        let Written { election, pod: key, what, took, result } = written;
        let set = self.on_their_way.remove(&key).flatten();
        self.planned_for = None;
        let now = Instant::now();
        self.rests.retain(|_, rest| rest.until + LOOK > now);
        self.apart.retain(|_, until| *until > now);
        match result {
            Ok(object) => {
                if let What::Change(change, _) = what {
                    self.labelling.metrics.written(Operation::Label);
                    if change == Change::Remove {
                        self.apart.insert(election, now + took.min(APART));
                    }
                }
                self.rests.remove(&key);
                if let Some(watched) = self.namespaces.get_mut(&key.namespace) {
                    watched.pods.refresh(&object, |known, object| *known = pod(object));
                }
            }
            Err(NotWritten::Moot) => {}
            // The watch was faster than the answer.
            Err(NotWritten::Refused(error)) if error.reason == Reason::Conflict && self.has_changed(&key, &what) => {}
            Err(NotWritten::Refused(error)) => {
                self.labelling.metrics.failed(Operation::Label, error.reason);
                // Somebody else has changed the pod, or it is gone: the watch tells what is there.
                if !matches!(error.reason, Reason::NotFound | Reason::Conflict) {
                    warn!(pod = %key, %error, "the leader's label is not as it should be; it is tried again");
                }
                match what {
                    What::Change(Change::Set(_), _) if error.reason.is_doubtful() => self.look(election, key, set, now),
                    What::Look => self.look(election, key, set, now),
                    What::Change(..) => drop(self.rest(&key, now)),
                }
            }
            Err(NotWritten::Unconfirmed) => drop(self.rest(&key, now)),
        }
    }

    fn has_changed(&self, pod: &ObjectKey, what: &What) -> bool {
        let known = self.namespaces.get(&pod.namespace).and_then(|watched| watched.pods.get(pod));
        match what {
            What::Change(_, version) => known.is_none_or(|known| known.version != *version),
            What::Look => false,
        }
    }

    /// Until when nothing is tried with a pod.
    fn rest(&mut self, pod: &ObjectKey, now: Instant) -> Instant {
        let rest = Rest::after_error(self.rests.remove(pod), now);
        let until = rest.until;
        self.rests.insert(pod.clone(), rest);
        until
    }
}

/// Writes, if it is still the right thing to do.
async fn write(
    api: &Api<Object>,
    state: &Machine,
    election: Option<ContestId>,
    step: Step,
) -> Result<Object, NotWritten> {
    let is_there =
        |election: ContestId| leaders(state, &election).into_iter().any(|it| it.pod.as_ref() == Some(&step.pod));
    let leads = election.is_some_and(is_there);
    let value = match &step.change {
        Change::Set(value) if leads => Some(value),
        Change::Remove if !leads => None,
        Change::Set(_) | Change::Remove => return Err(NotWritten::Moot),
    };
    let change = json!({ "metadata": { "resourceVersion": step.version, "labels": { step.key: value } } });
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match timeout(PATIENCE, api.patch(&step.pod, &parameters, &Patch::Merge(change))).await {
        Ok(written) => written.map_err(|error| NotWritten::Refused(ApiError::from(&error))),
        Err(_) => Err(NotWritten::Refused(ApiError::timeout())),
    }
}

fn pod(object: &Object) -> Pod {
    let metadata = &object.metadata;
    Pod {
        version: metadata.resource_version.clone().unwrap_or_default(),
        labels: metadata.labels.clone().unwrap_or_default(),
    }
}

/// What is told of an election.
fn tell(namespace: &str, watched: &Watched, planned: Planned) -> Marked {
    let forbidden = watched.pods.trouble.as_ref().is_some_and(|error| error.reason == Reason::Forbidden);
    let trouble = if forbidden { Some(not_allowed(namespace)) } else { planned.trouble };
    let nowhere = if watched.pods.listed { planned.nowhere } else { BTreeSet::new() };
    Marked { pods: planned.labelled, nowhere, trouble }
}

fn not_allowed(namespace: &str) -> Trouble {
    let message = format!(
        "the members' ServiceAccount may not label pods in namespace {namespace}: add it to leaderLabel.namespaces in the values \
         of their chart, or remove spec.leaderLabel"
    );
    Trouble { reason: "NamespaceNotAllowed", message }
}
