//! What every request meets, whatever its route: the size of its head, a form of answer that is accepted, who signs the answer,
//! and the metrics; and the answers to those that have no route.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::metrics::Observation;
use super::problem::{Problem, ProblemKind};
use super::{Api, reply};

/// Bytes of a request's head.
pub const HEAD: usize = 16 << 10;

/// Lets a request in, and signs and counts its answer.
pub async fn cross(State(api): State<Api>, request: Request, next: Next) -> Response {
    let observation = Observation::begin(&request);
    let mut response = match check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    reply::sign(&api, &mut response);
    api.metrics.observe(&observation, &response);
    response
}

/// Refuses a request before its body is read.
fn check(request: &Request) -> Result<(), Problem> {
    let head = head_size(request);
    if head > HEAD {
        let detail = format!("the request's line and headers have {head} bytes, and at most {HEAD} are allowed");
        return Err(Problem::new(ProblemKind::TooLarge, detail));
    }
    if !accepts(request.headers()) {
        let detail = "answers are application/json, application/octet-stream or text/event-stream";
        return Err(Problem::new(ProblemKind::NotAcceptable, detail));
    }
    Ok(())
}

/// About the bytes that the head had on the wire.
fn head_size(request: &Request) -> usize {
    let uri = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    request.method().as_str().len() + uri + headers.sum::<usize>()
}

fn accepts(headers: &HeaderMap) -> bool {
    const FORMS: [&str; 6] =
        ["*/*", "application/*", "application/json", "application/octet-stream", "text/event-stream", "text/*"];
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges = accepted.flat_map(|value| value.split(',')).peekable();
    let essence = |range: &str| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    ranges.peek().is_none() || ranges.any(|range| FORMS.contains(&essence(range).as_str()))
}

/// The answer on a path that is none.
pub async fn no_such_path(request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(200).collect();
    Problem::not_found(format!("path {path}"))
}

/// The answer on a path of the API that takes other methods.
pub async fn method_not_allowed(request: Request) -> Problem {
    not_allowed(&request, "see /openapi.json")
}

/// The answer on a path that is only read, of a port without a document of its paths.
pub async fn only_read(request: Request) -> Problem {
    not_allowed(&request, "use GET")
}

fn not_allowed(request: &Request, advice: &str) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    Problem::new(ProblemKind::MethodNotAllowed, format!("{method} is not allowed on {path}; {advice}"))
}
