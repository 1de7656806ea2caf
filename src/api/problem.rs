//! Failures as problem documents (RFC 9457). The only file that knows which status code means what.
//!
//! Every kind is explained in `docs/problems.md`.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::coordinator::{CoordinatorError, Happened, Unavailable};
use crate::machine::event::Cause;
use crate::machine::outcome::{KeyMeta, Rejection};

/// What went wrong, as the last part of the problem's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    InvalidRequest,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    UnsupportedMediaType,
    Conflict,
    Managed,
    Gone,
    PreconditionFailed,
    TooLarge,
    TooMany,
    Unavailable,
    Timeout,
}

impl ProblemKind {
    /// Every kind, for the documentation's test.
    pub const ALL: [Self; 13] = [
        Self::InvalidRequest,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::UnsupportedMediaType,
        Self::Conflict,
        Self::Managed,
        Self::Gone,
        Self::PreconditionFailed,
        Self::TooLarge,
        Self::TooMany,
        Self::Unavailable,
        Self::Timeout,
    ];

    /// Its name, status and title.
    const fn facts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::InvalidRequest => ("invalid-request", StatusCode::BAD_REQUEST, "The request is not valid"),
            Self::NotFound => ("not-found", StatusCode::NOT_FOUND, "There is no such thing"),
            Self::MethodNotAllowed => {
                ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed here")
            }
            Self::NotAcceptable => {
                ("not-acceptable", StatusCode::NOT_ACCEPTABLE, "The answer has no form that is accepted")
            }
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body has a media type that is not read here",
            ),
            Self::Conflict => ("conflict", StatusCode::CONFLICT, "The request does not fit what is there"),
            Self::Managed => ("managed", StatusCode::CONFLICT, "A custom resource owns it"),
            Self::Gone => ("gone", StatusCode::GONE, "It is no longer kept"),
            Self::PreconditionFailed => {
                ("precondition-failed", StatusCode::PRECONDITION_FAILED, "The precondition does not hold")
            }
            Self::TooLarge => ("too-large", StatusCode::PAYLOAD_TOO_LARGE, "It is too large"),
            Self::TooMany => ("too-many", StatusCode::TOO_MANY_REQUESTS, "There is no room for more"),
            Self::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "The cluster cannot do it now"),
            Self::Timeout => ("timeout", StatusCode::GATEWAY_TIMEOUT, "There was no answer in time"),
        }
    }

    /// The last part of the problem's `type`, and its heading in the documentation.
    pub const fn name(self) -> &'static str {
        self.facts().0
    }

    /// The status code that goes with it.
    pub const fn status(self) -> StatusCode {
        self.facts().1
    }
}

/// The base of every problem's `type`.
pub const TYPE_BASE: &str = "https://quorate.io/problems/";

/// A failure on its way to the client.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: ProblemKind,
    detail: String,
    outcome: WireOutcome,
    retryable: bool,
    retry_after: Option<Duration>,
    errors: Vec<FieldError>,
    current: Option<Value>,
}

/// Whether the request took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WireOutcome {
    /// It took effect.
    Applied,
    /// It did not, and will not.
    NotApplied,
    /// It may have, or may still: a retry is safe only with the same idempotency key.
    Unknown,
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// JSON Pointer (RFC 6901) into the body, or the name of the parameter or header.
    #[schema(example = "/compare/0/target")]
    pub pointer: String,
    /// What is wrong with it, and what is allowed.
    #[schema(
        example = "unknown variant `modified`, expected one of `version`, `createRevision`, `modRevision`, `value`"
    )]
    pub detail: String,
}

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProblemBody {
    /// Which kind of problem, as a link to its explanation.
    #[schema(example = "https://quorate.io/problems/conflict")]
    r#type: String,
    /// The same for every problem of this kind.
    #[schema(example = "The request does not fit what is there")]
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 409)]
    status: u16,
    /// What was wrong, with names and numbers, and what to do.
    #[schema(example = "idempotency key \"k-1\" was used for another request: use a new key for a new request")]
    detail: String,
    outcome: WireOutcome,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// After how many milliseconds a retry makes sense, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// What is wrong with which part of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// What is there instead of what the request requires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    current: Option<Value>,
}

impl Problem {
    /// Of a kind, with a sentence; nothing was applied and a retry would not help.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let (errors, detail) = (Vec::new(), detail.into());
        let outcome = WireOutcome::NotApplied;
        Self { kind, detail, outcome, retryable: false, retry_after: None, errors, current: None }
    }

    /// One part of the request is wrong.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let error = FieldError { pointer: pointer.into(), detail: detail.into() };
        let detail = match error.pointer.as_str() {
            // The pointer to the body as a whole.
            "" => error.detail.clone(),
            pointer => format!("{pointer}: {}", error.detail),
        };
        let mut problem = Self::new(ProblemKind::InvalidRequest, detail);
        problem.errors.push(error);
        problem
    }

    /// There is no such thing.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(ProblemKind::NotFound, format!("{what} does not exist"))
    }

    /// A retry helps, after a while.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        (self.retryable, self.retry_after) = (true, Some(wait));
        self
    }

    /// Says what is there.
    #[must_use]
    pub fn current(mut self, current: Value) -> Self {
        self.current = Some(current);
        self
    }

    /// One of each kind, as the documentation shows it.
    pub fn example(kind: ProblemKind) -> Self {
        let detail = match kind {
            ProblemKind::InvalidRequest => return Self::invalid("limit", "it is a number from 1 to 1000"),
            ProblemKind::NotFound => return Self::not_found("config default/shop"),
            ProblemKind::MethodNotAllowed => "PATCH is not allowed on /v1/leader; see /openapi.json",
            ProblemKind::NotAcceptable => "answers are application/json, application/octet-stream or text/event-stream",
            ProblemKind::UnsupportedMediaType => "the body is read as application/json, and its Content-Type is \"\"",
            ProblemKind::Conflict => "idempotency key \"k-1\" was used for another request: use a new key",
            ProblemKind::Managed => "config default/shop belongs to a custom resource: change the resource",
            ProblemKind::Gone => "revision 17 is compacted: the oldest that can be read is 100",
            ProblemKind::PreconditionFailed => {
                let there = json!({ "createRevision": 17, "modRevision": 120, "version": 4 });
                return Self::new(kind, "key \"jobs/7\" was changed at revision 120").current(there);
            }
            ProblemKind::TooLarge => "the body has more than 1572864 bytes",
            ProblemKind::TooMany => "the state is nearly full: delete something",
            ProblemKind::Unavailable => return Self::from(CoordinatorError::NotDone(Unavailable::NoRaftLeader)),
            ProblemKind::Timeout => {
                return Self::from(CoordinatorError::MaybeDone { cause: Unavailable::Timeout, key: None });
            }
        };
        Self::new(kind, detail)
    }

    /// This member is going away.
    pub fn stopping() -> Self {
        CoordinatorError::NotDone(Unavailable::Stopping).into()
    }

    /// Which kind it is.
    pub fn kind(&self) -> ProblemKind {
        self.kind
    }
}

impl Problem {
    fn body(self) -> ProblemBody {
        let (name, status, title) = self.kind.facts();
        ProblemBody {
            r#type: format!("{TYPE_BASE}{name}"),
            title,
            status: status.as_u16(),
            detail: self.detail,
            outcome: self.outcome,
            retryable: self.retryable,
            retry_after_ms: self.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            errors: self.errors,
            current: self.current,
        }
    }

    /// The document as JSON.
    pub fn json(self) -> Value {
        json!(self.body())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, body) = (self.kind.status(), self.body());
        let millis = body.retry_after_ms;
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(millis) = millis {
            // The header counts whole seconds; a wait below one second is rounded up.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(millis.div_ceil(1000)));
        }
        response
    }
}

/// How long a client should wait when the cluster has no Raft leader: about one election with the usual timeouts.
pub const ELECTION: Duration = Duration::from_millis(300);

/// How long a client should wait when this member has too much to do.
const OVERLOAD: Duration = Duration::from_secs(1);

impl From<CoordinatorError> for Problem {
    fn from(error: CoordinatorError) -> Self {
        let detail = error.to_string();
        let (happened, retryable) = (error.happened(), error.may_retry());
        let mut problem = match error {
            CoordinatorError::Rejected { rejection, .. } => of_rejection(*rejection, detail),
            CoordinatorError::NotDone(Unavailable::Timeout) | CoordinatorError::MaybeDone { .. } => {
                Self::new(ProblemKind::Timeout, detail)
            }
            CoordinatorError::NotThereYet { .. } => Self::new(ProblemKind::Timeout, detail).retry_after(ELECTION),
            CoordinatorError::NotDone(Unavailable::Overloaded) => {
                Self::new(ProblemKind::Unavailable, detail).retry_after(OVERLOAD)
            }
            CoordinatorError::NotDone(Unavailable::NoRoom { .. }) => Self::new(ProblemKind::TooMany, detail),
            CoordinatorError::NotDone(_) => Self::new(ProblemKind::Unavailable, detail).retry_after(ELECTION),
            CoordinatorError::OutsideHistory(_) => Self::new(ProblemKind::Gone, detail),
            CoordinatorError::NoSuchMember(_) | CoordinatorError::ForeignSession(_) => {
                Self::new(ProblemKind::NotFound, detail)
            }
            CoordinatorError::CannotTransfer(_) => Self::new(ProblemKind::Conflict, detail),
            CoordinatorError::MetadataTooLarge { .. } => Self::new(ProblemKind::TooLarge, detail),
            CoordinatorError::StillWaiting { ahead, .. } => {
                Self::new(ProblemKind::Timeout, detail).current(json!({ "ahead": ahead }))
            }
            CoordinatorError::ClaimOver { token, .. } => {
                let token = token.map(|token| json!({ "fencingToken": token.get() }));
                Self::new(ProblemKind::Gone, detail).current(json!(token))
            }
        };
        problem.retryable = retryable;
        problem.outcome = match happened {
            Happened::No => WireOutcome::NotApplied,
            Happened::Yes => WireOutcome::Applied,
            Happened::Unknown => WireOutcome::Unknown,
        };
        problem
    }
}

fn of_rejection(rejection: Rejection, detail: String) -> Problem {
    match rejection {
        Rejection::KeyMismatch { current, .. } => {
            Problem::new(ProblemKind::PreconditionFailed, detail).current(json!(current.as_ref().map(key_numbers)))
        }
        Rejection::ConfigMismatch { current, .. } => {
            let version = current.map(|version| json!({ "version": version.get() }));
            Problem::new(ProblemKind::PreconditionFailed, detail).current(json!(version))
        }
        Rejection::Managed { .. } => Problem::new(ProblemKind::Managed, detail),
        Rejection::TooLarge { .. } => Problem::new(ProblemKind::TooLarge, detail),
        Rejection::StateFull { .. } => Problem::new(ProblemKind::TooMany, detail),
        Rejection::NoSuchVersion { .. } => Problem::new(ProblemKind::NotFound, detail),
        Rejection::WrittenTwice { .. } => Problem::new(ProblemKind::InvalidRequest, detail),
        Rejection::NoSuchSession { .. } => Problem::new(ProblemKind::NotFound, detail),
        Rejection::SessionOver { cause, .. } => {
            Problem::new(ProblemKind::Gone, detail).current(json!({ "cause": cause.map(Cause::as_str) }))
        }
        Rejection::TooManySessions { .. } | Rejection::TooManyWaiting { .. } | Rejection::TooManyClaims { .. } => {
            Problem::new(ProblemKind::TooMany, detail)
        }
        Rejection::TooManyPermits { .. } => Problem::new(ProblemKind::InvalidRequest, detail),
        Rejection::OtherCapacity { capacity, .. } => {
            Problem::new(ProblemKind::Conflict, detail).current(json!({ "capacity": capacity }))
        }
        Rejection::NotHeld { current, .. } => {
            let token = current.map(|token| json!({ "fencingToken": token.get() }));
            Problem::new(ProblemKind::Conflict, detail).current(json!(token))
        }
        Rejection::Held { .. }
        | Rejection::AlreadyFounded { .. }
        | Rejection::NotFounded
        | Rejection::OlderVolume { .. }
        | Rejection::Superseded { .. }
        | Rejection::RequestReused { .. }
        | Rejection::CannotCompact { .. } => Problem::new(ProblemKind::Conflict, detail),
    }
}

fn key_numbers(meta: &KeyMeta) -> Value {
    json!({
        "createRevision": meta.create_revision.get(),
        "modRevision": meta.mod_revision.get(),
        "version": meta.version.get(),
    })
}
