//! How soon what is applied is readable on every member, wherever the members run.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use quorate::operator::resources::ReplicatedConfig;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::members::PATIENCE;
use crate::support::effort::Effort;

/// Half of the times are no longer than this, nor than so many times what nobody can do without: a write of the API server, and a commit.
/// The longest ones are printed only: they say how the processors are shared with whatever else runs, and docs/performance.md has those
/// of a machine with nothing beside it.
const SOON: Duration = Duration::from_millis(100);
const PLAIN: u32 = 10;

/// A config that is applied again and again.
pub struct Applying {
    /// A client, as an operator has one: a process of kubectl takes longer than all the rest.
    pub client: Client,
    pub http: reqwest::Client,
    pub namespace: String,
    /// The name by which resources ask for the cluster.
    pub cluster: String,
    /// The HTTP APIs of all members.
    pub members: Vec<String>,
}

impl Applying {
    /// Applies it with one text after the other, prints how long each took until every member served it, and holds half of the times
    /// to what is soon.
    pub async fn assert_soon(self) {
        self.apply("begun").await;
        self.is_readable("begun").await;
        let (mut took, mut without) = (Vec::new(), Vec::new());
        for round in 0..Effort::from_environment().pick(30, 400) {
            let (text, began) = (round.to_string(), Instant::now());
            self.apply(&text).await;
            self.is_readable(&text).await;
            took.push(began.elapsed());
            without.push(self.plain(&text).await);
        }
        let took = distribution("from before an apply until every member served it", took);
        let without = distribution("a write of the API server and a commit", without);
        assert!(took <= SOON.max(without * PLAIN), "{took:?}, and {without:?} of it are others'");
    }

    async fn apply(&self, text: &str) {
        let configs = Api::<ReplicatedConfig>::namespaced(self.client.clone(), &self.namespace);
        let document = json!({
            "apiVersion": "quorate.io/v1alpha1", "kind": "ReplicatedConfig", "metadata": { "name": "web" },
            "spec": { "cluster": self.cluster, "data": { "text": text } },
        });
        configs.patch("web", &PatchParams::apply("tool"), &Patch::Apply(document)).await.unwrap();
    }

    /// Waits until every member serves it, from its own state.
    async fn is_readable(&self, text: &str) {
        let is_readable_on = async |member: &String| {
            let url = format!("{member}/v1/config/{}/web?consistency=stale", self.namespace);
            let deadline = Instant::now() + PATIENCE;
            loop {
                let config: Value = self.http.get(&url).send().await.unwrap().json().await.unwrap();
                if config["data"]["text"] == text {
                    return;
                }
                assert!(Instant::now() < deadline, "{member} does not serve {text}, but {config}");
                sleep(Duration::from_millis(5)).await;
            }
        };
        join_all(self.members.iter().map(is_readable_on)).await;
    }

    /// What nobody can do without.
    async fn plain(&self, value: &str) -> Duration {
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace);
        let map =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "plain" }, "data": { "a": value } });
        let (began, url) = (Instant::now(), format!("{}/v1/kv/plain", self.members[0]));
        maps.patch("plain", &PatchParams::apply("tool"), &Patch::Apply(map)).await.unwrap();
        assert!(self.http.put(url).body(value.to_owned()).send().await.unwrap().status().is_success());
        began.elapsed()
    }
}

/// Prints how times are distributed; their median.
fn distribution(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    let [half, most, nearly_all, all] = [50, 90, 99, 100].map(at);
    println!(
        "{what}, {} times: median {half:.1?}, 90 % {most:.1?}, 99 % {nearly_all:.1?}, longest {all:.1?}",
        times.len()
    );
    half
}
