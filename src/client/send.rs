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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::api::wire;

    const DONE: &str = r#"{"deleted":true,"revision":5}"#;

    fn done() -> String {
        answer("200 OK\r\nQuorate-Revision: 5\r\nQuorate-Member: quorate-0", DONE)
    }

    /// A problem that says of itself what is to be done.
    fn problem(status: u16, outcome: &str, retryable: bool, retry_after_ms: u64) -> String {
        let body = serde_json::json!({
            "type": "https://quorate.io/problems/any", "title": "any", "status": status, "detail": outcome,
            "outcome": outcome, "retryable": retryable, "retryAfterMs": retry_after_ms,
        });
        answer(&format!("{status} Problem"), &body.to_string())
    }

    fn answer(head: &str, body: &str) -> String {
        format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    }

    /// What must be true of what is told in the end.
    type Judge = fn(&ClientError);

    /// When a member was asked, and with which idempotency key.
    type Asked = Arc<Mutex<Vec<(Instant, String)>>>;

    /// A member that gives some answers one after the other, and the last one for ever; nothing is no answer.
    struct Member {
        url: String,
        asked: Asked,
        _serving: AbortOnDropHandle<()>,
    }

    impl Member {
        async fn start(answers: Vec<String>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let url = format!("http://{}", listener.local_addr().expect("it listens"));
            let asked = Asked::default();
            let noted = Arc::clone(&asked);
            #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
            let serving = tokio::spawn(async move {
                for number in 0.. {
                    let (mut stream, _) = listener.accept().await.expect("a connection");
                    let (mut head, mut buffer) = (String::new(), [0; 4096]);
                    while !head.contains("\r\n\r\n") {
                        let bytes = stream.read(&mut buffer).await.expect("a request");
                        head.push_str(std::str::from_utf8(&buffer[..bytes]).expect("text"));
                    }
                    let key = head.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap_or_default();
                    noted.lock().expect("no test has failed").push((Instant::now(), key.to_owned()));
                    let answer = &answers[number.min(answers.len() - 1)];
                    stream.write_all(answer.as_bytes()).await.expect("it reads the answer");
                }
            });
            Self { url, asked, _serving: AbortOnDropHandle::new(serving) }
        }
    }

    #[tokio::test]
    async fn a_write_is_tried_again_with_the_same_key_only_where_its_outcome_says_so() {
        let until = Patience::Until(Duration::from_millis(600));
        let is_nothing: Judge = |error| panic!("it was done in the end: {error}");
        let is_unknown = |error: &ClientError| assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
        let is_undone = |error: &ClientError| assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
        let busy = || problem(503, "not-applied", true, 80);
        let doubtful = || problem(504, "unknown", false, 80);
        let refused = || problem(409, "not-applied", false, 80);
        // The answers, the patience, how often a member is asked at least and at most, and what is told if it was not done.
        let cases: Vec<(Vec<String>, Patience, [usize; 2], Judge)> = vec![
            (vec![busy(), done()], until, [2, 2], is_nothing),
            (vec![doubtful(), done()], until, [2, 2], is_nothing),
            (vec![String::new(), done()], until, [2, 2], is_nothing),
            (vec![refused(), done()], until, [1, 1], is_undone),
            (vec![answer("200 OK", DONE), done()], until, [1, 1], is_unknown),
            (vec![busy(), done()], Patience::Once(Duration::from_secs(5)), [1, 1], is_undone),
            (vec![busy()], until, [2, 8], is_undone),
            // That it was not done the last time does not undo the first.
            (vec![doubtful(), busy()], until, [2, 8], is_unknown),
        ];
        for (answers, patience, tries, judge) in cases {
            let member = Member::start(answers.clone()).await;
            let client = Client::new(std::slice::from_ref(&member.url), patience, 1).expect("a URL");
            let told = client.send::<wire::Deleted>(Request::new(Method::DELETE, "/v1/kv/a")).await;
            let asked = member.asked.lock().expect("no test has failed").clone();
            assert!((tries[0]..=tries[1]).contains(&asked.len()), "{answers:?}: asked {} times", asked.len());
            assert!(!asked[0].1.is_empty() && asked.iter().all(|(_, key)| *key == asked[0].1), "{asked:?}");
            let rests = asked.windows(2).map(|pair| pair[1].0 - pair[0].0);
            for rest in rests {
                assert!(rest >= Duration::from_millis(80), "{answers:?}: asked again after {rest:?}");
            }
            match told {
                Ok(told) => assert!(answers.last() == Some(&done()), "{told:?}"),
                Err(error) => judge(&error),
            }
        }
    }
}
