//! One request, as many tries as its patience allows, at whichever member answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Answer, Client, ClientError, Outcome, Patience, ProblemReport, target};
use crate::types::Revision;

/// What is asked for, apart from where and how often.
pub(super) struct Request {
    method: Method,
    path: String,
    query: BTreeMap<&'static str, String>,
    body: Option<(&'static str, Bytes)>,
}

impl Request {
    pub(super) fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), query: BTreeMap::new(), body: None }
    }

    pub(super) fn query(mut self, query: &[(&'static str, String)]) -> Self {
        self.query.extend(query.iter().cloned());
        self
    }

    pub(super) fn json<T: Serialize>(mut self, body: &T) -> Self {
        let body = serde_json::to_vec(body).expect("our own shapes have only texts as keys, so they are JSON");
        self.body = Some(("application/json", body.into()));
        self
    }

    pub(super) fn bytes(mut self, body: Bytes) -> Self {
        self.body = Some(("application/octet-stream", body));
        self
    }
}

/// The least and the most that a member may be told to wait, in milliseconds.
const WAIT: std::ops::RangeInclusive<u128> = 1..=60_000;

impl Client {
    /// Sends a request that is answered with JSON.
    pub(super) async fn send<T: DeserializeOwned>(&self, request: Request) -> Result<Answer<T>, ClientError> {
        let Answer { revision, member, body } = self.send_raw(request).await?;
        let body = serde_json::from_slice(&body).map_err(|error| ClientError::Foreign(error.to_string()))?;
        Ok(Answer { revision, member, body })
    }

    /// Sends a request that is answered with bytes. Every try of a write carries the same idempotency key.
    pub(super) async fn send_raw(&self, request: Request) -> Result<Answer<Bytes>, ClientError> {
        let key = (request.method != Method::GET).then(|| self.next_idempotency_key());
        let (Patience::Until(patience) | Patience::Once(patience)) = self.patience;
        let deadline = Instant::now() + patience;
        let first = self.preferred.load(Ordering::Relaxed);
        let (mut uncertain, mut unreachable) = (None, BTreeSet::new());
        for attempt in 0.. {
            let endpoint = (first + attempt) % self.endpoints.len();
            let error = match self.attempt(&request, key.as_deref(), endpoint, deadline).await {
                Ok(answer) => {
                    self.preferred.store(endpoint, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if let ClientError::Unreachable(text) = &error {
                unreachable.insert(text.clone());
            }
            // A later refusal does not make an earlier try undone.
            if error.outcome() == Outcome::Unknown {
                uncertain = Some(error.clone());
            }
            let pause = match self.patience {
                Patience::Until(_) => error.retry_after(),
                Patience::Once(_) => None,
            };
            let tried_all = (attempt + 1) % self.endpoints.len() == 0;
            let pause = pause.map(|pause| if tried_all { pause } else { Duration::ZERO });
            match pause {
                Some(pause) if Instant::now() + pause < deadline => sleep(pause).await,
                Some(_) => return Err(uncertain.unwrap_or_else(|| with_all(error, unreachable))),
                None => return Err(error),
            }
        }
        unreachable!("the loop has no end but its returns")
    }

    async fn attempt(
        &self,
        request: &Request,
        key: Option<&str>,
        endpoint: usize,
        deadline: Instant,
    ) -> Result<Answer<Bytes>, ClientError> {
        let endpoint = &self.endpoints[endpoint];
        let mut query = request.query.clone();
        let takes_timeout = !request.path.starts_with("/v1/leader") && request.path != "/v1/cluster";
        if takes_timeout {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis();
            query.insert("timeoutMs", left.clamp(*WAIT.start(), *WAIT.end()).to_string());
        }
        let mut builder = self.http.request(request.method.clone(), endpoint.clone() + &target(&request.path, &query));
        if let Some(key) = key {
            builder = builder.header("Idempotency-Key", key);
        }
        if let Some((media_type, body)) = &request.body {
            builder = builder.header(header::CONTENT_TYPE, *media_type).body(body.clone());
        }
        let answered = timeout_at(deadline + GRACE, async {
            let response = builder.send().await.map_err(|error| of_transport(endpoint, &error))?;
            read(endpoint, response).await
        });
        answered.await.unwrap_or_else(|_| Err(ClientError::NoAnswer(format!("{endpoint} did not answer"))))
    }
}

/// Names every member that was not reached, when the last one was not.
fn with_all(error: ClientError, unreachable: BTreeSet<String>) -> ClientError {
    match error {
        ClientError::Unreachable(_) => ClientError::Unreachable(unreachable.into_iter().collect::<Vec<_>>().join("; ")),
        ClientError::Problem(_) | ClientError::NoAnswer(_) | ClientError::Foreign(_) | ClientError::BadEndpoint(_) => {
            error
        }
    }
}

/// A member that was told how long to wait says so itself a moment later, which tells more than silence.
const GRACE: Duration = Duration::from_millis(100);

async fn read(endpoint: &str, response: Response) -> Result<Answer<Bytes>, ClientError> {
    if !response.status().is_success() {
        return Err(problem(endpoint, response).await);
    }
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let revision = text("quorate-revision").and_then(|text| text.parse().ok()).map(Revision::new);
    let member = text("quorate-member").map(str::to_owned);
    let (Some(revision), Some(member)) = (revision, member) else {
        return Err(ClientError::Foreign(format!("{endpoint} sent no Quorate-Revision or no Quorate-Member")));
    };
    let body = response.bytes().await.map_err(|error| of_transport(endpoint, &error))?;
    Ok(Answer { revision, member, body })
}

/// What a member says went wrong.
pub(super) async fn problem(endpoint: &str, response: Response) -> ClientError {
    let status = response.status();
    let body = match response.bytes().await {
        Ok(body) => body,
        Err(error) => return of_transport(endpoint, &error),
    };
    match serde_json::from_slice::<ProblemReport>(&body) {
        Ok(problem) => ClientError::Problem(Box::new(problem)),
        Err(_) if status == StatusCode::SERVICE_UNAVAILABLE => {
            ClientError::Unreachable(format!("{endpoint}: {status}"))
        }
        Err(error) => ClientError::Foreign(format!("{endpoint} answered {status} without a problem document: {error}")),
    }
}

pub(super) fn of_transport(endpoint: &str, error: &reqwest::Error) -> ClientError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = format!("{endpoint}: {cause}");
    if error.is_connect() { ClientError::Unreachable(text) } else { ClientError::NoAnswer(text) }
}
