//! What the HTTP side tells Prometheus, and `/metrics` itself.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// The metrics of the HTTP API.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    watchers: IntGauge,
    gaps: IntCounter,
}

impl HttpMetrics {
    /// Declares the metrics in `registry`.
    ///
    /// # Errors
    /// When they are declared there already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = Opts::new("quorate_http_requests_total", "HTTP requests answered, by method, route and status.");
        let seconds = HistogramOpts::new(
            "quorate_http_request_seconds",
            "Time from the first byte of a request to the head of its answer, by method and route.",
        );
        let buckets = prometheus::exponential_buckets(0.000_1, 2.5, 14)?;
        let metrics = Self {
            requests: IntCounterVec::new(requests, &["method", "route", "status"])?,
            seconds: HistogramVec::new(seconds.buckets(buckets), &["method", "route"])?,
            watchers: IntGauge::new("quorate_watchers", "Watches that are open on this member.")?,
            gaps: IntCounter::new("quorate_watch_gaps_total", "Watches ended because an event was missing; always 0.")?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.watchers.clone()))?;
        registry.register(Box::new(metrics.gaps.clone()))?;
        Ok(metrics)
    }

    /// Counts and times a request.
    pub(super) fn observe(&self, observation: &Observation, response: &Response) {
        let Observation { method, route, started } = observation;
        let route = route.as_ref().map_or("unknown", MatchedPath::as_str);
        self.requests.with_label_values(&[method, route, response.status().as_str()]).inc();
        self.seconds.with_label_values(&[method, route]).observe(started.elapsed().as_secs_f64());
    }

    /// Counts a watch for as long as the guard lives.
    pub(super) fn watch(&self, permit: OwnedSemaphorePermit) -> WatchGuard {
        self.watchers.inc();
        WatchGuard { metrics: self.clone(), _permit: permit }
    }
}

/// One open watch.
#[derive(Debug)]
pub(super) struct WatchGuard {
    metrics: HttpMetrics,
    _permit: OwnedSemaphorePermit,
}

impl WatchGuard {
    pub(super) fn count_gap(&self) {
        self.metrics.gaps.inc();
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.metrics.watchers.dec();
    }
}

/// A request that is being answered. Routes are templates, so that the labels come from a closed set.
#[derive(Debug)]
pub(super) struct Observation {
    method: &'static str,
    route: Option<MatchedPath>,
    started: Instant,
}

impl Observation {
    pub(super) fn begin(request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>().cloned();
        Self { method: method_label(request.method()), route, started: Instant::now() }
    }
}

/// Methods as a closed set: a client may send any word.
fn method_label(method: &axum::http::Method) -> &'static str {
    ["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("other")
}

/// The whole registry in Prometheus' text format.
pub async fn render(State(registry): State<Registry>) -> Response {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
