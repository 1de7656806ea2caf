//! What the statuses of all resources share: who wrote them, and their conditions.
//!
//! A status is made anew from what there is and then compared with the former one, so only what changed is written.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::types::Timestamp;

/// The aspects of a resource on which people and tools wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The summary of the others.
    Ready,
    /// Only while it cannot become ready without a change of the resource.
    Stalled,
    /// `QuorateCluster`: only while `Progressing`, for the tools that wait until nothing is on its way any more.
    Reconciling,
    /// `ReplicatedConfig`: what is declared is valid.
    Accepted,
    /// `ReplicatedConfig`: every member holds it.
    Replicated,
    /// `ReplicatedConfig`: every registered consumer runs it.
    Applied,
    /// `QuorateCluster`: a majority of the voters is there, and one of them leads.
    QuorumAvailable,
    /// `QuorateCluster`: the members are on their way to what is declared.
    Progressing,
    /// `QuorateCluster`: a member does not answer, or something cannot be seen or done on Kubernetes' side.
    Degraded,
    /// `LeaderElection`: somebody leads.
    Held,
}

impl ConditionType {
    pub const ALL: [Self; 10] = [
        Self::Ready,
        Self::Stalled,
        Self::Reconciling,
        Self::Accepted,
        Self::Replicated,
        Self::Applied,
        Self::QuorumAvailable,
        Self::Progressing,
        Self::Degraded,
        Self::Held,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Stalled => "Stalled",
            Self::Reconciling => "Reconciling",
            Self::Accepted => "Accepted",
            Self::Replicated => "Replicated",
            Self::Applied => "Applied",
            Self::QuorumAvailable => "QuorumAvailable",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
            Self::Held => "Held",
        }
    }
}

/// Whether a condition is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// What was found out about one aspect of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub condition: ConditionType,
    pub truth: Truth,
    /// One word in CamelCase, for programs.
    pub reason: &'static str,
    /// A sentence for people; never a value of a config. One that is too long is cut.
    pub message: String,
}

/// Characters of a message; a longer one helps nobody, and every resource is read by every member.
const LONGEST_MESSAGE: usize = 4096;

/// What is found about the spec of `generation`, as conditions, in the order of the findings. Each keeps the time of its last
/// transition for as long as its truth stays the same.
pub fn conditions(
    former: &[Condition],
    findings: &[Finding],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |finding: &Finding| {
        let (type_, status) = (finding.condition.as_str(), finding.truth.as_str());
        let same = former.iter().find(|former| former.type_ == type_ && former.status == status);
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            observed_generation: generation,
            last_transition_time: same.map_or_else(|| seconds(now), |former| former.last_transition_time.clone()),
            reason: finding.reason.to_owned(),
            message: shortened(&finding.message),
        }
    };
    findings.iter().map(condition).collect()
}

/// Kubernetes' times have no milliseconds: with them, what is written would differ from what is read back.
fn seconds(now: Timestamp) -> Time {
    let seconds = i64::try_from(now.as_millis() / 1000).expect("at most the year 9999");
    Time(jiff::Timestamp::from_second(seconds).expect("between 1970 and 9999"))
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(LONGEST_MESSAGE - 1) {
        Some((end, last)) if end + last.len_utf8() < message.len() => format!("{}…", &message[..end]),
        _ => message.to_owned(),
    }
}

/// Conditions as a list in which each type comes once, so that several writers may each own some of them.
pub(super) fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "description": "Which aspect of the resource it is about.",
                    "type": "string",
                    "maxLength": 316,
                    "pattern": r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
                },
                "status": {
                    "description": "Whether it is met.",
                    "type": "string",
                    "enum": [Truth::True.as_str(), Truth::False.as_str(), Truth::Unknown.as_str()],
                },
                "observedGeneration": {
                    "description": "The metadata.generation that it speaks of; when that is smaller than the resource's, it is out of date.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                },
                "lastTransitionTime": {
                    "description": "When its status changed last.",
                    "type": "string",
                    "format": "date-time",
                },
                "reason": {
                    "description": "Why, as one word for programs.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "description": "Why, for people.",
                    "type": "string",
                    "maxLength": 32768,
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(truth: Truth, message: &str) -> Finding {
        Finding { condition: ConditionType::Ready, truth, reason: "Because", message: message.to_owned() }
    }

    fn later(former: &[Condition], truth: Truth, seconds: u64) -> Vec<Condition> {
        conditions(former, &[finding(truth, "so it is")], Some(3), Timestamp::from_millis(seconds * 1000 + 7))
    }

    #[test]
    fn the_time_of_a_transition_stays_until_the_truth_changes() {
        let first = later(&[], Truth::Unknown, 100);
        assert_eq!(first[0].last_transition_time.0.to_string(), "1970-01-01T00:01:40Z");
        assert_eq!(later(&first, Truth::Unknown, 200), first);
        let second = later(&first, Truth::True, 300);
        assert_eq!(second[0].last_transition_time.0.to_string(), "1970-01-01T00:05:00Z");
        assert_eq!((second[0].status.as_str(), second[0].observed_generation), ("True", Some(3)));
    }

    #[test]
    fn another_message_is_no_transition() {
        let first = later(&[], Truth::True, 100);
        let second =
            conditions(&first, &[finding(Truth::True, "for another reason")], Some(4), Timestamp::from_millis(0));
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time);
        assert_eq!((second[0].message.as_str(), second[0].observed_generation), ("for another reason", Some(4)));
    }

    #[test]
    fn what_is_written_is_what_is_read_back() {
        let written = later(&[], Truth::False, 100);
        let read: Vec<Condition> =
            serde_json::from_value(serde_json::to_value(&written).expect("JSON")).expect("conditions");
        assert_eq!(read, written);
    }

    #[test]
    fn a_message_that_is_too_long_is_cut_between_characters() {
        for (length, expected) in [(LONGEST_MESSAGE, LONGEST_MESSAGE), (LONGEST_MESSAGE + 1, LONGEST_MESSAGE)] {
            let message =
                &conditions(&[], &[finding(Truth::True, &"é".repeat(length))], None, Timestamp::default())[0].message;
            assert_eq!((message.chars().count(), message.ends_with('…')), (expected, length > expected), "{length}");
        }
    }

    #[test]
    fn every_type_of_condition_has_one_name() {
        let names: std::collections::BTreeSet<_> = ConditionType::ALL.map(ConditionType::as_str).into();
        assert_eq!(names.len(), ConditionType::ALL.len());
    }
}
