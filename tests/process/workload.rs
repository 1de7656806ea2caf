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
use tokio::time::Instant;

use crate::support::history::{Call, Condition, Operation, Pending, Recorder, Reply, Seen, ValueId};
use crate::trio::{SIZE, Trio};

const WRITERS: usize = 4;
const READERS: usize = 4;

/// Keys of one round: few, so that clients meet.
const KEYS: usize = 3;

/// Four writers and four readers at work.
pub struct Workload {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

struct Shared {
    http: Client,
    urls: Vec<String>,
    recorder: Recorder,
    /// Part of every key: each round has keys of its own, so that histories stay short.
    round: AtomicUsize,
    values: AtomicU64,
    stop: AtomicBool,
    /// When each write was acknowledged.
    acknowledged: Mutex<Vec<Instant>>,
    /// Answers that no client should ever get.
    surprises: Mutex<Vec<String>>,
    /// Why writers do not know what became of their request.
    doubts: Mutex<Vec<String>>,
}

impl Workload {
    /// Starts it.
    pub fn start(trio: &Trio) -> Self {
        let shared = Arc::new(Shared {
            http: trio.http.clone(),
            urls: (0..SIZE).map(|member| trio.url(member)).collect(),
            recorder: Recorder::default(),
            round: AtomicUsize::new(0),
            values: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            acknowledged: Mutex::new(vec![Instant::now()]),
            surprises: Mutex::default(),
            doubts: Mutex::default(),
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

    /// Answers that no client should ever get.
    pub fn surprises(&self) -> Vec<String> {
        self.shared.surprises.lock().unwrap().clone()
    }

    /// Why writers do not know what became of their request.
    pub fn doubts(&self) -> Vec<String> {
        self.shared.doubts.lock().unwrap().clone()
    }

    /// Lets every client finish what it does.
    pub async fn stop(self) -> Vec<Operation> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        self.shared.recorder.operations()
    }
}

async fn client(shared: Arc<Shared>, number: usize, mut rng: SmallRng) {
    let mut seen = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let round = shared.round.load(Ordering::Relaxed);
        let key = format!("r{round}-{}", rng.random_range(0..KEYS));
        let url = format!("{}/v1/kv/{key}", shared.urls[rng.random_range(0..SIZE)]);
        let call = if number < WRITERS { some_change(&shared, &mut rng, seen) } else { Call::Get };
        let pending = shared.recorder.begin(number, &key, call);
        match send(&shared, &url, call).await {
            Ok(answer) => seen = shared.note(pending, call, answer).await.or(seen),
            // Nobody listened, so nobody can have done it.
            Err(error) if error.is_connect() => pending.never_happened(),
            Err(error) => {
                shared.doubt(call, &error);
                drop(pending);
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..8))).await;
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

async fn send(shared: &Shared, url: &str, call: Call) -> Result<Response, reqwest::Error> {
    let request = match call {
        Call::Put { value, .. } => shared.http.put(url).body(value.to_string()),
        Call::Delete { .. } => shared.http.delete(url),
        Call::Get => shared.http.get(url),
    };
    let headers = match call {
        Call::Put { only_if, .. } | Call::Delete { only_if } => condition(only_if),
        Call::Get => HeaderMap::new(),
    };
    request.query(&[("timeoutMs", "3000")]).headers(headers).send().await
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

impl Shared {
    /// Writes down what a member has answered; returns the revision that the client has seen with it.
    async fn note(&self, pending: Pending, call: Call, answer: Response) -> Option<u64> {
        let status = answer.status();
        let revision = number(answer.headers(), "quorate-revision");
        let modified = number(answer.headers(), "quorate-mod-revision");
        // A connection that breaks in the middle of an answer has said nothing.
        let body = answer.bytes().await.ok()?;
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let reply = match (call, status) {
            (Call::Get, StatusCode::OK) => {
                let value: ValueId = std::str::from_utf8(&body).ok()?.parse().ok()?;
                Reply::Got(Some(Seen { value, revision: modified? }))
            }
            (Call::Get, StatusCode::NOT_FOUND) => Reply::Got(None),
            (Call::Put { .. }, StatusCode::OK) => Reply::Put { revision: json["modRevision"].as_u64()? },
            (Call::Delete { .. }, StatusCode::OK) => {
                Reply::Deleted { existed: json["deleted"].as_bool()?, revision: revision? }
            }
            (Call::Put { .. } | Call::Delete { .. }, StatusCode::PRECONDITION_FAILED) => {
                Reply::Mismatch { current: json["current"]["modRevision"].as_u64() }
            }
            (_, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) => {
                let is_done = json["outcome"] != "not-applied";
                if call == Call::Get || !is_done {
                    pending.never_happened();
                }
                if is_done && call != Call::Get {
                    self.doubt(call, &json["detail"]);
                }
                if json["retryable"] != true && !is_done {
                    self.surprise(call, status, &body);
                }
                return None;
            }
            _ => {
                self.surprise(call, status, &body);
                return None;
            }
        };
        if matches!(reply, Reply::Put { .. }) {
            let mut acknowledged = self.acknowledged.lock().unwrap();
            acknowledged.push(Instant::now());
        }
        pending.end(reply);
        match reply {
            Reply::Put { revision } | Reply::Got(Some(Seen { revision, .. })) => Some(revision),
            _ => None,
        }
    }
}

impl Shared {
    fn doubt(&self, call: Call, cause: &dyn std::fmt::Debug) {
        if call != Call::Get {
            self.doubts.lock().unwrap().push(format!("{call:?}: {cause:?}"));
        }
    }

    fn surprise(&self, call: Call, status: StatusCode, body: &[u8]) {
        let text = format!("{call:?} got {status}: {}", String::from_utf8_lossy(body));
        self.surprises.lock().unwrap().push(text);
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}
