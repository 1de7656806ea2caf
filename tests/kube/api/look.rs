//! Objects as they are now, read without kubectl: for whoever looks again and again, starting processes would be most of the work.

use axum::http::Request;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use super::operated::own_kubeconfig;

/// The kinds that tests look at, as kubectl and as paths call them.
const KINDS: [(&str, &str); 9] = [
    ("qc", "apis/quorate.io/v1alpha1 quorateclusters"),
    ("rcfg", "apis/quorate.io/v1alpha1 replicatedconfigs"),
    ("le", "apis/quorate.io/v1alpha1 leaderelections"),
    ("statefulset", "apis/apps/v1 statefulsets"),
    ("lease", "apis/coordination.k8s.io/v1 leases"),
    ("configmap", "api/v1 configmaps"),
    ("pod", "api/v1 pods"),
    ("pods", "api/v1 pods"),
    ("events", "api/v1 events"),
];

/// A client of the API server. It belongs to the runtime of one test.
pub async fn client() -> Client {
    let kubeconfig = Kubeconfig::read_from(own_kubeconfig()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Looks at what is in a namespace.
pub struct Look {
    pub client: Client,
    namespace: String,
}

impl Look {
    pub async fn into(namespace: &str) -> Self {
        Self { client: client().await, namespace: namespace.to_owned() }
    }

    /// The object that is called so, as in `rcfg/web`, or all of a kind, as in `events`; null when it cannot be read.
    pub async fn at(&self, object: &str) -> Value {
        let (kind, name) = object.split_once('/').unwrap_or((object, ""));
        let (_, path) = KINDS.iter().find(|(short, _)| *short == kind).unwrap_or_else(|| panic!("{kind} has no path"));
        let (group, plural) = path.split_once(' ').expect("a group and a plural");
        let path = format!("/{group}/namespaces/{}/{plural}/{name}", self.namespace);
        let request = Request::get(path.trim_end_matches('/')).body(Vec::new()).unwrap();
        self.client.request(request).await.unwrap_or_default()
    }
}
