//! Who leads an election, as people and objects of Kubernetes see it: statuses, Events, labels and Leases.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::elected::{Granted, LABEL, LONG, Sight, figures, nothing_changes, pods};
use super::operated::Operated;
use crate::kubectl::{helm, kubectl, shell};
use crate::proxy::{Fault, Proxy};
use crate::release::helm::CHART;
use crate::support::effort::Effort;
use crate::support::trio::{SIZE, wait_for};

pub const LABELLED: &str = "leaderLabel: {podSelector: {matchLabels: {app: web}}}";

/// Transitions of which the times are taken, at short and at full effort.
const TRANSITIONS: [usize; 2] = [15, 40];

/// What the label may take after the grant, at the median, in milliseconds. Other tests run meanwhile, so it may also be so many
/// times what nobody can do without: a commit, and a plain label. The ring of releases, which is quiet, measures it again.
const SOON: u64 = 100;
const PLAIN: u64 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn the_label_is_with_the_leaders_pod_soon_after_the_grant_and_never_with_two() {
    let cluster = Operated::running().await;
    cluster.make_pods("web", &["web-0", "web-1", "web-2"]).await;
    cluster.make_pods("other", &["other-0"]).await;
    cluster.apply("LeaderElection", "main", LABELLED).await.unwrap();
    cluster.wait_for("le/main", "Ready", "True").await;
    let sight = Sight::of(&cluster.resources.namespace.name).await;
    let pods = pods(&cluster.resources.namespace.name).await;
    let (mut times, mut plain, mut leader): (_, _, Option<Granted>) = (Vec::new(), Vec::new(), None);
    let transitions = Effort::from_environment().pick(TRANSITIONS[0], TRANSITIONS[1]);
    for transition in 0..transitions {
        let candidate = format!("web-{}", transition % 3);
        let next = async {
            let granted = cluster.campaign(transition % SIZE, "main", &candidate, LONG).await;
            let path = format!("/v1/elections/{}/main", cluster.resources.namespace.name);
            let election = cluster.trio.get_json(transition % SIZE, &path).await.unwrap();
            (granted, election["leaders"][0]["since"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap())
        };
        let end = async {
            if let Some(leader) = &leader {
                cluster.end((transition + 1) % SIZE, leader).await;
            }
        };
        let ((granted, since), ()) = tokio::join!(next, end);
        let since = u64::try_from(since.as_millisecond()).unwrap();
        times.push(sight.when_alone(&candidate, since).await.saturating_sub(since));
        leader = Some(granted);
        plain.push(plain_label(&cluster, &pods, &transition.to_string()).await);
    }
    sight.assert_never_two();
    let ((least, median, most), (_, plain, _)) = (figures(times), figures(plain));
    println!(
        "{transitions} transitions: the label was there {least} / {median} / {most} ms after the grant (min / median / max), where \
         a commit and a plain label took {plain} ms"
    );
    assert!(median <= SOON.max(PLAIN * plain), "{median} ms");

    // A candidate that is in no such pod labels none, and says so.
    cluster.end(0, &leader.unwrap()).await;
    let elsewhere = cluster.campaign(0, "main", "other-0", LONG).await;
    cluster.wait_until_labelled(&[]).await;
    let says = |object: &Value| held(object).contains("selects no pod that is called other-0");
    cluster.wait_until("le/main", "told", says).await;
    cluster.end(0, &elsewhere).await;
    // What nobody leads is labelled by nobody, also if somebody else has done it.
    cluster.resources.namespace.kubectl(&["label", "pod", "web-1", &format!("{LABEL}=true")]).await.unwrap();
    cluster.wait_until_labelled(&[]).await;
}

/// How long the members take for a commit, and the API server then to set some label, in milliseconds.
async fn plain_label(cluster: &Operated, pods: &Api<Pod>, value: &str) -> u64 {
    let (began, url) = (Instant::now(), format!("{}/v1/kv/plain", cluster.trio.url(0)));
    assert!(cluster.trio.http.put(url).body(value.to_owned()).send().await.unwrap().status().is_success());
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "plain": value } } }));
    pods.patch("other-0", &PatchParams::default(), &patch).await.unwrap();
    u64::try_from(began.elapsed().as_millis()).unwrap()
}

/// What the condition Held says.
pub fn held(object: &Value) -> String {
    let held = super::operated::find(object, "Held").map(|held| held["message"].as_str().unwrap().to_owned());
    held.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_says_who_leads_and_why_the_last_one_stopped_and_costs_nothing_while_nothing_happens() {
    let cluster = Operated::running().await;
    cluster.make_pods("web", &["web-0", "web-1"]).await;
    cluster.apply("LeaderElection", "main", LABELLED).await.unwrap();
    cluster.wait_for("le/main", "Held", "False").await;
    let first = cluster.campaign(0, "main", "web-0", LONG).await;
    cluster.wait_for("le/main", "Held", "True").await;
    let is_told = |object: &Value| object["status"]["leaders"][0]["pod"] == "web-0";
    let status = cluster.wait_until("le/main", "led by web-0", is_told).await["status"].take();
    assert_eq!((&status["fencingToken"], &status["transitions"]), (&first.token.into(), &0.into()), "{status:#}");
    assert_eq!(status["leaders"].as_array().map(Vec::len), Some(1), "{status:#}");

    let (second, ()) = tokio::join!(cluster.campaign(1, "main", "web-1", LONG), cluster.end(0, &first));
    let is_told = |object: &Value| object["status"]["leaders"][0]["pod"] == "web-1";
    let status = cluster.wait_until("le/main", "led by web-1", is_told).await["status"].take();
    assert_eq!((&status["fencingToken"], &status["transitions"]), (&second.token.into(), &1.into()), "{status:#}");
    let last = &status["lastTransition"];
    assert_eq!((&last["cause"], &last["candidate"]), (&"session-ended".into(), &"web-0".into()), "{status:#}");
    assert_eq!(last["fencingToken"], first.token);

    let columns = cluster.resources.namespace.kubectl(&["get", "le", "main"]).await.unwrap();
    let words: Vec<_> = columns.split_whitespace().collect();
    assert_eq!(words[..6], ["NAME", "READY", "LEADER", "TOKEN", "TRANSITIONS", "AGE"]);
    assert_eq!(words[6..11], ["main", "True", "web-1", &second.token.to_string(), "1"]);

    let told = async || {
        let events =
            cluster.resources.namespace.kubectl(&["get", "events", "--output=jsonpath={.items[*].message}"]).await;
        let expected = format!("web-1, with fencing token {}, leads; web-0 stopped: session-ended", second.token);
        events.unwrap().contains(&expected).then_some(())
    };
    wait_for("no Event tells of it", told).await;

    // Whatever else the applications do.
    let writes = async || writes(&cluster).await;
    sleep(Duration::from_secs(1)).await;
    for number in 0..200 {
        let url = format!("{}/v1/kv/key-{number}", cluster.trio.url(number % SIZE));
        assert!(cluster.trio.http.put(url).body("1").send().await.unwrap().status().is_success());
    }
    nothing_changes("what was written", Duration::from_secs(3), writes).await;
    cluster.end(0, &second).await;
    let (reason, _) = cluster.wait_for("le/main", "Held", "False").await;
    assert_eq!(reason, "NoCandidate");
    let status = cluster.resources.get("le/main").await["status"].take();
    assert_eq!((&status["leaders"], &status["fencingToken"]), (&Value::Null, &second.token.into()), "{status:#}");
}

/// What the members have written so far.
async fn writes(cluster: &Operated) -> Vec<String> {
    let mut writes = Vec::new();
    for member in 0..SIZE {
        let metrics = cluster.trio.metrics(member).await;
        writes.extend(
            metrics.lines().filter(|line| line.starts_with("quorate_kubernetes_writes_total")).map(str::to_owned),
        );
    }
    writes
}

#[tokio::test(flavor = "multi_thread")]
async fn another_raft_leader_finds_the_labels_that_are_not_right_and_one_that_was_frozen_changes_none() {
    let mut cluster = Operated::running().await;
    cluster.make_pods("web", &["web-0", "web-1"]).await;
    cluster.apply("LeaderElection", "main", LABELLED).await.unwrap();
    let first = cluster.campaign(0, "main", "web-0", LONG).await;
    cluster.wait_until_labelled(&["web-0"]).await;
    let old = cluster.trio.leader().await;
    cluster.trio.freeze(old);
    let others: Vec<_> = (0..SIZE).filter(|member| *member != old).collect();
    let leads = async || {
        let leader = cluster.trio.get_json(others[0], "/v1/leader").await?;
        (leader["name"] != crate::support::trio::name(old)).then_some(())
    };
    wait_for("nobody else leads", leads).await;
    let url = format!("{}/v1/sessions/{}", cluster.trio.url(others[0]), first.session);
    let end = async {
        let ended = async || cluster.trio.http.delete(&url).send().await.ok()?.status().is_success().then_some(());
        wait_for("the session does not end", ended).await;
    };
    let (second, ()) = tokio::join!(cluster.campaign(others[1], "main", "web-1", LONG), end);
    cluster.wait_until_labelled(&["web-1"]).await;
    let sight = Sight::of(&cluster.resources.namespace.name).await;
    cluster.trio.thaw(old);
    cluster.wait_for("qc/quorate", "Degraded", "False").await;
    sleep(Duration::from_secs(2)).await;
    sight.assert_never_two();
    assert_eq!(cluster.labelled().await, ["web-1"]);

    // While nobody is there to see it, somebody labels another, and the leader's label goes.
    for member in 0..SIZE {
        cluster.trio.kill(member);
    }
    let namespace = &cluster.resources.namespace;
    namespace.kubectl(&["label", "pod", "web-0", &format!("{LABEL}=true")]).await.unwrap();
    namespace.kubectl(&["label", "pod", "web-1", &format!("{LABEL}-")]).await.unwrap();
    cluster.start_all().await;
    cluster.wait_until_labelled(&["web-1"]).await;

    // And what is declared no more is labelled no more.
    cluster.resources.namespace.kubectl(&["delete", "le", "main"]).await.unwrap();
    cluster.wait_until_labelled(&[]).await;
    cluster.end(0, &second).await;
}

/// What the chart renders for a release `quorate` in a namespace.
pub async fn rendered(namespace: &str, options: &[&str]) -> String {
    helm(&[&["template", "quorate", CHART, "--namespace", namespace], options].concat()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_chart_gives_no_right_the_status_says_which_value_does() {
    let cluster = Operated::prepared().await;
    let name = cluster.resources.namespace.name.clone();
    // The members as the chart's account.
    let show = |template: &str| format!("--show-only=templates/{template}.yaml");
    let rendered = rendered(&name, &[&show("serviceaccount"), &show("rbac")]).await;
    cluster.resources.namespace.apply(&rendered).await.unwrap();
    let file = cluster.resources.namespace.kubeconfig_of("quorate").await;
    let mut cluster = cluster.with_kubeconfig(PathBuf::from(file.path()));
    cluster.start_all().await;
    cluster.make_pods("web", &["web-0"]).await;
    cluster.apply("LeaderElection", "label", LABELLED).await.unwrap();
    cluster.apply("LeaderElection", "lease", "mirrorLease: {}").await.unwrap();
    let _label = cluster.campaign(0, "label", "web-0", LONG).await;
    let _lease = cluster.campaign(0, "lease", "web-0", LONG).await;
    for (election, value) in [("le/label", "leaderLabel.namespaces"), ("le/lease", "mirrorLease.namespaces")] {
        let (reason, message) = cluster.wait_for(election, "Ready", "False").await;
        assert_eq!(reason, "NamespaceNotAllowed");
        assert!(message.contains(&name) && message.contains(value), "{message}");
    }
    assert_eq!(cluster.labelled().await, Vec::<String>::new());

    let values = format!("--set=leaderLabel.namespaces={{{name}}},mirrorLease.namespaces={{{name}}}");
    let rendered = self::rendered(&name, &[&values, &show("leaders")]).await;
    cluster.resources.namespace.apply(&rendered).await.unwrap();
    for election in ["le/label", "le/lease"] {
        cluster.wait_for(election, "Ready", "True").await;
    }
    cluster.wait_until_labelled(&["web-0"]).await;
    cluster.wait_until("lease/lease", "there", |lease| lease["spec"]["holderIdentity"] == "web-0").await;
    kubectl(&["delete", "clusterrole,clusterrolebinding", &format!("quorate:{name}:quorate")]).await.unwrap();
}

/// When a leader leaves after its grant, in milliseconds: before the former one's label is gone, and while its own is being set.
const LEAVES_AFTER: [u64; 7] = [0, 150, 350, 450, 550, 700, 900];

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_leaves_before_it_has_its_label_is_never_labelled_beside_the_next_one() {
    let proxy = Proxy::start().await;
    let mut cluster = Operated::prepared().await.with_kubeconfig(proxy.kubeconfig());
    cluster.start_all().await;
    cluster.make_pods("web", &["web-0", "web-1", "web-2"]).await;
    cluster.apply("LeaderElection", "main", LABELLED).await.unwrap();
    cluster.wait_for("le/main", "Ready", "True").await;
    let mut leader = cluster.campaign(0, "main", "web-0", LONG).await;
    cluster.wait_until_labelled(&["web-0"]).await;
    let sight = Sight::of(&cluster.resources.namespace.name).await;
    proxy.set(Fault::Slow(Duration::from_millis(400), Some(Method::PATCH)));
    for (round, leaves_after) in LEAVES_AFTER.into_iter().enumerate() {
        let [brief, next] = [2 * round + 1, 2 * round + 2].map(|pod| format!("web-{}", pod % 3));
        let (second, ()) = tokio::join!(cluster.campaign(1, "main", &brief, LONG), cluster.end(0, &leader));
        sleep(Duration::from_millis(leaves_after)).await;
        (leader, _) = tokio::join!(cluster.campaign(2, "main", &next, LONG), cluster.end(1, &second));
        cluster.wait_until_labelled(&[&next]).await;
    }
    sight.assert_never_two();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_says_what_the_election_says_and_is_renewed_and_released() {
    let cluster = Operated::running().await;
    cluster.apply("LeaderElection", "main", "mirrorLease: {duration: 3s}").await.unwrap();
    let first = cluster.campaign(0, "main", "web-0", LONG).await;
    let is_held = |by: &'static str| move |lease: &Value| lease["spec"]["holderIdentity"] == by;
    let lease = cluster.wait_until("lease/main", "held by web-0", is_held("web-0")).await;
    let annotations = &lease["metadata"]["annotations"];
    assert_eq!(annotations["quorate.io/fencing-token"], first.token.to_string(), "{lease:#}");
    assert_eq!(lease["metadata"]["ownerReferences"][0]["kind"], "LeaderElection", "{lease:#}");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 3);
    let renewed = lease["spec"]["renewTime"].clone();
    cluster.wait_until("lease/main", "renewed", |lease| lease["spec"]["renewTime"] != renewed).await;

    let (second, ()) = tokio::join!(cluster.campaign(1, "main", "web-1", LONG), cluster.end(0, &first));
    let lease = cluster.wait_until("lease/main", "held by web-1", is_held("web-1")).await;
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    assert_eq!(lease["metadata"]["annotations"]["quorate.io/fencing-token"], second.token.to_string());
    // kubectl is made with client-go, whose Leases these are; and so are tools that ask who leads.
    let table = cluster.resources.namespace.kubectl(&["get", "lease", "main"]).await.unwrap();
    assert!(table.contains("HOLDER") && table.contains("web-1"), "{table}");
    let record = read_by_client_go(&cluster, "main").await;
    assert_eq!((&record["holderIdentity"], &record["leaderTransitions"]), (&"web-1".into(), &1.into()), "{record:#}");
    assert_eq!(record["leaseDurationSeconds"], 3, "{record:#}");
    let [acquired, renewed] = ["acquireTime", "renewTime"].map(|field| record[field].as_str().unwrap_or_default());
    let [acquired, renewed] = [acquired, renewed].map(|time| time.parse::<jiff::Timestamp>().unwrap());
    assert!(acquired.as_second() > 0 && acquired <= renewed, "{record:#}");

    cluster.end(0, &second).await;
    cluster.wait_until("lease/main", "released", is_held("")).await;
    assert_eq!(read_by_client_go(&cluster, "main").await["holderIdentity"], "", "a tool sees that nobody leads");
    let version = async || cluster.resources.get("lease/main").await["metadata"]["resourceVersion"].take();
    nothing_changes("a Lease that nobody holds", Duration::from_secs(4), version).await;

    // Somebody else's is left alone.
    let theirs =
        "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: theirs}\nspec: {holderIdentity: them}\n";
    cluster.resources.namespace.apply(theirs).await.unwrap();
    cluster.apply("LeaderElection", "other", "mirrorLease: {name: theirs}").await.unwrap();
    let other = cluster.campaign(0, "other", "web-0", LONG).await;
    let (reason, message) = cluster.wait_for("le/other", "Ready", "False").await;
    assert_eq!(reason, "LeaseTaken");
    assert!(message.contains("Lease theirs is there already"), "{message}");
    assert_eq!(cluster.resources.get("lease/theirs").await["spec"], json!({ "holderIdentity": "them" }));
    cluster.resources.namespace.kubectl(&["delete", "lease", "theirs"]).await.unwrap();
    cluster.wait_until("lease/theirs", "ours", is_held("web-0")).await;
    cluster.wait_for("le/other", "Ready", "True").await;
    // What is not asked for any more is released.
    cluster.apply("LeaderElection", "other", "seats: 1").await.unwrap();
    cluster.wait_until("lease/theirs", "released", is_held("")).await;
    cluster.end(0, &other).await;
}

/// What client-go's leader election reads of a Lease.
async fn read_by_client_go(cluster: &Operated, lease: &str) -> Value {
    let printed = shell(&format!("lease {} {lease}", cluster.resources.namespace.name)).await.unwrap();
    serde_json::from_str(&printed).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_seats_two_lead_a_third_waits_and_follows_the_one_that_falls_silent() {
    let cluster = Operated::running().await;
    cluster.make_pods("web", &["web-0", "web-1", "web-2"]).await;
    cluster.apply("LeaderElection", "main", &format!("seats: 2, sessionTtl: 2s, {LABELLED}")).await.unwrap();
    cluster.wait_for("le/main", "Ready", "True").await;
    let sight = Sight::of(&cluster.resources.namespace.name).await;
    let path = format!("/v1/elections/{}/main", cluster.resources.namespace.name);
    let election = async || cluster.trio.get_json(2, &path).await.unwrap();
    let ttl = election().await["sessionTtlMs"].as_u64().expect("candidates are told which TTL to ask for");
    assert_eq!(ttl, 2_000);

    let first = cluster.campaign(0, "main", "web-0", ttl).await;
    let heard_of_first = KeptAlive::at(&cluster, 0, &first);
    let second = cluster.campaign(1, "main", "web-1", ttl).await;
    let _heard_of_second = KeptAlive::at(&cluster, 1, &second);
    cluster.wait_until_labelled(&["web-0", "web-1"]).await;
    let status = cluster.wait_until("le/main", "led by both", led_by(&["web-0", "web-1"])).await["status"].take();
    assert_eq!(status["fencingToken"], second.token, "{status:#}");

    let waits = async {
        wait_for("nobody waits", async || (election().await["waiting"] == 1).then_some(())).await;
        let present = election().await;
        assert_eq!(present["leaders"].as_array().map(Vec::len), Some(2), "{present:#}");
        assert_eq!(cluster.labelled().await, ["web-0", "web-1"]);
        drop(heard_of_first);
    };
    let (third, ()) = tokio::join!(cluster.campaign(2, "main", "web-2", LONG), waits);
    assert!(third.token > second.token && second.token > first.token, "{first:?} {second:?} {third:?}");
    cluster.wait_until_labelled(&["web-1", "web-2"]).await;
    let status = cluster.wait_until("le/main", "led by the others", led_by(&["web-1", "web-2"])).await["status"].take();
    let last = &status["lastTransition"];
    assert_eq!((&last["cause"], &last["candidate"]), (&"session-expired".into(), &"web-0".into()), "{status:#}");
    assert_eq!((&last["fencingToken"], &status["transitions"]), (&first.token.into(), &1.into()), "{status:#}");
    assert!(sight.all().iter().all(|seen| seen.labelled.len() <= 2), "{:#?}", sight.all());
}

/// Whether these pods lead, and nobody else.
fn led_by(pods: &[&str]) -> impl Fn(&Value) -> bool {
    move |election| {
        let leaders = election["status"]["leaders"].as_array().cloned().unwrap_or_default();
        let mut named: Vec<_> = leaders.iter().map(|leader| leader["pod"].as_str().unwrap_or_default()).collect();
        named.sort_unstable();
        named == pods
    }
}

/// A session that is kept alive until this is dropped.
struct KeptAlive(JoinHandle<()>);

impl KeptAlive {
    fn at(cluster: &Operated, member: usize, granted: &Granted) -> Self {
        let url = format!("{}/v1/sessions/{}/keepalive", cluster.trio.url(member), granted.session);
        let http = cluster.trio.http.clone();
        Self(tokio::spawn(async move {
            loop {
                // One that fails is followed by the next.
                drop(http.post(&url).send().await);
                sleep(Duration::from_millis(200)).await;
            }
        }))
    }
}

impl Drop for KeptAlive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_server_is_away_elections_change_hands_and_then_everything_tells_of_the_last() {
    let proxy = Proxy::start().await;
    let mut cluster = Operated::prepared().await.with_kubeconfig(proxy.kubeconfig());
    cluster.start_all().await;
    cluster.make_pods("web", &["web-0", "web-1"]).await;
    cluster.apply("LeaderElection", "main", &format!("{LABELLED}, mirrorLease: {{duration: 3s}}")).await.unwrap();
    let mut leader = cluster.campaign(0, "main", "web-0", LONG).await;
    cluster.wait_until_labelled(&["web-0"]).await;
    cluster.wait_until("lease/main", "held", |lease| lease["spec"]["holderIdentity"] == "web-0").await;
    let sight = Sight::of(&cluster.resources.namespace.name).await;

    proxy.set(Fault::Away);
    let mut slowest = Duration::ZERO;
    for transition in 1..10 {
        let (candidate, began) = (format!("web-{}", transition % 2), Instant::now());
        let next = cluster.campaign(transition % SIZE, "main", &candidate, LONG);
        let (next, ()) = tokio::join!(next, cluster.end((transition + 1) % SIZE, &leader));
        assert!(next.token > leader.token, "{next:?} after {leader:?}");
        (leader, slowest) = (next, slowest.max(began.elapsed()));
    }
    println!("without the API server the slowest of 9 transitions took {slowest:.1?}");
    // Whoever waited for the API server would wait longer than that.
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    assert_eq!(cluster.labelled().await, ["web-0"], "the label waits");

    proxy.set(Fault::None);
    cluster.wait_until_labelled(&["web-1"]).await;
    cluster.wait_until("lease/main", "held by the last", |lease| lease["spec"]["holderIdentity"] == "web-1").await;
    let is_told = |election: &Value| {
        let status = &election["status"];
        status["fencingToken"] == leader.token && status["leaders"][0]["pod"] == "web-1" && status["transitions"] == 9
    };
    cluster.wait_until("le/main", "telling of the last", is_told).await;
    sight.assert_never_two();
    let events = [
        "get",
        "events",
        "--field-selector=reason=LeaderChanged",
        "--output=jsonpath={range .items[*]}{.message}\n{end}",
    ];
    let last = format!("web-1, with fencing token {}, leads", leader.token);
    let told = async || cluster.resources.namespace.kubectl(&events).await.unwrap();
    wait_for("no Event tells of the last", async || told().await.contains(&last).then_some(())).await;
    let told = told().await;
    assert_eq!(told.lines().filter(|line| line.starts_with(&last)).count(), 1, "{told}");
    cluster.wait_for("qc/quorate", "Degraded", "False").await;
}

/// So many Events of one object are written at once by a Raft leader, and then one in this time.
const EVENTS_AT_ONCE: u64 = 20;
const ONE_MORE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn an_election_whose_leaders_come_and_go_is_told_of_by_a_few_events_and_then_seldom() {
    let cluster = Operated::running().await;
    cluster.apply("LeaderElection", "main", "seats: 1").await.unwrap();
    cluster.wait_for("le/main", "Ready", "True").await;
    let term = async || cluster.trio.get_json(0, "/v1/cluster").await.unwrap()["term"].as_u64().unwrap();
    let (first, began, mut leader) = (term().await, Instant::now(), None);
    let mut transitions = 0;
    let most = async || {
        let since = began.elapsed().as_secs() / ONE_MORE.as_secs();
        (1 + term().await - first) * EVENTS_AT_ONCE + since
    };
    while transitions < most().await + 3 {
        let candidate = format!("web-{transitions}");
        let end = async {
            if let Some(leader) = &leader {
                cluster.end(1, leader).await;
            }
        };
        let (next, ()) = tokio::join!(cluster.campaign(0, "main", &candidate, LONG), end);
        // Each is written into the status, where it would be told.
        let is_told = |election: &Value| election["status"]["fencingToken"] == next.token;
        cluster.wait_until("le/main", "told", is_told).await;
        (leader, transitions) = (Some(next), transitions + 1);
    }
    let told = async || {
        let events = cluster.look.at("events").await;
        let events = events["items"].as_array().expect("Events can be read").iter();
        events.filter(|event| event["involvedObject"]["name"] == "main").count() as u64
    };
    wait_for("there are too few Events", async || (told().await >= EVENTS_AT_ONCE).then_some(())).await;
    nothing_changes("what is told", Duration::from_secs(1), told).await;
    let (told, most) = (told().await, most().await);
    println!("{transitions} transitions are told by {told} Events");
    assert!(told <= most, "{told} Events, and {most} are allowed");
}
