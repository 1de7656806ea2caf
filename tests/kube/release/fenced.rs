//! A controller that stands still for longer than its TTL beside a release under load, and writes once more: the API server compares
//! the tokens as long as the chart's values say so.

use super::helm::Release;
use crate::late::Contended;
use crate::namespace::Namespace;
use crate::nodes::Nodes;
use crate::trial::Trial;

const ELECTION: &str = "
apiVersion: quorate.io/v1alpha1
kind: LeaderElection
metadata: {name: ctl}
spec: {fencing: {serviceAccounts: [controller]}}
";

/// What the controllers write, and nothing else that is written in the namespace of the release.
const RESOURCES: &str = r#"--set-json=fencing.resources=[{"apiGroups": [""], "resources": ["configmaps"]}]"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_late_write_of_a_frozen_controller_is_refused_under_load_until_an_upgrade_turns_the_policy_off() {
    let nodes = Nodes::alone().await;
    let namespace = Namespace::for_pods("chart").await;
    let listed = format!("--set=fencing.namespaces={{{}}}", namespace.name);
    let release = Release::running_in(namespace, &[&listed, RESOURCES]).await;
    let trial = Trial::with(release.members(), nodes).await;
    release.namespace.apply(ELECTION).await.unwrap();
    release.namespace.wait("leaderelection/ctl", "condition=Ready", 60).await;
    let contended = Contended::in_namespace(&release.namespace, &release.members().urls()).await;

    contended.wait_until_fenced().await;
    trial.survives("a controller frozen", async |_| contended.late_write().await.assert_refused()).await;
    release.upgrade_and_wait(&[]).await.unwrap();
    contended.wait_until_not_fenced().await;
    trial
        .survives("a controller frozen, without the policy", async |_| contended.late_write().await.assert_accepted())
        .await;
    trial.judge().await;
}
