//! What the API server's errors mean for the operator.

use std::fmt;

use kube::runtime::watcher;

use crate::operator::causes::causes;

/// Why a request was not done, for people and for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) reason: Reason,
    pub(super) text: String,
}

/// Why something on Kubernetes' side is not done or not known, as a condition tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// One word in CamelCase, for programs.
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The kinds of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// No answer: no connection, or a broken one.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The ServiceAccount may not do it.
    Forbidden,
    /// There is no such object, or no such kind.
    NotFound,
    /// Somebody else was faster.
    Conflict,
    /// What was asked for is older than what the API server keeps.
    Expired,
    /// Too many requests.
    Throttled,
    /// The object is not valid in the eyes of the API server.
    Invalid,
    Other,
}

impl Reason {
    pub(super) const ALL: [Self; 9] = [
        Self::Unreachable,
        Self::Timeout,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::Expired,
        Self::Throttled,
        Self::Invalid,
        Self::Other,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Expired => "expired",
            Self::Throttled => "throttled",
            Self::Invalid => "invalid",
            Self::Other => "other",
        }
    }

    /// What it means, for people: always the same words.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Unreachable => "the API server cannot be reached",
            Self::Timeout => "the API server does not answer in time",
            Self::Forbidden => "the members' ServiceAccount may not list or watch them",
            Self::NotFound => "the API server does not know them: apply the CRDs",
            Self::Conflict => "the API server says that somebody else was faster",
            Self::Expired => "the API server does not keep so old a state",
            Self::Throttled => "the API server has too many requests",
            Self::Invalid => "the API server does not take the request",
            Self::Other => "the API server has failed",
        }
    }

    /// The same of what was to be written.
    pub(super) fn refused(self) -> &'static str {
        match self {
            Self::Forbidden => "the members' ServiceAccount may not patch them",
            Self::Conflict => "somebody else is faster again and again",
            Self::Invalid => "the API server does not take them: apply the CRDs of this release, and look into the log",
            other => other.text(),
        }
    }

    /// Whether it says something of the API server, and not only of the one object.
    pub(super) fn is_general(self) -> bool {
        match self {
            Self::Unreachable | Self::Timeout | Self::Forbidden | Self::Throttled | Self::Other => true,
            Self::NotFound | Self::Conflict | Self::Expired | Self::Invalid => false,
        }
    }

    /// Whether a write may have been done all the same.
    pub(super) fn is_doubtful(self) -> bool {
        match self {
            Self::Unreachable | Self::Timeout | Self::Other => true,
            Self::Forbidden | Self::NotFound | Self::Conflict | Self::Expired | Self::Throttled | Self::Invalid => {
                false
            }
        }
    }

    fn of_code(code: u16) -> Self {
        match code {
            401 | 403 => Self::Forbidden,
            404 => Self::NotFound,
            409 => Self::Conflict,
            410 => Self::Expired,
            422 => Self::Invalid,
            429 => Self::Throttled,
            _ => Self::Other,
        }
    }
}

impl ApiError {
    /// When there was no answer in time.
    pub(super) fn timeout() -> Self {
        Self { reason: Reason::Timeout, text: "the API server did not answer in time".to_owned() }
    }
}

impl From<&kube::Error> for ApiError {
    fn from(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => of_status(status),
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
                Self { reason: Reason::Unreachable, text: causes(error) }
            }
            other => Self { reason: Reason::Other, text: causes(other) },
        }
    }
}

impl From<&watcher::Error> for ApiError {
    fn from(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => error.into(),
            watcher::Error::WatchError(status) => of_status(status),
            watcher::Error::NoResourceVersion => Self { reason: Reason::Other, text: error.to_string() },
        }
    }
}

fn of_status(status: &kube::core::Status) -> ApiError {
    ApiError { reason: Reason::of_code(status.code), text: format!("{} ({})", status.message, status.code) }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
