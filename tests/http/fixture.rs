//! One member that is a cluster by itself, and requests to it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use prometheus::Registry;
use quorate::api::{Api, HttpMetrics, router};
use quorate::coordinator::Coordinator;
use quorate::duties;
use quorate::raft::transport::{Inbox, Lane, Network, NetworkError, Peer, Probe};
use quorate::raft::volume::DiskVolume;
use quorate::raft::{Beginning, Clock, Parts, Phase, RaftHandle, RaftRole, SnapshotThresholds};
use quorate::settings::{SessionSettings, Timing};
use quorate::tasks::{Failures, Tasks};
use quorate::types::{MemberName, Timestamp};
use quorate::watch::{Hub, HubLimits};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Duration, Instant};
use tower::ServiceExt;

/// Far longer than anything takes; a test that waits so long fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running member.
pub struct Service {
    pub router: Router,
    pub hub: Hub,
    pub coordinator: Coordinator,
    pub registry: Registry,
    tasks: Tasks,
    _failures: Failures,
    _directory: TempDir,
}

struct Counting(AtomicU64);

impl Clock for Counting {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(1_769_860_800_000)
    }

    fn random(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A member that is alone calls nobody.
struct Nobody;

impl Network for Nobody {
    fn open(&self, _: Arc<dyn Inbox>, _: &Tasks) {}

    fn call(&self, peer: &Peer, _: Lane, _: Bytes, _: Instant) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        let peer = peer.name().to_owned();
        Box::pin(async { Err(NetworkError::NotSent { peer, cause: "there is nobody else".to_owned() }) })
    }

    fn probe(&self, _: &Peer, _: Bytes, _: Instant) -> BoxFuture<'static, Probe> {
        Box::pin(async { Probe::Nothing })
    }
}

impl Service {
    pub async fn start() -> Self {
        Self::start_with(HubLimits::default(), SessionSettings::default()).await
    }

    pub async fn start_with(limits: HubLimits, sessions: SessionSettings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (tasks, failures) = Tasks::new();
        let (hub, registry) = (Hub::new(limits), Registry::new());
        let clock: Arc<dyn Clock> = Arc::new(Counting(AtomicU64::new(1)));
        let name = MemberName::new("solo").unwrap();
        let parts = Parts {
            name: name.clone(),
            url: "http://solo:8080".to_owned(),
            beginning: Beginning::Together(BTreeMap::from([(name, "solo:7400".to_owned())])),
            timing: Timing::default(),
            snapshots: SnapshotThresholds::default(),
            volume: DiskVolume::open(directory.path()).unwrap(),
            network: Arc::new(Nobody),
            clock: Arc::clone(&clock),
            hub: hub.clone(),
            registry: registry.clone(),
        };
        let raft = RaftHandle::start(parts, &tasks).await.unwrap();
        let mut status = raft.status_changes();
        let leads = status.wait_for(|status| status.phase == Phase::Running && status.role == RaftRole::Leader);
        tokio::time::timeout(PATIENCE, leads).await.expect("it becomes the Raft leader").unwrap();
        let coordinator = Coordinator::start(raft, hub.clone(), clock, sessions, &registry, &tasks).unwrap();
        duties::start(coordinator.clone(), &tasks);
        let api = Api::new(coordinator.clone(), HttpMetrics::register(&registry).unwrap(), tasks.clone());
        let router = router(api);
        let service = Self { router, hub, coordinator, registry, tasks, _failures: failures, _directory: directory };
        // The cluster is founded and the member has announced itself; from here on nothing changes by itself.
        let deadline = Instant::now() + PATIENCE;
        while service.send(Request::get("/v1/leader")).await.json()["url"].is_null() {
            assert!(Instant::now() < deadline, "the member does not announce itself");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        service
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, request: Request) -> Answer {
        let told = request.to_string();
        let (status, headers, body) = self.open(request).await;
        let read = tokio::time::timeout(PATIENCE, to_bytes(body, usize::MAX)).await;
        let body = read.unwrap_or_else(|_| panic!("{told} is not answered")).unwrap();
        Answer { told, status, headers, body }
    }

    /// Sends a request and leaves the body open.
    pub async fn open(&self, request: Request) -> (u16, HeaderMap, Body) {
        let mut http = axum::http::Request::builder().method(request.method).uri(request.path);
        for (name, value) in &request.headers {
            http = http.header(name, value);
        }
        let http = http.body(Body::from(request.body)).unwrap();
        let response = tokio::time::timeout(PATIENCE, self.router.clone().oneshot(http)).await;
        let (head, body) = response.expect("every request is answered").unwrap().into_parts();
        (head.status.as_u16(), head.headers, body)
    }

    /// A new session, by its name.
    pub async fn session(&self, ttl_ms: u64) -> String {
        let body = format!(r#"{{"ttlMs":{ttl_ms}}}"#);
        let created = self.send(Request::post("/v1/sessions", &body).json()).await.expect(201).json();
        created["session"].as_str().unwrap().to_owned()
    }

    /// What a counter says, over all of its labels.
    pub fn count(&self, counter: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == counter).expect("there is such a metric");
        let counts = family.get_metric().iter().map(|metric| metric.get_counter().get_value());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter counts whole things")]
        counts.map(|count| count as u64).sum()
    }

    /// Waits until a session has expired, without giving it a sign of life.
    pub async fn expired(&self, session: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.send(Request::get(format!("/v1/sessions/{session}"))).await.status != 410 {
            assert!(Instant::now() < deadline, "session {session} does not expire");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Opens a stream of events.
    pub async fn watch(&self, request: Request) -> Events {
        let (status, headers, body) = self.open(request).await;
        assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "text/event-stream"));
        Events { body, text: String::new() }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

/// What a session asks of an election or a lock.
pub fn contest(path: &str, session: &str, more: &Value) -> Request {
    let mut body = more.clone();
    body["session"] = Value::from(session);
    Request::post(path, &body.to_string()).json()
}

/// A request on its way.
#[derive(Debug, Clone)]
pub struct Request {
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Request {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub fn put(path: impl Into<String>, body: &str) -> Self {
        Self::new(Method::PUT, path).body(body)
    }

    pub fn put_bytes(path: impl Into<String>, body: &[u8]) -> Self {
        Self { body: Bytes::copy_from_slice(body), ..Self::new(Method::PUT, path) }
    }

    pub fn post(path: impl Into<String>, body: &str) -> Self {
        Self::new(Method::POST, path).body(body)
    }

    pub fn body(self, body: &str) -> Self {
        Self { body: Bytes::copy_from_slice(body.as_bytes()), ..self }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn json(self) -> Self {
        self.header("content-type", "application/json")
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body: String = String::from_utf8_lossy(&self.body).chars().take(60).collect();
        write!(f, "{} {:.80} {:?} {body}", self.method, self.path, self.headers)
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    told: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The answer itself, if it has this status.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}: {}", self.told, self.text());
        self
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{}: {error}: {}", self.told, self.text()))
    }
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub kind: String,
    pub id: Option<String>,
    pub data: Value,
}

/// A stream of events.
pub struct Events {
    body: Body,
    text: String,
}

impl Events {
    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = parse(event);
                self.text = rest.to_owned();
                return Some(event);
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("an event or a heartbeat");
            let data = frame?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }
}

fn parse(text: &str) -> Event {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    let data = field("data:").expect("every event has data");
    Event { kind: field("event:").unwrap(), id: field("id:"), data: serde_json::from_str(&data).unwrap() }
}
