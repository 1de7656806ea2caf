//! What becomes of members that run when a value of their chart is changed: of every value that a user may change.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::{Map, Value, json};

use super::helm::Release;
use super::installed::{assert_crd_is_ours, make_a_crd_older};
use crate::kubectl::kubectl;
use crate::members::{SIZE, name};
use crate::nodes::Nodes;
use crate::support::trio::wait_for;
use crate::trial::Trial;

/// Values that are given once (`api::chart` shows which changes are refused), that of another test, and one that asks for a kind which
/// is not there.
const ELSEWHERE: [&str; 5] = ["cluster", "fullnameOverride", "storage", "voters", "serviceMonitor"];

/// A value that the members' pods are made of.
struct InPods {
    name: &'static str,
    to: Value,
    /// What each pod has then, and where.
    at: &'static str,
    has: Value,
}

/// One that stands in a pod as it was given.
fn as_given(name: &'static str, at: &'static str, to: Value) -> InPods {
    InPods { name, at, has: to.clone(), to }
}

/// What a person may change at once: which image, how the members run, and where.
fn changes(digest: &str) -> [(&'static str, Vec<InPods>); 3] {
    let selector = json!({ "matchLabels": {
        "app.kubernetes.io/instance": "quorate", "app.kubernetes.io/component": "member",
    } });
    let host = "kubernetes.io/hostname";
    let another = json!({ "repository": "localhost/tools/quorate", "tag": "next", "pullPolicy": "Never" });
    let image = |to: Value, reference: String| InPods {
        name: "image",
        to,
        at: "/spec/containers/0",
        has: json!({ "image": reference }),
    };
    // All that there are: a member that could not read one of them would not be ready.
    let to = everything()["settings"].clone();
    let variables = to.as_object().unwrap().iter().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        json!({ "name": variable(name), "value": value })
    });
    let has = json!({ "env": variables.collect::<Vec<_>>() });
    let settings = InPods { name: "settings", to, at: "/spec/containers/0", has };
    let resources = json!({ "requests": { "cpu": "50m" }, "limits": { "memory": "512Mi" } });
    let user = json!({ "runAsUser": 20000, "runAsGroup": 20001, "fsGroup": 20002 });
    let apart = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
        { "topologyKey": host, "labelSelector": selector },
    ] } });
    let spread = json!([
        { "topologyKey": host, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector },
    ]);
    let tolerations = json!([{ "key": "dedicated", "operator": "Equal", "value": "quorate", "effect": "NoSchedule" }]);
    [
        (
            "another image",
            vec![
                image(another, "localhost/tools/quorate:next".to_owned()),
                as_given("imagePullSecrets", "/spec/imagePullSecrets", json!([{ "name": "registry" }])),
            ],
        ),
        (
            "another user, other settings and resources, and the image by its digest",
            vec![
                image(json!({ "digest": digest }), format!("localhost/quorate@{digest}")),
                settings,
                as_given("resources", "/spec/containers/0/resources", resources),
                as_given("podSecurityContext", "/spec/securityContext", user),
            ],
        ),
        (
            "other rules of where the pods may be, and more said of them",
            vec![
                as_given("nodeSelector", "/spec/nodeSelector", json!({ "kubernetes.io/os": "linux" })),
                as_given("tolerations", "/spec/tolerations", tolerations),
                as_given("affinity", "/spec/affinity", apart),
                as_given("topologySpreadConstraints", "/spec/topologySpreadConstraints", spread),
                as_given("priorityClassName", "/spec/priorityClassName", json!("system-cluster-critical")),
                as_given("podLabels", "/metadata/labels", json!({ "team": "payments" })),
                as_given("podAnnotations", "/metadata/annotations", json!({ "example.com/owner": "payments" })),
            ],
        ),
    ]
}

/// Every value as something else than its default.
fn everything() -> Map<String, Value> {
    serde_yaml::from_str(include_str!("../../chart/everything.yaml")).unwrap()
}

/// The variable of a setting that is called so in camel case.
fn variable(setting: &str) -> String {
    setting.chars().fold("QUORATE_".to_owned(), |name, letter| match letter {
        'A'..='Z' => format!("{name}_{letter}"),
        _ => name + &letter.to_ascii_uppercase().to_string(),
    })
}

/// Whether everything that is wanted is there, beside whatever else is.
fn covers(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| there.get(name).is_some_and(|there| covers(there, wanted)))
        }
        (Value::Array(there), Value::Array(wanted)) => {
            wanted.iter().all(|wanted| there.iter().any(|there| covers(there, wanted)))
        }
        _ => there == wanted,
    }
}

/// A release under load whose values are changed, one upgrade after the other; each sets back what the one before has changed.
struct Upgrades<'a> {
    release: &'a Release,
    trial: &'a Trial,
    changed: Mutex<BTreeSet<&'static str>>,
}

impl Upgrades<'_> {
    async fn upgrade(&self, values: &[(&'static str, &Value)]) {
        let options: Vec<_> = values.iter().map(|(name, to)| format!("--set-json={name}={to}")).collect();
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        self.release.upgrade_and_wait(&options).await.unwrap();
        self.changed.lock().unwrap().extend(values.iter().map(|(name, _)| *name));
    }

    /// Changes what the pods are made of: each is replaced, and has it.
    async fn in_pods(&self, what: &str, values: &[InPods]) {
        let before = self.trial.members.places().await;
        let upgrade = async |_: &_| self.upgrade(&values.iter().map(|it| (it.name, &it.to)).collect::<Vec<_>>()).await;
        self.trial.survives(what, upgrade).await;
        let after = self.trial.members.places().await;
        assert!(before.iter().all(|old| after.iter().all(|new| new.uid != old.uid)), "{what}: {before:?}, {after:?}");
        for member in 0..SIZE {
            let pod = self.release.namespace.get(&format!("pod/{}", name(member))).await.unwrap();
            for InPods { name, at, has, .. } in values {
                let there = pod.pointer(at).unwrap_or(&Value::Null);
                assert!(covers(there, has), "{name}: {there:#} where there should be {has:#}");
            }
        }
    }

    /// Changes what the pods need not be replaced for, and waits until it shows.
    async fn in_place(&self, value: &'static str, to: Value, shows: impl AsyncFn() -> bool) {
        assert!(!shows().await, "{value}: it is so before {to} is set");
        self.upgrade(&[(value, &to)]).await;
        wait_for(&format!("{value}: nothing has come of {to}"), async || shows().await.then_some(())).await;
    }

    /// Whether the members have a right in that namespace.
    async fn may(&self, verb: &str, resource: &str, namespace: &str) -> bool {
        let account = format!("--as={}", self.release.account("quorate"));
        kubectl(&["auth", "can-i", verb, resource, &account, "--namespace", namespace]).await.is_ok()
    }

    async fn is_there(&self, object: &str) -> bool {
        self.release.namespace.get(object).await.is_ok()
    }

    async fn everything_in_place(&self) {
        let Self { release, trial, .. } = self;
        let namespace = &release.namespace.name;
        let told = async |condition: &str, reason: &str| {
            let status = release.status().await;
            let mut conditions = status["conditions"].as_array().into_iter().flatten();
            conditions.any(|it| it["type"] == condition && it["reason"] == reason)
        };
        let here = json!({ "namespaces": [namespace] });
        self.in_place("leaderLabel", here.clone(), async || self.may("patch", "pods", namespace).await).await;
        self.in_place("mirrorLease", here, async || self.may("update", "leases", namespace).await).await;
        let fencing = format!("validatingadmissionpolicybinding/fencing.quorate.{namespace}.quorate.io");
        let fenced = json!({
            "namespaces": [namespace], "failurePolicy": "Ignore",
            "resources": [{ "apiGroups": ["apps"], "resources": ["deployments"] }],
        });
        self.in_place("fencing", fenced, async || self.is_there(&fencing).await).await;
        assert!(!self.may("patch", "pods", namespace).await, "a right is left of a value that was set back");
        self.in_place("networkPolicy", json!({ "enabled": true }), async || {
            self.is_there("networkpolicy/quorate").await
        })
        .await;
        let guard = format!("validatingadmissionpolicybinding/scale.quorate.{namespace}.quorate.io");
        self.in_place("scaleGuard", json!({ "enabled": false }), async || !self.is_there(&guard).await).await;
        self.in_place("readNodes", json!(false), async || !self.may("get", "nodes", namespace).await).await;
        self.in_place("paused", json!(true), async || told("Progressing", "Paused").await).await;
        let other = name((trial.members.whole().await.leader + 1) % SIZE);
        self.in_place("preferredLeader", json!(other), async || release.status().await["raftLeader"] == *other).await;
        let has_learner = async || release.status().await["members"].as_array().is_some_and(|it| it.len() > SIZE);
        self.in_place("learners", json!(1), has_learner).await;

        make_a_crd_older().await;
        self.upgrade(&[("crds", &json!({ "upgrade": false }))]).await;
        let columns = "{.spec.versions[0].additionalPrinterColumns}";
        let crd = ["get", "crd/leaderelections.quorate.io", &format!("--output=jsonpath={columns}")];
        assert_eq!(kubectl(&crd).await.unwrap(), "", "a CRD that is somebody else's matter was changed");
        self.upgrade(&[]).await;
        assert_crd_is_ours().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_that_a_user_may_change_reaches_members_that_run_and_costs_no_write() {
    let nodes = Nodes::alone().await;
    let digest = call_the_image_otherwise(&nodes);
    let release = Release::running().await;
    let trial = Trial::with(release.members(), nodes).await;
    let upgrades = Upgrades { release: &release, trial: &trial, changed: Mutex::default() };
    for (what, values) in changes(&digest) {
        upgrades.in_pods(what, &values).await;
    }
    // What stands in the pods is set back once more.
    trial.survives("no value changed any more", async |_| upgrades.upgrade(&[]).await).await;
    let before = trial.members.places().await;
    trial.survives("values that no pod is made of", async |_| upgrades.everything_in_place().await).await;
    assert_eq!(trial.members.places().await, before, "a pod was replaced for nothing");

    // The kind is the Prometheus Operator's; without it Helm says so, and changes nothing.
    let refusal = release.upgrade(&["--set=serviceMonitor.enabled=true"]).await.unwrap_err();
    assert!(refusal.contains("no matches for kind \"ServiceMonitor\""), "{refusal}");
    let all = everything();
    let mut changed = upgrades.changed.into_inner().unwrap();
    changed.extend(ELSEWHERE);
    let missed: Vec<_> = all.keys().filter(|name| !changed.contains(name.as_str())).collect();
    assert!(missed.is_empty(), "nobody has changed {missed:?}");
    trial.judge().await;
}

/// Gives the image of the members two more names on every node, as if they had been pulled: of another repository, and of its digest,
/// which is returned.
fn call_the_image_otherwise(nodes: &Nodes) -> String {
    let name = concat!("localhost/quorate:", env!("CARGO_PKG_VERSION"));
    let mut digest = String::new();
    for node in 1..=SIZE {
        let images = |arguments: &[&str]| {
            let tool = ["ctr", "--address=/run/containerd/containerd.sock", "--namespace=k8s.io", "images"];
            nodes.in_node(node, &[&tool, arguments].concat())
        };
        let list = images(&["list", &format!("name=={name}")]);
        let found = list.split_whitespace().find(|word| word.starts_with("sha256:"));
        digest = found.unwrap_or_else(|| panic!("no digest of {name} in {list}")).to_owned();
        for other in ["localhost/tools/quorate:next", &format!("localhost/quorate@{digest}")] {
            images(&["tag", "--force", name, other]);
        }
    }
    digest
}
