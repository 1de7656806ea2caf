//! Pods on the nodes: what any other test with members in pods stands on.

use std::collections::BTreeSet;

use crate::beside_others;
use crate::namespace::Namespace;
use crate::support::trio::wait_for;

/// Three restricted pods that wait, one on each node if they can, and tell their names on a port. It is none of the members': after a
/// power cut one may get an address at which somebody still looks for a member.
pub const WAITING: &str = r"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: waiting}
spec:
  replicas: 3
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: waiting}}
  template:
    metadata: {labels: {app: waiting}}
    spec:
      topologySpreadConstraints:
        - {topologyKey: kubernetes.io/hostname, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: waiting}}}
      terminationGracePeriodSeconds: 1
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: waiting
          image: quorate.test/pause:1
          imagePullPolicy: Never
          args: ['8000']
          securityContext:
            {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
";

#[tokio::test]
async fn restricted_pods_run_on_every_node_and_tell_what_they_do() {
    let _whole = beside_others().await;
    let namespace = Namespace::for_pods("pods").await;
    namespace.apply(WAITING).await.unwrap();
    namespace.wait("statefulset/waiting", "jsonpath={.status.readyReplicas}=3", 60).await;
    let pods = namespace.get("pods").await.unwrap();
    let nodes: BTreeSet<_> =
        pods["items"].as_array().unwrap().iter().map(|pod| pod["spec"]["nodeName"].as_str()).collect();
    assert_eq!(nodes.len(), 3, "they are on {nodes:?}");
    // It is ready before the kubelet has read what it said.
    let told = async || (namespace.logs("waiting-0").await == "waiting").then_some(());
    wait_for("its log is not there", told).await;
}

#[tokio::test]
async fn a_pod_that_is_not_restricted_is_refused() {
    let _whole = beside_others().await;
    let namespace = Namespace::for_pods("pods").await;
    let refusal =
        namespace.kubectl(&["run", "root", "--image=quorate.test/pause:1", "--privileged"]).await.unwrap_err();
    assert!(refusal.contains("violates PodSecurity \"restricted"), "{refusal}");
}
