//! A long time without the API server, in a cluster of its own: `make kube-outage`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{pod_partition, succeeded};
use crate::clients::ELECTIONS;
use crate::kubectl::{get, kubectl};
use crate::members::{Agreement, PATIENCE, Place, SIZE, name};
use crate::nodes::Nodes;
use crate::release::helm::Release;
use crate::release::marked::Reign;
use crate::support::effort::Effort;
use crate::trial::Trial;

/// Once in so long, while it lasts, members are killed and cut off.
const TURMOIL: Duration = Duration::from_secs(60);

/// All members.
const ALL: [usize; SIZE] = [0, 1, 2];

/// After so long without a word, nothing that was told is told again.
const QUIET: Duration = Duration::from_secs(5);

/// How long the API server is away at least.
fn least() -> Duration {
    let seconds = std::env::var("QUORATE_OUTAGE").expect("`make kube-outage` says for how long");
    Duration::from_secs(seconds.parse().expect("QUORATE_OUTAGE is a number of seconds"))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_server_the_members_come_through_all_of_this_and_then_everything_is_told() {
    let nodes = Nodes::alone().await;
    let release = Release::running_with_marks().await;
    declare_everything(&release).await;
    let first = release.declare_marked().await;
    let trial = Trial::with(release.members(), nodes).await;
    let known = events(&release).await.into_keys().collect::<BTreeSet<_>>();
    let (least, mut second) = (least(), None);
    let outage = async |before: &Agreement| {
        let places = trial.members.places().await;
        let outage = trial.nodes.stop_api();
        let began = Instant::now();
        kubectl(&["get", "nodes"]).await.expect_err("the API server is stopped");
        let reigns = trial.reigns();
        turmoil(&trial, &places).await;
        second = Some(release.succeed(first, "waiting-1").await);
        for minute in 1.. {
            if minute > 1 {
                turmoil(&trial, &places).await;
            }
            assert_served(&release, "web", "before").await;
            while began.elapsed() < least.min(TURMOIL * minute) {
                trial.acknowledged_more(10).await;
            }
            if began.elapsed() >= least {
                break;
            }
        }
        assert!(trial.reigns() > reigns + ELECTIONS, "elections have not changed hands");

        let now = trial.members.agree(&ALL).await;
        // It comes back at once, but does not know its pods until the API server is there again.
        drop(trial.nodes.cut_power(places[now.leader].node));
        assert_eq!(succeeded(&trial, now.leader).await.cluster, before.cluster);
        let away = began.elapsed();
        assert!(away >= least, "the API server was away for {away:.1?}");
        drop(outage);
        println!("the API server was away for {away:.1?}");
    };
    trial.survives("no API server", outage).await;

    everything_converges(&trial, &release).await;
    let second = second.expect("the outage is over");
    release.wait_until_shown(&second).await;
    assert_told_once(&release, &known, &second).await;
    trial.judge().await;
}

/// Members are killed, one after the other and all at once, and the Raft leader is cut off from the others for a while.
async fn turmoil(trial: &Trial, places: &[Place]) {
    let leader = trial.members.agree(&ALL).await.leader;
    for member in Effort::from_environment().pick(vec![leader], ALL.to_vec()) {
        let fault = format!("{} killed", name(member));
        trial.survives_alone(&fault, async |_| kill(trial, places, &[member])).await;
    }
    trial.survives_alone("all members killed at once", async |_| kill(trial, places, &ALL)).await;
    let part = async |before: &Agreement| {
        let partition = pod_partition(&trial.nodes, places, before.leader);
        succeeded(trial, before.leader).await;
        assert!(partition.dropped() > 0, "nothing was kept from arriving");
    };
    trial.survives_alone("the Raft leader parted", part).await;
}

/// Kills the processes of members. The kubelet starts a container again without asking anybody.
fn kill(trial: &Trial, places: &[Place], members: &[usize]) {
    for member in members {
        // It says when there is nobody to kill.
        trial.nodes.in_node(places[*member].node, &["pkill", "-KILL", "-x", "quorate"]);
    }
}

/// Declares a config and the elections that candidates campaign for, and waits until they are served.
pub async fn declare_everything(release: &Release) {
    let elections: Vec<_> = (0..ELECTIONS)
        .map(|number| document("LeaderElection", &format!("work-{number}"), "{sessionTtl: 3s}"))
        .collect();
    release.namespace.apply(&elections.join("\n---\n")).await.unwrap();
    declare_text(release, "web", "before").await;
    everything_is_told(release).await;
}

/// Declares a config with one text.
pub async fn declare_text(release: &Release, config: &str, text: &str) {
    let config = document("ReplicatedConfig", config, &format!("{{data: {{text: {text}}}}}"));
    release.namespace.apply(&config).await.unwrap();
}

pub fn document(kind: &str, resource: &str, spec: &str) -> String {
    format!("apiVersion: quorate.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {resource}}}\nspec: {spec}")
}

/// Waits until what is declared now is served, and Kubernetes is told so, by whoever leads now.
pub async fn everything_converges(trial: &Trial, release: &Release) {
    declare_text(release, "web", "after").await;
    everything_is_told(release).await;
    assert_served(release, "web", "after").await;
    let leader = name(trial.members.whole().await.leader);
    release.status_when("told who leads", |status| status["raftLeader"] == leader).await;
    leaders_are_told(release).await;
}

/// Waits until the status of each election that candidates campaign for tells of the grant that the members tell of.
async fn leaders_are_told(release: &Release) {
    let namespace = &release.namespace;
    let mut left: BTreeSet<_> = (0..ELECTIONS).map(|number| format!("work-{number}")).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut granted = BTreeMap::new();
        for election in &left {
            granted.insert(election.clone(), token(release, election).await);
        }
        let elections = namespace.get("leaderelections").await.unwrap();
        for election in elections["items"].as_array().unwrap() {
            let (name, status) = (election["metadata"]["name"].as_str().unwrap(), &election["status"]);
            let told = [&status["fencingToken"], &status["leaders"][0]["fencingToken"]].map(Value::as_u64);
            // They go on changing hands; what nobody leads at the moment is looked at again.
            let Some(token) = granted.get(name).copied().flatten() else { continue };
            if told == [Some(token); 2] {
                left.remove(name);
            }
        }
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "the statuses of {left:?} do not tell of {granted:?}: {elections:#}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// The token of the leader of an election, as a member says it; `None` if there is none, or no answer.
async fn token(release: &Release, election: &str) -> Option<u64> {
    let url = format!("{}/v1/elections/{}/{election}", release.members().urls()[0], release.namespace.name);
    let election: Value = reqwest::get(url).await.ok()?.json().await.ok()?;
    election["leaders"][0]["fencingToken"].as_u64()
}

/// Waits until Kubernetes is told that everything is well, as it is declared now.
async fn everything_is_told(release: &Release) {
    let namespace = &release.namespace;
    namespace.wait("quoratecluster/quorate", "condition=Ready", 60).await;
    for condition in ["Ready", "Replicated"] {
        namespace.wait("replicatedconfig/web", &format!("condition={condition}"), 60).await;
    }
    let elections: Vec<_> = (0..ELECTIONS).map(|number| format!("leaderelection/work-{number}")).collect();
    let elections: Vec<_> = elections.iter().map(String::as_str).collect();
    namespace.kubectl(&[&["wait", "--for=condition=Ready", "--timeout=60s"], &elections[..]].concat()).await.unwrap();
}

/// Every member serves this text of a config from its own state.
pub async fn assert_served(release: &Release, config: &str, text: &str) {
    let path = format!("v1/config/{}/{config}?consistency=stale", release.namespace.name);
    for url in release.members().urls() {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = reqwest::get(format!("{url}/{path}")).await;
            let served = match answer {
                Ok(answer) => answer.json::<Value>().await.unwrap_or_default()["data"]["text"].take(),
                Err(_) => Value::Null,
            };
            if served == text {
                break;
            }
            assert!(Instant::now() < deadline, "{url} serves {served} of {config} and not {text}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What the Events in the namespace say of which resource of Quorate's, by their names.
async fn events(release: &Release) -> BTreeMap<String, [String; 3]> {
    let events = get(&["--namespace", &release.namespace.name, "events.events.k8s.io"]).await.unwrap();
    let ours = |event: &&Value| {
        let about = event["regarding"]["apiVersion"].as_str();
        about.is_some_and(|about| about.starts_with("quorate.io/"))
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = events["items"].as_array().unwrap().iter().filter(ours);
    all.map(|event| {
        let said = [text(&event["regarding"]["name"]), text(&event["reason"]), text(&event["note"])];
        (text(&event["metadata"]["name"]), said)
    })
    .collect()
}

/// Nothing that is told anew is told twice, and that another leads the marked election is told once.
async fn assert_told_once(release: &Release, known: &BTreeSet<String>, reign: &Reign) {
    let leads = format!("{}, with fencing token {}, leads; waiting-0 stopped: session-ended", reign.pod, reign.token);
    let deadline = Instant::now() + PATIENCE;
    while !events(release).await.values().any(|[_, _, note]| *note == leads) {
        assert!(Instant::now() < deadline, "no Event says that {leads}");
        sleep(Duration::from_millis(200)).await;
    }
    // Whatever is told twice is told again soon.
    sleep(QUIET).await;
    let all = events(release).await;
    let changes = all.values().filter(|[about, reason, _]| about == "marked" && reason == "LeaderChanged");
    let tokens: Vec<_> = changes.map(|[_, _, note]| note).collect();
    assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), tokens.len(), "a grant is told twice: {tokens:#?}");
    let new: Vec<_> = all.into_iter().filter(|(name, _)| !known.contains(name)).collect();
    println!("{} Events since the API server is back", new.len());
    let mut counts = BTreeMap::<_, usize>::new();
    for (_, said) in &new {
        *counts.entry(said).or_default() += 1;
    }
    assert!(counts.values().all(|count| *count == 1), "{counts:#?}");
    let changes = new.iter().filter(|(_, [about, reason, _])| about == "marked" && reason == "LeaderChanged").count();
    assert_eq!(changes, 1, "the marked election has changed hands once: {counts:#?}");
}
