//! Volumes that pods lose, and volumes that somebody puts back: what becomes of them, and where a person finds it.

use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use super::deposed::wait_until;
use super::growing::ids;
use super::helm::Release;
use super::load::Load;
use crate::kubectl::{self, kubectl};
use crate::members::{Agreement, PATIENCE, Place, name, sum};
use crate::nodes::Nodes;
use crate::trial::Trial;

/// Where a volume is.
pub struct Where {
    pub node: usize,
    pub path: String,
}

impl Release {
    /// The folder behind the volume of a pod.
    pub async fn volume_of(&self, pod: &str) -> Where {
        let claim = self.namespace.get(&format!("persistentvolumeclaim/data-{pod}")).await.unwrap();
        let volume = claim["spec"]["volumeName"].as_str().unwrap().to_owned();
        let volume = kubectl::get(&["persistentvolume", &volume]).await.unwrap();
        let terms = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
        let node = terms[0]["matchExpressions"][0]["values"][0].as_str().unwrap();
        let node = node.strip_prefix("node").unwrap().parse().unwrap();
        Where { node, path: volume["spec"]["local"]["path"].as_str().unwrap().to_owned() }
    }

    /// Keeps pods from running while `change` is done to their volumes, as a person does who puts a backup back.
    async fn with_pods_away(&self, nodes: &Nodes, pods: &[&str], change: &str) {
        let mut cordoned = Vec::new();
        for pod in pods {
            cordoned.push((self.volume_of(pod).await.node, nodes.cordon(self.volume_of(pod).await.node)));
        }
        let uid = async |pod: &str| {
            self.namespace.get(&format!("pod/{pod}")).await.map(|mut it| it["metadata"]["uid"].take())
        };
        for pod in pods {
            let before = uid(pod).await.unwrap();
            self.namespace.kubectl(&["delete", "pod", pod, "--wait=false"]).await.unwrap();
            // kubectl would wait for the next one of this name as well, now and then, and that does not go.
            let is_gone = async || match uid(pod).await {
                Ok(now) => now != before,
                Err(refusal) => refusal.contains("NotFound"),
            };
            wait_until(&format!("{pod} is gone"), is_gone).await;
        }
        println!("{}", nodes.in_node(cordoned[0].0, &["sh", "-euxc", change]));
    }

    /// Gives each of two pods the volume of the other.
    async fn swap_volumes(&self, nodes: &Nodes, [one, other]: [&str; 2]) {
        let [first, second] = [self.volume_of(one).await.path, self.volume_of(other).await.path];
        // What is mounted stays, what is in it moves.
        let change = format!(
            "mkdir {first}.swap; mv {first}/* {first}.swap/; mv {second}/* {first}/; mv {first}.swap/* {second}/; rmdir {first}.swap"
        );
        self.with_pods_away(nodes, &[one, other], &change).await;
    }
}

/// The condition `Degraded` of a cluster, as `status reason: message`.
fn degraded(status: &Value) -> String {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let degraded = conditions.find(|condition| condition["type"] == "Degraded");
    degraded.map_or_else(String::new, |it| {
        let text = |field: &str| it[field].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {}", text("status"), text("reason"), text("message"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_lose_their_volumes_and_one_that_is_there_twice_cost_no_write_and_no_election() {
    let nodes = Nodes::alone().await;
    let release = Release::running().await;
    let trial = Trial::with(release.members(), nodes).await;
    for pod in ["quorate-0", "quorate-1"] {
        trial.survives(&format!("the volume of {pod} lost"), async |_| volume_lost(&release, pod).await).await;
    }
    for (what, state) in [("at work", 'S'), ("standing still", 'T')] {
        let fault = format!("a pod there twice, the first {what}");
        trial.survives(&fault, async |before| there_twice(&trial, &release, before, state).await).await;
    }
    trial.survives("and on a copy of its volume", async |before| left_behind(&trial, &release, before).await).await;
    trial.judge().await;
}

/// Takes a pod away with its volume, until another member has taken its place.
async fn volume_lost(release: &Release, pod: &str) {
    let before = release.status_when("whole", |status| status["voters"] == 3 && ids(status, pod).len() == 1).await;
    let changes = changes(release, pod).await;
    release.wipe(pod).await;
    let is_replaced = |status: &Value| {
        let new = ids(status, pod);
        new.len() == 1 && new != ids(&before, pod) && status["members"].as_array().unwrap().len() == 3
    };
    let after = release.status_when("replaced", is_replaced).await;
    assert_eq!(after["clusterId"], before["clusterId"]);
    release.namespace.wait(&format!("pod/{pod}"), "condition=Ready", 60).await;
    let [added, replaced, others] = changes;
    assert_eq!(self::changes(release, pod).await, [added + 1.0, replaced + 1.0, others], "one change takes its place");
}

/// How often members were added, and replaced, and how often the membership was changed otherwise, as all pods but one say, which
/// begins to count anew.
async fn changes(release: &Release, but: &str) -> [f64; 3] {
    let mut changes = [0.0; 3];
    for member in (0..3).filter(|member| name(*member) != but) {
        let metrics = release.members().metrics(member).await;
        let of = |change: &str| sum(&metrics, "quorate_membership_changes_total", change);
        let [added, replaced] = ["\"added\"", "\"replaced\""].map(of);
        let others = of("change=") - added - replaced;
        changes.iter_mut().zip([added, replaced, others]).for_each(|(sum, more)| *sum += more);
    }
    changes
}

/// A process of a member that nothing ends, since what ends its container stands still, as on a node that does not do what it is told.
struct Stuck<'a> {
    nodes: &'a Nodes,
    place: Place,
    process: String,
    shim: String,
}

impl<'a> Stuck<'a> {
    /// It works on.
    async fn working(trial: &'a Trial, member: usize) -> Self {
        let (nodes, place) = (&trial.nodes, trial.members.places().await.swap_remove(member));
        let process = nodes.in_node(place.node, &["pgrep", "-x", "quorate"]).trim().to_owned();
        let stop = r#"shim=$(ps -o ppid= -p "$0"); kill -STOP $shim; echo $shim"#;
        let shim = nodes.in_node(place.node, &["sh", "-euc", stop, &process]).trim().to_owned();
        Self { nodes, place, process, shim }
    }

    /// It stands still as well.
    async fn frozen(trial: &'a Trial, member: usize) -> Self {
        let stuck = Self::working(trial, member).await;
        stuck.run("kill -STOP $process");
        stuck
    }

    /// `S` while it works, `T` as long as it stands still, `Z` when it has ended.
    fn state(&self) -> Option<char> {
        self.run("ps -o stat= -p $process").chars().next()
    }

    /// Runs a script on its node that knows `process` and `shim`.
    fn run(&self, script: &str) -> String {
        let script = format!("process={}; shim={}; {script}", self.process, self.shim);
        self.nodes.in_node(self.place.node, &["sh", "-euc", &script])
    }
}

/// A pod is taken away by force, so that another one is there before its process has gone: working, or standing still.
async fn there_twice(trial: &Trial, release: &Release, before: &Agreement, state: char) {
    let member = (before.leader + 1) % 3;
    let (pod, id) = (name(member), trial.members.id(member).await);
    let stuck = match state {
        'T' => Stuck::frozen(trial, member).await,
        _ => Stuck::working(trial, member).await,
    };
    release.namespace.kubectl(&["delete", "pod", &pod, "--force", "--grace-period=0"]).await.unwrap();
    release.says(&pod, "is in use by another process; one directory belongs to one member").await;
    assert_ne!(trial.members.place(member).await.map(|now| now.uid), Some(stuck.place.uid.clone()));
    assert_eq!(stuck.state(), Some(state));
    stuck.run("kill -KILL $shim; kill -CONT $process");
    release.namespace.wait(&format!("pod/{pod}"), "condition=Ready", 60).await;
    assert_eq!(trial.members.id(member).await, id, "it is the member that it was");
}

/// The same where no lock helps, since the next pod has a copy of the volume: the others shut out the process that was left behind.
async fn left_behind(trial: &Trial, release: &Release, before: &Agreement) {
    let member = (before.leader + 1) % 3;
    let (pod, id) = (name(member), trial.members.id(member).await);
    let path = release.volume_of(&pod).await.path;
    let stuck = Stuck::frozen(trial, member).await;
    // Its log goes with its pod, but not for whoever reads it already.
    let log = format!("{path}.log");
    let logs = format!("/var/log/pods/{}_{pod}_{}/quorate/*.log", release.namespace.name, stuck.place.uid);
    stuck.run(&format!("setsid tail --pid=$shim -c +1 -f $(ls -t {logs} | head -n 1) >{log} 2>&1 </dev/null &"));
    stuck.run(&format!(
        "rm -rf {path}.first; mkdir {path}.first; mv {path}/* {path}.first/; cp -a {path}.first/* {path}/"
    ));
    release.namespace.kubectl(&["delete", "pod", &pod, "--force", "--grace-period=0"]).await.unwrap();
    release.namespace.wait(&format!("pod/{pod}"), "condition=Ready", 60).await;
    assert_eq!(trial.members.id(member).await, id, "the next one is the member that it was");
    assert_eq!(stuck.state(), Some('T'));

    // It ends by itself; what it says goes by way of what stands still.
    let end = format!(
        r#"ended() {{ ps -o stat= -p $process | grep -q Z; }}
        kill -CONT $process; for _ in $(seq 300); do ended && break; sleep 0.1; done; ended
        kill -CONT $shim; told() {{ grep "another process runs on a newer one" {log}; }}
        for _ in $(seq 300); do told >/dev/null && break; sleep 0.1; done; told; rm {log}"#
    );
    let url = format!("http://{}:8080/v1/kv/left-behind?timeoutMs=2000", stuck.place.ip);
    let put = tokio::spawn(reqwest::Client::new().put(url).timeout(Duration::from_secs(10)).body("1").send());
    println!("{}", tokio::task::block_in_place(|| stuck.run(&end)));
    let answer = put.await.unwrap().map(|answer| answer.status());
    assert!(answer.as_ref().map_or(true, StatusCode::is_server_error), "{answer:?}");
    stuck.run(&format!("rm -rf {path}.first"));
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_that_somebody_has_swapped_or_put_back_are_refused_and_a_condition_says_what_to_do() {
    let nodes = Nodes::alone().await;
    // Of five, two may be refused at a time.
    let release = Release::running_with(&["--set=voters=5"]).await;
    // Whose volume stays all the while is watched.
    let load = Load::watched_at(&release, 1);
    load.during("two volumes swapped, and back", swapped_and_healed(&nodes, &release)).await;
    load.during("an older copy of a volume put back, and wiped", put_back_and_wiped(&nodes, &release)).await;
    load.during("a copy from while it ran put back, and wiped", cut_short_and_wiped(&nodes, &release)).await;
    load.during("another cluster's volume, and wiped", of_another_cluster_and_wiped(&nodes, &release)).await;
    load.judge().await;
}

/// A pod gets a copy of its volume that is older than what it has told the others, and takes no part until the volume is empty.
async fn put_back_and_wiped(nodes: &Nodes, release: &Release) {
    let (pod, namespace) = ("quorate-2", &release.namespace);
    let Where { path, .. } = release.volume_of(pod).await;
    release.with_pods_away(nodes, &[pod], &format!("rm -rf {path}.old; cp -a {path} {path}.old")).await;
    namespace.wait(&format!("pod/{pod}"), "condition=Ready", 90).await;
    release.status_when("well again", |status| degraded(status).starts_with("False")).await;
    let restore = format!("rm -rf {path}/*; cp -a {path}.old/. {path}/; rm -rf {path}.old");
    release.with_pods_away(nodes, &[pod], &restore).await;

    refused(release, pod, "a copy of an older one").await;
    let status = namespace.exec("quorate-0", &["quorate", "status"]).await.unwrap();
    assert!(status.contains("refused   quorate-2: this volume of quorate-2"), "{status}");
    namespace.exec("quorate-0", &["quorate", "put", "kv", "kept", "well"]).await.unwrap();

    wiped_and_healed(release, pod).await;
}

/// A pod gets a copy of its volume that was made since it began, while it ran: only the end of the log tells that it is older than what
/// the member has told the others.
async fn cut_short_and_wiped(nodes: &Nodes, release: &Release) {
    let pod = "quorate-2";
    let Where { node, path } = release.volume_of(pod).await;
    // Who uses the volume stands still meanwhile, so that the copy is of one moment.
    let copy = format!(
        r#"rm -rf {path}.old; volume=$(basename {path})
        for process in $(pgrep -x quorate); do
            grep -q "/$volume " /proc/$process/mountinfo || continue
            kill -STOP $process; cp -a {path} {path}.old; kill -CONT $process
        done
        [ -d {path}.old ]"#
    );
    nodes.in_node(node, &["sh", "-euc", &copy]);
    release.namespace.exec(pod, &["quorate", "put", "kv", "kept", "well"]).await.unwrap();
    let restore = format!("rm -rf {path}/*; cp -a {path}.old/. {path}/; rm -rf {path}.old");
    release.with_pods_away(nodes, &[pod], &restore).await;
    refused(release, pod, "and it has acknowledged one that ends").await;
    wiped_and_healed(release, pod).await;
}

/// A pod gets the volume of another cluster, whose only member could lead alone, and takes no part until the volume is empty.
async fn of_another_cluster_and_wiped(nodes: &Nodes, release: &Release) {
    let pod = "quorate-0";
    let other = Release::running_with(&["--set=voters=1", "--set=cluster=other"]).await;
    let (path, theirs) = (release.volume_of(pod).await.path, other.volume_of(pod).await.path);
    other.with_pods_away(nodes, &[pod], &format!("cp -a {theirs} {path}.other")).await;
    let replace = format!("rm -rf {path}/*; cp -a {path}.other/. {path}/; rm -rf {path}.other");
    release.with_pods_away(nodes, &[pod], &replace).await;

    let [cluster, elsewhere] = [other.status().await, release.status().await].map(|mut it| it["clusterId"].take());
    let [cluster, elsewhere] = [&cluster, &elsewhere].map(|id| id.as_str().unwrap());
    assert_ne!(cluster, elsewhere);
    refused(release, pod, &format!("of cluster {cluster}, of which nobody else answers, and cluster {elsewhere}"))
        .await;
    wiped_and_healed(release, pod).await;
    assert_eq!(release.status().await["clusterId"], elsewhere);
}

/// Waits until a condition says why a member is refused, and what to do; its pod is not ready.
async fn refused(release: &Release, pod: &str, why: &str) {
    let is_told = |status: &Value| {
        let text = degraded(status);
        text.starts_with(&format!("True MembersRefused: {pod} is refused:")) && text.contains(why)
    };
    let status = release.status_when("told", is_told).await;
    println!("{}", degraded(&status));
    assert!(
        ["volume", "back", "empty"].iter().all(|word| degraded(&status).contains(word)),
        "it does not say what to do"
    );
    assert_eq!(status["voters"], 5);
    let url = format!("/api/v1/namespaces/{}/pods/{pod}:9090/proxy/readyz?verbose", release.namespace.name);
    let ready = kubectl(&["get", "--raw", &url]).await;
    assert!(ready.as_ref().is_err(), "{ready:?}");
}

/// What the text says.
async fn wiped_and_healed(release: &Release, pod: &str) {
    release.wipe(pod).await;
    release.status_when("well again", |status| degraded(status).starts_with("False") && status["voters"] == 5).await;
    let deadline = Instant::now() + PATIENCE;
    while release.namespace.exec(pod, &["quorate", "get", "kv", "kept"]).await.as_deref() != Ok("well") {
        assert!(Instant::now() < deadline, "{pod} does not serve again");
        sleep(Duration::from_millis(500)).await;
    }
}

/// Two pods get each other's volumes and take no part, and the right ones again and do.
async fn swapped_and_healed(nodes: &Nodes, release: &Release) {
    let pods = ["quorate-3", "quorate-4"];
    let [one, other] = pods;
    let before = release.status_when("whole", |status| status["voters"] == 5).await;
    release.swap_volumes(nodes, pods).await;
    let is_told = |status: &Value| {
        let text = degraded(status);
        let is_refused = |pod: &str, other: &str| {
            text.contains(&format!("{pod} is refused: this volume belongs to {other}"))
                && text.contains(&format!("and not to {pod}; check which data directory is mounted where"))
        };
        text.starts_with("True MembersRefused: ") && is_refused(one, other) && is_refused(other, one)
    };
    println!("{}", degraded(&release.status_when("told that volumes are swapped", is_told).await));
    release.namespace.exec("quorate-0", &["quorate", "put", "kv", "swapped", "no matter"]).await.unwrap();

    release.swap_volumes(nodes, pods).await;
    let after = release.status_when("well again", |status| degraded(status).starts_with("False")).await;
    for pod in pods {
        assert_eq!(ids(&after, pod), ids(&before, pod), "{pod} is the member that it was");
        release.namespace.wait(&format!("pod/{pod}"), "condition=Ready", 60).await;
        assert_eq!(release.namespace.exec(pod, &["quorate", "get", "kv", "swapped"]).await.as_deref(), Ok("no matter"));
    }
}
