//! Writers and readers against a running cluster; everything that they are told is written down.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use reqwest::header::{HeaderMap, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::history::{Call, Condition, Operation, Recorder, Reply, Seen};

const WRITERS: usize = 4;
const READERS: usize = 4;

/// Keys of one round: few, so that clients meet.
const KEYS: usize = 3;

/// Four writers and four readers at work.
pub struct Workload {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

/// Which writers send an idempotency key, and try again until they know what became of their request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retries {
    EveryWriter,
    /// The others leave it unknown.
    EveryOtherWriter,
}

/// What is worth telling besides the history.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// Answers that no client should ever get.
    pub surprises: Vec<String>,
    /// Why a client did not know what became of a change, the first time.
    pub doubts: Vec<String>,
    /// Changes of which it is unknown to the end, although they were tried again.
    pub given_up: Vec<String>,
}

struct Shared {
    http: Client,
    urls: Vec<String>,
    recorder: Recorder,
    /// Part of every key: each round has keys of its own, so that histories stay short.
    round: AtomicUsize,
    values: AtomicU64,
    stop: AtomicBool,
    /// The longest that a client rests between two requests.
    rest: Duration,
    /// Changes that were asked for.
    attempts: AtomicUsize,
    /// When each write was acknowledged.
    acknowledged: Mutex<Vec<Instant>>,
    notes: Mutex<Notes>,
    retries: Retries,
}

impl Workload {
    /// Starts it against the members at `urls`.
    pub fn start(http: Client, urls: Vec<String>, retries: Retries, rest: Duration) -> Self {
        let shared = Arc::new(Shared {
            http,
            urls,
            recorder: Recorder::default(),
            round: AtomicUsize::new(0),
            values: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            acknowledged: Mutex::new(vec![Instant::now()]),
            notes: Mutex::default(),
            retries,
            rest,
            attempts: AtomicUsize::new(0),
        });
        let mut clients = JoinSet::new();
        for number in 0..WRITERS + READERS {
            let rng = SmallRng::seed_from_u64(number as u64);
            clients.spawn(client(Arc::clone(&shared), number, rng));
        }
        Self { shared, clients }
    }

    /// Goes on with new keys.
    pub fn next_round(&self) {
        self.shared.round.fetch_add(1, Ordering::Relaxed);
    }

    /// How many writes were asked for.
    pub fn attempts(&self) -> usize {
        self.shared.attempts.load(Ordering::Relaxed)
    }

    /// How many writes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledged.lock().unwrap().len() - 1
    }

    /// When a write was acknowledged for the last time.
    pub fn last_acknowledged(&self) -> Instant {
        *self.shared.acknowledged.lock().unwrap().last().expect("it begins with one")
    }

    /// The longest time without an acknowledged write, from the last one before `moment` on.
    pub fn longest_pause_since(&self, moment: Instant) -> Duration {
        let acknowledged = self.shared.acknowledged.lock().unwrap();
        let first = acknowledged.partition_point(|at| *at < moment).saturating_sub(1);
        acknowledged[first..].windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Reads every key that was ever used once more, so that the history shows what has become of each.
    pub async fn read_everything(&self) {
        let mut rng = SmallRng::seed_from_u64(0);
        for round in 0..=self.shared.round.load(Ordering::Relaxed) {
            for number in 0..KEYS {
                let key = format!("r{round}-{number}");
                loop {
                    let pending = self.shared.recorder.begin(WRITERS + READERS, &key, Call::Get);
                    match self.shared.ask(&key, Call::Get, None, &mut rng).await {
                        Answer::Told(reply) => break pending.end(reply),
                        Answer::NotDone => pending.never_happened(),
                        Answer::Doubt(text) | Answer::Surprise(text) => panic!("{key} cannot be read: {text}"),
                    }
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// The newest write of each writer that was acknowledged to it.
    pub fn newest_acknowledged(&self) -> Vec<Operation> {
        let operations = self.shared.recorder.operations();
        let newest = |writer| {
            let is_it = |it: &&Operation| it.client == writer && matches!(it.reply, Reply::Put { .. });
            operations.iter().rfind(is_it).cloned()
        };
        (0..WRITERS).filter_map(newest).collect()
    }

    /// Reads writes that were acknowledged from every member: each is there still, or its key was changed since, as somebody has
    /// asked for. How many of the answers were the write itself.
    pub async fn read_back(&self, writes: &[Operation]) -> usize {
        let mut same = 0;
        for write in writes {
            for url in &self.shared.urls {
                same += usize::from(self.shared.is_there(write, url).await);
            }
        }
        same
    }

    /// Lets every client finish what it does.
    pub async fn stop(self) -> (Vec<Operation>, Notes) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        (self.shared.recorder.operations(), self.shared.notes.lock().unwrap().clone())
    }
}

/// What an answer means to the client.
enum Answer {
    Told(Reply),
    /// It certainly did not happen.
    NotDone,
    /// It may have happened; the text says why nobody knows.
    Doubt(String),
    /// No client should get it.
    Surprise(String),
}

async fn client(shared: Arc<Shared>, number: usize, mut rng: SmallRng) {
    let is_writer = number < WRITERS;
    let tries_again = match shared.retries {
        Retries::EveryWriter => is_writer,
        Retries::EveryOtherWriter => is_writer && number.is_multiple_of(2),
    };
    let mut seen = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let round = shared.round.load(Ordering::Relaxed);
        let key = format!("r{round}-{}", rng.random_range(0..KEYS));
        let call = if is_writer { some_change(&shared, &mut rng, seen) } else { Call::Get };
        if is_writer {
            shared.attempts.fetch_add(1, Ordering::Relaxed);
        }
        let pending = shared.recorder.begin(number, &key, call);
        let idempotency = tries_again.then(|| format!("{number}-{}", rng.random::<u64>()));
        match shared.ask(&key, call, idempotency.as_deref(), &mut rng).await {
            Answer::Told(reply) => {
                shared.acknowledge(reply);
                pending.end(reply);
                seen = seen_in(reply).or(seen);
            }
            Answer::NotDone => pending.never_happened(),
            Answer::Doubt(cause) if tries_again => shared.notes.lock().unwrap().given_up.push(cause),
            Answer::Doubt(_) => {}
            Answer::Surprise(text) => shared.notes.lock().unwrap().surprises.push(text),
        }
        sleep(rng.random_range(Duration::ZERO..shared.rest)).await;
    }
}

fn some_change(shared: &Shared, rng: &mut SmallRng, seen: Option<u64>) -> Call {
    let only_if = match (rng.random_range(0..10), seen) {
        (0, _) => Condition::Absent,
        (1, _) => Condition::Present,
        (2..6, Some(revision)) => Condition::ModifiedAt(revision),
        _ => Condition::Always,
    };
    if rng.random_bool(0.15) && only_if != Condition::Absent {
        return Call::Delete { only_if };
    }
    Call::Put { value: shared.values.fetch_add(1, Ordering::Relaxed) + 1, only_if }
}

/// The revision that a client has seen with a reply.
fn seen_in(reply: Reply) -> Option<u64> {
    match reply {
        Reply::Put { revision } | Reply::Got(Some(Seen { revision, .. })) => Some(revision),
        Reply::Got(None) | Reply::Deleted { .. } | Reply::Mismatch { .. } | Reply::Unknown => None,
    }
}

impl Shared {
    /// Asks any member; with an idempotency key, another one again while nobody knows what became of it.
    async fn ask(&self, key: &str, call: Call, idempotency: Option<&str>, rng: &mut SmallRng) -> Answer {
        let mut doubt = None;
        for _ in 0..if idempotency.is_some() { 20 } else { 1 } {
            let url = format!("{}/v1/kv/{key}", self.urls[rng.random_range(0..self.urls.len())]);
            match (self.send(&url, call, idempotency).await, &doubt) {
                (Answer::Doubt(cause), _) => {
                    self.notes.lock().unwrap().doubts.push(cause.clone());
                    doubt = Some(cause);
                }
                // The first try may have been done all the same.
                (Answer::NotDone, Some(_)) => {}
                (answer, _) => return answer,
            }
            sleep(Duration::from_millis(rng.random_range(10..200))).await;
        }
        Answer::Doubt(doubt.expect("there was a first try"))
    }

    async fn send(&self, url: &str, call: Call, idempotency: Option<&str>) -> Answer {
        let (request, headers) = match call {
            Call::Put { value, only_if } => (self.http.put(url).body(value.to_string()), condition(only_if)),
            Call::Delete { only_if } => (self.http.delete(url), condition(only_if)),
            Call::Get => (self.http.get(url), HeaderMap::new()),
        };
        let mut request = request.query(&[("timeoutMs", "3000")]).headers(headers);
        if let Some(key) = idempotency {
            request = request.header("Idempotency-Key", key);
        }
        match request.send().await {
            Ok(answer) => read(call, answer).await,
            // Nobody listened, so nobody can have done it; and a read that fails has done nothing.
            Err(error) if error.is_connect() || call == Call::Get => Answer::NotDone,
            Err(error) => Answer::Doubt(format!("{call:?}: {error:?}")),
        }
    }

    /// Whether a member still has a write that was acknowledged, and not one that came after it.
    async fn is_there(&self, write: &Operation, url: &str) -> bool {
        let (Call::Put { value, .. }, Reply::Put { revision }) = (write.call, write.reply) else {
            panic!("no acknowledged write: {write:?}")
        };
        let url = format!("{url}/v1/kv/{}", write.key);
        let seen = loop {
            let pending = self.recorder.begin(WRITERS + READERS, &write.key, Call::Get);
            match self.send(&url, Call::Get, None).await {
                Answer::Told(reply) => {
                    pending.end(reply);
                    let Reply::Got(seen) = reply else { panic!("{reply:?} answers a read") };
                    break seen;
                }
                Answer::NotDone => pending.never_happened(),
                Answer::Doubt(text) | Answer::Surprise(text) => panic!("{url} cannot be read: {text}"),
            }
            sleep(Duration::from_millis(50)).await;
        };
        match seen {
            Some(seen) if seen.revision == revision => assert_eq!(seen.value, value, "{url}: another value"),
            Some(seen) => assert!(seen.revision > revision, "{url}: {write:?} is lost, {seen:?} is there"),
            None => assert!(self.may_be_deleted(write, revision), "{url}: {write:?} is lost, nothing is there"),
        }
        seen.is_some_and(|seen| seen.revision == revision)
    }

    /// Whether somebody has deleted a key after a write of that revision, or may have.
    fn may_be_deleted(&self, write: &Operation, written: u64) -> bool {
        self.recorder.operations().iter().filter(|it| it.key == write.key).any(|it| match (it.call, it.reply) {
            (Call::Delete { .. }, Reply::Deleted { existed, revision }) => existed && revision > written,
            (Call::Delete { .. }, Reply::Unknown) => true,
            _ => false,
        })
    }

    fn acknowledge(&self, reply: Reply) {
        if matches!(reply, Reply::Put { .. }) {
            let mut acknowledged = self.acknowledged.lock().unwrap();
            acknowledged.push(Instant::now());
        }
    }
}

fn condition(condition: Condition) -> HeaderMap {
    let mut headers = HeaderMap::new();
    match condition {
        Condition::Always => None,
        Condition::Absent => headers.insert(IF_NONE_MATCH, "*".parse().unwrap()),
        Condition::Present => headers.insert(IF_MATCH, "*".parse().unwrap()),
        Condition::ModifiedAt(revision) => headers.insert(IF_MATCH, format!("\"{revision}\"").parse().unwrap()),
    };
    headers
}

/// What a member has answered.
async fn read(call: Call, answer: Response) -> Answer {
    let status = answer.status();
    let revision = number(answer.headers(), "quorate-revision");
    let modified = number(answer.headers(), "quorate-mod-revision");
    let Ok(body) = answer.bytes().await else {
        return match call {
            Call::Get => Answer::NotDone,
            Call::Put { .. } | Call::Delete { .. } => Answer::Doubt(format!("{call:?}: the answer was cut off")),
        };
    };
    let text = String::from_utf8_lossy(&body);
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let reply = match (call, status) {
        (Call::Get, StatusCode::OK) => {
            text.parse().ok().zip(modified).map(|(value, revision)| Reply::Got(Some(Seen { value, revision })))
        }
        (Call::Get, StatusCode::NOT_FOUND) => Some(Reply::Got(None)),
        (Call::Put { .. }, StatusCode::OK) => json["modRevision"].as_u64().map(|revision| Reply::Put { revision }),
        (Call::Delete { .. }, StatusCode::OK) => {
            json["deleted"].as_bool().zip(revision).map(|(existed, revision)| Reply::Deleted { existed, revision })
        }
        (Call::Put { .. } | Call::Delete { .. }, StatusCode::PRECONDITION_FAILED) => {
            Some(Reply::Mismatch { current: json["current"]["modRevision"].as_u64() })
        }
        _ => None,
    };
    let is_for_later = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
    match (reply, json["outcome"].as_str()) {
        (Some(reply), _) => Answer::Told(reply),
        (None, Some("unknown")) if is_for_later && call != Call::Get => Answer::Doubt(format!("{call:?}: {text}")),
        (None, Some("not-applied")) if is_for_later && json["retryable"] == true => Answer::NotDone,
        (None, _) => Answer::Surprise(format!("{call:?} got {status}: {text}")),
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}
