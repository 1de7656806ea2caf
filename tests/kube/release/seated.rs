//! An election with two seats among pods under `quorate run`: its resource says how many lead and how long they may be silent, and
//! Kubernetes is told of them. One with a Lease is told of to tools that are made with client-go.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use quorate::api::wire::{Election, Session};
use serde_json::{Value, json};

use super::helm::Release;
use super::load::Load;
use super::marked::Reign;
use crate::api::elected::Sight;
use crate::kubectl::shell;
use crate::nodes::Nodes;
use crate::support::trio::wait_for;

/// Leaders that are killed, one after the other.
const KILLED: usize = 4;

/// Leaders that follow each other at once, which are more than there are Events for.
const CHANGES: usize = 30;

/// Events that an object has at once.
const AT_ONCE: usize = 20;

/// No election selects it.
const BYSTANDER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: bystander, labels: {app.kubernetes.io/name: bystander}}
spec:
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: waiting
      image: quorate.test/pause:1
      imagePullPolicy: Never
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
";

/// `examples/kubernetes/run.yaml` with three pods, of which two lead.
fn example() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/kubernetes/run.yaml");
    let changed = |text: String, (from, to): (&str, &str)| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, to)
    };
    let changes = [("replicas: 2", "replicas: 3"), ("  sessionTtl: 5s\n", "  seats: 2\n  sessionTtl: 2s\n")];
    changes.into_iter().fold(fs::read_to_string(path).unwrap(), changed)
}

impl Release {
    async fn asked<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        let url = format!("{}{path}", self.members().urls()[0]);
        reqwest::get(url).await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    async fn election(&self) -> Election {
        self.asked(&format!("/v1/elections/{}/single", self.namespace.name)).await
    }

    /// What client-go's leader election reads of the Lease of the marked election.
    async fn read_by_client_go(&self) -> Value {
        serde_json::from_str(&shell(&format!("lease {} marked", self.namespace.name)).await.unwrap()).unwrap()
    }

    /// Kills `quorate run` in a pod, and with it its command.
    async fn kill_application(&self, nodes: &Nodes, pod: &str) {
        let node = self.namespace.get(&format!("pod/{pod}")).await.unwrap()["spec"]["nodeName"].take();
        let number = node.as_str().unwrap().strip_prefix("node").unwrap().parse().unwrap();
        nodes.in_node(number, &["pkill", "-KILL", "-f", &format!("candidate {pod}")]);
    }

    /// Lets one leader follow the other: of the first twenty there are Events, and then of one in half a minute.
    async fn tells_a_part(&self, mut reign: Reign, began: Instant) {
        for change in 0..CHANGES {
            reign = self.succeed(reign, ["waiting-0", "waiting-1"][change % 2]).await;
            let is_told = async || {
                (self.namespace.get("le/marked").await.ok()?["status"]["fencingToken"] == reign.token).then_some(())
            };
            wait_for("the status does not tell who leads", is_told).await;
        }
        let told = async || self.events_of("marked").await.lines().count();
        wait_for("the Events do not come", async || (told().await >= AT_ONCE).then_some(())).await;
        let refilled = usize::try_from(began.elapsed().as_secs() / 30).unwrap();
        let told = told().await;
        println!("{told} Events of {CHANGES} leaders and those before");
        assert!(told <= AT_ONCE + refilled && told < CHANGES, "{told} Events, and {refilled} times half a minute");
    }

    /// What Events say of an election, a line each.
    async fn events_of(&self, election: &str) -> String {
        let selector = format!("--field-selector=involvedObject.name={election}");
        let told = "--output=jsonpath={range .items[*]}{.message}{\"\\n\"}{end}";
        self.namespace.kubectl(&["get", "events", &selector, told]).await.unwrap()
    }

    /// Who leads, once two do, one of them by a grant after `former`, and the status tells it.
    async fn two_lead(&self, former: u64) -> Election {
        let both = async || {
            let election = self.election().await;
            let status = self.namespace.get("leaderelection/single").await.unwrap()["status"].take();
            let is_told = status["fencingToken"].as_u64() == newest(&election)
                && status["leaders"].as_array().is_some_and(|told| told.len() == 2)
                && status["transitions"].as_u64() == Some(election.transitions);
            (election.leaders.len() == 2 && newest(&election) > Some(former) && is_told).then_some(election)
        };
        wait_for("not told that two lead", both).await
    }
}

fn newest(election: &Election) -> Option<u64> {
    election.leaders.iter().map(|leader| leader.fencing_token).max()
}

fn pods(election: &Election) -> BTreeSet<String> {
    election.leaders.iter().filter_map(|leader| leader.candidate.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_pods_two_lead_and_a_killed_one_is_followed_as_labels_status_events_and_leases_tell() {
    let nodes = Nodes::alone().await;
    let release = Release::running_with_marks().await;
    let namespace = &release.namespace;
    namespace.apply(BYSTANDER).await.unwrap();
    namespace.apply(&example()).await.unwrap();
    namespace.kubectl(&["rollout", "status", "deployment/single", "--timeout=1m"]).await.unwrap();
    let (sight, load) = (Sight::of(&namespace.name).await, Load::on(&release));
    let mut election = release.two_lead(0).await;
    for leader in &election.leaders {
        let session: Session = release.asked(&format!("/v1/sessions/{}", leader.session)).await;
        assert_eq!(session.ttl_ms, 2_000, "the election says so, and the pod does not: {session:?}");
    }
    let killing = async {
        for _ in 0..KILLED {
            let victim = election.leaders[0].candidate.clone().unwrap();
            let silent = election.leaders[0].fencing_token;
            release.kill_application(&nodes, &victim).await;
            election = release.two_lead(newest(&election).unwrap()).await;
            let last = election.last_transition.as_ref().unwrap();
            let ended = (last.candidate.as_deref(), last.fencing_token, last.cause.as_str());
            assert_eq!(ended, (Some(victim.as_str()), silent, "session-expired"), "{election:#?}");
            assert!(election.leaders.iter().all(|leader| leader.fencing_token != silent), "{election:#?}");
            let labelled = async || (sight.all().last().unwrap().labelled == pods(&election)).then_some(());
            wait_for("the labels are not with those who lead", labelled).await;
        }
    };
    load.during("leaders of an election with two seats killed", killing).await;
    let seen = sight.all();
    assert!(seen.iter().all(|seen| seen.labelled.len() <= 2), "{seen:#?}");

    let events = release.events_of("single").await;
    println!("{events}");
    assert!(events.contains("session-expired"), "{events}");

    // A Lease has one holder, so that is another election, of other pods.
    namespace.kubectl(&["delete", "leaderelection/single", "deployment/single", "--wait"]).await.unwrap();
    let (began, first) = (Instant::now(), release.declare_marked().await);
    let record = release.read_by_client_go().await;
    assert_eq!((&record["holderIdentity"], &record["leaderTransitions"]), (&json!(first.pod), &json!(0)), "{record:#}");
    let second = release.succeed(first, "waiting-1").await;
    release.wait_until_shown(&second).await;
    let record = release.read_by_client_go().await;
    assert_eq!(
        (&record["holderIdentity"], &record["leaderTransitions"]),
        (&json!(second.pod), &json!(1)),
        "{record:#}"
    );

    // Who is in a pod that is not selected leads, and is not labelled.
    let third = release.succeed(second, "bystander").await;
    let is_told = async || {
        let status = namespace.get("leaderelection/marked").await.unwrap()["status"].take();
        let says_so = status.to_string().contains("spec.leaderLabel selects no pod that is called bystander");
        (status["fencingToken"] == third.token && says_so).then_some(())
    };
    wait_for("nobody is told that its pod is not selected", is_told).await;
    assert_eq!(sight.all().last().unwrap().labelled, BTreeSet::new());
    assert!(sight.all().iter().all(|seen| !seen.labelled.contains("bystander")), "{:#?}", sight.all());

    load.during("more leaders than there are Events for", release.tells_a_part(third, began)).await;
    load.judge().await;
}
