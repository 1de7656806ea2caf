//! Answers: a body, and the headers that say from which state it was given.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event as SseEvent, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use serde::Serialize;

use super::Api;
use crate::coordinator::{Consistency, Read};
use crate::types::Revision;

static REVISION: HeaderName = HeaderName::from_static("quorate-revision");
static STALE: HeaderName = HeaderName::from_static("quorate-stale");
static CLUSTER: HeaderName = HeaderName::from_static("quorate-cluster");
static MEMBER: HeaderName = HeaderName::from_static("quorate-member");

/// An answer from the state of one revision.
#[derive(Debug)]
pub struct Reply<B> {
    status: StatusCode,
    revision: Revision,
    consistency: Consistency,
    tag: Option<u64>,
    body: B,
}

impl<B> Reply<B> {
    /// To a read.
    pub fn read(revision: Revision, read: &Read, body: B) -> Self {
        Self { status: StatusCode::OK, revision, consistency: read.consistency, tag: None, body }
    }

    /// To a write.
    pub fn written(revision: Revision, body: B) -> Self {
        Self { status: StatusCode::OK, revision, consistency: Consistency::Linearizable, tag: None, body }
    }

    /// With an entity tag.
    #[must_use]
    pub fn tag(mut self, tag: u64) -> Self {
        self.tag = Some(tag);
        self
    }

    /// It was made by this call.
    #[must_use]
    pub fn created(mut self) -> Self {
        self.status = StatusCode::CREATED;
        self
    }

    /// Without a body: the client has it already.
    pub fn not_modified(self) -> Reply<()> {
        let Self { revision, consistency, tag, .. } = self;
        Reply { status: StatusCode::NOT_MODIFIED, revision, consistency, tag, body: () }
    }

    fn dress(&self, mut response: Response) -> Response {
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(&REVISION, HeaderValue::from(self.revision.get()));
        if self.consistency == Consistency::Stale {
            headers.insert(&STALE, HeaderValue::from_static("true"));
        }
        if let Some(tag) = self.tag {
            let tag = HeaderValue::from_str(&format!("\"{tag}\"")).expect("a quoted number");
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

impl Reply<()> {
    /// As a response without a body.
    pub fn empty(self) -> Response {
        self.dress(().into_response())
    }
}

impl<B: Serialize> Reply<B> {
    /// As a response with a JSON body.
    pub fn json(self) -> Response {
        let response = Json(&self.body).into_response();
        self.dress(response)
    }
}

impl Reply<bytes::Bytes> {
    /// As a response of plain bytes.
    pub fn bytes(self) -> Response {
        let response = self.body.clone().into_response();
        let mut response = self.dress(response);
        let binary = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, binary);
        response
    }
}

/// A stream of events, which proxies must not hold back.
pub fn events(stream: impl Stream<Item = Result<SseEvent, Infallible>> + Send + 'static) -> Response {
    let mut response = Sse::new(stream).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A duration in whole milliseconds; what is begun is not counted, so that nobody believes too long.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Adds to every response who gave it, and the present revision where the handler named none.
pub fn sign(api: &Api, response: &mut Response) {
    let status = api.coordinator.status();
    let headers = response.headers_mut();
    if let Some(cluster) = &status.cluster {
        headers.insert(&CLUSTER, text(cluster.as_str()));
    }
    headers.insert(&MEMBER, text(status.name.as_str()));
    let present = || HeaderValue::from(api.coordinator.state().revision().get());
    headers.entry(&REVISION).or_insert_with(present);
}

fn text(name: &str) -> HeaderValue {
    HeaderValue::from_str(name).expect("names are ASCII letters, digits and dashes")
}
