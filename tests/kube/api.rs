//! Mechanisms of the API server that Quorate's custom resources stand on, and the resources themselves. They need no node:
//! `make kube-api`.

pub mod alone;
mod chart;
mod crds;
pub mod elected;
mod elections;
mod evidence;
mod fixture;
mod founding;
mod hostile;
mod labelling;
pub mod look;
mod marks;
pub mod operated;
mod operator;
mod outages;
mod policies;
mod replicating;
mod rights;
mod rules;
mod sizes;
mod statuses;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::kubectl::{apply, kubectl, kubectl_with_input};
use crate::namespace::Namespace;

/// A kind of resource that only one test uses, with its rules.
struct Contest {
    namespace: Namespace,
}

impl Contest {
    /// The kind, and one resource of it: contest `c` with three voters.
    async fn served() -> Self {
        let contest = Self { namespace: Namespace::fresh("api").await };
        apply(&include_str!("mechanisms.yaml").replace("NAMESPACE", &contest.namespace.name)).await.unwrap();
        let crd = format!("crd/contests.{}.quorate.io", contest.namespace.name);
        kubectl(&["wait", "--for=condition=Established", &crd, "--timeout=30s"]).await.unwrap();
        contest.apply("first", "", "spec: {voters: 3}").await.unwrap();
        contest
    }

    /// Applies fields of contest `c`, or of a subresource of it, in the name of a field manager.
    async fn apply(&self, manager: &str, subresource: &str, fields: &str) -> Result<String, String> {
        let name = &self.namespace.name;
        let document = format!(
            "apiVersion: {name}.quorate.io/v1\nkind: Contest\nmetadata: {{name: c, namespace: {name}}}\n{fields}\n"
        );
        let (manager, subresource) = (format!("--field-manager={manager}"), format!("--subresource={subresource}"));
        let mut arguments = vec!["apply", "--server-side", "--filename=-", &manager];
        if subresource != "--subresource=" {
            arguments.push(&subresource);
        }
        kubectl_with_input(&arguments, &document).await
    }

    async fn apply_status(&self, status: &str) -> Result<String, String> {
        self.apply("leader", "status", &format!("status: {status}")).await
    }

    /// The name of a ServiceAccount as RBAC and policies see it.
    fn account(&self, account: &str) -> String {
        format!("system:serviceaccount:{}:{account}", self.namespace.name)
    }
}

impl Drop for Contest {
    fn drop(&mut self) {
        let name = &self.namespace.name;
        self.namespace.print(&format!(
            "delete validatingadmissionpolicybinding/fencing.{name}.quorate.io \
             validatingadmissionpolicy/fencing.{name}.quorate.io crd/contests.{name}.quorate.io --wait=false"
        ));
    }
}

/// Asserts that it was refused for the reason that the text gives.
#[track_caller]
pub fn assert_refused(result: Result<String, String>, reason: &str) {
    let refusal = result.expect_err("it must be refused");
    assert!(refusal.contains(reason), "it was refused for another reason than {reason:?}: {refusal}");
}

#[tokio::test]
async fn a_rule_of_a_resource_refuses_what_breaks_it_also_through_scale() {
    let contest = Contest::served().await;
    assert_refused(contest.apply("first", "", "spec: {voters: 4}").await, "voters must be odd");
    let object = format!("contests.{}.quorate.io/c", contest.namespace.name);
    assert_refused(contest.namespace.kubectl(&["scale", &object, "--replicas=2"]).await, "voters must be odd");
    contest.namespace.kubectl(&["scale", &object, "--replicas=5"]).await.unwrap();
    assert_eq!(contest.namespace.get(&object).await.unwrap()["spec"]["voters"], 5);
}

#[tokio::test]
async fn a_status_of_an_older_leadership_is_refused() {
    let contest = Contest::served().await;
    contest.apply_status("{clusterId: a, observedLeadership: 5}").await.unwrap();
    let older = contest.apply_status("{clusterId: a, observedLeadership: 4}").await;
    assert_refused(older, "a newer leadership has written this status");
    contest.apply_status("{clusterId: a, observedLeadership: 6}").await.unwrap();
    contest.apply_status("{clusterId: b, observedLeadership: 1}").await.unwrap();
}

#[tokio::test]
async fn a_field_that_another_manager_owns_is_not_overwritten_by_server_side_apply() {
    let contest = Contest::served().await;
    contest.apply("second", "", "spec: {voters: 3, fenced: somebody}").await.unwrap();
    assert_refused(contest.apply("second", "", "spec: {voters: 5, fenced: somebody}").await, "conflict with \"first\"");
    assert_refused(contest.apply("first", "", "spec: {voters: 3, fenced: nobody}").await, "conflict with \"second\"");
}

#[tokio::test]
async fn an_account_may_do_what_its_role_says_and_nothing_else() {
    let contest = Contest::served().await;
    let object = format!("contests.{}.quorate.io/c", contest.namespace.name);
    let user = format!("--as={}", contest.account("reporter"));
    contest.namespace.kubectl(&[&user, "get", &object]).await.unwrap();
    let patch = [&user, "patch", &object, "--type=merge"];
    let status = ["--subresource=status", r#"--patch={"status": {"clusterId": "a", "observedLeadership": 1}}"#];
    contest.namespace.kubectl(&[&patch[..], &status].concat()).await.unwrap();
    let spec = [r#"--patch={"spec": {"voters": 1}}"#];
    assert_refused(contest.namespace.kubectl(&[&patch[..], &spec].concat()).await, "cannot patch");
    assert_refused(contest.namespace.kubectl(&[&user, "get", "secrets"]).await, "cannot list");
}

#[tokio::test]
async fn a_write_with_an_old_fencing_token_is_refused_by_the_api_server_itself() {
    let contest = Contest::served().await;
    let fenced = contest.account("holder");
    contest.apply("first", "", &format!("spec: {{voters: 3, fenced: {fenced:?}}}")).await.unwrap();
    let user = format!("--as={fenced}");
    contest.apply_status("{clusterId: a, observedLeadership: 1, fencingToken: 17}").await.unwrap();
    // kubectl sends nothing when nothing is new, so each write is another one.
    let attempts = AtomicU64::new(0);
    let write = async |user: &[&str], token: u64| {
        let attempt = attempts.fetch_add(1, Ordering::Relaxed);
        let annotations = format!("{{contest: c, token: \"{token}\", attempt: \"{attempt}\"}}");
        let document =
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: written, annotations: {annotations}}}");
        let arguments = [user, &["--namespace", &contest.namespace.name, "apply", "--filename=-"]].concat();
        kubectl_with_input(&arguments, &document).await
    };

    // The API server looks for new kinds of parameters every 30 s; until then a policy lets everything pass, or nothing.
    let deadline = Instant::now() + Duration::from_secs(90);
    let old = loop {
        let old = write(&[&user], 16).await;
        if old.as_ref().is_err_and(|refusal| refusal.contains("token")) || Instant::now() > deadline {
            break old;
        }
        sleep(Duration::from_millis(200)).await;
    };
    assert_refused(old, "fencing token 16 is older than 17");
    write(&[&user], 17).await.unwrap();
    write(&[], 16).await.expect("an administrator is not fenced");
}
