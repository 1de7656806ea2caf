//! Controllers under `quorate run`, one of which stands still for longer than its TTL and then writes once more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::{NamedTempFile, TempDir};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::api::assert_refused;
use crate::api::look::Look;
use crate::kubectl::{kubectl_with_input, refusal};
use crate::namespace::Namespace;
use crate::support::trio::{program, wait_for};

/// What an election's controllers may do.
pub const ACCOUNT: &str = "
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
pub fn written(object: &str, election: &str, token: &str) -> String {
    static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let annotations = format!("{{quorate.io/election: {election}, quorate.io/fencing-token: {token:?}}}");
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {object}, annotations: {annotations}}}\ndata: {{attempt: \"{attempt}\"}}\n"
    )
}

/// The election `ctl` of a namespace, whose controllers write as an account of it.
pub struct Contended<'a> {
    namespace: &'a Namespace,
    endpoints: String,
    look: Look,
    kubeconfig: NamedTempFile,
}

/// A late write: the tokens of the frozen controller and of the next one, what the first was told, and whose writing is there.
#[derive(Debug)]
pub struct Late {
    old: u64,
    new: u64,
    said: String,
    there: String,
}

impl<'a> Contended<'a> {
    /// With members at these URLs, which serve the election.
    pub async fn in_namespace(namespace: &'a Namespace, urls: &[String]) -> Self {
        namespace.apply(ACCOUNT).await.unwrap();
        let kubeconfig = namespace.kubeconfig_of("controller").await;
        Self { namespace, endpoints: urls.join(","), look: Look::into(&namespace.name).await, kubeconfig }
    }

    /// Waits until what the account writes without a token that is one is refused: so long the policy is taken up.
    pub async fn wait_until_fenced(&self) {
        assert_refused(refusal(async || self.without_token().await).await, "must be a fencing token");
    }

    /// Waits until it is accepted.
    pub async fn wait_until_not_fenced(&self) {
        wait_for("it is refused", async || self.without_token().await.is_ok().then_some(())).await;
    }

    async fn without_token(&self) -> Result<String, String> {
        let namespace = &self.namespace.name;
        let account = format!("--as=system:serviceaccount:{namespace}:controller");
        let arguments = ["--namespace", namespace, "apply", "--filename=-", &account];
        kubectl_with_input(&arguments, &written("probe", "ctl", "no-token")).await
    }

    /// One controller is frozen in the middle of its work for longer than its TTL, another goes on, and then the first wakes up and
    /// writes once more before anything can stop it.
    pub async fn late_write(&self) -> Late {
        let folder = TempDir::new().unwrap();
        let first = Controller::start(self, "first", folder.path());
        let old = self.wait_for_author("first", &first).await;
        first.freeze();
        let second = Controller::start(self, "second", folder.path());
        let new = self.wait_for_author("second", &second).await;
        assert!(new > old, "{new} after {old}");
        let is_told = async || (self.look.at("le/ctl").await["status"]["fencingToken"] == new).then_some(());
        wait_for("the election does not tell of the second", is_told).await;
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
        let there = self.author().await.expect("it was there").0;
        kill_process_group(second.group(), Signal::CONT).unwrap();
        first.end().await;
        second.end().await;
        self.namespace.kubectl(&["delete", "configmap", "written"]).await.unwrap();
        Late { old, new, said, there }
    }

    /// Who has written what is there, and with which token.
    async fn author(&self) -> Option<(String, u64)> {
        let map = self.look.at("configmap/written").await;
        let token = map["metadata"]["annotations"]["quorate.io/fencing-token"].as_str()?.parse().ok()?;
        Some((map["data"]["by"].as_str()?.to_owned(), token))
    }

    async fn wait_for_author(&self, name: &str, controller: &Controller) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some((_, token)) = self.author().await.filter(|(by, _)| by == name) {
                return token;
            }
            assert!(Instant::now() < deadline, "{name} does not write: {}", controller.told());
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Late {
    /// That the API server has compared the tokens, and the second's writing stays.
    pub fn assert_refused(&self) {
        let Self { old, new, said, there } = self;
        println!("with the policy the late write with token {old} after {new}: {said}");
        assert!(said.contains(&format!("fencing token {old} is older than {new} of election ctl")), "{said}");
        assert_eq!(there, "second");
    }

    /// That it has overwritten what the second had written.
    pub fn assert_accepted(&self) {
        let Self { old, new, said, there } = self;
        println!("without the policy the late write with token {old} after {new}: {said}");
        assert!(said.starts_with(&format!("first {old}: configmap/written ")), "{said}");
        assert_eq!(there, "first");
    }
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
    sleep 0.1
done
"#;

/// A controller under `quorate run`.
struct Controller {
    run: Child,
    told: PathBuf,
}

impl Controller {
    fn start(of: &Contended<'_>, name: &'static str, folder: &Path) -> Self {
        let told = folder.join(name);
        let mut command = Command::new(program());
        let namespace = &of.namespace.name;
        let election = format!("{namespace}/ctl");
        command.args(["run", "--election", &election, "--candidate", name, "--ttl", "8s", "--", "sh", "-c", LOOP]);
        command
            .env("QUORATE_ENDPOINTS", &of.endpoints)
            .env("WRITER", of.kubeconfig.path())
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
