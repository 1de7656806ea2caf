//! What the API server says to the chart and to the manifests: whether it takes them, what it then allows to whom, and what it
//! refuses to change. Nothing runs here, so hooks do not either.

use std::fs;
use std::ops::Deref;
use std::path::Path;

use serde_json::{Map, Value};
use tokio::sync::RwLockReadGuard;

use super::assert_refused;
use super::fixture::{guarded, unchanged};
use crate::kubectl::{apply_as, diff_as, kubectl, kubectl_with_input};
use crate::namespace::Namespace;
use crate::release::helm::Release;
use crate::support::effort::Effort;

/// The chart where nothing runs.
struct Installation {
    release: Release,
    _guarded: RwLockReadGuard<'static, ()>,
    _unchanged: RwLockReadGuard<'static, ()>,
}

impl Deref for Installation {
    type Target = Release;

    fn deref(&self) -> &Release {
        &self.release
    }
}

impl Installation {
    /// Not there yet, but for the CRDs.
    async fn prepared() -> Self {
        let _unchanged = unchanged().await;
        Self { release: Release::of(Namespace::fresh("chart").await), _guarded: guarded().await, _unchanged }
    }

    async fn done() -> Self {
        let installation = Self::prepared().await;
        installation.install(&[]).await.unwrap();
        installation
    }

    async fn cluster(&self) -> Value {
        self.namespace.get("quoratecluster/quorate").await.unwrap()
    }

    async fn set(&self) -> Value {
        self.namespace.get("statefulset/quorate").await.unwrap()
    }
}

#[tokio::test]
async fn a_second_manager_that_applies_the_same_changes_nothing_and_conflicts_with_nobody() {
    let release = Installation::done().await;
    // With everything that is made only where the values ask for it.
    let more = "--set=fencing.namespaces={default},leaderLabel.namespaces={default},mirrorLease.namespaces={default}";
    release.upgrade(&["--no-hooks", more]).await.unwrap();
    let same = release.rendered(&["--no-hooks", "--include-crds", more]).await;
    diff_as("gitops", &same).await.unwrap();
    apply_as("gitops", &same).await.unwrap();
    diff_as("gitops", &same).await.unwrap();
    assert_eq!((release.set().await)["metadata"]["generation"], 1);
    assert_eq!((release.cluster().await)["metadata"]["generation"], 1);
    release.upgrade(&["--no-hooks", more]).await.unwrap();
    diff_as("gitops", &same).await.unwrap();
    assert_eq!((release.set().await)["metadata"]["generation"], 1);
    // What is in other namespaces does not end with this one.
    release.helm(&["uninstall", "quorate", "--no-hooks"]).await.unwrap();
}

#[tokio::test]
async fn every_object_passes_a_dry_run_with_each_value_set_to_something_else() {
    let release = Installation::prepared().await;
    // What a pod needs that names none.
    release.namespace.make_account().await;
    for options in
        [&[][..], &["--values=tests/chart/everything.yaml", "--set=serviceMonitor.enabled=false,crds.upgrade=true"]]
    {
        let yaml = release.rendered(options).await;
        let said = kubectl_with_input(&["apply", "--server-side", "--dry-run=server", "--filename=-"], &yaml).await;
        let said = said.unwrap();
        assert!(said.lines().count() >= 16 && !said.contains("Warning"), "{said}");
    }
}

#[tokio::test]
async fn a_kustomization_puts_the_manifests_into_another_namespace() {
    let release = Installation::prepared().await;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&release.namespace.name);
    fs::create_dir_all(&folder).unwrap();
    let up = "../".repeat(folder.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().components().count());
    let kustomization = format!("resources: [{up}manifests]\nnamespace: {}\n", release.namespace.name);
    fs::write(folder.join("kustomization.yaml"), kustomization).unwrap();
    let folder = folder.to_str().unwrap();
    let yaml = kubectl(&["kustomize", folder]).await.unwrap();
    assert_eq!(yaml.matches("namespace: quorate\n").count(), 0, "{yaml}");
    let dry_run = ["apply", "--server-side", "--dry-run=server", "--kustomize", folder];
    let said = kubectl(&dry_run).await.unwrap();
    assert!(said.contains("quoratecluster.quorate.io/quorate serverside-applied"), "{said}");
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn an_upgrade_may_change_every_value_but_those_that_are_fixed() {
    let release = Installation::done().await;
    let everything: Map<String, Value> =
        serde_yaml::from_str(include_str!("../../chart/everything.yaml")).expect("it is a map");
    let upgrade = async |changes: &[String]| {
        let options = changes.iter().flat_map(|change| ["--set-json", change.as_str()]);
        release.upgrade(&["--no-hooks"].into_iter().chain(options).collect::<Vec<_>>()).await
    };
    let mut changes = Vec::new();
    for (name, value) in everything {
        let change = format!("{name}={value}");
        match name.as_str() {
            // Another name is another cluster, and this kind is the Prometheus Operator's.
            "fullnameOverride" | "serviceMonitor" => {}
            "storage" => assert_refused(upgrade(&[change]).await, "updates to statefulset spec"),
            "cluster" => assert_refused(upgrade(&[change]).await, "spec.cluster"),
            _ => changes.push(change),
        }
    }
    // Each takes a second.
    let at_a_time = Effort::from_environment().pick(changes.len(), 1);
    for changes in changes.chunks(at_a_time) {
        upgrade(changes).await.unwrap_or_else(|refusal| panic!("{changes:?}: {refusal}"));
    }
    release.upgrade(&["--no-hooks"]).await.unwrap();
    let set = release.set().await;
    assert_eq!(set["spec"]["replicas"], 1, "only the operator changes it");
}

#[tokio::test]
async fn a_rollback_brings_back_what_the_cluster_should_be() {
    let release = Installation::done().await;
    release.upgrade(&["--no-hooks", "--set=voters=5,learners=1,settings.log=debug"]).await.unwrap();
    assert_eq!((release.cluster().await)["spec"]["voters"], 5);
    release.helm(&["rollback", "quorate", "1", "--no-hooks"]).await.unwrap();
    let spec = release.cluster().await["spec"].take();
    assert_eq!((&spec["voters"], &spec["learners"]), (&3.into(), &0.into()));
    let set = release.set().await;
    assert_eq!(set["spec"]["template"], {
        release.upgrade(&["--no-hooks"]).await.unwrap();
        release.set().await["spec"]["template"].take()
    });
}

#[tokio::test]
async fn the_cluster_outlives_the_release_and_a_new_one_goes_on_with_it() {
    let release = Installation::done().await;
    let status = r#"{"status":{"clusterId":"0123456789abcdef0123456789abcdef","observedLeadership":7}}"#;
    let patch = ["patch", "quoratecluster/quorate", "--subresource=status", "--type=merge", "--patch", status];
    release.namespace.kubectl(&patch).await.unwrap();
    let before = release.cluster().await;
    let said = release.helm(&["uninstall", "quorate", "--no-hooks"]).await.unwrap();
    assert!(said.contains("[QuorateCluster] quorate"), "{said}");
    release.namespace.get("statefulset/quorate").await.unwrap_err();
    release.install(&["--set=voters=5"]).await.unwrap();
    let after = release.cluster().await;
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["status"], before["status"]);
    assert_eq!(after["spec"]["voters"], 5);
}
