//! Quorate's CRDs in the API server of the tests, brought there by `quorate crds apply`, and resources of them.

use std::process::Output;

use kube::api::PatchParams;
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::namespace::Namespace;
use crate::support::trio::{program, wait_for};
use crate::{command, direct, kubectl};

/// CRDs are those of the whole Kubernetes cluster: who changes them is alone with them.
static CRDS: RwLock<()> = RwLock::const_new(());

/// A release's policy guards StatefulSets of its name in every namespace: who scales one against it is alone with them.
static GUARD: RwLock<()> = RwLock::const_new(());

/// For a test that has such a policy, and the CRDs already.
pub async fn guarded() -> RwLockReadGuard<'static, ()> {
    GUARD.read().await
}

/// For a test that nobody's policy may disturb, and that has the CRDs already.
pub async fn unguarded() -> RwLockWriteGuard<'static, ()> {
    GUARD.write().await
}

/// The three kinds, in a namespace of their own.
pub struct Resources {
    pub namespace: Namespace,
    _crds: Hold,
}

/// What keeps others from changing the CRDs.
#[expect(dead_code, reason = "it only has to be there")]
enum Hold {
    Unchanged(RwLockReadGuard<'static, ()>),
    Changing(Changing),
}

impl Resources {
    pub async fn served() -> Self {
        let unchanged = unchanged().await;
        Self { namespace: Namespace::fresh("crds").await, _crds: Hold::Unchanged(unchanged) }
    }

    /// The same, with nobody else who has such resources.
    pub async fn alone() -> Self {
        let changing = Changing::served().await;
        Self { namespace: Namespace::fresh("crds").await, _crds: Hold::Changing(changing) }
    }

    /// Applies fields of a resource in the name of a field manager.
    pub async fn apply(&self, manager: &str, kind: &str, name: &str, fields: &str) -> Result<String, String> {
        let document = self.document(kind, name, fields);
        direct::apply(&self.namespace.name, &PatchParams::apply(manager), &document).await
    }

    /// Applies a spec, as a person does.
    pub async fn declare(&self, kind: &str, name: &str, spec: &str) -> Result<String, String> {
        self.apply("person", kind, name, &format!("spec: {spec}")).await
    }

    /// Applies a status, as the operator does: whatever another manager has written is taken over.
    pub async fn report(&self, manager: &str, kind: &str, name: &str, status: &str) -> Result<String, String> {
        let document = self.document(kind, name, &format!("status: {status}"));
        direct::apply_status(&self.namespace.name, &PatchParams::apply(manager).force(), &document).await
    }

    /// Creates a resource as it stands there, with the checks that kubectl does by itself.
    pub async fn create(&self, kind: &str, name: &str, fields: &str) -> Result<String, String> {
        kubectl::kubectl_with_input(&["create", "--filename=-"], &self.document(kind, name, fields)).await
    }

    fn document(&self, kind: &str, name: &str, fields: &str) -> String {
        let namespace = &self.namespace.name;
        let head = format!(
            "apiVersion: quorate.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}"
        );
        format!("{head}\n{fields}\n")
    }

    pub async fn get(&self, object: &str) -> Value {
        self.namespace.get(object).await.unwrap()
    }
}

/// The CRDs for a test that has them as they are.
pub async fn unchanged() -> RwLockReadGuard<'static, ()> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let unchanged = CRDS.read().await;
    INSTALLED.get_or_init(bring_crds).await;
    unchanged
}

/// The CRDs for a test that changes them; whatever becomes of it, they are this release's again in the end.
pub struct Changing {
    _alone: RwLockWriteGuard<'static, ()>,
}

impl Changing {
    pub async fn served() -> Self {
        let _alone = CRDS.write().await;
        bring_crds().await;
        Self { _alone }
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        restore();
    }
}

/// Brings the CRDs, and waits until resources of them can be applied: a moment after a CRD is established.
async fn bring_crds() {
    apply_crds().await.expect("they can be applied");
    for kind in ["qc", "rcfg", "le"] {
        let path = direct::path("default", kind).expect("it is a kind");
        wait_for("they are not served", async || direct::get(&path).await.ok()).await;
    }
}

/// Makes the CRDs those of this release, whatever they are. Where that fails, whoever has them next would fail for no reason of
/// their own.
fn restore() {
    let mut older = kubectl::command();
    older.args(["annotate", "crd", "leaderelections.quorate.io", "--overwrite", "quorate.io/release=0.0.0"]);
    command::output(&mut older);
    command::output(quorate(&kubeconfig(), &["crds", "apply"]).as_std_mut());
}

/// `quorate crds apply`: what it printed, or why it was refused.
pub async fn apply_crds() -> Result<String, String> {
    apply_crds_as(&kubeconfig()).await
}

/// The same with another kubeconfig.
pub async fn apply_crds_as(kubeconfig: &str) -> Result<String, String> {
    let Output { status, stdout, stderr } =
        quorate(kubeconfig, &["crds", "apply", "--timeout=30s"]).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if status.success() { Ok(text(stdout)) } else { Err(text(stderr)) }
}

pub fn kubeconfig() -> String {
    std::env::var("QUORATE_TEST_KUBECONFIG").expect("`make kube` runs these tests in a cluster")
}

fn quorate(kubeconfig: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).env_clear().env("KUBECONFIG", kubeconfig).kill_on_drop(true);
    command
}
