//! What the API server tells of resources, as one stream of news that never ends.
//!
//! Objects come as they are, not yet read as ours (see `object.rs`).

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Client;
use kube::api::{Api, ApiResource};
use kube::runtime::watcher::{self, watcher};

use tokio::time::{Instant, sleep_until};

use super::Release;
use super::error::ApiError;
use super::object::Object;
use crate::operator::resources::{LeaderElection, QuorateCluster, ReplicatedConfig};

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Cluster,
    Config,
    Election,
    /// Only the one that this member belongs to.
    StatefulSet,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Cluster, Self::Config, Self::Election, Self::StatefulSet];

    /// As the API server calls many of it.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Cluster => "quorateclusters",
            Self::Config => "replicatedconfigs",
            Self::Election => "leaderelections",
            Self::StatefulSet => "statefulsets",
        }
    }

    /// How the API server is asked for it.
    pub(super) fn api_resource(self) -> ApiResource {
        match self {
            Self::Cluster => ApiResource::erase::<QuorateCluster>(&()),
            Self::Config => ApiResource::erase::<ReplicatedConfig>(&()),
            Self::Election => ApiResource::erase::<LeaderElection>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        }
    }
}

/// Something new about one kind.
pub(super) struct News {
    pub(super) kind: Kind,
    pub(super) event: Result<watcher::Event<Object>, ApiError>,
}

/// A watch that says nothing for so many seconds is asked for again. The client gives up on a silent connection later than
/// that (see `client.rs`), so a watch that was cut silently is noticed.
const QUIET: u32 = 10;

/// The pauses between two tries grow from the first to the last of these.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// After so long without an error the pauses are short again.
const FORGIVEN: Duration = Duration::from_secs(30);

/// Begins to watch everything.
pub(super) fn watch(client: &Client, release: &Release) -> SelectAll<BoxStream<'static, News>> {
    stream::select_all(Kind::ALL.map(|kind| watch_kind(client, release, kind)))
}

fn watch_kind(client: &Client, release: &Release, kind: Kind) -> BoxStream<'static, News> {
    let resource = kind.api_resource();
    let config = watcher::Config::default();
    let (api, config) = match kind {
        Kind::Cluster | Kind::Config | Kind::Election => (Api::all_with(client.clone(), &resource), config),
        Kind::StatefulSet => {
            let own = Api::namespaced_with(client.clone(), release.namespace(), &resource);
            (own, config.fields(&format!("metadata.name={}", release.name())))
        }
    };
    events(api, config).map(move |event| News { kind, event }).boxed()
}

/// Begins to watch all objects of one kind and namespace.
pub(super) fn watch_objects(api: Api<Object>) -> BoxStream<'static, Result<watcher::Event<Object>, ApiError>> {
    events(api, watcher::Config::default())
}

fn events(api: Api<Object>, config: watcher::Config) -> BoxStream<'static, Result<watcher::Event<Object>, ApiError>> {
    let watch = Watch::of(api, config.timeout(QUIET));
    stream::unfold(watch, |mut watch| async { Some((watch.next().await, watch)) }).boxed()
}

/// A watch that begins anew, with a list, after each error: so what it tells next says that the error is over.
struct Watch {
    api: Api<Object>,
    config: watcher::Config,
    events: Option<BoxStream<'static, watcher::Result<watcher::Event<Object>>>>,
    began: Instant,
    pauses: ExponentialBackoff,
    /// Before this it does not begin again.
    due: Instant,
}

impl Watch {
    fn of(api: Api<Object>, config: watcher::Config) -> Self {
        let now = Instant::now();
        Self { api, config, events: None, began: now, pauses: growing().build(), due: now }
    }

    async fn next(&mut self) -> Result<watcher::Event<Object>, ApiError> {
        if self.events.is_none() {
            sleep_until(self.due).await;
            self.began = Instant::now();
        }
        let events = self.events.get_or_insert_with(|| watcher(self.api.clone(), self.config.clone()).boxed());
        match events.next().await {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                self.rest();
                Err(ApiError::from(&error))
            }
            None => {
                self.rest();
                Err(ApiError::timeout())
            }
        }
    }

    fn rest(&mut self) {
        self.events = None;
        if self.began.elapsed() > FORGIVEN {
            self.pauses = growing().build();
        }
        self.due = Instant::now() + self.pauses.next().unwrap_or(LAST_PAUSE);
    }
}

/// The pauses between two tries: each twice as long as the one before, and drawn anew, so that members do not come back all
/// at once.
pub(super) fn growing() -> ExponentialBuilder {
    let growing = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_delay(LAST_PAUSE).with_factor(2.0);
    growing.with_jitter().without_max_times()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ_between_members() {
        let pauses = || growing().build().take(12).collect::<Vec<_>>();
        let (one, other) = (pauses(), pauses());
        assert!(one[0] >= FIRST_PAUSE && one[0] <= FIRST_PAUSE * 2, "{one:?}");
        assert!(one[11] >= LAST_PAUSE && one[11] <= LAST_PAUSE * 2, "{one:?}");
        assert_ne!(one, other);
    }
}
