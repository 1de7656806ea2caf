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
    repetition: Repetition,
}

/// Whether a request may be sent again while nobody knows whether it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repetition {
    /// It is a read, or its idempotency key sees to it, or twice is the same as once.
    Harmless,
    /// Members know no idempotency key for it, and twice is not the same as once.
    Harmful,
}

impl Request {
    pub(super) fn new(method: Method, path: &str) -> Self {
        let repetition = Repetition::Harmless;
        Self { method, path: path.to_owned(), query: BTreeMap::new(), body: None, repetition }
    }

    /// The same, but sent again only when it was certainly not done.
    pub(super) fn harmful_to_repeat(mut self) -> Self {
        self.repetition = Repetition::Harmful;
        self
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

    fn wants_key(&self) -> bool {
        match self.repetition {
            Repetition::Harmless => self.method != Method::GET,
            Repetition::Harmful => false,
        }
    }

    /// Whether it may be sent again after a try with that outcome.
    fn may_follow(&self, outcome: Outcome) -> bool {
        match self.repetition {
            Repetition::Harmless => true,
            Repetition::Harmful => outcome == Outcome::NotApplied,
        }
    }
}

/// As long as the longest election timeout is by default: who is asked while nobody leads can mostly answer by then.
const LEAST_SHARE: Duration = Duration::from_millis(500);

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
        let key = request.wants_key().then(|| self.next_idempotency_key());
        let (Patience::Until(patience) | Patience::Once(patience)) = self.patience;
        let (deadline, share) = (Instant::now() + patience, self.share(request.repetition));
        let first = self.preferred.load(Ordering::Relaxed);
        let (mut uncertain, mut unreachable) = (None, BTreeSet::new());
        for attempt in 0.. {
            let endpoint = (first + attempt) % self.endpoints.len();
            let end = deadline.min(Instant::now() + share);
            let error = match self.attempt(&request, key.as_deref(), endpoint, end).await {
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
                // Who asks once says by itself who is asked next.
                Patience::Once(_) => None,
            };
            if pause.is_some() {
                self.leave(endpoint);
            }
            let pause = pause.filter(|_| request.may_follow(error.outcome()));
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

    /// How long one try may take. A member that is silent, or has no quorum, must leave time to ask the others; what may not
    /// be asked again leaves it to nobody.
    fn share(&self, repetition: Repetition) -> Duration {
        match (self.patience, repetition) {
            (Patience::Once(patience), Repetition::Harmless | Repetition::Harmful)
            | (Patience::Until(patience), Repetition::Harmful) => patience,
            (Patience::Until(patience), Repetition::Harmless) => {
                let endpoints = u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX);
                (patience / endpoints).max(LEAST_SHARE)
            }
        }
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

    /// What a member was asked.
    #[derive(Debug, Clone)]
    struct Question {
        at: Instant,
        /// Its idempotency key; empty when it has none.
        key: String,
        /// How long the member may take.
        timeout_ms: u64,
    }

    impl Question {
        fn new(head: &str) -> Self {
            let key = head.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap_or_default();
            let (_, timeout) = head.split_once("timeoutMs=").expect("it says how long to wait");
            let digits = timeout.split(|c: char| !c.is_ascii_digit()).next().expect("the first part");
            Self { at: Instant::now(), key: key.to_owned(), timeout_ms: digits.parse().expect("a number") }
        }
    }

    /// A member that gives some answers one after the other, and the last one for ever: an empty one is an end without an
    /// answer. One that has none is silent.
    struct Member {
        url: String,
        asked: Arc<Mutex<Vec<Question>>>,
        _serving: AbortOnDropHandle<()>,
    }

    impl Member {
        async fn start(answers: Vec<String>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let url = format!("http://{}", listener.local_addr().expect("it listens"));
            let asked = Arc::<Mutex<Vec<_>>>::default();
            let noted = Arc::clone(&asked);
            #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
            let serving = tokio::spawn(async move {
                let mut waiting = Vec::new();
                for number in 0.. {
                    let (mut stream, _) = listener.accept().await.expect("a connection");
                    let (mut head, mut buffer) = (String::new(), [0; 4096]);
                    while !head.contains("\r\n\r\n") {
                        let bytes = stream.read(&mut buffer).await.expect("a request");
                        head.push_str(std::str::from_utf8(&buffer[..bytes]).expect("text"));
                    }
                    noted.lock().expect("no test has failed").push(Question::new(&head));
                    match answers.get(number).or(answers.last()) {
                        Some(answer) => stream.write_all(answer.as_bytes()).await.expect("it reads the answer"),
                        None => waiting.push(stream),
                    }
                }
            });
            Self { url, asked, _serving: AbortOnDropHandle::new(serving) }
        }

        fn asked(&self) -> Vec<Question> {
            self.asked.lock().expect("no test has failed").clone()
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
            let asked = member.asked();
            assert!((tries[0]..=tries[1]).contains(&asked.len()), "{answers:?}: asked {} times", asked.len());
            let key = &asked[0].key;
            assert!(!key.is_empty() && asked.iter().all(|question| question.key == *key), "{asked:?}");
            let rests = asked.windows(2).map(|pair| pair[1].at - pair[0].at);
            for rest in rests {
                assert!(rest >= Duration::from_millis(80), "{answers:?}: asked again after {rest:?}");
            }
            match told {
                Ok(told) => assert!(answers.last() == Some(&done()), "{told:?}"),
                Err(error) => judge(&error),
            }
        }
    }

    #[tokio::test]
    async fn what_has_no_idempotency_key_is_asked_again_only_when_it_was_certainly_not_done() {
        let busy = || problem(503, "not-applied", true, 80);
        let doubtful = || problem(504, "unknown", true, 80);
        for (first, tries) in [(busy(), 2), (doubtful(), 1), (String::new(), 1)] {
            let member = Member::start(vec![first.clone(), done()]).await;
            let patience = Patience::Until(Duration::from_secs(5));
            let client = Client::new(std::slice::from_ref(&member.url), patience, 1).expect("a URL");
            let request = Request::new(Method::POST, "/v1/cluster/transfer-leadership").harmful_to_repeat();
            let told = client.send::<wire::Deleted>(request).await;
            let asked = member.asked();
            assert_eq!((asked.len(), told.is_ok()), (tries, tries == 2), "{first:?}: {told:?}");
            assert!(asked.iter().all(|question| question.key.is_empty()), "{asked:?}");
        }
    }

    #[tokio::test]
    async fn a_silent_member_takes_its_share_of_the_patience_and_the_next_call_begins_at_another() {
        let patience = Duration::from_secs(3);
        for method in [Method::DELETE, Method::GET] {
            let (silent, healthy) = (Member::start(vec![]).await, Member::start(vec![done()]).await);
            let urls = [silent.url.clone(), healthy.url.clone()];
            let client = Client::new(&urls, Patience::Until(patience), 1).expect("two URLs");
            let call = async || {
                let began = Instant::now();
                let told = client.send::<wire::Deleted>(Request::new(method.clone(), "/v1/kv/a")).await;
                assert!(told.is_ok(), "{method}: {told:?}");
                began.elapsed()
            };
            let (first, second) = (call().await, call().await);
            assert!(first >= patience / 2 && first < patience * 5 / 6, "{method}: it took {first:?}");
            assert!(second < patience / 2, "{method}: the next one took {second:?}");
            let (unheard, heard) = (silent.asked(), healthy.asked());
            assert_eq!((unheard.len(), heard.len()), (1, 2), "{method}: {unheard:?}, {heard:?}");
            assert_eq!(unheard[0].key, heard[0].key, "{method}: both tries are of one request");
            let told = u128::from(unheard[0].timeout_ms);
            assert!(told <= patience.as_millis() / 2, "{method}: a member was told to wait {told} ms");
        }
    }
}
