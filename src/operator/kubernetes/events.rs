//! Events of Kubernetes: what has changed in a status, for `kubectl describe` and `kubectl get events`. One for each transition
//! that was written, so that an outage of the API server leaves neither gaps that matter nor copies.

use std::sync::Mutex;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::Release;
use super::budgets::Budgets;
use super::error::{ApiError, Reason, Trouble};
use super::metrics::{Operation, OperatorMetrics};
use super::watching::Kind;
use super::writer::Rest;
use crate::operator::resources::{ConditionType, Truth};

/// Events that wait to be written: more at a time would tell nobody anything, and are dropped.
const WAITING: usize = 64;

/// An Event that takes longer is dropped.
const PATIENCE: Duration = Duration::from_secs(5);

/// Kubernetes' limit for the text, in bytes.
const LONGEST_NOTE: usize = 1024;

/// Something to tell about a resource.
struct Telling {
    about: ObjectReference,
    event: Event,
}

/// Writes Events, one after another, for as long as [`Events::write`] is polled.
pub(super) struct Events {
    tellings: mpsc::Receiver<Telling>,
    client: Client,
    reporter: Reporter,
    metrics: OperatorMetrics,
    trouble: watch::Sender<Option<Trouble>>,
}

/// Takes what is to be told.
pub(super) struct Teller {
    tellings: mpsc::Sender<Telling>,
    budgets: Mutex<Budgets>,
}

pub(super) fn events(client: &Client, release: &Release, metrics: &OperatorMetrics) -> (Teller, Events) {
    let (sender, tellings) = mpsc::channel(WAITING);
    let reporter = Reporter {
        controller: "quorate.io/operator".to_owned(),
        instance: Some(format!("{}-{}", release.name(), release.pod.ordinal)),
    };
    (
        Teller { tellings: sender, budgets: Mutex::default() },
        Events {
            tellings,
            client: client.clone(),
            reporter,
            metrics: metrics.clone(),
            trouble: watch::Sender::default(),
        },
    )
}

impl Events {
    /// What people should be told of: that Events are forbidden.
    pub(super) fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.subscribe()
    }

    /// Never ends while there is a [`Teller`]. One that is forbidden is tried again until there is another one to tell: it was
    /// certainly not written, and somebody may give the right to.
    pub(super) async fn write(mut self) {
        let (mut fails, mut forbidden, mut rest) = (false, None::<Telling>, None::<Rest>);
        loop {
            let again = rest.as_ref().map_or(Instant::now(), |rest| rest.until);
            let telling = tokio::select! {
                biased;
                telling = self.tellings.recv() => telling,
                () = sleep_until(again), if forbidden.is_some() => forbidden.take(),
            };
            let Some(telling) = telling else { return };
            let written = self.publish(&telling).await;
            match &written {
                Ok(()) => self.metrics.written(Operation::WriteEvent),
                Err(error) => {
                    self.metrics.failed(Operation::WriteEvent, error.reason);
                    match fails {
                        true => debug!(%error, "an Event was not written"),
                        false => warn!(%error, "an Event was not written; it is left out"),
                    }
                }
            }
            fails = written.is_err();
            let is_forbidden = written.is_err_and(|error| error.reason == Reason::Forbidden);
            (forbidden, rest) = match is_forbidden {
                true => (Some(telling), Some(Rest::after_error(rest, Instant::now()))),
                false => (None, None),
            };
            self.trouble.send_replace(is_forbidden.then(not_allowed));
        }
    }

    async fn publish(&self, telling: &Telling) -> Result<(), ApiError> {
        // One that remembers would count an Event with another text as the same.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        match timeout(PATIENCE, recorder.publish(&telling.event, &telling.about)).await {
            Ok(written) => written.map_err(|error| ApiError::from(&error)),
            Err(_) => Err(ApiError::timeout()),
        }
    }
}

fn not_allowed() -> Trouble {
    let message = "Events are not written: the members' ServiceAccount may not create them".to_owned();
    Trouble { reason: "EventsNotWritten", message }
}

impl Teller {
    /// Tells which conditions have turned, between the status before and the one that was written.
    pub(super) fn tell_turned(&self, about: &ObjectReference, before: &[Condition], after: &[Condition]) {
        for condition in turned(before, after) {
            let event = Event {
                type_: if is_good(condition) { EventType::Normal } else { EventType::Warning },
                reason: condition.reason.clone(),
                note: Some(shortened(&condition.message)),
                action: condition.type_.clone(),
                secondary: None,
            };
            self.tell(about, event);
        }
    }

    /// Tells who leads now, if anybody does, and who does not any more.
    pub(super) fn tell_leader(&self, about: &ObjectReference, kind: Kind, leader: Option<&str>, ended: Option<&str>) {
        let ended = ended.map(|ended| format!("; {ended}")).unwrap_or_default();
        let (reason, note) = match (kind, leader) {
            // That is told by the condition QuorumAvailable.
            (Kind::Cluster, None) => return,
            (Kind::Cluster, Some(leader)) => ("RaftLeaderChanged", format!("{leader} leads")),
            (_, Some(leader)) => ("LeaderChanged", format!("{leader}, leads{ended}")),
            (_, None) => ("NoLeader", format!("nobody leads any more{ended}")),
        };
        let event = Event {
            type_: EventType::Normal,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Lead".to_owned(),
            secondary: None,
        };
        self.tell(about, event);
    }

    /// One object is told of so often at most: the rest would tell nobody anything.
    fn tell(&self, about: &ObjectReference, event: Event) {
        if !self
            .budgets
            .lock()
            .expect("nobody panics with it")
            .spend(about.uid.as_deref().unwrap_or_default(), Instant::now())
        {
            return;
        }
        drop(self.tellings.try_send(Telling { about: about.clone(), event }));
    }
}

/// What an Event is about.
pub(super) fn reference(kind: Kind, namespace: &str, name: &str, uid: &str) -> ObjectReference {
    let resource = kind.api_resource();
    ObjectReference {
        api_version: Some(resource.api_version),
        kind: Some(resource.kind),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST_NOTE)].to_owned()
}

/// Aspects that people are told of when they turn; the others follow from these, or turn with every change.
const TOLD: [ConditionType; 3] = [ConditionType::Accepted, ConditionType::QuorumAvailable, ConditionType::Degraded];

fn turned<'a>(before: &[Condition], after: &'a [Condition]) -> Vec<&'a Condition> {
    let is_of =
        |condition: &Condition, types: &[ConditionType]| types.iter().any(|told| told.as_str() == condition.type_);
    // Where one of those is, it says why the resource is ready or not.
    let summary =
        if after.iter().any(|condition| is_of(condition, &TOLD)) { &[][..] } else { &[ConditionType::Ready][..] };
    let is_known = |condition: &&Condition| condition.status != Truth::Unknown.as_str();
    let is_news = |condition: &&Condition| {
        let former = before.iter().filter(is_known).find(|former| former.type_ == condition.type_);
        // What is well from the beginning is no news.
        former.map_or(!is_good(condition), |former| former.status != condition.status)
    };
    let is_told = |condition: &&Condition| is_of(condition, &TOLD) || is_of(condition, summary);
    after.iter().filter(is_told).filter(is_known).filter(is_news).collect()
}

/// Whether a condition says something good: to be degraded is not.
fn is_good(condition: &Condition) -> bool {
    let is_true = condition.status == Truth::True.as_str();
    is_true != (condition.type_ == ConditionType::Degraded.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::resources::{Finding, conditions};
    use crate::types::Timestamp;

    fn found(findings: &[(ConditionType, bool)]) -> Vec<Condition> {
        let finding = |(condition, holds): &(ConditionType, bool)| Finding {
            condition: *condition,
            truth: Truth::from(*holds),
            reason: "Because",
            message: "so it is".to_owned(),
        };
        conditions(&[], &findings.iter().map(finding).collect::<Vec<_>>(), None, Timestamp::default())
    }

    fn told(before: &[(ConditionType, bool)], after: &[(ConditionType, bool)]) -> Vec<String> {
        let (before, after) = (found(before), found(after));
        turned(&before, &after).into_iter().map(|condition| condition.type_.clone()).collect()
    }

    #[test]
    fn only_what_turns_is_told_and_at_first_only_what_is_bad() {
        use ConditionType::{Accepted, Degraded, Ready, Replicated};
        assert_eq!(told(&[], &[(Accepted, true), (Degraded, false)]), Vec::<String>::new());
        assert_eq!(told(&[], &[(Accepted, false), (Degraded, true)]), ["Accepted", "Degraded"]);
        assert_eq!(told(&[(Accepted, false)], &[(Accepted, true)]), ["Accepted"]);
        assert_eq!(told(&[(Accepted, true)], &[(Accepted, true)]), Vec::<String>::new());
        assert_eq!(told(&[(Replicated, true)], &[(Replicated, false)]), Vec::<String>::new());
        assert_eq!(told(&[(Ready, true)], &[(Ready, false)]), ["Ready"]);
        assert_eq!(told(&[(Ready, true), (Accepted, true)], &[(Ready, false), (Accepted, false)]), ["Accepted"]);
    }

    #[test]
    fn what_was_not_known_before_is_told_as_if_it_were_new() {
        let mut before = found(&[(ConditionType::Ready, true)]);
        before[0].status = Truth::Unknown.as_str().to_owned();
        assert_eq!(turned(&before, &found(&[(ConditionType::Ready, true)])), Vec::<&Condition>::new());
        assert_eq!(turned(&before, &found(&[(ConditionType::Ready, false)])).len(), 1);
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        assert_eq!(shortened(&"é".repeat(600)), "é".repeat(512));
        assert_eq!(shortened("short"), "short");
    }
}
