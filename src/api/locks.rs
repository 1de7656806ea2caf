//! `/v1/locks`: exclusive and shared locks, and semaphores.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::contests::{self, SHOWN, contest};
use super::extract::{JsonBody, Names, Query};
use super::problem::Problem;
use super::reply::Reply;
use super::sessions::{called, known};
use super::{Api, wire};
use crate::machine::Machine;
use crate::machine::command::{ContestId, ContestKind, Metadata, NewClaim, Otherwise, Permits};
use crate::types::SessionId;

/// Read a lock: who holds it, who is next.
#[utoipa::path(
    get, path = "/v1/locks/{namespace}/{name}", tag = "locks",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("name" = String, Path, description = "a DNS subdomain"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (default) or `stale`"),
        ("minRevision" = Option<u64>, Query, description = "wait until this revision is there"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
    ),
    responses(
        (status = 200, description = "the lock; one that nobody holds has no holders", body = wire::Lock),
    )
)]
pub async fn get(
    State(api): State<Api>,
    Names((namespace, name)): Names<(String, String)>,
    mut query: Query,
) -> Result<Response, Problem> {
    let contest = contest(ContestKind::Lock, &namespace, &name)?;
    let read = query.take_read()?;
    query.finish()?;
    let state = api.coordinator.read(read).await?;
    Ok(Reply::read(state.revision(), &read, lock_of(&api, &state, &contest)).json())
}

fn lock_of(api: &Api, state: &Machine, contest: &ContestId) -> wire::Lock {
    let contests = state.contests();
    let record = contests.get(contest);
    let capacity = record.and_then(|record| record.counted());
    let all = record.map_or(0, |record| record.capacity);
    let mode = |permits: u32| if permits == all { wire::LockMode::Exclusive } else { wire::LockMode::Shared };
    let client = |session: SessionId| {
        let client = state.sessions().get(session).and_then(|record| record.client.as_ref());
        client.map(ToString::to_string)
    };
    let holders = contests.holders(contest).map(|(grant, claim)| wire::LockHolder {
        session: called(api, grant.session),
        client: client(grant.session),
        fencing_token: grant.token.get(),
        since: grant.since.to_string(),
        mode: mode(claim.permits),
        permits: capacity.map(|_| claim.permits),
    });
    let queue = contests.waiting(contest).take(SHOWN).map(|(session, claim)| wire::LockWaiter {
        session: called(api, session),
        client: client(session),
        mode: mode(claim.permits),
        permits: capacity.map(|_| claim.permits),
    });
    wire::Lock {
        holders: holders.collect(),
        capacity,
        waiting: record.map_or(0, |record| record.waiting),
        queue: queue.collect(),
    }
}

/// Acquire a lock, or permits of a semaphore. Again with the same session, it is the same grant.
#[utoipa::path(
    post, path = "/v1/locks/{namespace}/{name}/acquire", tag = "locks",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("name" = String, Path, description = "a DNS subdomain"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait for the cluster, 1 to 60000, default 5000"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 printable characters that make a retry harmless"),
    ),
    request_body = wire::Acquire,
    responses(
        (status = 200, description = "the grant", body = wire::Granted),
    )
)]
pub async fn acquire(
    State(api): State<Api>,
    Names((namespace, name)): Names<(String, String)>,
    mut query: Query,
    headers: HeaderMap,
    JsonBody(body): JsonBody<wire::Acquire>,
) -> Result<Response, Problem> {
    let contest = contest(ContestKind::Lock, &namespace, &name)?;
    let write = query.take_write(&headers)?;
    query.finish()?;
    let limit = contests::wait_until(body.wait_ms)?;
    let session = known(&api, "/session", &body.session)?;
    let claim = NewClaim {
        candidate: None,
        priority: 0,
        permits: permits_of(&body)?,
        capacity: body.capacity,
        otherwise: if body.wait_ms == 0 { Otherwise::Refuse } else { Otherwise::Wait },
        metadata: Metadata::new(),
    };
    contests::granted(&api, contest, session, claim, limit, write).await
}

fn permits_of(body: &wire::Acquire) -> Result<Permits, Problem> {
    if body.capacity == Some(0) {
        return Err(Problem::invalid("/capacity", "it is at least 1"));
    }
    match (body.mode, body.permits) {
        (_, Some(0)) => Err(Problem::invalid("/permits", "it is at least 1")),
        (Some(_), Some(_)) => Err(Problem::invalid("/permits", "it cannot be combined with `mode`")),
        (None, Some(permits)) => Ok(Permits::Some(permits)),
        (None, None) if body.capacity.is_some() => Ok(Permits::Some(1)),
        (Some(wire::LockMode::Shared), None) => Ok(Permits::Some(1)),
        (Some(wire::LockMode::Exclusive) | None, None) => Ok(Permits::All),
    }
}

/// Release a lock, or leave its queue; whoever is next is granted in the same commit.
#[utoipa::path(
    post, path = "/v1/locks/{namespace}/{name}/release", tag = "locks",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("name" = String, Path, description = "a DNS subdomain"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 printable characters that make a retry harmless"),
    ),
    request_body = wire::Release,
    responses(
        (status = 200, description = "what was given up", body = wire::Released),
    )
)]
pub async fn release(
    State(api): State<Api>,
    Names((namespace, name)): Names<(String, String)>,
    mut query: Query,
    headers: HeaderMap,
    JsonBody(body): JsonBody<wire::Release>,
) -> Result<Response, Problem> {
    let contest = contest(ContestKind::Lock, &namespace, &name)?;
    let write = query.take_write(&headers)?;
    query.finish()?;
    contests::release(&api, contest, &body, write).await
}

/// Take a lock away from whoever holds it: for administrators. The cause is `removed`.
#[utoipa::path(
    delete, path = "/v1/locks/{namespace}/{name}/holder", tag = "locks",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("name" = String, Path, description = "a DNS subdomain"),
        ("fencingToken" = Option<u64>, Query, description = "only this grant; all of them when absent"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 printable characters that make a retry harmless"),
    ),
    responses(
        (status = 200, description = "how many grants were taken away", body = wire::Revoked),
    )
)]
pub async fn revoke(
    State(api): State<Api>,
    Names((namespace, name)): Names<(String, String)>,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let contest = contest(ContestKind::Lock, &namespace, &name)?;
    let token = query.take_number("fencingToken")?.map(|number| contests::token("fencingToken", number));
    let (token, write) = (token.transpose()?, query.take_write(&headers)?);
    query.finish()?;
    let written = api.coordinator.revoke(contest, token, write).await?;
    let body = wire::Revoked { revoked: written.effect, revision: written.revision.get() };
    Ok(Reply::written(written.revision, body).json())
}
