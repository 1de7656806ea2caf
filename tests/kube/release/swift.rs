//! How soon members in pods serve what is applied.

use reqwest::Client;

use super::helm::Release;
use crate::alone;
use crate::applying::Applying;
use crate::direct::client;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_readable_in_every_members_pod_within_100_ms_at_the_median() {
    let _alone = alone().await;
    let release = Release::running().await;
    let applying = Applying {
        client: client().await,
        http: Client::new(),
        namespace: release.namespace.name.clone(),
        cluster: "default".to_owned(),
        members: release.members().urls(),
    };
    applying.assert_soon().await;
}
