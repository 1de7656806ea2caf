//! Three members on this machine whose resources are in a real API server. There are no pods: the members are processes.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};

use super::fixture::Resources;
use super::look::Look;
use crate::support::trio::{SIZE, Trio, name};

/// Clusters at a time: most wait most of the time, but there are few processors.
const CLUSTERS: u32 = 4;
static ROOM: Semaphore = Semaphore::const_new(CLUSTERS as usize);

/// How long the operator may take for anything, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Operated {
    pub resources: Resources,
    pub trio: Trio,
    kubeconfig: PathBuf,
    /// The name by which resources ask for this cluster.
    pub cluster: String,
    pub look: Look,
    _room: SemaphorePermit<'static>,
}

impl Operated {
    /// A cluster that runs, with its `QuorateCluster`.
    pub async fn running() -> Self {
        let mut operated = Self::prepared().await;
        operated.start_all().await;
        operated
    }

    /// The same, before its members are started.
    pub async fn prepared() -> Self {
        Self::prepared_with(Resources::served().await).await
    }

    /// The same, while nobody else has anything that is Quorate's.
    pub async fn prepared_alone() -> Self {
        Self::prepared_with(Resources::alone().await).await
    }

    async fn prepared_with(resources: Resources) -> Self {
        let room = ROOM.acquire().await.unwrap();
        let cluster = resources.namespace.name.clone();
        let look = Look::into(&cluster).await;
        let operated = Self { trio: Trio::new(), kubeconfig: own_kubeconfig(), cluster, look, resources, _room: room };
        operated.apply("QuorateCluster", "quorate", "voters: 3").await.unwrap();
        operated
    }

    /// The members ask another API server, or in another name.
    pub fn with_kubeconfig(mut self, kubeconfig: PathBuf) -> Self {
        self.kubeconfig = kubeconfig;
        self
    }

    /// The members serve resources that ask for another name than the namespace's.
    pub fn for_cluster(mut self, cluster: &str) -> Self {
        cluster.clone_into(&mut self.cluster);
        self
    }

    pub async fn start_all(&mut self) {
        for member in 0..SIZE {
            self.start(member);
        }
        for member in 0..SIZE {
            self.trio.wait_until_ready(member).await;
        }
    }

    pub fn start(&mut self, member: usize) {
        let command = self.command(member);
        self.trio.start_with(member, command);
    }

    fn command(&self, member: usize) -> Command {
        let mut command = self.trio.command(member);
        command.args(["--kubernetes", "--namespace", &self.resources.namespace.name, "--cluster", &self.cluster]);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Applies a resource for this cluster.
    pub async fn apply(&self, kind: &str, name: &str, spec: &str) -> Result<String, String> {
        self.resources.namespace.apply(&self.document(kind, name, spec)).await
    }

    /// A resource for this cluster.
    pub fn document(&self, kind: &str, name: &str, spec: &str) -> String {
        let cluster = &self.cluster;
        format!(
            "apiVersion: quorate.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{cluster: {cluster}, {spec}}}\n"
        )
    }

    /// Applies a config with one text.
    pub async fn apply_text(&self, name: &str, text: &str) {
        self.apply("ReplicatedConfig", name, &format!("data: {{text: {text:?}}}")).await.unwrap();
    }

    /// Sets a config with one text as an application does, without a resource.
    pub async fn put_text(&self, name: &str, text: &str) {
        let url = format!("{}/v1/config/{}/{name}", self.trio.url(0), self.resources.namespace.name);
        let body = json!({ "data": { "text": text } });
        let answer = self.trio.http.put(url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// Waits until an object is as it should be; gives it.
    pub async fn wait_until(&self, object: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let present = self.look.at(object).await;
            if is_so(&present) {
                return present;
            }
            if Instant::now() > deadline {
                let logs: Vec<_> = (0..SIZE).map(|member| self.trio.log(member)).collect();
                panic!("{object} is not {what} after {PATIENCE:?}: {present:#}\n{}", logs.join("\n---\n"));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a condition has a status for the present generation; gives its reason and message.
    pub async fn wait_for(&self, object: &str, condition: &str, status: &str) -> (String, String) {
        let what = format!("{condition}={status}");
        let is_so = |object: &Value| {
            find(object, condition).is_some_and(|found| {
                found["status"] == status && found["observedGeneration"] == object["metadata"]["generation"]
            })
        };
        let object = self.wait_until(object, &what, is_so).await;
        let found = find(&object, condition).expect("it was there just now");
        let [reason, message] = ["reason", "message"].map(|field| found[field].as_str().unwrap().to_owned());
        (reason, message)
    }

    /// What a member serves of a config of this namespace, from its own state; `None` when there is none.
    pub async fn served(&self, member: usize, config: &str) -> Option<String> {
        let path = format!("/v1/config/{}/{config}?consistency=stale", self.resources.namespace.name);
        let config = self.trio.get_json(member, &path).await?;
        Some(config["data"]["text"].as_str().expect("it has a text").to_owned())
    }

    /// Waits until every member serves this text, or that there is none.
    pub async fn wait_until_served(&self, config: &str, text: Option<&str>) {
        let deadline = Instant::now() + PATIENCE;
        for member in 0..SIZE {
            loop {
                let served = self.served(member, config).await;
                if served.as_deref() == text {
                    break;
                }
                assert!(Instant::now() < deadline, "{} serves {served:?} and not {text:?}", name(member));
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// A condition of an object.
pub fn find<'a>(object: &'a Value, condition: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|found| found["type"] == condition)
}

/// The kubeconfig of the tests themselves.
pub fn own_kubeconfig() -> PathBuf {
    std::env::var_os("QUORATE_TEST_KUBECONFIG").expect("`make kube` runs these tests in a cluster").into()
}
