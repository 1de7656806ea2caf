//! Where a cluster that begins from one pod is recorded: in the status of its `QuorateCluster`. A volume that is lost takes no
//! such record with it, so whoever comes up with an empty one finds out that there is a cluster already.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use super::Release;
use super::client::ApiServer;
use super::error::{ApiError, Reason};
use crate::coordinator::{ClusterRegistry, Known, Recorded, RegistryError};
use crate::operator::resources::QuorateCluster;
use crate::types::{ClusterId, MemberName};

/// Who records.
const MANAGER: &str = "quorate-founding";

/// Somebody else may write the status in between, but not again and again.
const TRIES: usize = 5;

/// The record of one release.
pub struct QuorateClusterRegistry {
    api_server: ApiServer,
    release: Release,
}

impl QuorateClusterRegistry {
    pub fn new(api_server: ApiServer, release: Release) -> Self {
        Self { api_server, release }
    }

    fn clusters(&self) -> Api<QuorateCluster> {
        Api::namespaced(self.api_server.client.clone(), self.release.namespace())
    }

    async fn cluster(&self) -> Result<QuorateCluster, RegistryError> {
        let found = self.clusters().get_opt(self.release.name()).await;
        let missing = || {
            let what = format!(
                "there is no QuorateCluster {}/{}; apply one, such as the chart has",
                self.release.namespace(),
                self.release.name()
            );
            RegistryError(what)
        };
        found.map_err(|error| self.failed(&error))?.ok_or_else(missing)
    }

    /// The names of the release's volumes.
    async fn volumes(&self) -> Result<Vec<String>, RegistryError> {
        let api = Api::<PersistentVolumeClaim>::namespaced(self.api_server.client.clone(), self.release.namespace());
        let claims = api.list(&ListParams::default()).await.map_err(|error| self.failed(&error))?;
        Ok(claims.items.into_iter().filter_map(|claim| claim.metadata.name).collect())
    }

    fn failed(&self, error: &kube::Error) -> RegistryError {
        RegistryError(format!("{} cannot be asked: {}", self.place(), ApiError::from(error)))
    }

    fn recorded(&self, cluster: &QuorateCluster) -> Result<Option<ClusterId>, RegistryError> {
        let id = cluster.status.as_ref().and_then(|status| status.cluster_id.as_deref());
        let wrong = |error| RegistryError(format!("{} is no id of a cluster: {error}", self.place()));
        id.map(|id| ClusterId::new(id).map_err(wrong)).transpose()
    }

    /// The pods to which volumes belong, this member's own left out.
    fn others(&self, volumes: &[String]) -> BTreeMap<MemberName, (String, String)> {
        let ordinal = |volume: &str| {
            let ordinal = self.release.ordinal_of(volume.strip_prefix("data-")?)?;
            (ordinal != self.release.pod.ordinal).then_some(ordinal)
        };
        let other = |volume: &String| {
            let ordinal = ordinal(volume)?;
            let name = MemberName::new(format!("{}-{ordinal}", self.release.name())).ok()?;
            Some((name, (volume.clone(), self.release.address_of(ordinal))))
        };
        volumes.iter().filter_map(other).collect()
    }

    async fn look_now(&self) -> Result<Known, RegistryError> {
        let recorded = self.recorded(&self.cluster().await?)?;
        let others = self.others(&self.volumes().await?);
        let other_volumes = others.values().map(|(volume, _)| volume.clone()).collect();
        Ok(Known {
            recorded,
            other_volumes,
            others: others.into_iter().map(|(name, (_, address))| (name, address)).collect(),
        })
    }

    async fn record_now(&self, cluster: &ClusterId) -> Result<Recorded, RegistryError> {
        for _ in 0..TRIES {
            let present = self.cluster().await?;
            match self.recorded(&present)? {
                Some(recorded) if recorded == *cluster => return Ok(Recorded::AsAsked),
                Some(recorded) => return Ok(Recorded::Other(recorded)),
                None => {}
            }
            // The version makes it conditional: whoever was faster wins.
            let change = json!({
                "metadata": { "resourceVersion": present.metadata.resource_version },
                "status": { "clusterId": cluster.as_str() },
            });
            let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            let patched = self.clusters().patch_status(self.release.name(), &parameters, &Patch::Merge(change)).await;
            match patched {
                Ok(_) => return Ok(Recorded::AsAsked),
                Err(error) if ApiError::from(&error).reason == Reason::Conflict => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Err(RegistryError(format!("{} changes all the time", self.place())))
    }
}

impl ClusterRegistry for QuorateClusterRegistry {
    fn place(&self) -> String {
        format!("status.clusterId of QuorateCluster {}/{}", self.release.namespace(), self.release.name())
    }

    fn look(&self) -> BoxFuture<'_, Result<Known, RegistryError>> {
        self.look_now().boxed()
    }

    fn record<'a>(&'a self, cluster: &'a ClusterId) -> BoxFuture<'a, Result<Recorded, RegistryError>> {
        self.record_now(cluster).boxed()
    }
}
