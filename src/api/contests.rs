//! What elections and locks have in common: names, tokens, giving up, and `/v1/fence/verify`.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use serde_json::json;
use tokio::time::Instant;

use super::extract::{self, JsonBody, Query};
use super::problem::Problem;
use super::reply::{Reply, millis};
use super::{Api, sessions, wire};
use crate::coordinator::{CoordinatorError, Write, Written};
use crate::machine::command::{ContestId, ContestKind, EndCause, Fence, NewClaim};
use crate::types::{FencingToken, SessionId};

/// The greatest number that every JSON reader knows exactly.
const GREATEST_TOKEN: u64 = (1 << 53) - 1;

/// The longest that a call may wait for a grant, in milliseconds.
const LONGEST_WAIT: u64 = 60_000;

/// Entries of a queue that are shown.
pub const SHOWN: usize = 100;

/// The election or lock of a path.
///
/// # Errors
/// When one of the names is not valid.
pub fn contest(kind: ContestKind, namespace: &str, name: &str) -> Result<ContestId, Problem> {
    Ok(ContestId { kind, namespace: extract::name("namespace", namespace)?, name: extract::name("name", name)? })
}

/// A grant that a client names.
///
/// # Errors
/// When it is not valid.
pub fn fence(pointer: &str, fence: &wire::Fence) -> Result<Fence, Problem> {
    let at = |part: &str| format!("{pointer}/{part}");
    let kind = match fence.kind {
        wire::FenceKind::Election => ContestKind::Election,
        wire::FenceKind::Lock => ContestKind::Lock,
    };
    let contest = ContestId {
        kind,
        namespace: extract::name(&at("namespace"), &fence.namespace)?,
        name: extract::name(&at("name"), &fence.name)?,
    };
    Ok(Fence { contest, token: token(&at("fencingToken"), fence.fencing_token)? })
}

/// A fencing token that a client names.
///
/// # Errors
/// When it is none.
pub fn token(pointer: &str, number: u64) -> Result<FencingToken, Problem> {
    match number {
        1..=GREATEST_TOKEN => Ok(FencingToken::new(number)),
        _ => Err(Problem::invalid(pointer, format!("a fencing token is a number from 1 to {GREATEST_TOKEN}"))),
    }
}

/// A grant, as a client is told of it.
pub fn hold(contest: &ContestId, token: FencingToken) -> wire::Fence {
    let wire::Contest { kind, namespace, name } = named(contest);
    wire::Fence { kind, namespace, name, fencing_token: token.get() }
}

/// An election or a lock, as a client is told of it.
pub fn named(contest: &ContestId) -> wire::Contest {
    let kind = match contest.kind {
        ContestKind::Election => wire::FenceKind::Election,
        ContestKind::Lock => wire::FenceKind::Lock,
    };
    wire::Contest { kind, namespace: contest.namespace.to_string(), name: contest.name.to_string() }
}

/// Until when a call waits for a grant.
///
/// # Errors
/// When it is too long.
pub fn wait_until(millis: u64) -> Result<Instant, Problem> {
    match millis {
        0..=LONGEST_WAIT => Ok(Instant::now() + Duration::from_millis(millis)),
        _ => Err(Problem::invalid("/waitMs", format!("it is a number from 0 to {LONGEST_WAIT}"))),
    }
}

/// Claims, and waits for the grant until `limit`.
///
/// # Errors
/// When it is refused, or not granted in time.
pub async fn granted(
    api: &Api,
    contest: ContestId,
    session: SessionId,
    claim: NewClaim,
    limit: Instant,
    write: Write,
) -> Result<Response, Problem> {
    let _waiting = api.admit_wait()?;
    let deadline = write.deadline;
    let claimed = api.coordinator.claim(contest, session, claim, write).await;
    let mut following = claimed.map_err(|error| refusal(api, error))?;
    let found = tokio::select! {
        biased;
        () = api.stopping.cancelled() => return Err(Problem::stopping()),
        found = following.granted(limit, deadline) => found?,
    };
    let (revision, grant, valid_for) = found;
    let body = wire::Granted {
        fencing_token: grant.token.get(),
        since: grant.since.to_string(),
        valid_for_ms: millis(valid_for),
    };
    Ok(Reply::written(revision, body).json())
}

/// Says who holds what was refused.
fn refusal(api: &Api, error: CoordinatorError) -> Problem {
    let holder = match &error {
        CoordinatorError::Rejected { rejection, .. } => rejection.holder(),
        _ => None,
    };
    let holder = holder.map(|grant| {
        json!({
            "session": sessions::called(api, grant.session),
            "fencingToken": grant.token.get(),
            "since": grant.since.to_string(),
        })
    });
    let problem = Problem::from(error);
    match holder {
        Some(holder) => problem.current(holder),
        None => problem,
    }
}

/// Gives up what a session has in a contest.
///
/// # Errors
/// When it does not hold it by that token.
pub async fn release(api: &Api, contest: ContestId, body: &wire::Release, write: Write) -> Result<Response, Problem> {
    let session = sessions::known(api, "/session", &body.session)?;
    let token = body.fencing_token.map(|number| token("/fencingToken", number)).transpose()?;
    let cause = match body.cause {
        wire::ReleaseCause::Resigned => EndCause::GivenUp,
        wire::ReleaseCause::ClientExited => EndCause::ClientExited,
    };
    let Written { revision, effect: token, .. } =
        api.coordinator.release(contest, session, token, cause, write).await?;
    let body = wire::Released { fencing_token: token.map(FencingToken::get), revision: revision.get() };
    Ok(Reply::written(revision, body).json())
}

/// Ask whether a grant is held still.
#[utoipa::path(
    post, path = "/v1/fence/verify", tag = "fencing",
    params(
        ("consistency" = Option<String>, Query, description = "`linearizable` (default) or `stale`"),
        ("minRevision" = Option<u64>, Query, description = "wait until this revision is there"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
    ),
    request_body = wire::Fence,
    responses(
        (status = 200, description = "whether it is the holder's", body = wire::Verified),
    )
)]
pub async fn verify(
    State(api): State<Api>,
    mut query: Query,
    JsonBody(body): JsonBody<wire::Fence>,
) -> Result<Response, Problem> {
    let fence = fence("", &body)?;
    let read = query.take_read()?;
    query.finish()?;
    let state = api.coordinator.read(read).await?;
    let newest = state.contests().newest(&fence.contest).map(FencingToken::get);
    let body = wire::Verified { current: state.contests().is_current(&fence), newest };
    Ok(Reply::read(state.revision(), &read, body).json())
}
