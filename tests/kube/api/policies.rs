//! The chart's admission policies: what the API server refuses by itself, whoever asks, and what it lets pass.

use super::assert_refused;
use super::elections::rendered;
use super::fixture::{Resources, guarded};
use super::operated::Operated;
use crate::kubectl::{apply, kubectl, kubectl_with_input, refusal};
use crate::late::{ACCOUNT, Contended, written};
use crate::support::trio::wait_for;

/// A policy of the chart, for a release in a namespace; it goes with its owner.
struct Policy {
    name: String,
}

impl Policy {
    async fn of(namespace: &str, template: &str, options: &[&str]) -> Self {
        let show = format!("--show-only=templates/{template}.yaml");
        apply(&rendered(namespace, &[&[show.as_str()], options].concat()).await).await.unwrap();
        let kind = if template == "fencing" { "fencing" } else { "scale" };
        Self { name: format!("{kind}.quorate.{namespace}.quorate.io") }
    }

    async fn remove(&self) {
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            kubectl(&["delete", kind, &self.name]).await.unwrap();
        }
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            drop(crate::kubectl::command().args(["delete", "--ignore-not-found", kind, &self.name]).output());
        }
    }
}

/// A StatefulSet of which there are no pods.
fn stateful_set(name: &str, replicas: u32) -> String {
    let pod = "metadata: {labels: {app: q}}, spec: {containers: [{name: q, image: q}]}";
    format!(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: {name}}}\nspec: {{replicas: {replicas}, \
         serviceName: q, selector: {{matchLabels: {{app: q}}}}, template: {{{pod}}}}}\n"
    )
}

/// A release of three members that are not there, and beside it a StatefulSet that is nobody's.
async fn three_members(resources: &Resources) {
    let name = &resources.namespace.name;
    let rights = rendered(name, &["--show-only=templates/serviceaccount.yaml", "--show-only=templates/rbac.yaml"]);
    resources.namespace.apply(&rights.await).await.unwrap();
    for set in ["quorate", "other"] {
        resources.namespace.apply(&stateful_set(set, 3)).await.unwrap();
        resources.declare("QuorateCluster", set, "{voters: 3}").await.unwrap();
    }
    let member = |number: u32| format!("{{id: {}, name: quorate-{number}, role: Voter, state: Follower}}", number + 1);
    let members = [0, 1, 2].map(member).join(", ");
    let status = format!("{{clusterId: {}, observedLeadership: 5, members: [{members}]}}", "a".repeat(32));
    resources.report("quorate", "QuorateCluster", "quorate", &status).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_operator_takes_pods_of_members_away_while_the_policy_is_there() {
    let resources = Resources::served().await;
    let _guarded = guarded().await;
    let name = &resources.namespace.name;
    let policy = Policy::of(name, "scale-guard", &[]).await;
    three_members(&resources).await;

    let scale = async |set: &str, replicas: u32| {
        resources.namespace.kubectl(&["scale", &format!("statefulset/{set}"), &format!("--replicas={replicas}")]).await
    };
    let patch = async |options: &[&str], replicas: u32| {
        let patch = format!("--patch={{\"spec\":{{\"replicas\":{replicas}}}}}");
        let arguments = ["patch", "statefulset/quorate", "--type=merge", &patch];
        resources.namespace.kubectl(&[&arguments, options].concat()).await
    };
    // What is refused changes nothing, so the first attempts may not be: each that passes is taken back.
    let first = refusal(async || {
        let said = scale("quorate", 2).await;
        if said.is_ok() {
            scale("quorate", 3).await.unwrap();
        }
        said
    });
    let message = "with 2 replicas members of the cluster would lose their pods: it has 3. Change spec.voters or spec.learners of \
                   QuorateCluster quorate instead";
    assert_refused(first.await, message);
    assert_refused(scale("quorate", 0).await, "with 0 replicas");
    assert_refused(patch(&[], 1).await, "with 1 replicas");
    assert_refused(patch(&["--subresource=scale"], 1).await, "with 1 replicas");
    let replace = ["--namespace", name, "replace", "--filename=-"];
    assert_refused(kubectl_with_input(&replace, &stateful_set("quorate", 1)).await, "with 1 replicas");
    scale("quorate", 5).await.expect("up is no danger");
    scale("quorate", 3).await.expect("nobody is in those pods");
    resources
        .namespace
        .kubectl(&["annotate", "statefulset/quorate", "a=b"])
        .await
        .expect("it says nothing of replicas");
    scale("other", 1).await.expect("it is no cluster's of this release");
    let operator = format!("--as=system:serviceaccount:{name}:quorate");
    let scale_as_operator = ["scale", "statefulset/quorate", "--replicas=2", &operator];
    resources.namespace.kubectl(&scale_as_operator).await.expect("the operator may");
    scale("quorate", 3).await.expect("up again");

    policy.remove().await;
    let allowed = async || scale("quorate", 1).await.is_ok().then_some(());
    wait_for("it is refused without the policy", allowed).await;
    kubectl(&["delete", "clusterrole,clusterrolebinding", &format!("quorate:{name}:quorate")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_leader_writes_that_is_none_any_more_is_refused_and_nothing_else_is() {
    let resources = Resources::served().await;
    let name = &resources.namespace.name;
    resources.namespace.apply(ACCOUNT).await.unwrap();
    let options = format!("--set=fencing.namespaces={{{name}}}");
    let policy = Policy::of(name, "fencing", &[&options]).await;
    let fenced = format!("{{seats: 2, fencing: {{serviceAccounts: [controller, {name}/another]}}}}");
    resources.declare("LeaderElection", "ctl", &fenced).await.unwrap();
    let account = format!("--as=system:serviceaccount:{name}:controller");
    let write = async |user: &[&str], document: &str| {
        kubectl_with_input(&[user, &["--namespace", name, "apply", "--filename=-"]].concat(), document).await
    };
    let by_account = async |token: &str| write(&[&account], &written("map", "ctl", token)).await;
    let leader =
        |token: u64| format!("{{candidate: c-{token}, fencingToken: {token}, since: \"2026-01-31T12:00:00Z\"}}");
    let report = async |newest: u64, leaders: &[u64]| {
        let leaders = leaders.iter().map(|token| leader(*token)).collect::<Vec<_>>().join(", ");
        let status = format!(
            "{{clusterId: {}, observedLeadership: 5, fencingToken: {newest}, leaders: [{leaders}]}}",
            "a".repeat(32)
        );
        resources.report("quorate", "LeaderElection", "ctl", &status).await.unwrap();
    };

    // So that one knows when the policy is there: before anybody has led, only what is no token is refused.
    assert_refused(refusal(async || by_account("seventeen").await).await, "must be a fencing token");
    by_account("1").await.expect("nothing is known yet");
    report(17, &[15, 17]).await;
    assert_refused(refusal(async || by_account("16").await).await, "fencing token 16 is older than 17 of election ctl");
    by_account("15").await.expect("an older leader beside a newer one leads still");
    by_account("17").await.expect("the newest leads");
    by_account("18").await.expect("the status may not know of it yet");
    assert_refused(by_account("0x12").await, "must be a fencing token");
    write(&[], &written("map", "ctl", "16")).await.expect("an administrator is not fenced");
    write(&[&account], &written("map", "other", "16")).await.expect("it is another election");
    let plain = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: plain}\n";
    write(&[&account], plain).await.expect("it names no token");
    // The leaders end, and nobody follows.
    report(17, &[]).await;
    let late = refusal(async || by_account("17").await).await;
    assert_refused(late, "fencing token 17 has ended: nobody leads election ctl with it any more");
    let delete = ["--namespace", name, "delete", "configmap", "map", &account];
    kubectl(&delete).await.expect("what is deleted has no token to compare");
    policy.remove().await;
    wait_for("it is refused without the policy", async || by_account("16").await.is_ok().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_was_paused_for_longer_than_its_ttl_writes_late_only_without_the_policy() {
    let cluster = Operated::running().await;
    let namespace = &cluster.resources.namespace;
    cluster.apply("LeaderElection", "ctl", "fencing: {serviceAccounts: [controller]}").await.unwrap();
    let contended = Contended::in_namespace(namespace, &cluster.trio.urls()).await;
    contended.late_write().await.assert_accepted();
    let options = format!("--set=fencing.namespaces={{{}}}", namespace.name);
    let _policy = Policy::of(&namespace.name, "fencing", &[&options]).await;
    contended.wait_until_fenced().await;
    contended.late_write().await.assert_refused();
}
