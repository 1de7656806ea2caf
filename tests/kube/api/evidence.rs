//! What is left of a test that has failed.

use std::fs;
use std::path::Path;

use tokio::process::Command;

use super::fixture::{Resources, unchanged};
use crate::support::trio::name;

/// Set where the test is to fail.
const FAIL: &str = "QUORATE_TEST_FAIL";

/// It runs itself, to fail, in a process whose output can be read.
#[tokio::test]
async fn a_test_that_fails_prints_and_keeps_what_a_person_would_look_at() {
    if std::env::var_os(FAIL).is_some() {
        let resources = Resources::served().await;
        resources.namespace.make_account().await;
        let security = "allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}";
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {}}}\nspec:\n  \
             securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}\n  \
             containers: [{{name: q, image: of-the-pod, securityContext: {{{security}}}}}]\n",
            name(0)
        );
        resources.namespace.apply(&pod).await.unwrap();
        for (kind, object) in [("QuorateCluster", "quorate"), ("ReplicatedConfig", "web"), ("LeaderElection", "main")] {
            resources.declare(kind, object, "{cluster: of-the-resource}").await.unwrap();
        }
        panic!("it fails in {}", resources.namespace.name);
    }

    // It brings the CRDs once more, which changes nothing.
    let _unchanged = unchanged().await;
    let test = "api::evidence::a_test_that_fails_prints_and_keeps_what_a_person_would_look_at";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(FAIL, "1").kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert!(!output.status.success(), "it has not failed");
    let (printed, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let (_, failed) = said.split_once("it fails in ").unwrap_or_else(|| panic!("{said}"));
    let namespace = failed.split_whitespace().next().unwrap();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{namespace}.txt"));
    let kept = fs::read_to_string(&path).unwrap();
    assert!(printed.contains(&kept) && printed.contains(&format!("all of this is in {}", path.display())), "{printed}");
    let parts = ["kubectl get events", "kubectl logs pod/quorate-0", "of-the-pod", "of-the-resource"];
    let kinds = ["QuorateCluster", "ReplicatedConfig", "LeaderElection"].map(|kind| format!("Kind:         {kind}"));
    for part in parts.into_iter().chain(kinds.iter().map(String::as_str)) {
        assert!(kept.contains(part), "{part} is not in {kept}");
    }
    fs::remove_file(path).unwrap();
}
