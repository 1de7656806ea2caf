//! What the Raft leader does with resources, from the beginning of its leadership to the end: it looks at what is declared and
//! at what the cluster holds, proposes the difference, and has the statuses written that are not right any more.

mod size;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::Release;
use super::client::ApiServer;
use super::error::Trouble;
use super::events::{Teller, events, reference};
use super::fitness;
use super::index::{Declaration, Index, ObjectKey, Seen, Status, Told};
use super::labelling::Labelling;
use super::lapses::Lapses;
use super::leaders::{AllMarked, AllMarks, Marked, Marks};
use super::lease_mirror::{self, LeaseMirror};
use super::members;
use super::metrics::{Operation, OperatorMetrics};
use super::replication::Replication;
use super::statuses::{Around, Refusal, Refusals, Writer};
use super::watching::{Kind, News, watch};
use super::writer::{StatusWriter, Target, Written};
use crate::coordinator::{ClusterView, Coordinator};
use crate::machine::command::{ConfigId, ContestId, ContestKind};
use crate::operator::plan::{Desired, Plan, ResourceId, Unclear, plan};
use crate::operator::proposing::{Carried, carry_out};
use crate::operator::resources::LeaderElection;
use crate::types::{ClusterId, ConfigName, ContestName, Leadership, Namespace};

/// What follows from the cluster's own state is looked at so long after it has changed, so that a thousand commands a second
/// lead to a few looks.
const SETTLING: Duration = Duration::from_millis(50);

/// Without a reason to look, there is a look so often.
const LOOK: Duration = Duration::from_secs(1);

/// So much news is taken in at a time: enough to look seldom, and no more memory than a page of a list.
const BATCH: usize = 500;

/// So many of the resources that another cluster claims are named in the condition; the log has all.
const NAMED: usize = 3;

/// What the cluster could not do is proposed again after this.
const AGAIN: Duration = Duration::from_millis(500);

/// What the cluster has refused is proposed again after this: there may be room by then.
const REFUSED_AGAIN: Duration = Duration::from_secs(5);

/// The work of one leadership.
pub(super) struct Controller<'a> {
    release: &'a Release,
    coordinator: &'a Coordinator,
    leadership: Leadership,
    metrics: &'a OperatorMetrics,
    news: SelectAll<BoxStream<'static, News>>,
    writer: StatusWriter,
    teller: Teller,
    index: Index,
    replication: Replication,
    refusals: Refusals,
    /// What people were told before a write that they were not told of yet: the watch may be faster than its answer, and one that has
    /// failed may have been done all the same.
    before: BTreeMap<Target, Told>,
    /// What was said to be wrong, so that it is said once.
    said: BTreeSet<String>,
    lapses: Lapses,
    marking: Marking,
    /// What those beside it cannot do.
    beside: [watch::Receiver<Option<Trouble>>; 2],
}

/// To and from those who mark other objects for elections.
struct Marking {
    marks: watch::Sender<Arc<AllMarks>>,
    marked: watch::Receiver<AllMarked>,
    leases: watch::Receiver<lease_mirror::Troubles>,
}

impl Drop for Controller<'_> {
    fn drop(&mut self) {
        self.metrics.rest();
    }
}

/// Works for as long as it is polled.
pub(super) async fn run(
    api_server: &ApiServer,
    release: &Release,
    coordinator: &Coordinator,
    metrics: &OperatorMetrics,
    leadership: Leadership,
) {
    let (teller, events) = events(&api_server.client, release, metrics);
    let (views, view) = watch::channel(None);
    let client = api_server.client.clone();
    let (marks, wanted) = watch::channel(Arc::default());
    let (labelled, marked) = watch::channel(AllMarked::new());
    let (kept, leases) = watch::channel(lease_mirror::Troubles::new());
    let (blind, unseen_pods) = watch::channel(None);
    let labelling = Labelling { client: client.clone(), coordinator, leadership, metrics };
    let mirroring = LeaseMirror { client, coordinator, leadership, metrics };
    let controller = Controller {
        release,
        coordinator,
        leadership,
        metrics,
        news: watch(&api_server.client, release),
        writer: StatusWriter::new(api_server.client.clone(), metrics.clone()),
        teller,
        index: Index::of(&release.cluster),
        replication: Replication::default(),
        refusals: Refusals::new(),
        before: BTreeMap::new(),
        said: BTreeSet::new(),
        lapses: Lapses::default(),
        marking: Marking { marks, marked, leases },
        beside: [unseen_pods, events.trouble()],
    };
    tokio::join!(
        events.write(),
        members::ask(coordinator, views),
        labelling.follow(wanted.clone(), labelled),
        mirroring.follow(wanted, kept),
        fitness::watch(&api_server.client, release, coordinator, metrics, blind),
        controller.follow(view)
    );
}

impl Controller<'_> {
    /// Looks, acts, and waits for a reason to look again.
    async fn follow(mut self, mut view: watch::Receiver<Option<ClusterView>>) {
        let mut state = self.coordinator.state_changes();
        loop {
            state.mark_unchanged();
            self.marking.tell(self.marks());
            let again = self.intake().await;
            let now = Instant::now();
            let seen = view.borrow_and_update().clone();
            self.report(seen.as_ref(), now);
            let next = [again, self.writer.next_due(now)].into_iter().flatten().fold(now + LOOK, Instant::min);
            tokio::select! {
                biased;
                Some(news) = self.news.next() => self.take(news).await,
                written = self.writer.next() => {
                    self.take_written(written);
                    while let Some(written) = self.writer.next().now_or_never() {
                        self.take_written(written);
                    }
                }
                () = sleep_until(next) => {}
                // When the member stops, this is dropped.
                Ok(()) = state.changed() => self.settle().await,
                Ok(()) = view.changed() => {}
                Ok(()) = self.marking.marked.changed() => {}
                Ok(()) = self.marking.leases.changed() => {}
            }
        }
    }

    /// Waits for more of what the cluster itself changes; what people declare does not wait for that.
    async fn settle(&mut self) {
        tokio::select! {
            biased;
            Some(news) = self.news.next() => self.take(news).await,
            () = sleep(SETTLING) => {}
        }
    }

    /// Takes in what there is news of, without waiting for more.
    async fn take(&mut self, first: News) {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Some(news) = self.news.next().now_or_never().flatten()
        {
            batch.push(news);
        }
        for news in &batch {
            if let Err(error) = &news.event {
                self.metrics.failed(Operation::Watch, error.reason);
                debug!(kind = news.kind.plural(), %error, "a watch has ended with an error; it begins anew");
            }
        }
        // To read a large resource takes a while, for which the runtime's own threads must not be kept from other work.
        let mut index = std::mem::take(&mut self.index);
        let read = spawn_blocking(move || {
            batch.into_iter().for_each(|news| index.take(news));
            index
        });
        self.index = read.await.expect("the thread is lost only with the whole process");
    }

    /// Proposes the difference between what is declared and what there is; when to do that again, if not after a change.
    async fn intake(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut todo = self.plan();
        todo.puts.retain(|resource, _| match self.refusals.get(resource) {
            Some(refusal) => refusal.generation != self.index.generation(resource) || now >= refusal.at + REFUSED_AGAIN,
            None => true,
        });
        self.refusals.retain(|resource, refusal| refusal.generation == self.index.generation(resource));
        let mut again = self.refusals.values().map(|refusal| refusal.at + REFUSED_AGAIN).filter(|at| *at > now).min();
        for (resource, carried) in carry_out(self.coordinator, self.leadership, todo).await {
            match carried {
                Carried::Out => drop(self.refusals.remove(&resource)),
                Carried::Rejected(rejection) => {
                    let generation = self.index.generation(&resource);
                    self.refusals.insert(resource, Refusal { generation, rejection, at: now });
                }
                Carried::NotYet => again = Some(now + AGAIN),
            }
        }
        if self.declare().await.is_err() {
            again = Some(now + AGAIN);
        }
        again
    }

    fn plan(&self) -> Plan {
        let mut unclear = Unclear { anything: !self.index.is_complete(), ..Unclear::default() };
        let (mut configs, mut elections) = (BTreeMap::new(), BTreeMap::new());
        for (key, seen) in self.ours(self.index.configs.iter()) {
            match &seen.wanted {
                Ok((id, document)) => drop(configs.insert(id, document)),
                Err(_) => unclear.resources.extend(config_id(key).map(ResourceId::Config)),
            }
        }
        for (key, seen) in self.ours(self.index.elections.iter()) {
            match &seen.wanted {
                Ok(wanted) => drop(elections.insert(&wanted.id, &wanted.spec)),
                Err(_) => unclear.resources.extend(election_id(key).map(ResourceId::Election)),
            }
        }
        plan(&Desired { configs, elections, unclear: &unclear }, &self.coordinator.state())
    }

    /// What elections have done to other objects.
    fn marks(&self) -> AllMarks {
        let marks = |(key, seen): (&ObjectKey, &Seen<LeaderElection>)| {
            let wanted = seen.wanted.as_ref().ok()?;
            let (election, uid) = (wanted.id.clone(), seen.uid.clone());
            let marks = Marks { election, uid, label: wanted.label.clone(), lease: wanted.lease.clone() };
            Some((key.clone(), marks)).filter(|(_, marks)| marks.label.is_some() || marks.lease.is_some())
        };
        self.ours(self.index.elections.iter()).filter_map(marks).collect()
    }

    /// Those that are for this cluster.
    fn ours<'a, R: Declaration + 'a>(
        &'a self,
        all: impl Iterator<Item = (&'a ObjectKey, &'a Seen<R>)>,
    ) -> impl Iterator<Item = (&'a ObjectKey, &'a Seen<R>)> {
        all.filter(|(_, seen)| seen.cluster == self.release.cluster.as_str())
    }

    /// Has everything written that is not told yet, and says what is wrong.
    fn report(&mut self, view: Option<&ClusterView>, now: Instant) {
        let state = self.coordinator.state();
        let Some(cluster) = state.cluster().cloned() else { return };
        self.replication.observe(&state, &self.coordinator.status());
        let writer =
            Writer { cluster: cluster.clone(), leadership: self.leadership, now: self.coordinator.time_of_day() };
        let (mut offers, mut foreign, mut invalid) = (Vec::new(), Vec::new(), Vec::new());
        for (key, seen) in self.ours(self.index.configs.iter()) {
            invalid.extend(seen.wanted.is_err().then(|| (Kind::Config, key.clone())));
            let status =
                config_id(key).and_then(|id| writer.of_config(&id, seen, &state, &self.replication, &self.refusals));
            offers.extend(self.offer(Kind::Config, key, seen, status, &cluster, &mut foreign));
        }
        for (key, seen) in self.ours(self.index.elections.iter()) {
            invalid.extend(seen.wanted.is_err().then(|| (Kind::Election, key.clone())));
            let status = election_id(key)
                .and_then(|id| writer.of_election(&id, seen, &state, &self.refusals, &self.marking.marked(key)));
            offers.extend(self.offer(Kind::Election, key, seen, status, &cluster, &mut foreign));
        }
        let (own, mut troubles) = (self.own_key(), self.troubles(now));
        let more = foreign.len().checked_sub(NAMED).filter(|more| *more > 0);
        let more = more.map(|more| format!("{more} more statuses are written by other clusters"));
        let others = foreign.iter().take(NAMED).cloned().chain(more);
        troubles.extend(others.map(|message| Trouble { reason: "StatusesNotWritten", message }));
        let past = self.lapses.observe(troubles.iter().map(|trouble| &trouble.message), writer.now);
        let wrong: Vec<_> = troubles.iter().map(|trouble| trouble.message.clone()).collect();
        if let (Some(seen), Some(view)) = (self.index.clusters.get(&own), view) {
            let replicas = self.index.replicas.get(&own).copied();
            let around = Around { serves: &self.release.cluster, replicas, troubles, past };
            let status = writer.of_cluster(seen, view, &around);
            // Written first, because it is one, and says how the rest is.
            let offer = self.offer(Kind::Cluster, &own, seen, status, &cluster, &mut foreign);
            offers.splice(..0, offer);
        }
        let invalid_of = |kind: Kind| invalid.iter().filter(|(of, _)| *of == kind).count();
        for kind in Kind::ALL {
            self.metrics.watching(kind, self.index.is_seen(kind));
            self.metrics.invalid(kind, invalid_of(kind));
        }
        // Why stands in their statuses, which say no more of it than a log may.
        let invalid = invalid
            .iter()
            .map(|(kind, key)| format!("{} {key} is not valid: see its condition Accepted", kind.plural()));
        let wrong = wrong.into_iter().chain(foreign).chain(invalid).collect();
        self.tell_late(&offers);
        for Offer { target, uid, status } in offers {
            if self.may_write(&target, now) {
                let told = self.index.told(target.kind, &target.key).expect("it was seen just now");
                self.before.entry(target.clone()).or_insert(told);
                self.writer.write_status(target, &uid, &status);
            }
        }
        self.scale(now);
        self.say(wrong);
    }

    /// A status that is to be written, unless another cluster writes it.
    fn offer<R: Declaration>(
        &self,
        kind: Kind,
        key: &ObjectKey,
        seen: &Seen<R>,
        status: Option<impl Serialize>,
        cluster: &ClusterId,
        foreign: &mut Vec<String>,
    ) -> Option<Offer> {
        let status = status?;
        let former = seen.status.as_ref().and_then(|status| status.cluster_id());
        if let Some(owner) =
            former.filter(|former| *former != cluster.as_str()).and_then(|former| self.index.owner(former))
        {
            foreign
                .push(format!("the status of {} {key} is written by {owner}, so this cluster does not", kind.plural()));
            return None;
        }
        let status = serde_json::to_value(status).expect("a status is JSON");
        Some(Offer { target: Target { kind, key: key.clone() }, uid: seen.uid.clone(), status })
    }

    /// Whether a write would begin now. One that its peers may have deposed begins none.
    fn may_write(&self, target: &Target, now: Instant) -> bool {
        self.coordinator.kept_leadership() == Some(self.leadership) && self.writer.is_ready(target, now)
    }

    fn own_key(&self) -> ObjectKey {
        ObjectKey { namespace: self.release.namespace().to_owned(), name: self.release.name().to_owned() }
    }

    /// Takes in what a write has left, and tells what has turned by it.
    fn take_written(&mut self, Written { target, result, .. }: Written) {
        let Ok(object) = result else { return };
        self.index.take_written(target.kind, &object);
        self.tell(&target);
    }

    /// Tells of writes that have failed, as far as their answers say, and were done all the same: nothing is left to write.
    fn tell_late(&mut self, offers: &[Offer]) {
        let open: BTreeSet<_> = offers.iter().map(|offer| &offer.target).collect();
        let is_done = |target: &&Target| !open.contains(target) && !self.writer.is_on_its_way(target);
        let done: Vec<_> = self.before.keys().filter(is_done).cloned().collect();
        done.iter().for_each(|target| self.tell(target));
    }

    /// Tells what has turned in a status since before this leadership wrote it. What somebody else has written since, they tell.
    fn tell(&mut self, target: &Target) {
        let (before, after) = (self.before.remove(target), self.index.told(target.kind, &target.key));
        let Some((before, after)) = before.zip(after).filter(|(before, after)| before.uid == after.uid) else { return };
        if after.leadership != i64::try_from(self.leadership.get()).ok() {
            return;
        }
        let about = reference(target.kind, &target.key.namespace, &target.key.name, &after.uid);
        self.teller.tell_turned(&about, &before.conditions, &after.conditions);
        if after.leader != before.leader {
            let ended = self.index.last_to_lead(target.kind, &target.key);
            self.teller.tell_leader(&about, target.kind, after.leader.as_deref(), ended.as_deref());
        }
    }

    /// What is not as it should be on Kubernetes' side, the worst first. What the API server says in detail changes with each try, and
    /// is in the log.
    fn troubles(&self, now: Instant) -> Vec<Trouble> {
        let unseen = |kind: Kind| {
            let why = self.index.trouble(kind)?.reason.text();
            Some(Trouble { reason: "ResourcesNotSeen", message: format!("{} are not seen: {why}", kind.plural()) })
        };
        let beside = self.beside.iter().filter_map(|trouble| trouble.borrow().clone());
        Kind::ALL.into_iter().filter_map(unseen).chain(self.writer.troubles(now)).chain(beside).collect()
    }

    /// Logs what is newly wrong, and what is right again.
    fn say(&mut self, wrong: BTreeSet<String>) {
        for what in wrong.difference(&self.said) {
            warn!(what, "Kubernetes' side is not as it should be; what the cluster serves is untouched");
        }
        for what in self.said.difference(&wrong) {
            info!(what, "it is well again");
        }
        self.said = wrong;
    }
}

impl Marking {
    fn tell(&self, marks: AllMarks) {
        self.marks.send_if_modified(|known| {
            let is_news = **known != marks;
            if is_news {
                *known = Arc::new(marks);
            }
            is_news
        });
    }

    /// What became of an election's marks.
    fn marked(&self, election: &ObjectKey) -> Marked {
        let marked = self.marked.borrow().get(election).cloned().unwrap_or_default();
        let trouble = marked.trouble.clone().or_else(|| self.leases.borrow().get(election).cloned());
        Marked { trouble, ..marked }
    }
}

/// A status, and where it belongs.
struct Offer {
    target: Target,
    uid: String,
    status: Value,
}

fn config_id(key: &ObjectKey) -> Option<ConfigId> {
    let (namespace, name) = (Namespace::new(key.namespace.as_str()), ConfigName::new(key.name.as_str()));
    Some(ConfigId { namespace: namespace.ok()?, name: name.ok()? })
}

fn election_id(key: &ObjectKey) -> Option<ContestId> {
    let (namespace, name) = (Namespace::new(key.namespace.as_str()), ContestName::new(key.name.as_str()));
    Some(ContestId { kind: ContestKind::Election, namespace: namespace.ok()?, name: name.ok()? })
}
