//! The chart, installed with Helm as users do it, and what becomes of a cluster while its release comes, changes and goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::audit;
use super::helm::{CHART, Release};
use crate::alone;
use crate::command::output;
use crate::kubectl::{self, kubectl, shell};
use crate::members::{Agreement, Members, PATIENCE, SIZE, name};
use crate::namespace::Namespace;
use crate::nodes::Nodes;
use crate::trial::Trial;

/// What the chart brings with it and leaves behind.
const CRDS: [&str; 3] =
    ["crd/leaderelections.quorate.io", "crd/quorateclusters.quorate.io", "crd/replicatedconfigs.quorate.io"];

/// How long Helm may wait: a little less than anybody waits for Helm.
const DEADLINE: &str = "--timeout=3m";

impl Release {
    /// Three members that serve, in a namespace of their own.
    pub async fn running() -> Self {
        Self::running_with(&[]).await
    }

    /// Members that serve, installed with these options of Helm.
    pub async fn running_with(options: &[&str]) -> Self {
        Self::running_in(Namespace::for_pods("chart").await, options).await
    }

    pub async fn running_in(namespace: Namespace, options: &[&str]) -> Self {
        let release = Self::of(namespace);
        release.install_and_wait(options).await.unwrap();
        release
    }

    async fn install_and_wait(&self, options: &[&str]) -> Result<String, String> {
        self.install(&[&["--wait", DEADLINE], options].concat()).await
    }

    pub async fn upgrade_and_wait(&self, options: &[&str]) -> Result<String, String> {
        self.upgrade(&[&["--wait", DEADLINE], options].concat()).await
    }

    pub fn members(&self) -> Members {
        Members { namespace: self.namespace.clone() }
    }

    async fn cluster(&self) -> Value {
        self.namespace.get("quoratecluster/quorate").await.unwrap()
    }

    /// What a command of the image prints in a member's pod.
    async fn quorate(&self, arguments: &str) -> String {
        let command: Vec<_> = ["quorate"].into_iter().chain(arguments.split(' ')).collect();
        self.namespace.exec("quorate-1", &command).await.unwrap()
    }

    /// That Helm did not come back too early: the members are all there, and Kubernetes was told so.
    async fn assert_whole(&self, voters: u64) {
        let cluster = self.cluster().await;
        let (status, generation) = (&cluster["status"], &cluster["metadata"]["generation"]);
        let ready =
            status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == "Ready").unwrap();
        assert_eq!((&ready["status"], &ready["observedGeneration"]), (&"True".into(), generation), "{status:#}");
        assert_eq!(status["voters"], voters, "{status:#}");
        assert_eq!(status["members"].as_array().unwrap().len() as u64, voters, "{status:#}");
        let version = |member: &Value| member["version"] == env!("CARGO_PKG_VERSION");
        assert!(status["members"].as_array().unwrap().iter().all(version), "{status:#}");
        let set = self.namespace.get("statefulset/quorate").await.unwrap();
        assert_eq!((&set["spec"]["replicas"], &set["status"]["readyReplicas"]), (&voters.into(), &voters.into()));
    }

    /// The names of the objects of a kind that belong to this release.
    async fn owned(&self, kind: &str) -> Vec<String> {
        let named = ["get", kind, "--selector=app.kubernetes.io/instance=quorate", "--output=name"];
        self.namespace.kubectl(&named).await.unwrap().lines().map(str::to_owned).collect()
    }
}

/// Takes the kinds away, with every resource of them.
async fn without_crds() {
    kubectl(&[&["delete", "--ignore-not-found", "--timeout=1m"][..], &CRDS].concat()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_kubernetes_without_crds_helm_waits_for_three_members_and_its_notes_and_tests_work() {
    let nodes = Nodes::alone().await;
    without_crds().await;
    let began = Instant::now();
    let release = Release::running().await;
    println!("three members {:.1?} after `helm install`", began.elapsed());
    release.assert_whole(3).await;
    assert_learners_before_voters(&nodes, &release).await;
    let places: BTreeSet<_> = release.members().places().await.into_iter().map(|place| place.node).collect();
    assert_eq!(places.len(), 3, "members are on the same node: {places:?}");

    let notes = release.helm(&["get", "notes", "quorate"]).await.unwrap();
    let commands: Vec<_> = notes.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(commands.len() >= 8, "{notes}");
    for command in commands {
        shell(command).await.unwrap_or_else(|refusal| panic!("the notes say to run {command}: {refusal}"));
    }
    assert_eq!(release.quorate("get kv greeting").await, "hello");
    let said = release.helm(&["test", "quorate", "--logs"]).await.unwrap();
    assert!(said.contains("available, 1 more may fail"), "{said}");
    assert_eq!(release.owned("pods").await.len(), 3, "the pod of the test is gone");
    a_silent_member_fails_the_test(&nodes, &release).await;
}

/// What whoever leads logs of a member that comes, in this order.
const COMING: [&str; 2] = ["added a learner", "a learner votes now"];

/// That every member but the first one has followed before it voted. A status is not written often enough to tell of every learner, but tells
/// nothing else; the log tells of each.
async fn assert_learners_before_voters(nodes: &Nodes, release: &Release) {
    let mut steps = Vec::new();
    for member in 0..SIZE {
        let log = release.namespace.logs(&name(member)).await;
        let told = log.lines().filter(|line| COMING.iter().any(|step| line.contains(step)));
        steps.extend(told.map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    steps.sort_by_key(|step| step["timestamp"].to_string());
    let mut roles = BTreeMap::<_, Vec<_>>::new();
    let statuses = audit::writes(nodes, &release.namespace.name).into_iter();
    for status in statuses.filter(|write| write.what == "quorateclusters/status" && write.is_done()) {
        for member in status.request["status"]["members"].as_array().into_iter().flatten() {
            let text = |field: &str| member[field].as_str().unwrap().to_owned();
            roles.entry(text("name")).or_default().push(text("role"));
        }
    }
    roles.values_mut().for_each(Vec::dedup);
    println!("the members were told to be {roles:?}");
    assert_eq!(steps.len(), (SIZE - 1) * COMING.len(), "{steps:#?}");
    for member in 1..SIZE {
        let of = steps.iter().filter(|step| step["name"] == name(member));
        assert!(of.map(|step| step["message"].as_str().unwrap()).eq(COMING), "{}: {steps:#?}", name(member));
        assert!(["Learner", "Voter"].map(str::to_owned).ends_with(&roles[&name(member)]), "{roles:?}");
    }
    assert_eq!(roles[&name(0)], ["Voter"]);
}

/// While a member stands still `helm test` fails, and says which one it is; afterwards it succeeds again.
async fn a_silent_member_fails_the_test(nodes: &Nodes, release: &Release) {
    let members = release.members();
    let silent = (members.whole().await.leader + 1) % SIZE;
    let node = members.places().await[silent].node;
    nodes.in_node(node, &["pkill", "-STOP", "-x", "quorate"]);
    let began = Instant::now();
    let said = release.helm(&["test", "quorate"]).await.unwrap_err();
    nodes.in_node(node, &["pkill", "-CONT", "-x", "quorate"]);
    println!("`helm test` with {} silent, after {:.1?}:\n{said}", name(silent), began.elapsed());
    let url = |member: usize| format!("http://{}.quorate-members.{}.svc:8080", name(member), release.namespace.name);
    let is_told = |member: &usize| said.contains(&format!("{} did not answer", url(*member)));
    assert_eq!((0..SIZE).filter(is_told).collect::<Vec<_>>(), [silent]);
    members.whole().await;
    release.helm(&["test", "quorate"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_brings_newer_crds_and_restarts_one_member_after_the_other_under_load() {
    let nodes = Nodes::alone().await;
    let release = Release::running().await;
    let trial = Trial::with(release.members(), nodes).await;
    make_a_crd_older().await;
    let uids = |places: Vec<crate::members::Place>| places.into_iter().map(|place| place.uid).collect::<Vec<_>>();
    let before = uids(trial.members.places().await);
    let upgrade = async |_: &Agreement| {
        release.upgrade_and_wait(&["--set=settings.log=debug,resources.requests.cpu=50m"]).await.map(drop).unwrap();
        release.assert_whole(3).await;
    };
    trial.survives("an upgrade", upgrade).await;
    let after = uids(trial.members.places().await);
    assert!(before.iter().all(|uid| !after.contains(uid)), "not every pod is another one");
    assert_crd_is_ours().await;
    for kind in ["job", "serviceaccount", "clusterrole", "clusterrolebinding"] {
        let left: Vec<_> = release.owned(kind).await.into_iter().filter(|name| name.contains("crds")).collect();
        assert!(left.is_empty(), "the hook has left {left:?}");
    }

    let generation =
        async || release.namespace.get("statefulset/quorate").await.unwrap()["metadata"]["generation"].take();
    let untouched = generation().await;
    let refusal = release.upgrade(&["--timeout=20s", "--set=image.tag=of-nobody"]).await.unwrap_err();
    assert!(refusal.contains("pre-upgrade hooks failed"), "{refusal}");
    assert_eq!(generation().await, untouched, "an image that nobody has reaches no member");

    let back =
        async |_: &Agreement| drop(release.helm(&["rollback", "quorate", "1", "--wait", DEADLINE]).await.unwrap());
    trial.survives("a rollback", back).await;
    let set = release.namespace.get("statefulset/quorate").await.unwrap();
    assert!(!set.to_string().contains("QUORATE_LOG\""), "{set:#}");
    trial.judge().await;
}

/// As an earlier release would have left it.
pub async fn make_a_crd_older() {
    let patch = r#"[{"op": "replace", "path": "/metadata/annotations/quorate.io~1release", "value": "0.0.1"},
                    {"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns"}]"#;
    kubectl(&["patch", CRDS[0], "--type=json", "--patch", patch]).await.unwrap();
}

pub async fn assert_crd_is_ours() {
    let crd = kubectl::get(&[CRDS[0]]).await.unwrap();
    assert_eq!(crd["metadata"]["annotations"]["quorate.io/release"], env!("CARGO_PKG_VERSION"));
    assert!(crd["spec"]["versions"][0]["additionalPrinterColumns"].is_array(), "{crd:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_grows_with_the_release_and_no_scaling_by_hand_takes_its_quorum_away() {
    let _alone = alone().await;
    let release = Release::running().await;
    release.quorate("put kv kept well").await;
    let began = Instant::now();
    // With everything that is made only where the values ask for it.
    let five = "--set=voters=5,fencing.namespaces={NAME},leaderLabel.namespaces={NAME},mirrorLease.namespaces={NAME}";
    let five = five.replace("NAME", &release.namespace.name);
    release.upgrade_and_wait(&[&five]).await.unwrap();
    println!("five voters after {:.1?}", began.elapsed());
    release.assert_whole(5).await;
    release.helm(&["test", "quorate"]).await.unwrap();
    another_manager_finds_nothing_to_change(&release, &five).await;

    let scale = ["scale", "statefulset/quorate", "--replicas=1"];
    let refusal = release.namespace.kubectl(&scale).await.unwrap_err();
    assert!(refusal.contains("Change spec.voters or spec.learners of QuorateCluster quorate instead"), "{refusal}");

    release.upgrade_and_wait(&["--set=voters=5,scaleGuard.enabled=false"]).await.unwrap();
    let began = Instant::now();
    // The API server may know of the policy for a moment longer.
    let deadline = began + Duration::from_secs(60);
    while let Err(refusal) = release.namespace.kubectl(&scale).await {
        assert!(Instant::now() < deadline, "{refusal}");
        sleep(Duration::from_millis(200)).await;
    }
    release.namespace.wait("statefulset/quorate", "jsonpath={.spec.replicas}=5", 60).await;
    println!("scaled up again {:.1?} after somebody had scaled it down", began.elapsed());
    release.namespace.kubectl(&["rollout", "status", "statefulset/quorate", "--timeout=2m"]).await.unwrap();
    assert_eq!(release.quorate("get kv kept").await, "well");
}

/// Beside an operator at work, as a tool that watches a repository: whatever it and Kubernetes have written is no difference.
async fn another_manager_finds_nothing_to_change(release: &Release, values: &str) {
    let manager = "gitops";
    let same = release.rendered(&["--no-hooks", "--skip-tests", "--include-crds", values]).await;
    assert_eq!(same.matches("\nkind: CustomResourceDefinition\n").count(), CRDS.len());
    assert_eq!(same.matches("\nkind: ValidatingAdmissionPolicy\n").count(), 2, "that of scaling and that of fencing");
    kubectl::diff_as(manager, &same).await.unwrap();
    kubectl::apply_as(manager, &same).await.unwrap();
    kubectl::diff_as(manager, &same).await.unwrap();
    release.upgrade_and_wait(&[values]).await.unwrap();
    kubectl::diff_as(manager, &same).await.unwrap();
    release.assert_whole(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_uninstallation_another_release_of_the_chart_goes_on_where_it_was_left() {
    let _alone = alone().await;
    without_crds().await;
    let release = Release::running().await;
    release.quorate("put kv kept well").await;
    // So that the CRDs are those of the hook.
    make_a_crd_older().await;
    release.upgrade_and_wait(&[]).await.unwrap();
    let before = release.cluster().await;
    let said = release.helm(&["uninstall", "quorate", "--wait", DEADLINE]).await.unwrap();
    assert!(said.contains("[QuorateCluster] quorate"), "{said}");
    // Helm does not wait for the pods of what it has deleted.
    let pods = ["wait", "pods", "--selector=app.kubernetes.io/instance=quorate", "--for=delete", "--timeout=1m"];
    release.namespace.kubectl(&pods).await.unwrap();
    let gone = "pods,statefulsets,services,poddisruptionbudgets,roles,rolebindings,serviceaccounts,clusterroles,\
                clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";
    assert_eq!(release.owned(gone).await, Vec::<String>::new());
    assert_eq!(release.owned("persistentvolumeclaims").await.len(), 3);
    for name in CRDS {
        kubectl::get(&[name]).await.unwrap();
    }

    let (_folder, other) = with_another_crd();
    release.helm(&["install", "quorate", &other, "--wait", DEADLINE]).await.unwrap();
    release.assert_whole(3).await;
    let after = release.cluster().await;
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["status"]["clusterId"], before["status"]["clusterId"]);
    assert_eq!(release.quorate("get kv kept").await, "well");
    let crd = kubectl::get(&[CRDS[0]]).await.unwrap();
    assert!(crd.to_string().contains("Places for leaders"), "{crd:#}");
}

/// The chart with a CRD that says something else, and where it is.
fn with_another_crd() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("quorate");
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join(CHART);
    output(std::process::Command::new("cp").arg("-r").arg(chart).arg(&copy));
    let path = copy.join("crds/leaderelections.yaml");
    let crd = fs::read_to_string(&path).unwrap();
    assert!(crd.contains("How many leaders it may have at a time"), "{crd}");
    fs::write(&path, crd.replace("How many leaders it may have at a time", "Places for leaders")).unwrap();
    let copy = copy.to_str().unwrap().to_owned();
    (folder, copy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_all_that_is_in_it_goes_at_once_and_helm_does_not_hang_afterwards() {
    let _alone = alone().await;
    let release = Release::running().await;
    let config = "apiVersion: quorate.io/v1alpha1\nkind: ReplicatedConfig\nmetadata: {name: web}\nspec: {data: {a: b}}";
    release.namespace.apply(config).await.unwrap();
    release.namespace.wait("replicatedconfig/web", "condition=Ready", 30).await;
    let began = Instant::now();
    kubectl(&["delete", "namespace", &release.namespace.name, "--timeout=2m"]).await.unwrap();
    println!("the namespace was gone after {:.1?}", began.elapsed());
    let began = Instant::now();
    let refusal = release.helm(&["uninstall", "quorate", "--wait", DEADLINE]).await.unwrap_err();
    assert!(refusal.contains("not found"), "{refusal}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());

    // What belongs to no namespace is still there, and in nobody's way: not even in that of the next one of this name.
    let name = &release.namespace.name;
    kubectl(&["create", "namespace", name]).await.unwrap();
    release.namespace.wait("serviceaccount/default", "create", 60).await;
    release.install_and_wait(&[]).await.unwrap();
    release.assert_whole(3).await;
    release.helm(&["uninstall", "quorate", "--wait", DEADLINE]).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    for kind in ["clusterrole", "clusterrolebinding"] {
        while kubectl(&["get", kind, &format!("quorate:{name}:quorate")]).await.is_ok() {
            assert!(Instant::now() < deadline, "the {kind} is still there");
            sleep(Duration::from_millis(200)).await;
        }
    }
}
