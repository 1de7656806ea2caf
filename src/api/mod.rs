//! The HTTP API: routes, JSON shapes, status codes.
//!
//! A handler turns a request into valid values, calls the coordinator, and turns the result into JSON. It decides nothing
//! about the cluster. The routes and the OpenAPI document come from one table, [`router`].

mod border;
mod campaign;
mod cluster;
mod configs;
mod contests;
mod elections;
mod examples;
mod extract;
pub mod health;
mod keys;
mod leader;
mod line;
pub mod listener;
mod locks;
mod metrics;
mod object;
mod openapi;
pub mod problem;
mod reply;
mod sessions;
mod watch;
pub mod wire;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::middleware::from_fn_with_state;
use axum::{Json, Router};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use metrics::HttpMetrics;

use crate::coordinator::Coordinator;
use crate::tasks::Tasks;
use problem::{Problem, ProblemKind};

/// Calls that wait for a grant on one member at a time.
const WAITS: usize = 16_384;

/// What every handler has. Clones share it.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

/// What all requests share.
pub struct Shared {
    coordinator: Coordinator,
    metrics: HttpMetrics,
    watches: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    tasks: Tasks,
    stopping: CancellationToken,
}

impl Api {
    /// On top of the coordinator. Whoever waits or watches is sent away when `tasks` stop.
    pub fn new(coordinator: Coordinator, metrics: HttpMetrics, tasks: Tasks) -> Self {
        let [watches, waits, bodies] =
            [watch::WATCHES, WAITS, extract::BODIES].map(|room| Arc::new(Semaphore::new(room)));
        let stopping = tasks.stopping();
        Self(Arc::new(Shared { coordinator, metrics, watches, waits, bodies, tasks, stopping }))
    }

    /// Room for a call that waits for a grant.
    fn admit_wait(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let full = || {
            let detail = format!("{WAITS} calls wait for grants on this member already: ask another member");
            Problem::new(ProblemKind::Unavailable, detail).retry_after(Duration::from_secs(1))
        };
        self.waits.clone().try_acquire_owned().map_err(|_| full())
    }
}

impl Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The document's head; paths and shapes come from the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Quorate",
        description = "Leader election and replicated configuration. Any member answers any call. \
            Every answer carries Quorate-Cluster, Quorate-Member and Quorate-Revision.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "cluster", description = "The Raft leader and the members"),
        (name = "sessions", description = "The liveness of clients: what a session holds ends with it"),
        (name = "elections", description = "At most so many leaders at a time, and a next one as soon as it is safe"),
        (name = "locks", description = "Exclusive and shared locks, and semaphores"),
        (name = "fencing", description = "Whether a grant is held still"),
        (name = "configuration", description = "Replicated documents"),
        (name = "keys", description = "Small metadata with etcd's data model"),
    ),
    components(schemas(problem::ProblemBody, wire::KeySnapshot, wire::Heartbeat, wire::StillWaiting, wire::ClaimLost)),
)]
struct Document;

/// Every route, with its documentation.
fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(leader::get_name))
        .routes(routes!(leader::get))
        .routes(routes!(leader::get_self))
        .routes(routes!(watch::leader))
        .routes(routes!(cluster::get))
        .routes(routes!(cluster::transfer))
        .routes(routes!(sessions::create))
        .routes(routes!(sessions::keep_alive))
        .routes(routes!(sessions::keep_all_alive))
        .routes(routes!(sessions::get, sessions::delete))
        .routes(routes!(elections::get))
        .routes(routes!(elections::campaign))
        .routes(routes!(elections::resign))
        .routes(routes!(watch::election))
        .routes(routes!(locks::get))
        .routes(routes!(locks::acquire))
        .routes(routes!(locks::release))
        .routes(routes!(locks::revoke))
        .routes(routes!(contests::verify))
        .routes(routes!(configs::list))
        .routes(routes!(configs::get, configs::put, configs::delete))
        .routes(routes!(configs::get_key))
        .routes(routes!(configs::history))
        .routes(routes!(watch::config))
        .routes(routes!(configs::report))
        .routes(routes!(configs::consumers))
        .routes(routes!(keys::range))
        .routes(routes!(keys::transact))
        .routes(routes!(watch::keys))
}

/// The OpenAPI document of this release.
pub fn openapi() -> utoipa::openapi::OpenApi {
    openapi::complete(key_routes().into_openapi())
}

/// The routes of keys have a path that OpenAPI writes in another way than the router: a key may contain slashes.
fn key_routes() -> OpenApiRouter<Api> {
    routes().routes(routes!(keys::get, keys::put, keys::delete))
}

/// The whole API.
pub fn router(api: Api) -> Router {
    let document = openapi();
    let keys = axum::routing::get(keys::get).put(keys::put).delete(keys::delete);
    let (routes, _) = routes().split_for_parts();
    routes
        .route("/v1/kv/{*key}", keys)
        .route("/openapi.json", axum::routing::get(|| async move { Json(document) }))
        .fallback(border::no_such_path)
        .method_not_allowed_fallback(border::method_not_allowed)
        // One layer, because each of them costs every request a copy of all that is below it.
        .layer(from_fn_with_state(api.clone(), border::cross))
        .with_state(api)
}
