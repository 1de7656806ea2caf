//! A watch that goes on: when its stream breaks, the next member continues behind the last event that was seen.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use reqwest::{Response, header};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::events::{Parser, RawEvent};
use super::send::{of_transport, problem};
use super::{Client, ClientError, Patience, target};

/// One event of a watch.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchEvent {
    /// `snapshot`, `put`, `delete`, `config`, `leader`, `granted`, `lost` or `heartbeat`.
    pub name: String,
    pub data: Value,
}

/// A watch. Its events come in order, none twice and none missing, or it begins again with a `snapshot`.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    target: String,
    endpoint: usize,
    seen: Option<String>,
    stream: Option<Stream>,
}

#[derive(Debug)]
struct Stream {
    endpoint: String,
    response: Response,
    parser: Parser,
    ready: VecDeque<RawEvent>,
}

/// Three heartbeats without a byte: the member is gone.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a member may take to begin an answer.
const BEGIN: Duration = Duration::from_secs(5);

impl Watch {
    pub(super) fn new(client: Client, path: &str, query: &[(&'static str, String)]) -> Self {
        let query: BTreeMap<_, _> = query.iter().cloned().collect();
        Self { target: target(path, &query), endpoint: 0, seen: None, stream: None, client }
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// When no member takes the watch up again within the client's patience, or one refuses it.
    pub async fn next(&mut self) -> Result<WatchEvent, ClientError> {
        let (Patience::Until(patience) | Patience::Once(patience)) = self.client.patience;
        let (mut deadline, mut failures) = (None, 0);
        loop {
            let error = match self.next_of_stream().await {
                Ok(event) => return Ok(event),
                Err(error) => error,
            };
            self.stream = None;
            self.endpoint = (self.endpoint + 1) % self.client.endpoints.len();
            // Patience begins to run with the first failure, not with the wait for an event.
            let deadline = *deadline.get_or_insert(Instant::now() + patience);
            // The next member at once, and a rest when none of them could go on.
            failures += 1;
            let has_tried_all = failures % self.client.endpoints.len() == 0;
            match error.retry_after().map(|pause| if has_tried_all { pause } else { Duration::ZERO }) {
                Some(pause) if Instant::now() + pause < deadline => sleep(pause).await,
                Some(_) | None => return Err(error),
            }
        }
    }

    async fn next_of_stream(&mut self) -> Result<WatchEvent, ClientError> {
        if self.stream.is_none() {
            self.stream = Some(self.connect().await?);
        }
        let stream = self.stream.as_mut().expect("it was just connected");
        let event = stream.next().await?;
        let data = serde_json::from_str(&event.data).map_err(|error| ClientError::Foreign(error.to_string()))?;
        self.seen = event.id.or(self.seen.take());
        Ok(WatchEvent { name: event.name, data })
    }

    async fn connect(&self) -> Result<Stream, ClientError> {
        let endpoint = self.client.endpoints[self.endpoint].clone();
        let mut request = self.client.http.get(endpoint.clone() + &self.target);
        request = request.header(header::ACCEPT, "text/event-stream");
        if let Some(seen) = &self.seen {
            request = request.header("Last-Event-ID", seen);
        }
        let response = timeout(BEGIN, request.send()).await;
        let response = response.map_err(|_| ClientError::NoAnswer(format!("{endpoint} did not answer")))?;
        let response = response.map_err(|error| of_transport(&endpoint, &error))?;
        if !response.status().is_success() {
            return Err(problem(&endpoint, response).await);
        }
        Ok(Stream { endpoint, response, parser: Parser::default(), ready: VecDeque::new() })
    }
}

impl Stream {
    async fn next(&mut self) -> Result<RawEvent, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let lost = |what: &str| ClientError::NoAnswer(format!("{}: {what}", self.endpoint));
            let chunk = timeout(SILENCE, self.response.chunk()).await.map_err(|_| lost("the stream is silent"))?;
            let chunk = chunk.map_err(|error| of_transport(&self.endpoint, &error))?;
            let chunk = chunk.ok_or_else(|| lost("the stream has ended"))?;
            let events = self.parser.push(&chunk);
            self.ready.extend(events.ok_or_else(|| ClientError::Foreign("the stream has no events".to_owned()))?);
        }
    }
}
