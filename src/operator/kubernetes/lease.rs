//! Pure: what a Lease that mirrors an election should say, and when it is to be written.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::core::ObjectMeta;
use tokio::time::Instant;

use super::error::Trouble;
use super::leaders::Leader;
use crate::operator::resources::{API_VERSION, KeptLease};
use crate::types::Timestamp;

/// Whose Lease it is. One without it, or with another, is somebody else's.
pub(super) const ELECTION: &str = "quorate.io/election";

/// The token of the holder, or of the last one.
pub(super) const FENCING_TOKEN: &str = "quorate.io/fencing-token";

/// An election and its Lease.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mirror {
    pub(super) namespace: String,
    /// The name of the election.
    pub(super) election: String,
    pub(super) uid: String,
    pub(super) lease: KeptLease,
}

/// What the election is like.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Held {
    pub(super) leader: Option<Leader>,
    pub(super) transitions: u64,
}

/// What is known of the Lease.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Known {
    /// It is to be read first.
    #[default]
    Unread,
    Absent,
    Present(Box<Lease>),
}

/// Now, by the clock that decides, and by the one that people read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) time: Timestamp,
}

/// What comes next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Read,
    Create(Box<Lease>),
    /// The version that is known is to be replaced.
    Replace(Box<Lease>),
    /// Nothing, until then at least.
    Wait(Option<Instant>),
    /// It is somebody else's; it may be gone at another look.
    Leave(Trouble),
}

/// `written` is when this leadership has written it last.
pub(super) fn next(mirror: &Mirror, held: &Held, known: &Known, written: Option<Instant>, moment: Moment) -> Next {
    let Moment { now, time } = moment;
    let present = match known {
        Known::Unread => return Next::Read,
        Known::Absent if held.leader.is_none() => return Next::Wait(None),
        Known::Absent => return Next::Create(Box::new(lease(mirror, held, None, time))),
        Known::Present(present) => present,
    };
    if annotation(present, ELECTION) != Some(mirror.election.as_str()) {
        return Next::Leave(of_another(mirror));
    }
    let wanted = lease(mirror, held, Some(present), time);
    let due = match (&held.leader, written) {
        _ if !says_the_same(present, &wanted) => now,
        (None, _) => return Next::Wait(None),
        (Some(_), None) => now,
        (Some(_), Some(written)) => written + pace(&mirror.lease),
    };
    if due <= now { Next::Replace(Box::new(wanted)) } else { Next::Wait(Some(due)) }
}

/// How often it is renewed: so that two renewals may fail before it runs out.
fn pace(lease: &KeptLease) -> Duration {
    lease.duration / 3
}

/// Whether they differ in when they were renewed at most.
fn says_the_same(present: &Lease, wanted: &Lease) -> bool {
    let without_time = |lease: &Lease| lease.spec.clone().map(|spec| LeaseSpec { renew_time: None, ..spec });
    let annotations = |lease: &Lease| [ELECTION, FENCING_TOKEN].map(|name| annotation(lease, name).map(str::to_owned));
    without_time(present) == without_time(wanted) && annotations(present) == annotations(wanted)
}

fn annotation<'a>(lease: &'a Lease, name: &str) -> Option<&'a str> {
    lease.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The Lease as it should be. Who has held it stays to be seen when nobody does.
fn lease(mirror: &Mirror, held: &Held, former: Option<&Lease>, time: Timestamp) -> Lease {
    let spec = former.and_then(|former| former.spec.clone()).unwrap_or_default();
    let transitions = i32::try_from(held.transitions).unwrap_or(i32::MAX);
    let transitions = Some(transitions).max(spec.lease_transitions);
    let spec = match &held.leader {
        Some(leader) => LeaseSpec {
            holder_identity: Some(leader.candidate.clone().unwrap_or_else(|| leader.token.to_string())),
            lease_duration_seconds: Some(i32::try_from(mirror.lease.duration.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: Some(micro(leader.since)),
            renew_time: Some(micro(time)),
            lease_transitions: transitions,
            ..spec
        },
        // As client-go releases one: whoever waits for it need not wait until it runs out.
        None => LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(micro(time)),
            lease_transitions: transitions,
            ..spec
        },
    };
    let metadata = former.map_or_else(ObjectMeta::default, |former| former.metadata.clone());
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.insert(ELECTION.to_owned(), mirror.election.clone());
    if let Some(leader) = &held.leader {
        annotations.insert(FENCING_TOKEN.to_owned(), leader.token.to_string());
    }
    let labels = BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "quorate".to_owned())]);
    let metadata = ObjectMeta {
        name: Some(mirror.lease.name.clone()),
        namespace: Some(mirror.namespace.clone()),
        annotations: Some(annotations),
        labels: Some(metadata.labels.unwrap_or(labels)),
        // So that Kubernetes takes it away with the election.
        owner_references: Some(vec![owner(mirror)]),
        managed_fields: None,
        ..metadata
    };
    Lease { metadata, spec: Some(spec) }
}

fn owner(mirror: &Mirror) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: "LeaderElection".to_owned(),
        name: mirror.election.clone(),
        uid: mirror.uid.clone(),
        ..OwnerReference::default()
    }
}

fn micro(time: Timestamp) -> MicroTime {
    let millis = i64::try_from(time.as_millis()).expect("at most the year 9999");
    MicroTime(jiff::Timestamp::from_millisecond(millis).expect("between 1970 and 9999"))
}

fn of_another(mirror: &Mirror) -> Trouble {
    let message = format!(
        "Lease {} is there already and is not this election's, so it is left alone: delete it, or give spec.mirrorLease.name \
         another name",
        mirror.lease.name
    );
    Trouble { reason: "LeaseTaken", message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::FencingToken;

    fn mirror() -> Mirror {
        let lease = KeptLease { name: "main".to_owned(), duration: Duration::from_secs(15) };
        Mirror { namespace: "shop".to_owned(), election: "main".to_owned(), uid: "1-2".to_owned(), lease }
    }

    fn held_by(candidate: &str, token: u64) -> Held {
        let leader = Leader {
            candidate: Some(candidate.to_owned()),
            pod: None,
            token: FencingToken::new(token),
            since: Timestamp::from_millis(1_000),
        };
        Held { leader: Some(leader), transitions: token / 10 }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn moment(now: Instant, millis: u64) -> Moment {
        Moment { now, time: at(millis) }
    }

    /// What is written when `held` is so and the Lease is known like that.
    #[track_caller]
    fn written(held: &Held, known: &Known, now: Instant) -> Lease {
        match next(&mirror(), held, known, None, moment(now, 2_000)) {
            Next::Create(lease) | Next::Replace(lease) => *lease,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lease_is_read_first_and_made_when_somebody_leads() {
        let now = Instant::now();
        assert_eq!(next(&mirror(), &held_by("a", 17), &Known::Unread, None, moment(now, 0)), Next::Read);
        assert_eq!(next(&mirror(), &Held::default(), &Known::Absent, None, moment(now, 0)), Next::Wait(None));
        let lease = written(&held_by("a", 17), &Known::Absent, now);
        let spec = lease.spec.as_ref().expect("it has one");
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some("a"), Some(15)));
        assert_eq!((spec.lease_transitions, spec.acquire_time.clone()), (Some(1), Some(micro(at(1_000)))));
        assert_eq!(spec.renew_time, Some(micro(at(2_000))));
        assert_eq!(annotation(&lease, FENCING_TOKEN), Some("17"));
        assert_eq!(lease.metadata.owner_references.as_ref().map(|owners| owners[0].uid.as_str()), Some("1-2"));
    }

    #[test]
    fn a_lease_is_renewed_at_a_third_of_its_duration_and_replaced_at_once_when_another_leads() {
        let now = Instant::now();
        let known = Known::Present(Box::new(written(&held_by("a", 17), &Known::Absent, now)));
        let look = |held: &Held, after: u64| {
            next(&mirror(), held, &known, Some(now), moment(now + Duration::from_secs(after), 9_000))
        };
        assert_eq!(look(&held_by("a", 17), 4), Next::Wait(Some(now + Duration::from_secs(5))));
        assert!(matches!(look(&held_by("a", 17), 5), Next::Replace(_)));
        let Next::Replace(lease) = look(&held_by("b", 23), 0) else { panic!("it is not replaced") };
        assert_eq!(lease.spec.and_then(|spec| spec.holder_identity).as_deref(), Some("b"));
        assert!(matches!(next(&mirror(), &held_by("a", 17), &known, None, moment(now, 9_000)), Next::Replace(_)));
    }

    #[test]
    fn a_lease_that_nobody_holds_is_released_once_and_then_costs_nothing() {
        let now = Instant::now();
        let known = Known::Present(Box::new(written(&held_by("a", 17), &Known::Absent, now)));
        let nobody = Held { leader: None, transitions: 2 };
        let released = written(&nobody, &known, now);
        let spec = released.spec.clone().expect("it has one");
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some(""), Some(1)));
        assert_eq!(annotation(&released, FENCING_TOKEN), Some("17"), "the last one stays to be seen");
        let known = Known::Present(Box::new(released));
        assert_eq!(next(&mirror(), &nobody, &known, None, moment(now, 9_000)), Next::Wait(None));
    }

    #[test]
    fn a_lease_of_somebody_else_is_left_alone() {
        let now = Instant::now();
        let mut lease = written(&held_by("a", 17), &Known::Absent, now);
        lease.metadata.annotations = None;
        let left = next(&mirror(), &held_by("a", 17), &Known::Present(Box::new(lease)), None, moment(now, 0));
        let Next::Leave(trouble) = left else { panic!("{left:?}") };
        assert!(trouble.message.contains("is not this election's"), "{trouble:?}");
    }
}
