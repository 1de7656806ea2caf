//! The chart, installed with Helm as the release `quorate` in a namespace of its own.

use std::sync::Arc;

use super::deposed::wait_until;
use crate::kubectl;
use crate::namespace::Namespace;

pub const CHART: &str = "charts/quorate";

pub struct Release {
    pub namespace: Arc<Namespace>,
}

impl Release {
    pub fn of(namespace: Namespace) -> Self {
        Self { namespace: Arc::new(namespace) }
    }

    /// Helm in the namespace of the release.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String, String> {
        kubectl::helm(&[&["--namespace", &self.namespace.name], arguments].concat()).await
    }

    pub async fn install(&self, options: &[&str]) -> Result<String, String> {
        self.helm(&[&["install", "quorate", CHART], options].concat()).await
    }

    /// To the chart's values but for those of the options: without any, Helm would keep those that it had.
    pub async fn upgrade(&self, options: &[&str]) -> Result<String, String> {
        self.helm(&[&["upgrade", "quorate", CHART, "--reset-values"], options].concat()).await
    }

    /// Takes away what refuses to scale the StatefulSet by hand, so that the members are all that is left to keep the quorum.
    pub async fn without_scale_policy(&self) {
        let bindings = "validatingadmissionpolicybindings";
        kubectl::kubectl(&["delete", bindings, "--selector=app.kubernetes.io/instance=quorate"]).await.unwrap();
        let left = kubectl::kubectl(&["get", bindings, "--output=name"]).await.unwrap();
        assert!(!left.contains("quorate"), "{left}");
        // The API server goes on as before until it has heard of it.
        let scale = ["scale", "statefulset/quorate", "--replicas=1", "--dry-run=server"];
        let is_heard = async || self.namespace.kubectl(&scale).await.is_ok();
        wait_until("nobody refuses to scale the StatefulSet", is_heard).await;
    }

    /// What Helm makes of the chart, as another tool would apply it.
    pub async fn rendered(&self, options: &[&str]) -> String {
        self.helm(&[&["template", "quorate", CHART], options].concat()).await.unwrap()
    }

    /// The name of an account in this namespace as RBAC sees it.
    pub fn account(&self, account: &str) -> String {
        format!("system:serviceaccount:{}:{account}", self.namespace.name)
    }
}

/// What belongs to no namespace does not end with the release's.
impl Drop for Release {
    fn drop(&mut self) {
        let name = &self.namespace.name;
        let roles = ["", ":crds"]
            .map(|of| format!("clusterrolebinding/quorate:{name}:quorate{of} clusterrole/quorate:{name}:quorate{of}"));
        let policies = ["scale", "fencing"].map(|of| format!("{of}.quorate.{name}.quorate.io"));
        let policies =
            policies.map(|of| format!("validatingadmissionpolicybinding/{of} validatingadmissionpolicy/{of}"));
        let all = [roles, policies].concat().join(" ");
        self.namespace.print(&format!("delete {all} --ignore-not-found --wait=false"));
    }
}
