//! Candidates of an election, and what a watch of the API server has seen of pods meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::watcher::{Config, Event, watcher};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::look::client;
use super::operated::Operated;
use crate::support::trio::wait_for;

/// The label that elections set when they do not say which.
pub const LABEL: &str = "quorate.io/leader";

/// The TTL of candidates that are never silent and never expire while a test runs.
pub const LONG: u64 = 600_000;

/// What a candidate has been granted.
#[derive(Debug, Clone)]
pub struct Granted {
    pub session: String,
    pub token: u64,
}

impl Operated {
    /// Campaigns for a candidate, and waits until it leads.
    pub async fn campaign(&self, member: usize, election: &str, candidate: &str, ttl_ms: u64) -> Granted {
        let url = self.trio.url(member);
        let post = async |path: String, body: Value| -> Value {
            let answer = self.trio.http.post(format!("{url}{path}")).json(&body).send().await.unwrap();
            assert!(answer.status().is_success(), "{path}: {:?}", answer.text().await);
            answer.json().await.unwrap()
        };
        let session = post("/v1/sessions".to_owned(), json!({ "ttlMs": ttl_ms, "client": candidate })).await;
        let session = session["session"].as_str().unwrap().to_owned();
        let path = format!("/v1/elections/{}/{election}/campaign", self.resources.namespace.name);
        let granted = post(path, json!({ "session": session, "candidate": candidate })).await;
        let token = granted["fencingToken"].as_u64().unwrap_or_else(|| panic!("{granted}"));
        Granted { session, token }
    }

    /// Keeps a candidate's session alive, which is there still.
    pub async fn keep_alive(&self, member: usize, granted: &Granted) {
        let url = format!("{}/v1/sessions/{}/keepalive", self.trio.url(member), granted.session);
        let answer = self.trio.http.post(url).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// Ends a candidate's session, and with it its leadership.
    pub async fn end(&self, member: usize, granted: &Granted) {
        let url = format!("{}/v1/sessions/{}", self.trio.url(member), granted.session);
        let answer = self.trio.http.delete(url).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// Pods of an application that nobody runs, and so nobody changes.
    pub async fn make_pods(&self, app: &str, names: &[&str]) {
        let namespace = &self.resources.namespace;
        namespace.make_account().await;
        let security = "allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}";
        for name in names {
            let pod = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {app}}}}}\nspec:\n  \
                 schedulingGates: [{{name: quorate.io/never}}]\n  \
                 securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}\n  \
                 containers: [{{name: {app}, image: {app}, securityContext: {{{security}}}}}]\n"
            );
            namespace.apply(&pod).await.unwrap();
        }
    }

    /// The pods that bear the label.
    pub async fn labelled(&self) -> Vec<String> {
        let pods = self.look.at("pods").await;
        let pods = pods["items"].as_array().expect("pods can be read").iter();
        let labelled = pods.filter(|pod| pod["metadata"]["labels"].get(LABEL).is_some());
        labelled.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn wait_until_labelled(&self, expected: &[&str]) {
        let failure = format!("{expected:?} are not the ones who are labelled");
        wait_for(&failure, async || (self.labelled().await == expected).then_some(())).await;
    }
}

/// A change of who is labelled.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Milliseconds since 1970, as grants have them.
    pub at: u64,
    pub labelled: BTreeSet<String>,
}

/// Everything that a watch of a namespace's pods tells of the label, in order.
pub struct Sight {
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

/// The pods of a namespace.
pub async fn pods(namespace: &str) -> Api<Pod> {
    Api::namespaced(client().await, namespace)
}

impl Sight {
    pub async fn of(namespace: &str) -> Self {
        let pods = pods(namespace).await;
        let seen = Arc::new(Mutex::new(vec![Seen { at: now(), labelled: BTreeSet::new() }]));
        let told = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let (mut events, mut labels) = (pin!(watcher(pods, Config::default())), BTreeMap::new());
            while let Some(event) = events.next().await {
                match event.unwrap() {
                    Event::Apply(pod) | Event::InitApply(pod) => {
                        let label = pod.metadata.labels.unwrap_or_default().contains_key(LABEL);
                        labels.insert(pod.metadata.name.unwrap(), label);
                    }
                    Event::Delete(pod) => drop(labels.remove(&pod.metadata.name.unwrap())),
                    Event::Init | Event::InitDone => {}
                }
                let labelled: BTreeSet<_> =
                    labels.iter().filter(|(_, label)| **label).map(|(name, _)| name.clone()).collect();
                let mut told = told.lock().unwrap();
                if told.last().unwrap().labelled != labelled {
                    told.push(Seen { at: now(), labelled });
                }
            }
        });
        Self { seen, task }
    }

    pub fn all(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// When this pod, and no other, was seen to be labelled, at or after that time.
    pub async fn when_alone(&self, pod: &str, from: u64) -> u64 {
        let alone = BTreeSet::from([pod.to_owned()]);
        let is_it = |seen: &Seen| (seen.at >= from && seen.labelled == alone).then_some(seen.at);
        wait_for(&format!("{pod} is not labelled alone"), async || self.all().iter().find_map(is_it)).await
    }

    /// That at no time two were labelled.
    pub fn assert_never_two(&self) {
        for seen in self.all() {
            assert!(seen.labelled.len() < 2, "{:?} were labelled at once: {:#?}", seen.labelled, self.all());
        }
    }
}

impl Drop for Sight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Shortest, median and longest.
pub fn figures(mut times: Vec<u64>) -> (u64, u64, u64) {
    times.sort_unstable();
    (times[0], times[times.len() / 2], times[times.len() - 1])
}

/// That nothing has changed for so long.
pub async fn nothing_changes<T: PartialEq + std::fmt::Debug>(what: &str, period: Duration, look: impl AsyncFn() -> T) {
    let before = look().await;
    tokio::time::sleep(period).await;
    assert_eq!(look().await, before, "{what} has changed");
}
