//! Objects as they are now, for whoever looks at them again and again.

use kube::Client;
use serde_json::Value;

use crate::direct;
pub use crate::direct::client;

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
        let path = direct::path(&self.namespace, object).unwrap_or_else(|| panic!("{object} has no path"));
        direct::get(&path).await.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }
}
