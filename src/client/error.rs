//! What can go wrong with a call: whether it happened, and whether to try again.

use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

/// Whether a failed call took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Applied,
    NotApplied,
    /// It may have, or may still.
    Unknown,
}

/// A problem document (RFC 9457), as a member sent it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemReport {
    /// The kind is the last part of this link to its explanation.
    pub r#type: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    pub outcome: Outcome,
    pub retryable: bool,
    pub retry_after_ms: Option<u64>,
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientError {
    #[error("{:?} is not an endpoint{}; give one or more URLs such as http://127.0.0.1:17400", .0, fault(.0))]
    BadEndpoint(String),
    /// A member answered that it did not do it.
    #[error("{}", .0.detail)]
    Problem(Box<ProblemReport>),
    /// No member was reached, so nothing happened.
    #[error("no member could be reached: {0}")]
    Unreachable(String),
    /// A member was reached and did not answer, so it may have happened.
    #[error("no answer in time, so it is not known whether it was done: {0}")]
    NoAnswer(String),
    /// What answered is no member of a cluster that this client understands.
    #[error("the answer is not Quorate's: {0}")]
    Foreign(String),
}

/// What is wrong with an endpoint that looks right.
fn fault(endpoint: &str) -> &'static str {
    if endpoint.to_ascii_lowercase().starts_with("https://") { ", since https is not supported" } else { "" }
}

impl ProblemReport {
    /// Which kind it is, such as `not-found`.
    pub fn kind(&self) -> &str {
        self.r#type.rsplit('/').next().unwrap_or_default()
    }
}

impl ClientError {
    /// Whether it happened.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::BadEndpoint(_) | Self::Unreachable(_) => Outcome::NotApplied,
            Self::Problem(problem) => problem.outcome,
            Self::NoAnswer(_) | Self::Foreign(_) => Outcome::Unknown,
        }
    }

    /// Whether there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Problem(problem) if problem.status == 404 || problem.status == 410)
    }

    /// Whether what was asked for is waited for still, in a place that is kept.
    pub(super) fn is_still_waiting(&self) -> bool {
        matches!(self, Self::Problem(problem) if problem.status == 504 && problem.outcome == Outcome::Applied)
    }

    /// Whether the cluster could not do it now, and may later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Problem(problem) => problem.status == 503 || problem.status == 504,
            Self::Unreachable(_) | Self::NoAnswer(_) => true,
            Self::BadEndpoint(_) | Self::Foreign(_) => false,
        }
    }

    /// After what pause a call with an idempotency key, or a read, may be tried again; `None` when that would not help.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Problem(problem) if problem.retryable || problem.outcome == Outcome::Unknown => {
                Some(problem.retry_after_ms.map_or(PAUSE, Duration::from_millis))
            }
            Self::Unreachable(_) | Self::NoAnswer(_) => Some(PAUSE),
            Self::Problem(_) | Self::BadEndpoint(_) | Self::Foreign(_) => None,
        }
    }
}

/// Before a member that says nothing about it is asked again.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, outcome: Outcome, retryable: bool, retry_after_ms: Option<u64>) -> ClientError {
        let (r#type, title, detail) = (format!("https://quorate.io/problems/{status}"), String::new(), String::new());
        ClientError::Problem(Box::new(ProblemReport {
            r#type,
            title,
            status,
            detail,
            outcome,
            retryable,
            retry_after_ms,
        }))
    }

    #[test]
    fn a_call_is_tried_again_when_its_member_says_so_or_nobody_knows_whether_it_was_done() {
        let after = |millis| Some(Duration::from_millis(millis));
        let text = || "quorate-1".to_owned();
        let cases = [
            (problem(503, Outcome::NotApplied, true, Some(40)), after(40), Outcome::NotApplied),
            (problem(503, Outcome::NotApplied, true, None), Some(PAUSE), Outcome::NotApplied),
            (problem(429, Outcome::NotApplied, true, Some(1000)), after(1000), Outcome::NotApplied),
            (problem(503, Outcome::Unknown, false, None), Some(PAUSE), Outcome::Unknown),
            (problem(504, Outcome::Unknown, true, Some(7)), after(7), Outcome::Unknown),
            (problem(504, Outcome::Applied, true, None), Some(PAUSE), Outcome::Applied),
            (problem(400, Outcome::NotApplied, false, None), None, Outcome::NotApplied),
            (problem(409, Outcome::NotApplied, false, Some(40)), None, Outcome::NotApplied),
            (problem(410, Outcome::Applied, false, None), None, Outcome::Applied),
            (ClientError::Unreachable(text()), Some(PAUSE), Outcome::NotApplied),
            (ClientError::NoAnswer(text()), Some(PAUSE), Outcome::Unknown),
            (ClientError::Foreign(text()), None, Outcome::Unknown),
            (ClientError::BadEndpoint(text()), None, Outcome::NotApplied),
        ];
        for (error, pause, outcome) in cases {
            assert_eq!((error.retry_after(), error.outcome()), (pause, outcome), "{error:?}");
        }
    }
}
