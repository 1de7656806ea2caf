//! Pure: what the statuses should say, from what the API server has told and what the cluster holds.
//!
//! A status says what people act on. What changes all the time is in the metrics, so that nothing is written while nothing
//! happens; for the same reason a status keeps the leadership in which it was written until something else in it changes.

mod cluster;
mod config;
mod election;

use std::collections::BTreeMap;

pub(super) use cluster::{Around, size};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tokio::time::Instant;

use super::index::Status;
use crate::machine::outcome::Rejection;
use crate::operator::plan::ResourceId;
use crate::operator::resources::{ConditionType, Finding, Invalid, Truth};
use crate::types::{ClusterId, Leadership, Timestamp};

/// Who writes, and when.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) cluster: ClusterId,
    pub(super) leadership: Leadership,
    pub(super) now: Timestamp,
}

/// Why the cluster does not take what a valid resource asks for, by resource.
pub(super) type Refusals = BTreeMap<ResourceId, Refusal>;

/// What the cluster did not take.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Of the resource as it was then.
    pub(super) generation: Option<i64>,
    pub(super) rejection: Box<Rejection>,
    pub(super) at: Instant,
}

impl Writer {
    fn cluster_id(&self) -> Option<String> {
        Some(self.cluster.to_string())
    }

    /// A status that was made anew, if it says something else than the former one.
    fn if_news<S: Status>(&self, former: Option<&S>, mut status: S) -> Option<S> {
        status.conditions_mut().sort_by(|one, other| one.type_.cmp(&other.type_));
        let known = former.cloned().map(|mut known| {
            // Conditions of others are their own matter, and their order means nothing.
            known.conditions_mut().retain(is_ours);
            known.conditions_mut().sort_by(|one, other| one.type_.cmp(&other.type_));
            *status.leadership_mut() = *known.leadership_mut();
            known
        });
        if known.as_ref() == Some(&status) {
            return None;
        }
        *status.leadership_mut() = i64::try_from(self.leadership.get()).ok();
        Some(status)
    }
}

fn is_ours(condition: &Condition) -> bool {
    ConditionType::ALL.iter().any(|ours| ours.as_str() == condition.type_)
}

/// What is made of what is asked for.
enum Acceptance<'a, Wanted> {
    Wanted(&'a Wanted),
    /// Somebody must change the resource.
    Refused {
        reason: &'static str,
        message: String,
    },
    /// It is tried again, and taken once there is room.
    NoRoom {
        message: String,
    },
}

fn acceptance<'a, Wanted>(
    wanted: &'a Result<Wanted, Vec<Invalid>>,
    refusal: Option<&Refusal>,
) -> Acceptance<'a, Wanted> {
    match (wanted, refusal) {
        (Err(invalid), _) => Acceptance::Refused { reason: "Invalid", message: why(invalid) },
        // How full it is changes with every write of an application.
        (Ok(_), Some(refusal)) if refusal.rejection.wants_room() => Acceptance::NoRoom {
            message: "the cluster has no room for it: delete something; it is tried again all the time".to_owned(),
        },
        (Ok(_), Some(refusal)) => Acceptance::Refused { reason: "Refused", message: refusal.rejection.to_string() },
        (Ok(wanted), None) => Acceptance::Wanted(wanted),
    }
}

fn why(invalid: &[Invalid]) -> String {
    invalid.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn finding(condition: ConditionType, truth: Truth, reason: &'static str, message: String) -> Finding {
    Finding { condition, truth, reason, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::resources::{LeaderElectionStatus, conditions};
    use crate::types::ClusterId;

    fn writer(leadership: u64) -> Writer {
        let cluster = ClusterId::from_random(7);
        Writer { cluster, leadership: Leadership::new(leadership), now: Timestamp::from_millis(leadership * 1000) }
    }

    fn status(writer: &Writer, former: &[Condition], ready: Truth) -> LeaderElectionStatus {
        let findings = [
            finding(ConditionType::Stalled, Truth::False, "Because", String::new()),
            finding(ConditionType::Ready, ready, "Because", String::new()),
        ];
        LeaderElectionStatus {
            cluster_id: writer.cluster_id(),
            observed_leadership: None,
            observed_generation: Some(1),
            conditions: conditions(former, &findings, Some(1), writer.now),
            ..LeaderElectionStatus::default()
        }
    }

    #[test]
    fn a_status_is_written_when_it_says_something_else_and_then_names_the_leadership() {
        let (first, second) = (writer(5), writer(9));
        let told = first.if_news(None, status(&first, &[], Truth::True)).expect("there was none");
        assert_eq!(told.observed_leadership, Some(5));
        assert_eq!(second.if_news(Some(&told), status(&second, &told.conditions, Truth::True)), None);
        let turned = second.if_news(Some(&told), status(&second, &told.conditions, Truth::False)).expect("it turned");
        assert_eq!(turned.observed_leadership, Some(9));
    }

    #[test]
    fn conditions_of_others_and_another_order_are_no_news() {
        let writer = writer(5);
        let mut told = writer.if_news(None, status(&writer, &[], Truth::True)).expect("there was none");
        let foreign = Condition { type_: "example.com/Audited".to_owned(), ..told.conditions[0].clone() };
        told.conditions.insert(0, foreign);
        told.conditions.reverse();
        assert_eq!(writer.if_news(Some(&told), status(&writer, &told.conditions, Truth::True)), None);
    }
}
