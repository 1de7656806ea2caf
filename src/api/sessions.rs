//! `/v1/sessions`: the liveness of clients.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::contests::hold;
use super::extract::{self, JsonBody, Names, Query};
use super::problem::Problem;
use super::reply::{Reply, millis};
use super::{Api, wire};
use crate::coordinator::{Alive, CoordinatorError};
use crate::machine::command::{EndCause, NewSession};
use crate::types::{ClientName, SessionId, SessionName, Ttl};

/// The session that a client names.
///
/// # Errors
/// When it is no session, or one of another cluster.
pub fn known(api: &Api, pointer: &str, text: &str) -> Result<SessionId, Problem> {
    let name: SessionName = extract::name(pointer, text)?;
    Ok(api.coordinator.session(&name)?)
}

/// What a client calls itself.
///
/// # Errors
/// When it is too long, or not printable.
pub fn client(pointer: &str, text: Option<&String>) -> Result<Option<ClientName>, Problem> {
    text.map(|text| extract::name(pointer, text)).transpose()
}

/// What a session is called.
pub fn called(api: &Api, session: SessionId) -> String {
    api.coordinator.session_name(session).map(|name| name.to_string()).unwrap_or_default()
}

/// Begin a session. What it holds ends when it ends.
#[utoipa::path(
    post, path = "/v1/sessions", tag = "sessions",
    params(
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 printable characters that make a retry harmless"),
    ),
    request_body = wire::CreateSession,
    responses(
        (status = 201, description = "it lives", body = wire::SessionCreated),
    )
)]
pub async fn create(
    State(api): State<Api>,
    mut query: Query,
    headers: HeaderMap,
    JsonBody(body): JsonBody<wire::CreateSession>,
) -> Result<Response, Problem> {
    let write = query.take_write(&headers)?;
    query.finish()?;
    let ttl = Ttl::from_millis(body.ttl_ms).map_err(|error| Problem::invalid("/ttlMs", error.to_string()))?;
    let session = NewSession { ttl, client: client("/client", body.client.as_ref())?, metadata: body.metadata };
    let written = api.coordinator.create_session(session, write).await?;
    let alive = written.effect;
    let body = wire::SessionCreated {
        session: called(&api, alive.session),
        ttl_ms: alive.ttl.as_millis(),
        valid_for_ms: millis(alive.valid_for),
    };
    Ok(Reply::written(written.revision, body).created().json())
}

/// Keep a session alive. Writes nothing to the log; many share one round of the members.
#[utoipa::path(
    post, path = "/v1/sessions/{session}/keepalive", tag = "sessions",
    params(
        ("session" = String, Path, description = "as the cluster gave it"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
    ),
    responses(
        (status = 200, description = "it lives, for its whole time from now on", body = wire::KeptAlive),
    )
)]
pub async fn keep_alive(
    State(api): State<Api>,
    Names(session): Names<String>,
    mut query: Query,
) -> Result<Response, Problem> {
    let session = known(&api, "session", &session)?;
    let deadline = query.take_deadline()?;
    query.finish()?;
    let alive = api.coordinator.keep_alive(session, deadline).await?;
    Ok(Reply::written(alive.state.revision(), kept(&alive)).json())
}

fn kept(alive: &Alive) -> wire::KeptAlive {
    let holds = alive.holds().map(|(contest, grant)| hold(contest, grant.token)).collect();
    wire::KeptAlive { valid_for_ms: millis(alive.valid_for), holds }
}

/// Keep many sessions alive at once, for whoever has many. Writes nothing to the log.
#[utoipa::path(
    post, path = "/v1/sessions/keepalive", tag = "sessions",
    params(("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000")),
    request_body = wire::KeepAlive,
    responses((status = 200, description = "which of them live, for their whole time from now on", body = wire::AllKeptAlive)),
)]
pub async fn keep_all_alive(
    State(api): State<Api>,
    mut query: Query,
    JsonBody(body): JsonBody<wire::KeepAlive>,
) -> Result<Response, Problem> {
    let deadline = query.take_deadline()?;
    query.finish()?;
    if !(1..=TOGETHER).contains(&body.sessions.len()) {
        return Err(Problem::invalid("/sessions", format!("it has 1 to {TOGETHER} sessions")));
    }
    let named = body.sessions.iter().enumerate();
    let sessions = named.map(|(index, name)| known(&api, &format!("/sessions/{index}"), name));
    let sessions = sessions.collect::<Result<Vec<_>, _>>()?;
    let (revision, heard) = api.coordinator.keep_all_alive(&sessions, deadline).await?;
    let (mut alive, mut over) = (Vec::new(), Vec::new());
    for (session, heard) in body.sessions.into_iter().zip(heard) {
        match heard {
            Ok(heard) => alive.push(wire::OneKeptAlive { session, kept: kept(&heard) }),
            Err(error) => over.push(wire::SessionOver { session, detail: error.to_string() }),
        }
    }
    Ok(Reply::written(revision, wire::AllKeptAlive { alive, over }).json())
}

/// Sessions that one call may keep alive.
const TOGETHER: usize = 1000;

/// Read a session. This is no sign of life.
#[utoipa::path(
    get, path = "/v1/sessions/{session}", tag = "sessions",
    params(
        ("session" = String, Path, description = "as the cluster gave it"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (default) or `stale`"),
        ("minRevision" = Option<u64>, Query, description = "wait until this revision is there"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
    ),
    responses(
        (status = 200, description = "the session", body = wire::Session),
    )
)]
pub async fn get(State(api): State<Api>, Names(session): Names<String>, mut query: Query) -> Result<Response, Problem> {
    let session = known(&api, "session", &session)?;
    let read = query.take_read()?;
    query.finish()?;
    let state = api.coordinator.read(read).await?;
    let revision = state.revision();
    let over = |rejection| CoordinatorError::Rejected { rejection: Box::new(rejection), revision };
    let record = state.sessions().alive(session).map_err(over)?;
    let claims = || state.contests().of_session(session);
    let body = wire::Session {
        session: called(&api, session),
        ttl_ms: record.ttl.as_millis(),
        client: record.client.as_ref().map(ToString::to_string),
        metadata: record.metadata.clone(),
        created_at: record.created_at.to_string(),
        holds: claims().filter_map(|(contest, claim)| Some(hold(contest, claim.grant(session)?.token))).collect(),
        waits: claims()
            .filter(|(_, claim)| claim.grant(session).is_none())
            .map(|(contest, _)| super::contests::named(contest))
            .collect(),
    };
    Ok(Reply::read(revision, &read, body).json())
}

/// End a session, and with it everything that it holds. Ending one that has ended changes nothing.
#[utoipa::path(
    delete, path = "/v1/sessions/{session}", tag = "sessions",
    params(
        ("session" = String, Path, description = "as the cluster gave it"),
        ("cause" = Option<String>, Query, description = "`session-ended` (default), or `client-exited`: the process for which it was held has ended"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 printable characters that make a retry harmless"),
    ),
    responses(
        (status = 200, description = "whether it lived", body = wire::Deleted),
    )
)]
pub async fn delete(
    State(api): State<Api>,
    Names(session): Names<String>,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let session = known(&api, "session", &session)?;
    let cause = match query.take::<String>("cause")?.as_deref() {
        None | Some("session-ended") => EndCause::GivenUp,
        Some("client-exited") => EndCause::ClientExited,
        Some(_) => return Err(Problem::invalid("cause", "it is `session-ended` or `client-exited`")),
    };
    let write = query.take_write(&headers)?;
    query.finish()?;
    let written = api.coordinator.end_session(session, cause, write).await?;
    let body = wire::Deleted { deleted: written.effect, revision: written.revision.get() };
    Ok(Reply::written(written.revision, body).json())
}
