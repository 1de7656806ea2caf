//! An application under `quorate run`, in pods: one of them leads, and the Service with the leader's label reaches it and no other.

use std::collections::BTreeSet;
use std::fs;
use std::pin::pin;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{Config, Event, watcher};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::net::lookup_host;
use tokio::time::{Instant, sleep};

use super::helm::Release;
use super::load::Load;
use crate::alone;
use crate::api::elected::{Sight, figures, now, pods};
use crate::members::PATIENCE;
use crate::nodes::Nodes;
use crate::pods::WAITING;
use crate::support::trio::wait_for;

/// Leaders that are taken away, one after the other.
const TRANSITIONS: usize = 20;

/// What a Service may take until it reaches the next leader, at the median, counted from the grant, in milliseconds. On a machine
/// that is busy with something else, so many times what nobody can do without: a commit, and Kubernetes' own way from a label to
/// its Service.
const SOON: u64 = 100;
const PLAIN: u64 = 4;

/// How much longer it may take until a node sends connections there: kube-proxy writes all its rules anew.
const RULES: u64 = 100;

/// After what time no node is busy with what has changed before.
const SETTLED: Duration = Duration::from_millis(500);

/// The pods that a Service reached, and since when, in milliseconds since 1970.
type Reached = Arc<Mutex<Vec<(u64, BTreeSet<String>)>>>;

/// Follows to which pods a Service leads.
async fn follow(namespace: &str, service: &str) -> Reached {
    let kubeconfig = std::env::var("QUORATE_TEST_KUBECONFIG").unwrap();
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let slices = Api::<EndpointSlice>::namespaced(Client::try_from(config).unwrap(), namespace);
    let selector = format!("kubernetes.io/service-name={service}");
    let reached = Reached::default();
    let told = Arc::clone(&reached);
    tokio::spawn(async move {
        let mut events = pin!(watcher(slices, Config::default().labels(&selector)));
        while let Some(event) = events.next().await {
            if let Event::Apply(slice) | Event::InitApply(slice) = event.unwrap() {
                let ready = slice.endpoints.into_iter().filter(|endpoint| {
                    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true)
                });
                let pods = ready.filter_map(|endpoint| endpoint.target_ref?.name).collect();
                told.lock().unwrap().push((now(), pods));
            }
        }
    });
    reached
}

impl Release {
    /// The pod that leads, with its token and since when, once it is another than `before`.
    async fn next_leader(&self, before: Option<&str>) -> (String, u64, u64) {
        let path = format!("/v1/elections/{}/single", self.namespace.name);
        let http = reqwest::Client::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            for url in self.members().urls() {
                let Ok(answer) = http.get(format!("{url}{path}")).timeout(Duration::from_secs(2)).send().await else {
                    continue;
                };
                let election: Value = answer.json().await.unwrap_or_default();
                let leader = &election["leaders"][0];
                if let Some(candidate) = leader["candidate"].as_str().filter(|it| Some(*it) != before) {
                    let since: jiff::Timestamp = leader["since"].as_str().unwrap().parse().unwrap();
                    let since = u64::try_from(since.as_millisecond()).unwrap();
                    return (candidate.to_owned(), leader["fencingToken"].as_u64().unwrap(), since);
                }
            }
            assert!(Instant::now() < deadline, "nobody leads but {before:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// That the application sees a key that is written now in the leader's pod, and in no other; who leads.
    async fn assert_one_acts(&self, key: &str) -> (String, u64) {
        for attempt in 0..10 {
            let key = format!("{key}-{attempt}");
            let (before, token, _) = self.next_leader(None).await;
            self.namespace.exec("quorate-1", &["quorate", "put", "kv", &key, "1"]).await.unwrap();
            let deadline = Instant::now() + Duration::from_secs(10);
            let mut acting = self.who_has_seen(&key).await;
            while acting.is_empty() && Instant::now() < deadline {
                acting = self.who_has_seen(&key).await;
            }
            // Whoever leads next sees the key as well.
            if self.next_leader(None).await.1 == token {
                assert_eq!(acting, [before.as_str()]);
                return (before, token);
            }
        }
        panic!("nobody leads for long");
    }

    /// The same as [`when_reached`]; `None` if it has stopped leading before, which on a busy machine may be.
    async fn when_reached_while_leading(&self, reached: &Reached, pod: &str, token: u64, from: u64) -> Option<u64> {
        tokio::select! {
            at = when_reached(reached, pod, from) => Some(at),
            () = async {
                while self.next_leader(None).await.1 == token {
                    sleep(Duration::from_millis(200)).await;
                }
            } => None,
        }
    }

    async fn who_has_seen(&self, key: &str) -> Vec<String> {
        let arguments = ["get", "pods", "--selector=app.kubernetes.io/name=single", "--output=name"];
        let (mut seen, pods) = (Vec::new(), self.namespace.kubectl(&arguments).await.unwrap());
        for pod in pods.lines().filter_map(|pod| pod.strip_prefix("pod/")) {
            if self.namespace.kubectl(&["logs", pod]).await.unwrap_or_default().contains(key) {
                seen.push(pod.to_owned());
            }
        }
        seen
    }
}

/// Who answers behind a Service, asked again and again from a node, each time by another connection.
struct Answers {
    asking: Child,
    told: NamedTempFile,
}

impl Answers {
    async fn of(nodes: &Nodes, service: &str) -> Self {
        let address = lookup_host((service, 80)).await.unwrap().next().unwrap().ip().to_string();
        let told = NamedTempFile::new().unwrap();
        let mut command = nodes.command_in_node(1, &["python3", "-c", ASK, &address]);
        command.stdin(Stdio::piped()).stdout(told.reopen().unwrap()).stderr(Stdio::null());
        Self { asking: command.spawn().unwrap(), told }
    }

    /// When there was a connection to somebody who answered, in milliseconds since 1970, and who.
    fn all(&self) -> Vec<(u64, String)> {
        let told = fs::read_to_string(self.told.path()).unwrap();
        // The last line may be on its way.
        let lines = told.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.split_once(' '));
        let mut all: Vec<_> = lines.map(|(millis, pod)| (millis.parse().unwrap(), pod.to_owned())).collect();
        // Whoever was asked first may answer last.
        all.sort_by_key(|(at, _)| *at);
        all
    }

    /// When this pod answered, at or after that time.
    async fn when_by(&self, pod: &str, from: u64) -> u64 {
        let is_it = |(at, by): (u64, String)| (at >= from && by == pod).then_some(at);
        let failure = format!("{pod} does not answer behind the Service");
        wait_for(&failure, async || self.all().into_iter().find_map(is_it)).await
    }

    /// That each leader answered until the next one did, and never again until its next turn.
    fn assert_in_turn(&self) {
        let mut turns: Vec<_> = self.all().into_iter().map(|(_, pod)| pod).collect();
        turns.dedup();
        let expected: Vec<_> = (0..TRANSITIONS).map(|transition| format!("waiting-{}", transition % 3)).collect();
        assert_eq!(turns, expected);
    }
}

/// It ends with its input, and so with the test.
impl Drop for Answers {
    fn drop(&mut self) {
        drop(self.asking.stdin.take());
        drop(self.asking.wait());
    }
}

/// Asks at the address a hundred times in a second, and writes down who answers when. A node whose Service leads nowhere refuses
/// connections from its own pods, but Linux drops the refusal of a connection that is being made on the same machine, and tries it again
/// after a second: whoever wants to know earlier does not wait for one connection before making another.
const ASK: &str = r#"
import select, socket, sys, threading, time

def ask():
    try:
        with socket.create_connection((sys.argv[1], 80), timeout=0.1) as connection:
            at = int(time.time() * 1000)
            connection.settimeout(1)
            if name := connection.recv(100).decode().strip():
                print(f"{at} {name}\n", end="", flush=True)
    except OSError:
        pass

while not select.select([sys.stdin], [], [], 0.01)[0]:
    threading.Thread(target=ask).start()
"#;

/// When the Service reached this pod, and no other, at or after that time.
async fn when_reached(reached: &Reached, pod: &str, from: u64) -> u64 {
    let alone = BTreeSet::from([pod.to_owned()]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = reached.lock().unwrap().clone();
        if let Some((at, _)) = all.iter().find(|(at, pods)| *at >= from && *pods == alone) {
            return *at;
        }
        assert!(Instant::now() < deadline, "the Service does not reach {pod} alone: {all:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_pods_under_quorate_run_one_acts_and_a_service_reaches_it_and_then_the_next() {
    let _alone = alone().await;
    let release = Release::running().await;
    let name = &release.namespace.name;
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/kubernetes/run.yaml");
    release.namespace.apply(&fs::read_to_string(example).unwrap()).await.unwrap();
    release.namespace.kubectl(&["rollout", "status", "deployment/single", "--timeout=1m"]).await.unwrap();
    release.next_leader(None).await;
    // The chart does not list the namespace yet.
    let refused = "jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=NamespaceNotAllowed";
    release.namespace.wait("leaderelection/single", refused, 60).await;
    let listed = format!("--set=leaderLabel.namespaces={{{name}}}");
    release.upgrade(&["--wait", "--timeout=3m", &listed]).await.unwrap();
    release.namespace.wait("leaderelection/single", "condition=Ready", 60).await;
    let reached = follow(name, "single-leader").await;
    let (mut leader, mut token) = release.assert_one_acts("orders/first").await;
    when_reached(&reached, &leader, 0).await;

    let (sight, load) = (Sight::of(name).await, Load::on(&release));
    let mut times = Vec::new();
    let transitions = async {
        for _ in 0..3 * TRANSITIONS {
            release.namespace.kubectl(&["delete", "pod", &leader, "--wait=false"]).await.unwrap();
            let (next, newer, since) = release.next_leader(Some(&leader)).await;
            assert!(newer > token, "{newer} after {token}");
            let at = release.when_reached_while_leading(&reached, &next, newer, since).await;
            times.extend(at.map(|at| at.saturating_sub(since)));
            // There is somebody who can be next.
            release.namespace.kubectl(&["rollout", "status", "deployment/single", "--timeout=2m"]).await.unwrap();
            (leader, token, _) = release.next_leader(None).await;
            if times.len() == TRANSITIONS {
                break;
            }
        }
    };
    load.during("leaders deleted", transitions).await;
    load.judge().await;
    sight.assert_never_two();
    assert_eq!(times.len(), TRANSITIONS, "on a machine that is so busy, nobody leads for long");
    for (_, pods) in reached.lock().unwrap().iter() {
        assert!(pods.len() < 2, "the Service reached {pods:?} at once");
    }
    release.assert_one_acts("orders/last").await;
    let (least, median, most) = figures(times);
    println!(
        "{TRANSITIONS} leaders deleted: the Service reached the next one {least} / {median} / {most} ms after the grant (min / \
         median / max)"
    );
}

/// Pods that wait; the test campaigns for them.
const ELECTION: &str = "
apiVersion: quorate.io/v1alpha1
kind: LeaderElection
metadata: {name: waiting}
spec: {leaderLabel: {podSelector: {matchLabels: {app: waiting}}}}
---
apiVersion: v1
kind: Service
metadata: {name: waiting-leader}
spec: {selector: {app: waiting, quorate.io/leader: 'true'}, ports: [{port: 80, targetPort: 8000}]}
---
apiVersion: v1
kind: Service
metadata: {name: plain}
spec: {selector: {plain: yes-it-is}, ports: [{port: 80}]}
";

impl Release {
    /// Declares an election whose leader has a label, and makes pods that may lead it.
    pub async fn declare_waiting(&self) {
        let listed = format!("--set=leaderLabel.namespaces={{{}}}", self.namespace.name);
        self.upgrade(&["--wait", "--timeout=3m", &listed]).await.unwrap();
        self.namespace.apply(WAITING).await.unwrap();
        self.namespace.wait("statefulset/waiting", "jsonpath={.status.readyReplicas}=3", 60).await;
        self.namespace.apply(ELECTION).await.unwrap();
        self.namespace.wait("leaderelection/waiting", "condition=Ready", 60).await;
    }

    /// Campaigns for a pod; its session, and since when it leads.
    pub async fn campaign(&self, pod: &str) -> (String, u64) {
        let (http, url) = (reqwest::Client::new(), self.members().urls().remove(0));
        let post = async |path: String, body: Value| -> Value {
            let answer = http.post(format!("{url}{path}")).json(&body).send().await.unwrap();
            assert!(answer.status().is_success(), "{answer:?}");
            answer.json().await.unwrap()
        };
        let session = post("/v1/sessions".to_owned(), json!({ "ttlMs": 600_000, "client": pod })).await;
        let path = format!("/v1/elections/{}/waiting", self.namespace.name);
        post(format!("{path}/campaign"), json!({ "session": session["session"], "candidate": pod })).await;
        let election: Value = http.get(format!("{url}{path}")).send().await.unwrap().json().await.unwrap();
        let since: jiff::Timestamp = election["leaders"][0]["since"].as_str().unwrap().parse().unwrap();
        (session["session"].as_str().unwrap().to_owned(), u64::try_from(since.as_millisecond()).unwrap())
    }

    async fn commit(&self) {
        let url = format!("{}/v1/kv/plain", self.members().urls()[2]);
        assert!(reqwest::Client::new().put(url).body("1").send().await.unwrap().status().is_success());
    }

    /// What the API server has refused of labels.
    async fn label_errors(&self) -> String {
        let mut errors = Vec::new();
        for member in 0..3 {
            let path = format!("/api/v1/namespaces/{}/pods/quorate-{member}:9090/proxy/metrics", self.namespace.name);
            let metrics = self.namespace.kubectl(&["get", "--raw", &path]).await.unwrap();
            let is_error = |line: &&str| line.contains("operation=\"label\"") && !line.ends_with(" 0");
            errors.extend(metrics.lines().filter(is_error).map(|line| format!("quorate-{member}: {line}")));
        }
        errors.join("\n")
    }

    async fn end(&self, session: &str) {
        let url = format!("{}/v1/sessions/{session}", self.members().urls()[1]);
        let deadline = Instant::now() + PATIENCE;
        // On a busy machine a member may say that it cannot do it now, or does not know whether it has.
        while reqwest::Client::new().delete(&url).send().await.unwrap().status().is_server_error() {
            assert!(Instant::now() < deadline, "the session does not end");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_reaches_the_leader_soon_after_the_grant() {
    let nodes = Nodes::alone().await;
    let release = Release::running().await;
    let name = &release.namespace.name;
    release.declare_waiting().await;
    let (reached, plain) = (follow(name, "waiting-leader").await, follow(name, "plain").await);
    let (pods, sight) = (pods(name).await, Sight::of(name).await);
    let service = format!("waiting-leader.{name}.svc.cluster.local");
    let answers = Answers::of(&nodes, &service).await;
    let (mut times, mut labels, mut plain_times, mut answered) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut leader: Option<String> = None;
    for transition in 0..TRANSITIONS {
        let pod = format!("waiting-{}", transition % 3);
        let end = async {
            if let Some(leader) = &leader {
                release.end(leader).await;
            }
        };
        let ((session, since), ()) = tokio::join!(release.campaign(&pod), end);
        times.push(when_reached(&reached, &pod, since).await.saturating_sub(since));
        labels.push(sight.when_alone(&pod, since).await.saturating_sub(since));
        answered.push(answers.when_by(&pod, since).await.saturating_sub(since));
        leader = Some(session);
        let began = now();
        release.commit().await;
        for label in [Some("yes-it-is"), None] {
            let label = Patch::Merge(json!({ "metadata": { "labels": { "plain": label } } }));
            pods.patch(&pod, &PatchParams::default(), &label).await.unwrap();
            if plain_times.len() == transition {
                plain_times.push(when_reached(&plain, &pod, began).await.saturating_sub(began));
            }
        }
        sleep(SETTLED).await;
    }
    sight.assert_never_two();
    answers.assert_in_turn();
    let ((least, median, most), (_, label, _), (_, plain, _)) = (figures(times), figures(labels), figures(plain_times));
    let soon = SOON.max(PLAIN * plain);
    println!(
        "{TRANSITIONS} transitions: the Service reached the leader {least} / {median} / {most} ms after the grant (min / median / \
         max), where the label was there after {label} ms, and a commit and a plain label took {plain} ms to reach its Service"
    );
    println!("a connection through the Service reached the leader after so many ms: {answered:?}");
    println!("{}", release.label_errors().await);
    assert!(median <= soon, "{median} ms");
    let (_, connected, _) = figures(answered);
    assert!(connected <= soon + RULES, "{connected} ms until a connection reached the leader");
}
