//! Keeps the Leases of elections that ask for one, for as long as this member leads. What they say is decided in `lease.rs`.
//!
//! A Lease is a copy: nobody leads because of what stands there. Each write is one to the version that is known, and begins
//! only after a quorum has confirmed that this member leads, so that whoever is cut off renews nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::warn;

use super::confirming::confirmed;
use super::error::{ApiError, Reason, Trouble};
use super::index::ObjectKey;
use super::leaders::{AllMarks, leaders};
use super::lease::{Held, Known, Mirror, Moment, Next, next};
use super::metrics::{Operation, OperatorMetrics};
use super::writer::{MANAGER, Rest};
use crate::coordinator::Coordinator;
use crate::machine::Machine;
use crate::machine::command::ContestId;
use crate::types::Leadership;

/// After a change of the state, which may be one of thousands in a second.
const SETTLING: Duration = Duration::from_millis(20);

/// A request that takes longer has failed; what became of it is read then.
const PATIENCE: Duration = Duration::from_secs(5);

/// A Lease that is somebody else's is looked at so often: it may be gone by then.
const LOOK: Duration = Duration::from_secs(15);

/// Requests on their way at a time: enough to be in time with many Leases, few enough to be polite.
const IN_FLIGHT: usize = 8;

/// By the election's resource, why its Lease is not kept.
pub(super) type Troubles = BTreeMap<ObjectKey, Trouble>;

/// What is read from the API server and written to it.
pub(super) struct LeaseMirror<'a> {
    pub(super) client: Client,
    pub(super) coordinator: &'a Coordinator,
    pub(super) leadership: Leadership,
    pub(super) metrics: &'a OperatorMetrics,
}

/// A Lease that is, or was, asked for.
struct Kept {
    mirror: Mirror,
    /// `None` when it is not asked for any more, and is to be released.
    election: Option<ContestId>,
    known: Known,
    written: Option<Instant>,
    rest: Option<Rest>,
    trouble: Option<Trouble>,
    on_its_way: bool,
}

/// An election's resource, and the name of the Lease.
type KeptKey = (ObjectKey, String);

/// A request that has come to an end.
struct Answer {
    kept: KeptKey,
    result: Result<Known, Failure>,
    wrote: bool,
}

enum Failure {
    /// No quorum has confirmed that it should be written.
    Unconfirmed,
    Refused(ApiError),
}

/// The work of one leadership.
struct Work<'a> {
    mirroring: LeaseMirror<'a>,
    marks: watch::Receiver<Arc<AllMarks>>,
    troubles: watch::Sender<Troubles>,
    kept: BTreeMap<KeptKey, Kept>,
    asking: FuturesUnordered<BoxFuture<'static, Answer>>,
}

impl LeaseMirror<'_> {
    /// Works for as long as it is polled.
    pub(super) async fn follow(self, marks: watch::Receiver<Arc<AllMarks>>, troubles: watch::Sender<Troubles>) {
        let kept = BTreeMap::new();
        Work { mirroring: self, marks, troubles, kept, asking: FuturesUnordered::new() }.follow().await;
    }
}

impl Work<'_> {
    async fn follow(mut self) {
        let mut state = self.mirroring.coordinator.state_changes();
        loop {
            let present = Arc::clone(&state.borrow_and_update());
            let next = self.act(&present, Instant::now());
            tokio::select! {
                biased;
                Some(answer) = self.asking.next() => self.take(answer),
                Ok(()) = self.marks.changed() => self.take_marks(),
                () = sleep_until(next) => {}
                Ok(()) = state.changed(), if !self.kept.is_empty() => sleep(SETTLING).await,
            }
        }
    }

    /// Takes in which Leases are asked for. One that is no more is released.
    fn take_marks(&mut self) {
        let marks = Arc::clone(&self.marks.borrow_and_update());
        for kept in self.kept.values_mut() {
            kept.election = None;
        }
        for (key, marks) in marks.iter() {
            let Some(lease) = marks.lease.clone() else { continue };
            let mirror = Mirror {
                namespace: key.namespace.clone(),
                election: key.name.clone(),
                uid: marks.uid.clone(),
                lease: lease.clone(),
            };
            let kept = self.kept.entry((key.clone(), lease.name)).or_insert_with(|| Kept::new(mirror.clone()));
            (kept.mirror, kept.election) = (mirror, Some(marks.election.clone()));
        }
        // What was never written needs no release.
        self.kept.retain(|_, kept| kept.election.is_some() || kept.on_its_way || kept.written.is_some());
    }

    /// Begins what is due; when there is more.
    fn act(&mut self, state: &Machine, now: Instant) -> Instant {
        let moment = Moment { now, time: self.mirroring.coordinator.time_of_day() };
        let mut due = now + LOOK;
        let mut begun = Vec::new();
        for (key, kept) in &mut self.kept {
            let rests = kept.rest.as_ref().map(|rest| rest.until).filter(|until| *until > now);
            if let Some(until) = rests {
                due = due.min(until);
            }
            if rests.is_some() || kept.on_its_way || self.asking.len() + begun.len() >= IN_FLIGHT {
                continue;
            }
            let held = held(state, kept.election.as_ref());
            let next = next(&kept.mirror, &held, &kept.known, kept.written, moment);
            kept.trouble = match &next {
                Next::Leave(trouble) => Some(trouble.clone()),
                Next::Read => kept.trouble.take(),
                Next::Create(_) | Next::Replace(_) | Next::Wait(_) => None,
            };
            match next {
                Next::Wait(until) => due = until.map_or(due, |until| due.min(until)),
                Next::Leave(_) => {
                    kept.known = Known::Unread;
                    kept.rest = Some(Rest::until(now + LOOK));
                }
                Next::Read | Next::Create(_) | Next::Replace(_) => {
                    kept.on_its_way = true;
                    begun.push((key.clone(), kept.mirror.clone(), kept.election.clone(), held, next));
                }
            }
        }
        for (key, mirror, election, held, next) in begun {
            self.begin(key, &mirror, election, held, next);
        }
        let troubles = self.kept.iter().filter_map(|((key, _), kept)| Some((key.clone(), kept.trouble.clone()?)));
        let troubles: Troubles = troubles.collect();
        self.troubles.send_if_modified(|known| std::mem::replace(known, troubles.clone()) != troubles);
        due
    }

    fn begin(&mut self, kept: KeptKey, mirror: &Mirror, election: Option<ContestId>, held: Held, next: Next) {
        let api = Api::<Lease>::namespaced(self.mirroring.client.clone(), &mirror.namespace);
        let name = mirror.lease.name.clone();
        let (coordinator, leadership) = (self.mirroring.coordinator.clone(), self.mirroring.leadership);
        let wrote = next != Next::Read;
        self.asking.push(Box::pin(async move {
            let is_right = async || {
                let state = confirmed(&coordinator, leadership).await;
                let is_so = state.is_some_and(|state| self::held(&state, election.as_ref()) == held);
                is_so.then_some(()).ok_or(Failure::Unconfirmed)
            };
            let result = async {
                if wrote {
                    is_right().await?;
                }
                match timeout(PATIENCE, ask(&api, &name, next)).await {
                    Ok(answer) => answer.map_err(|error| Failure::Refused(ApiError::from(&error))),
                    Err(_) => Err(Failure::Refused(ApiError::timeout())),
                }
            };
            Answer { kept, result: result.await, wrote }
        }));
    }

    fn take(&mut self, Answer { kept: key, result, wrote }: Answer) {
        let (metrics, now) = (self.mirroring.metrics, Instant::now());
        let Some(kept) = self.kept.get_mut(&key) else { return };
        kept.on_its_way = false;
        match result {
            Ok(known) => {
                (kept.known, kept.rest) = (known, None);
                if wrote {
                    kept.written = Some(now);
                    metrics.written(Operation::Lease);
                }
                if wrote && kept.election.is_none() {
                    self.kept.remove(&key);
                }
            }
            Err(Failure::Unconfirmed) => kept.rest = Some(Rest::after_error(kept.rest.take(), now)),
            Err(Failure::Refused(error)) => {
                metrics.failed(Operation::Lease, error.reason);
                let is_forbidden = error.reason == Reason::Forbidden;
                let namespace = &kept.mirror.namespace;
                kept.trouble = is_forbidden.then(|| not_allowed(namespace));
                if !matches!(error.reason, Reason::NotFound | Reason::Conflict) && kept.rest.is_none() {
                    warn!(lease = %key.1, namespace, %error, "the Lease is not kept; it is tried again");
                }
                // Whatever is there now has to be seen first.
                kept.known = Known::Unread;
                kept.rest = Some(Rest::after_error(kept.rest.take(), now));
                if kept.election.is_none() && (is_forbidden || error.reason == Reason::NotFound) {
                    self.kept.remove(&key);
                }
            }
        }
    }
}

impl Kept {
    fn new(mirror: Mirror) -> Self {
        Self {
            mirror,
            election: None,
            known: Known::Unread,
            written: None,
            rest: None,
            trouble: None,
            on_its_way: false,
        }
    }
}

/// What the Lease of an election is made from; nothing is held by one that is not asked for any more.
fn held(state: &Machine, election: Option<&ContestId>) -> Held {
    let Some(election) = election else { return Held::default() };
    let transitions = state.contests().get(election).map_or(0, |record| record.transitions);
    Held { leader: leaders(state, election).pop(), transitions }
}

/// Asks the API server; what is known then.
async fn ask(api: &Api<Lease>, name: &str, next: Next) -> kube::Result<Known> {
    let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let present = match next {
        Next::Create(lease) => Some(api.create(&parameters, &lease).await?),
        Next::Replace(lease) => Some(api.replace(name, &parameters, &lease).await?),
        Next::Read | Next::Wait(_) | Next::Leave(_) => api.get_opt(name).await?,
    };
    Ok(present.map_or(Known::Absent, |lease| Known::Present(Box::new(lease))))
}

fn not_allowed(namespace: &str) -> Trouble {
    let message = format!(
        "the members' ServiceAccount may not keep Leases in namespace {namespace}: add it to mirrorLease.namespaces in the values \
         of their chart, or remove spec.mirrorLease"
    );
    Trouble { reason: "NamespaceNotAllowed", message }
}
