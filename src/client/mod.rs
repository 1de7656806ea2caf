//! A small HTTP client of a cluster: for the command line, for programs in Rust and for tests.
//!
//! It is given the URLs of several members and uses whichever answers. Every write carries an idempotency key, so that
//! trying again, also at another member, is harmless; what was not certainly applied or refused is told as unknown. The one
//! write that members know no key for is tried again only when it was certainly not applied.
//!
//! Read next: `send.rs` (one request, many tries), `session.rs` and `grant.rs` (what is held, and until when one may act on
//! it), `watch.rs` (streams that resume), `error.rs` (what can go wrong).

mod error;
pub(crate) mod events;
mod grant;
mod send;
mod session;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde::de::DeserializeOwned;

pub use error::{ClientError, Outcome, ProblemReport};
pub use grant::{Candidacy, Grant, LockWish, NotGranted};
pub use session::Session;
pub use watch::{Watch, WatchEvent};

use crate::api::wire;
use crate::types::{ConfigName, ContestName, Key, Namespace, Revision};
use send::Request;

/// How long a call goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Each member is tried again until so much time has passed; one try takes an equal share of it at most.
    Until(Duration),
    /// One try at one member, for so long.
    Once(Duration),
}

/// How new what is read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    Linearizable,
    /// The asked member's own state, at once, also without a quorum.
    Stale,
}

/// A body with what the headers say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The revision of the state that it was answered from.
    pub revision: Revision,
    /// The name of the member that answered.
    pub member: String,
    pub body: T,
}

/// A cluster as seen from outside. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    endpoints: Arc<[String]>,
    patience: Patience,
    /// What makes this client's idempotency keys differ from every other's.
    seed: u128,
    requests: Arc<AtomicU64>,
    /// The endpoint that is asked first, modulo how many there are: the one that answered last, or the one behind it when it
    /// has failed since.
    preferred: Arc<AtomicUsize>,
}

/// The longest that a dial may take: a member that is there answers within a round trip.
const DIAL: Duration = Duration::from_secs(2);

/// What must be escaped in one segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// What must be escaped in a key, whose slashes stand as they are.
const KEY: &AsciiSet = &SEGMENT.remove(b'/');

impl Client {
    /// Of the members at `endpoints` (base URLs, at least one); `seed` is random.
    ///
    /// # Errors
    /// When an endpoint is no URL that begins with `http://`, or there is none.
    pub fn new(endpoints: &[String], patience: Patience, seed: u128) -> Result<Self, ClientError> {
        let endpoints: Arc<[String]> = endpoints.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        let wrong = endpoints.iter().find(|url| !url.starts_with("http://") || reqwest::Url::parse(url).is_err());
        if let Some(wrong) = wrong {
            return Err(ClientError::BadEndpoint(wrong.clone()));
        }
        if endpoints.is_empty() {
            return Err(ClientError::BadEndpoint(String::new()));
        }
        let http = reqwest::Client::builder().no_proxy().connect_timeout(DIAL).tcp_nodelay(true).build();
        let http = http.map_err(|error| ClientError::Unreachable(error.to_string()))?;
        let (requests, preferred) = (Arc::default(), Arc::default());
        Ok(Self { http, endpoints, patience, seed, requests, preferred })
    }

    /// The same cluster with another patience.
    #[must_use]
    pub fn with_patience(&self, patience: Patience) -> Self {
        Self { patience, ..self.clone() }
    }

    /// Who leads.
    ///
    /// # Errors
    /// When nobody does, or nobody answers.
    pub async fn leader(&self) -> Result<Answer<wire::Leader>, ClientError> {
        self.get("/v1/leader", &[]).await
    }

    /// The cluster, as the first member that answers sees it.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn cluster(&self) -> Result<Answer<wire::Cluster>, ClientError> {
        self.get("/v1/cluster", &[]).await
    }

    /// Moves Raft leadership to the member of that name, or to the most caught-up voter.
    ///
    /// # Errors
    /// When there is no such member, or it did not happen.
    pub async fn transfer(&self, to: Option<&str>) -> Result<Answer<wire::Transferred>, ClientError> {
        let body = wire::Transfer { to: to.map(str::to_owned) };
        let request = Request::new(Method::POST, "/v1/cluster/transfer-leadership").json(&body);
        // To another one twice may be back again.
        self.send(if to.is_some() { request } else { request.harmful_to_repeat() }).await
    }

    /// A config, or an older version of it.
    ///
    /// # Errors
    /// When it does not exist, or nobody can say.
    pub async fn config(
        &self,
        namespace: &Namespace,
        name: &ConfigName,
        version: Option<u64>,
        freshness: Freshness,
    ) -> Result<Answer<wire::Config>, ClientError> {
        let version = version.map(|version| ("version", version.to_string()));
        let query: Vec<_> = version.into_iter().chain(freshness.parameter()).collect();
        self.get(&config_path(namespace, name), &query).await
    }

    /// The configs of a namespace.
    ///
    /// # Errors
    /// When nobody can say.
    pub async fn configs(
        &self,
        namespace: &Namespace,
        freshness: Freshness,
    ) -> Result<Answer<wire::ConfigList>, ClientError> {
        let query: Vec<_> = freshness.parameter().into_iter().collect();
        self.get(&format!("/v1/config/{namespace}"), &query).await
    }

    /// Sets a config.
    ///
    /// # Errors
    /// When a custom resource owns it, it is not valid, or the cluster cannot do it.
    pub async fn put_config(
        &self,
        namespace: &Namespace,
        name: &ConfigName,
        config: &wire::PutConfig,
    ) -> Result<Answer<wire::ConfigPut>, ClientError> {
        self.send(Request::new(Method::PUT, &config_path(namespace, name)).json(config)).await
    }

    /// Deletes a config with its history.
    ///
    /// # Errors
    /// As [`Client::put_config`].
    pub async fn delete_config(
        &self,
        namespace: &Namespace,
        name: &ConfigName,
    ) -> Result<Answer<wire::Deleted>, ClientError> {
        self.send(Request::new(Method::DELETE, &config_path(namespace, name))).await
    }

    /// A key's value.
    ///
    /// # Errors
    /// When it does not exist, or nobody can say.
    pub async fn key(&self, key: &Key, freshness: Freshness) -> Result<Answer<Bytes>, ClientError> {
        let query: Vec<_> = freshness.parameter().into_iter().collect();
        self.send_raw(Request::new(Method::GET, &key_path(key)).query(&query)).await
    }

    /// One page of the keys that begin with `prefix`, after the key `after`.
    ///
    /// # Errors
    /// When nobody can say.
    pub async fn keys(
        &self,
        prefix: &str,
        after: Option<&str>,
        freshness: Freshness,
    ) -> Result<Answer<wire::KeyRange>, ClientError> {
        let mut query = vec![("prefix", prefix.to_owned())];
        query.extend(after.map(|after| ("after", after.to_owned())));
        query.extend(freshness.parameter());
        self.get("/v1/kv", &query).await
    }

    /// Sets a key.
    ///
    /// # Errors
    /// When it is too large, or the cluster cannot do it.
    pub async fn put_key(&self, key: &Key, value: Bytes) -> Result<Answer<wire::KeyPut>, ClientError> {
        self.send(Request::new(Method::PUT, &key_path(key)).bytes(value)).await
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// As [`Client::put_key`].
    pub async fn delete_key(&self, key: &Key) -> Result<Answer<wire::Deleted>, ClientError> {
        self.send(Request::new(Method::DELETE, &key_path(key))).await
    }

    /// Compares keys, then does one of two lists of operations, all in one revision.
    ///
    /// # Errors
    /// When it is not valid, or the cluster cannot do it.
    pub async fn transact(&self, transaction: &wire::Transaction) -> Result<Answer<wire::Transacted>, ClientError> {
        self.send(Request::new(Method::POST, "/v1/txn").json(transaction)).await
    }

    /// Follows the keys that begin with `prefix`.
    pub fn watch_keys(&self, prefix: &str) -> Watch {
        Watch::new(self.clone(), "/v1/watch", &[("prefix", prefix.to_owned())])
    }

    /// Follows one config.
    pub fn watch_config(&self, namespace: &Namespace, name: &ConfigName) -> Watch {
        Watch::new(self.clone(), &format!("{}/watch", config_path(namespace, name)), &[])
    }

    /// Follows one election.
    pub fn watch_election(&self, namespace: &Namespace, name: &ContestName) -> Watch {
        Watch::new(self.clone(), &format!("/v1/elections/{namespace}/{name}/watch"), &[])
    }

    /// Follows who leads.
    pub fn watch_leader(&self) -> Watch {
        Watch::new(self.clone(), "/v1/leader/watch", &[])
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&'static str, String)],
    ) -> Result<Answer<T>, ClientError> {
        self.send(Request::new(Method::GET, path).query(query)).await
    }

    /// Asks another member first from now on: at once, and after a pause when as many tries have failed as there are members.
    async fn prefer_another(&self, failures: usize, pause: Duration) {
        self.preferred.fetch_add(1, Ordering::Relaxed);
        if failures.is_multiple_of(self.endpoints.len()) {
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks the next member first from now on, unless another call does not begin at this one any more.
    fn leave(&self, endpoint: usize) {
        let count = self.endpoints.len();
        let next = |preferred: usize| (preferred % count == endpoint).then_some((endpoint + 1) % count);
        // When it was left already, that is as well.
        let _ = self.preferred.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// A key that no other request of any client has.
    fn next_idempotency_key(&self) -> String {
        format!("{:032x}-{}", self.seed, self.requests.fetch_add(1, Ordering::Relaxed))
    }
}

impl Freshness {
    fn parameter(self) -> Option<(&'static str, String)> {
        match self {
            Self::Linearizable => None,
            Self::Stale => Some(("consistency", "stale".to_owned())),
        }
    }
}

fn config_path(namespace: &Namespace, name: &ConfigName) -> String {
    format!("/v1/config/{namespace}/{name}")
}

fn key_path(key: &Key) -> String {
    format!("/v1/kv/{}", utf8_percent_encode(key.as_str(), KEY))
}

/// A path and its query.
fn target(path: &str, query: &BTreeMap<&'static str, String>) -> String {
    let pairs = query.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, SEGMENT)));
    let pairs: Vec<_> = pairs.collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_in_the_path_with_its_slashes_and_nothing_else_unescaped() {
        let key = Key::new("a/b c?d#e%ü").expect("a key");
        assert_eq!(key_path(&key), "/v1/kv/a/b%20c%3Fd%23e%25%C3%BC");
        let query = BTreeMap::from([("prefix", "a&b=c".to_owned()), ("after", String::new())]);
        assert_eq!(target("/v1/kv", &query), "/v1/kv?after=&prefix=a%26b%3Dc");
    }

    #[test]
    fn an_endpoint_is_a_url() {
        for wrong in [vec![], vec!["localhost:80".to_owned()], vec!["https://a".to_owned()], vec!["http://".to_owned()]]
        {
            let client = Client::new(&wrong, Patience::Once(DIAL), 1);
            assert!(matches!(client, Err(ClientError::BadEndpoint(_))), "{wrong:?}");
        }
    }

    #[test]
    fn an_endpoint_with_https_is_refused_as_not_supported() {
        let told = |url: &str| Client::new(&[url.to_owned()], Patience::Once(DIAL), 1).expect_err("wrong").to_string();
        for https in ["https://a", "HTTPS://a"] {
            assert!(told(https).contains("https is not supported"), "{}", told(https));
        }
        assert!(!told("localhost:80").contains("https"), "{}", told("localhost:80"));
    }

    #[test]
    fn a_call_that_fails_late_does_not_undo_what_another_has_found() {
        let endpoints = [1, 2, 3].map(|port| format!("http://127.0.0.1:{port}"));
        let client = Client::new(&endpoints, Patience::Once(DIAL), 1).expect("three URLs");
        client.preferred.store(4, Ordering::Relaxed);
        let mut begins = Vec::new();
        for failed in [0, 1, 1, 2] {
            client.leave(failed);
            begins.push(client.preferred.load(Ordering::Relaxed) % endpoints.len());
        }
        assert_eq!(begins, [1, 2, 2, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_member_is_asked_at_once_and_a_rest_comes_when_all_have_failed() {
        let endpoints = [1, 2, 3].map(|port| format!("http://127.0.0.1:{port}"));
        let pause = Duration::from_millis(100);
        let client = Client::new(&endpoints, Patience::Once(pause), 1).expect("three URLs");
        let mut rests = Vec::new();
        for failures in 1..=6 {
            let began = tokio::time::Instant::now();
            client.prefer_another(failures, pause).await;
            rests.push(began.elapsed() >= pause);
        }
        assert_eq!(rests, [false, false, true, false, false, true]);
        assert_eq!(client.preferred.load(Ordering::Relaxed), 6);
    }
}
