//! One watch of all keys that goes from member to member as they come and go, and must miss nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt;
use reqwest::Client;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::history::{Call, Operation, Reply, ValueId};
use super::revisions::revision_of;

/// After so long without a heartbeat, nobody is at the other end.
const SILENCE: Duration = Duration::from_secs(12);

/// What the watch has told: which key changed at which revision, and to what; `None` for a deleted key.
#[derive(Debug, Default)]
pub struct Story {
    changes: BTreeMap<u64, (String, Option<ValueId>)>,
    /// Where a snapshot made up for events that were not told one by one.
    skipped: Vec<(u64, u64)>,
    /// How often the watch was begun again.
    pub resumed: usize,
    newest: u64,
    /// The id to resume behind.
    last_id: Option<String>,
    pub faults: Vec<String>,
}

/// A watch under way.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Story>,
}

impl Watcher {
    #[allow(clippy::disallowed_methods, reason = "a test may spawn as it likes")]
    /// Follows the members at `urls`, one after the other.
    pub fn start(urls: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            // No time limit for the whole: a watch has no end.
            let http = Client::new();
            let mut story = Story::default();
            while !stopping.load(Ordering::Relaxed) {
                for url in &urls {
                    story.follow(&http, url, &stopping).await;
                }
                sleep(Duration::from_millis(20)).await;
            }
            story
        });
        Self { stop, task }
    }

    /// Ends the watch; what it has told by then.
    pub async fn stop(self) -> Story {
        // What was acknowledged last is on its way.
        sleep(Duration::from_secs(1)).await;
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

impl Story {
    /// Follows one member's watch until it breaks.
    async fn follow(&mut self, http: &Client, url: &str, stop: &AtomicBool) {
        let mut request = http.get(format!("{url}/v1/watch?prefix=r"));
        if let Some(id) = &self.last_id {
            request = request.header("Last-Event-ID", id);
        }
        let Ok(Ok(answer)) = timeout(Duration::from_secs(2), request.send()).await else { return };
        if !answer.status().is_success() {
            return;
        }
        self.resumed += 1;
        let mut stream = answer.bytes_stream();
        let mut buffer = Vec::new();
        let mut heard = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let part = match timeout(Duration::from_millis(500), stream.next()).await {
                Ok(Some(Ok(part))) => part,
                Ok(Some(Err(_)) | None) => return,
                // Quiet; look whether the test is over. Nothing says that a machine without power is gone.
                Err(_) if heard.elapsed() < SILENCE => continue,
                Err(_) => return,
            };
            heard = Instant::now();
            buffer.extend_from_slice(&part);
            while let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = buffer.drain(..end + 2).collect();
                self.take(&String::from_utf8(event).unwrap());
            }
        }
    }

    /// One server-sent event.
    fn take(&mut self, event: &str) {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let data: Value = serde_json::from_str(field("data").unwrap_or("null")).unwrap();
        let revision = data["revision"].as_u64().unwrap_or_default();
        match field("event") {
            Some("snapshot") => {
                if revision < self.newest {
                    self.faults.push(format!("a snapshot of revision {revision} came after {}", self.newest));
                }
                self.skipped.push((self.newest, revision));
                self.newest = revision;
            }
            Some("put" | "delete") => self.change(revision, &data),
            Some("heartbeat") => {}
            other => self.faults.push(format!("an event {other:?} that nobody asked for")),
        }
        if let Some(id) = field("id") {
            self.last_id = Some(id.to_owned());
        }
    }

    fn change(&mut self, revision: u64, data: &Value) {
        let previous = data["prevRevision"].as_u64().unwrap();
        // A watch that was resumed begins where it was resumed, which may be a heartbeat behind the last change.
        if revision <= self.newest || previous > revision {
            self.faults.push(format!("revision {revision} after {}, said to follow {previous}", self.newest));
        }
        if previous > self.newest && self.changes.range(self.newest + 1..=previous).next().is_none() {
            let resumed = self.last_id.as_ref().is_some_and(|id| id.ends_with(&format!("-{previous}")));
            if !resumed {
                self.faults.push(format!("revision {revision} follows {previous}, which never came"));
            }
        }
        self.newest = revision;
        let value = data["kv"]["value"].as_str().map(|text| {
            let bytes = BASE64.decode(text).unwrap();
            std::str::from_utf8(&bytes).unwrap().parse().unwrap()
        });
        self.changes.insert(revision, (data["key"].as_str().unwrap().to_owned(), value));
    }

    /// How many changes it has told.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Acknowledged changes that it has not told as they were acknowledged.
    pub fn misses(&self, operations: &[Operation]) -> Vec<String> {
        let is_skipped = |revision: u64| self.skipped.iter().any(|(from, to)| (*from + 1..=*to).contains(&revision));
        let mut misses = Vec::new();
        for operation in operations {
            let Some(revision) = revision_of(operation).filter(|revision| !is_skipped(*revision)) else { continue };
            let expected = match (operation.call, operation.reply) {
                (Call::Put { value, .. }, Reply::Put { .. }) => Some(value),
                _ => None,
            };
            if self.changes.get(&revision) != Some(&(operation.key.clone(), expected)) {
                misses.push(format!("{operation:?}, but the watch told {:?}", self.changes.get(&revision)));
            }
        }
        misses
    }

    /// Changes that were told one by one, and revisions that snapshots made up for.
    pub fn skipped(&self) -> u64 {
        self.skipped.iter().skip(1).map(|(from, to)| to.saturating_sub(*from)).sum()
    }
}
