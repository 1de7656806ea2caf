//! Tests that change the CRDs, which everybody else needs as they are. They stand in a file whose name comes early: begun first,
//! they do not wait until all others that have begun are over.

use std::fs;

use serde_json::{Value, json};

use super::assert_refused;
use super::crds::{assert_line, eventually};
use super::elected::{Granted, LONG};
use super::fixture::{Changing, apply_crds, apply_crds_as, kubeconfig};
use super::outages::Weather;
use crate::kubectl::{self, kubectl, kubectl_with_input};
use crate::namespace::Namespace;
use crate::support::trio::wait_for;

#[tokio::test]
async fn a_crd_of_an_older_release_is_replaced_by_this_one_and_its_resources_stay() {
    let _changing = Changing::served().await;
    let namespace = Namespace::fresh("upgrade").await;
    replace_by_an_older_one().await;
    let declare = async |name: &str, spec: &str| {
        let head = format!("apiVersion: quorate.io/v1alpha1\nkind: LeaderElection\nmetadata: {{name: {name}}}");
        namespace.apply(&format!("{head}\nspec: {spec}\n")).await
    };
    eventually("the older CRD is served", async || declare("old", "{cluster: Not a label}").await.map(drop)).await;
    assert_refused(declare("new", "{sessionTtl: 10s}").await, "field not declared in schema");

    let applied = apply_crds().await.unwrap();
    assert_line(&applied, &["leaderelections.quorate.io:", "changed"]);
    assert_line(&applied, &["quorateclusters.quorate.io:", "unchanged"]);
    eventually("the new CRD is served", async || declare("new", "{sessionTtl: 10s}").await.map(drop)).await;
    assert_refused(declare("other", "{cluster: Not a label}").await, "it must be a DNS label");
    declare("old", "{cluster: Not a label, seats: 3}")
        .await
        .expect("what was let in once can still be changed elsewhere");

    let crd = kubectl::get(&["crd", "leaderelections.quorate.io"]).await.unwrap();
    let columns = crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
    assert!(columns.iter().all(|column| column["name"] != "Old"), "nothing of the older one is left: {columns:?}");
    assert_eq!(crd["spec"]["names"]["categories"], json!(["quorate"]));
}

/// As a client of another name has created it, with a column that is gone, without a field and without rules.
async fn replace_by_an_older_one() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/leaderelections.yaml");
    let created = kubectl(&["create", "--dry-run=client", "--output=json", "--filename", folder]).await.unwrap();
    let mut crd: Value = serde_json::from_str(&created).unwrap();
    crd["metadata"]["annotations"]["quorate.io/release"] = "0.0.9".into();
    crd["spec"]["names"]["categories"] = json!(["old"]);
    let version = &mut crd["spec"]["versions"][0];
    version["additionalPrinterColumns"] = json!([{ "name": "Old", "type": "integer", "jsonPath": ".spec.seats" }]);
    let spec = &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    spec.as_object_mut().unwrap().remove("sessionTtl").expect("it is a field of this release");
    spec["cluster"].as_object_mut().unwrap().remove("x-kubernetes-validations").expect("it has rules in this release");
    kubectl_with_input(&["replace", "--filename=-"], &crd.to_string()).await.unwrap();
}

/// Makes a CRD one of another release, as far as its annotation says.
async fn annotate_release(release: &str) {
    let annotation = format!("quorate.io/release={release}");
    kubectl(&["annotate", "crd", "leaderelections.quorate.io", "--overwrite", &annotation]).await.unwrap();
}

#[tokio::test]
async fn a_crd_of_a_newer_release_is_left_as_it_is() {
    let _applying = Changing::served().await;
    annotate_release("99.0.0").await;
    let applied = apply_crds().await.unwrap();
    let expected = "leaderelections.quorate.io: left as it is: it is of release 99.0.0, and this is 0.1.0\n";
    assert!(applied.starts_with(expected), "{applied}");
    let crd = kubectl::get(&["crd", "leaderelections.quorate.io"]).await.unwrap();
    assert_eq!(crd["metadata"]["annotations"]["quorate.io/release"], "99.0.0");
}

#[tokio::test]
async fn who_applies_them_needs_three_verbs_for_their_names_only() {
    let _applying = Changing::served().await;
    let namespace = Namespace::fresh("applier").await;
    let user = format!("system:serviceaccount:{}:applier", namespace.name);
    let mut config: Value =
        serde_json::from_str(&kubectl(&["config", "view", "--raw", "--flatten", "--output=json"]).await.unwrap())
            .unwrap();
    for entry in config["users"].as_array_mut().unwrap() {
        entry["user"]["as"] = user.as_str().into();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    fs::write(&path, config.to_string()).unwrap();
    let path = path.to_str().unwrap();
    assert_ne!(path, kubeconfig());

    let refusal = apply_crds_as(path).await;
    assert_refused(refusal.clone(), "quorate: the API server refuses to get leaderelections.quorate.io");
    assert_refused(refusal, "needs get, create and patch for customresourcedefinitions");
    let name = &namespace.name;
    let role = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {name}}}\nrules:\n\
         - {{apiGroups: [apiextensions.k8s.io], resources: [customresourcedefinitions], verbs: [get, create, patch], \
         resourceNames: [leaderelections.quorate.io, quorateclusters.quorate.io, replicatedconfigs.quorate.io]}}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {name}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {name}}}\n\
         subjects: [{{kind: ServiceAccount, name: applier, namespace: {name}}}]\n"
    );
    kubectl::apply(&role).await.unwrap();
    annotate_release("0.0.9").await;
    eventually("the role is known", async || match apply_crds_as(path).await {
        Ok(applied) if applied.starts_with("leaderelections.quorate.io: changed") => Ok(()),
        Ok(applied) | Err(applied) => Err(applied),
    })
    .await;
    kubectl(&["delete", "clusterrole,clusterrolebinding", name]).await.unwrap();
}

/// As an earlier release would have brought them, whose statuses did not say how many members have a version.
pub async fn make_configs_older() {
    let name = "replicatedconfigs.quorate.io";
    let mut older = kubectl::get(&["crd", name]).await.unwrap();
    let status = &mut older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"];
    status.as_object_mut().unwrap().remove("replicatedTo").expect("it is a field");
    let older = json!({
        "apiVersion": older["apiVersion"], "kind": older["kind"], "metadata": { "name": name }, "spec": older["spec"]
    });
    let force = ["apply", "--server-side", "--force-conflicts", "--filename=-", "--field-manager=quorate-crds"];
    kubectl_with_input(&force, &older.to_string()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_crd_of_an_older_release_configs_are_served_and_their_statuses_follow_once_it_is_replaced() {
    let weather = Weather::fine_alone().await;
    make_configs_older().await;
    let counted = weather.errors("other").await;
    let cluster = &weather.cluster;
    cluster.apply_text("web", "one").await;
    cluster.wait_until_served("web", Some("one")).await;
    wait_for("it is not logged", async || (weather.logged("replicatedTo") > 0).then_some(())).await;
    wait_for("it is not counted", async || (weather.errors("other").await > counted).then_some(())).await;
    weather.is_told("StatusesNotWritten", "statuses of replicatedconfigs are not written").await;
    weather.data_plane_is_untouched().await;
    apply_crds().await.unwrap();
    for condition in ["Ready", "Replicated"] {
        cluster.wait_for("rcfg/web", condition, "True").await;
    }
    cluster.wait_for("qc/quorate", "Degraded", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crds_that_are_deleted_take_their_resources_with_them_and_nothing_else_that_members_serve() {
    let weather = Weather::fine_alone().await;
    let cluster = &weather.cluster;
    let id = cluster.resources.get("qc/quorate").await["status"]["clusterId"].take();
    cluster.apply("LeaderElection", "main", "seats: 1").await.unwrap();
    let first = cluster.campaign(0, "main", "web-0", LONG).await;
    cluster.put_text("undeclared", "kept").await;
    let goes_on = async |leader: Granted, next: &str| {
        weather.keys_are_written().await;
        cluster.wait_until_served("undeclared", Some("kept")).await;
        cluster.keep_alive(0, &leader).await;
        let (next, ()) = tokio::join!(cluster.campaign(2, "main", next, LONG), cluster.end(1, &leader));
        assert!(next.token > leader.token, "{next:?} after {leader:?}");
        next
    };

    let counted = weather.errors("not_found").await;
    kubectl(&["delete", "crd", "replicatedconfigs.quorate.io"]).await.unwrap();
    let gone = |plural: &str| format!("{plural} are not seen: the API server does not know them: apply the CRDs");
    weather.is_told("ResourcesNotSeen", &gone("replicatedconfigs")).await;
    assert!(weather.errors("not_found").await > counted, "it is not counted");
    assert!(weather.logged(&gone("replicatedconfigs")) > 0, "it is not logged");
    // Kubernetes deletes what a CRD is for, and what is declared no more is served no more.
    cluster.wait_until_served("before", None).await;
    let second = goes_on(first, "web-1").await;
    let is_told = |election: &Value| election["status"]["fencingToken"] == second.token;
    cluster.wait_until("le/main", "led by web-1", is_told).await;

    kubectl(&["delete", "crd", "leaderelections.quorate.io", "quorateclusters.quorate.io"]).await.unwrap();
    for plural in ["leaderelections", "quorateclusters"] {
        let is_logged = async || (weather.logged(&gone(plural)) > 0).then_some(());
        wait_for(&format!("{plural} are not missed"), is_logged).await;
    }
    let third = goes_on(second, "web-2").await;

    let applied = apply_crds().await.unwrap();
    for plural in ["leaderelections", "quorateclusters", "replicatedconfigs"] {
        assert_line(&applied, &[&format!("{plural}.quorate.io:"), "created"]);
    }
    for (kind, name, spec) in
        [("QuorateCluster", "quorate", "voters: 3"), ("ReplicatedConfig", "before", "data: {text: old}")]
    {
        eventually("the kind is served", async || cluster.apply(kind, name, spec).await.map(drop)).await;
    }
    cluster.wait_until_served("before", Some("old")).await;
    for object in ["qc/quorate", "rcfg/before"] {
        cluster.wait_for(object, "Ready", "True").await;
    }
    cluster.wait_for("qc/quorate", "Degraded", "False").await;
    assert_eq!(cluster.resources.get("qc/quorate").await["status"]["clusterId"], id);
    weather.data_plane_is_untouched().await;
    goes_on(third, "web-3").await;
}
