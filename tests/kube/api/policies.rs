//! The chart's admission policies: what the API server refuses by itself, whoever asks, and what it lets pass.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::assert_refused;
use super::elections::{kubeconfig_of, rendered};
use super::fixture::{Resources, guarded};
use super::operated::Operated;
use crate::kubectl::{apply, kubectl, kubectl_with_input};
use crate::support::trio::wait_for;

/// The API server looks for new kinds of parameters every 30 s; until then a policy lets everything pass, or nothing.
const TAKEN_UP: Duration = Duration::from_secs(90);

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

/// Tries until it is refused, or the policy should have been taken up.
async fn refusal(attempt: impl AsyncFn() -> Result<String, String>) -> Result<String, String> {
    let deadline = Instant::now() + TAKEN_UP;
    loop {
        let said = attempt().await;
        if said.is_err() || Instant::now() > deadline {
            return said;
        }
        sleep(Duration::from_millis(300)).await;
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

/// What an election's controllers may do.
const CONTROLLER: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: controller}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: controller}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get, create, patch, update, delete]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: controller}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: controller}
subjects: [{kind: ServiceAccount, name: controller}]
";

/// A write that names an election and a token. kubectl sends nothing when nothing is new, so each is another one.
fn written(object: &str, election: &str, token: &str) -> String {
    static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let annotations = format!("{{quorate.io/election: {election}, quorate.io/fencing-token: {token:?}}}");
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {object}, annotations: {annotations}}}\ndata: {{attempt: \"{attempt}\"}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_leader_writes_that_is_none_any_more_is_refused_and_nothing_else_is() {
    let resources = Resources::served().await;
    let name = &resources.namespace.name;
    resources.namespace.apply(CONTROLLER).await.unwrap();
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

/// Writes into a ConfigMap again and again, as long as it runs, and tells what became of it. It does nothing that a controller
/// would not do.
const LOOP: &str = r#"
number=0
while :; do
    number=$((number + 1))
    said=$(kubectl --kubeconfig "$WRITER" --namespace "$NAMESPACE" apply --filename - 2>&1 <<END
apiVersion: v1
kind: ConfigMap
metadata:
  name: written
  annotations: {quorate.io/election: ctl, quorate.io/fencing-token: "$QUORATE_FENCING_TOKEN"}
data: {by: "$NAME", number: "$number"}
END
    )
    echo "$NAME $QUORATE_FENCING_TOKEN:" $said >> "$TOLD"
done
"#;

/// A controller under `quorate run`.
struct Controller {
    run: Child,
    told: PathBuf,
}

impl Controller {
    fn start(cluster: &Operated, name: &'static str, writer: &Path, folder: &Path) -> Self {
        let told = folder.join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        let namespace = &cluster.resources.namespace.name;
        let election = format!("{namespace}/ctl");
        command.args(["run", "--election", &election, "--candidate", name, "--ttl", "8s", "--", "sh", "-c", LOOP]);
        command
            .env("QUORATE_ENDPOINTS", cluster.trio.urls().join(","))
            .env("WRITER", writer)
            .env("NAME", name)
            .env("NAMESPACE", namespace);
        command.env("TOLD", &told).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        Self { run: command.spawn().unwrap(), told }
    }

    fn told(&self) -> String {
        fs::read_to_string(&self.told).unwrap_or_default()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.run.id().unwrap()).unwrap()).unwrap()
    }

    /// The group of the command, whose leader is the only child.
    fn group(&self) -> Pid {
        let pid = self.pid().as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let of_threads = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("children")).unwrap());
        let all = of_threads.fold(children, |all, more| all + " " + &more);
        Pid::from_raw(all.split_whitespace().next().expect("it has a child").parse().unwrap()).unwrap()
    }

    /// As when its machine stands still.
    fn freeze(&self) {
        kill_process_group(self.group(), Signal::STOP).unwrap();
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    /// Its command goes on first: what a machine that wakes up may do as well.
    fn thaw_command(&self) {
        kill_process_group(self.group(), Signal::CONT).unwrap();
    }

    async fn end(mut self) {
        // It may have ended by itself.
        let _ = kill_process(self.pid(), Signal::CONT);
        let _ = kill_process(self.pid(), Signal::TERM);
        self.run.wait().await.unwrap();
    }
}

/// Who has written what is there, and with which token.
async fn author(cluster: &Operated) -> Option<(String, u64)> {
    let map = cluster.look.at("configmap/written").await;
    let token = map["metadata"]["annotations"]["quorate.io/fencing-token"].as_str()?.parse().ok()?;
    Some((map["data"]["by"].as_str()?.to_owned(), token))
}

async fn wait_for_author(cluster: &Operated, name: &str, controller: &Controller) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some((_, token)) = author(cluster).await.filter(|(by, _)| by == name) {
            return token;
        }
        assert!(Instant::now() < deadline, "{name} does not write: {}", controller.told());
        sleep(Duration::from_millis(50)).await;
    }
}

/// One controller is frozen in the middle of its work for longer than its TTL, another goes on, and then the first wakes up and
/// writes once more before anything can stop it.
async fn a_late_write(cluster: &Operated, writer: &Path) -> Late {
    let folder = TempDir::new().unwrap();
    let first = Controller::start(cluster, "first", writer, folder.path());
    let old = wait_for_author(cluster, "first", &first).await;
    first.freeze();
    let second = Controller::start(cluster, "second", writer, folder.path());
    let new = wait_for_author(cluster, "second", &second).await;
    assert!(new > old, "{new} after {old}");
    let is_told = |election: &serde_json::Value| election["status"]["fencingToken"] == new;
    cluster.wait_until("le/ctl", "telling of the second", is_told).await;
    // Nobody else writes any more, so that what is there then is the late one's, or was there before.
    kill_process_group(second.group(), Signal::STOP).unwrap();
    let before = first.told().lines().count();
    first.thaw_command();
    // What it had sent before it was frozen may be answered first.
    let late = async || {
        let said = first.told().lines().skip(before + 1).collect::<Vec<_>>().join("\n");
        // kubectl tells of a patch that was refused in several lines, the reason in the last.
        (said.contains("configmap/written ") || said.contains("fencing token")).then_some(said)
    };
    let said = wait_for("the first does not write late", late).await;
    let there = author(cluster).await.expect("it was there").0;
    kill_process_group(second.group(), Signal::CONT).unwrap();
    first.end().await;
    second.end().await;
    Late { old, new, said, there }
}

/// A late write: the tokens of the frozen controller and of the next one, what the first was told, and whose writing is there.
struct Late {
    old: u64,
    new: u64,
    said: String,
    there: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_was_paused_for_longer_than_its_ttl_writes_late_only_without_the_policy() {
    let cluster = Operated::running().await;
    let name = cluster.resources.namespace.name.clone();
    cluster.resources.namespace.apply(CONTROLLER).await.unwrap();
    cluster.apply("LeaderElection", "ctl", "fencing: {serviceAccounts: [controller]}").await.unwrap();
    let writer = kubeconfig_of(&cluster, "controller").await;
    let map = ["delete", "configmap", "written"];

    let Late { old, new, said, there } = a_late_write(&cluster, writer.path()).await;
    println!("without the policy the late write with token {old} after {new}: {said}");
    assert!(said.starts_with(&format!("first {old}: configmap/written ")), "{said}");
    assert_eq!(there, "first", "it has overwritten what the second had written");
    cluster.resources.namespace.kubectl(&map).await.unwrap();

    let options = format!("--set=fencing.namespaces={{{name}}}");
    let _policy = Policy::of(&name, "fencing", &[&options]).await;
    let account = format!("--as=system:serviceaccount:{name}:controller");
    let arguments = ["--namespace", &name, "apply", "--filename=-", &account];
    let probe = async || kubectl_with_input(&arguments, &written("probe", "ctl", "no-token")).await;
    assert_refused(refusal(probe).await, "must be a fencing token");
    let Late { old, new, said, there } = a_late_write(&cluster, writer.path()).await;
    println!("with the policy the late write with token {old} after {new}: {said}");
    assert!(said.contains(&format!("fencing token {old} is older than {new} of election ctl")), "{said}");
    assert_eq!(there, "second");
}
