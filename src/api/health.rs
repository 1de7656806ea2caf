//! `/livez`, `/readyz`, `/startupz`: named checks, in the manner of the Kubernetes API server.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::Registry;

use super::{border, metrics};

/// One question about this process: `Err` says what is wrong. Must answer at once.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Checks by name.
pub type Checks = BTreeMap<&'static str, Check>;

/// What each probe asks.
#[derive(Clone, Default)]
pub struct Probes {
    /// Whether the process works; if not, it should be restarted.
    pub live: Checks,
    /// Whether it should get traffic.
    pub ready: Checks,
    /// Whether it has come up.
    pub startup: Checks,
}

/// The routes of the health port.
pub fn router(probes: Probes, registry: Registry) -> Router {
    Router::new()
        .route("/livez", probe(probes.live))
        .route("/readyz", probe(probes.ready))
        .route("/startupz", probe(probes.startup))
        .route("/metrics", get(metrics::render))
        .fallback(border::no_such_path)
        .method_not_allowed_fallback(border::only_read)
        .with_state(registry)
}

fn probe(checks: Checks) -> axum::routing::MethodRouter<Registry> {
    get(move |RawQuery(query): RawQuery, State(_): State<Registry>| {
        let verbose =
            query.is_some_and(|query| query.split('&').any(|part| part == "verbose" || part == "verbose=true"));
        let answer = ask(&checks, verbose);
        async move { answer }
    })
}

fn ask(checks: &Checks, verbose: bool) -> Response {
    let results: Vec<_> = checks.iter().map(|(name, check)| (name, check())).collect();
    let failed = results.iter().any(|(_, result)| result.is_err());
    if !failed && !verbose {
        return "ok".into_response();
    }
    let mut text = String::new();
    for (name, result) in results.iter().filter(|(_, result)| verbose || result.is_err()) {
        let line = match result {
            Ok(()) => writeln!(text, "[+] {name} ok"),
            Err(cause) => writeln!(text, "[-] {name} failed: {cause}"),
        };
        line.expect("writing to a string cannot fail");
    }
    let status = if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, text).into_response()
}
