//! The HTTP API: routes, JSON shapes, status codes.
//!
//! A handler turns a request into valid values, calls the coordinator, and turns the result into JSON. It decides nothing
//! about the cluster. The routes and the OpenAPI document come from one table, [`router`].

mod border;
mod cluster;
mod configs;
mod contests;
mod extract;
pub mod health;
mod keys;
mod leader;
pub mod listener;
mod metrics;
mod object;
mod openapi;
pub mod problem;
mod reply;
mod sessions;
mod watch;
pub mod wire;

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use axum::{Json, Router};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use metrics::HttpMetrics;

use crate::coordinator::Coordinator;

/// What every handler has.
#[derive(Clone)]
pub struct Api {
    coordinator: Coordinator,
    metrics: HttpMetrics,
    watches: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl Api {
    /// On top of the coordinator. Watches end when `stopping` is cancelled.
    pub fn new(coordinator: Coordinator, metrics: HttpMetrics, stopping: CancellationToken) -> Self {
        let watches = Arc::new(Semaphore::new(watch::WATCHES));
        Self { coordinator, metrics, watches, bodies: Arc::new(Semaphore::new(border::BODIES)), stopping }
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
        (name = "configuration", description = "Replicated documents"),
        (name = "keys", description = "Small metadata with etcd's data model"),
    ),
    components(schemas(wire::KeySnapshot, wire::Heartbeat)),
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
        .routes(routes!(configs::list))
        .routes(routes!(configs::get, configs::put, configs::delete))
        .routes(routes!(configs::get_key))
        .routes(routes!(configs::history))
        .routes(routes!(watch::config))
        .routes(routes!(keys::range))
        .routes(routes!(keys::transact))
        .routes(routes!(watch::keys))
}

/// The OpenAPI document of this release.
pub fn openapi() -> utoipa::openapi::OpenApi {
    openapi::with_problems(key_routes().into_openapi())
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
        .layer(from_fn_with_state(api.clone(), border::cross))
        .layer(from_fn_with_state(api.clone(), reply::sign))
        .layer(from_fn_with_state(api.clone(), metrics::observe))
        .with_state(api)
}
