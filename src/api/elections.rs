//! `/v1/elections`: campaign, resign, observe. A campaign as a stream is in `campaign.rs`.

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;

use super::campaign::Bond;
use super::contests::{self, SHOWN, contest};
use super::extract::{JsonBody, Names, Query};
use super::line::Line;
use super::problem::Problem;
use super::reply::Reply;
use super::sessions::{called, client, known};
use super::{Api, campaign, wire};
use crate::machine::Machine;
use crate::machine::command::{ContestId, ContestKind, NewClaim, Otherwise, Permits};
use crate::machine::contest::{ClaimRecord, Grant, Transition};
use crate::types::Ttl;

/// Observe an election: who leads, who is next, what happened.
#[utoipa::path(
    get, path = "/v1/elections/{namespace}/{name}", tag = "elections",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("name" = String, Path, description = "a DNS subdomain"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (default) or `stale`"),
        ("minRevision" = Option<u64>, Query, description = "wait until this revision is there"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
    ),
    responses(
        (status = 200, description = "the election", body = wire::Election),
    )
)]
pub async fn get(
    State(api): State<Api>,
    Names((namespace, name)): Names<(String, String)>,
    mut query: Query,
) -> Result<Response, Problem> {
    let contest = contest(ContestKind::Election, &namespace, &name)?;
    let read = query.take_read()?;
    query.finish()?;
    let state = api.coordinator.read(read).await?;
    let election = election_of(&api, &state, &contest).ok_or_else(|| Problem::not_found(&contest))?;
    Ok(Reply::read(state.revision(), &read, election).json())
}

/// An election as JSON shows it; `None` when it was never used.
pub fn election_of(api: &Api, state: &Machine, contest: &ContestId) -> Option<wire::Election> {
    let contests = state.contests();
    let record = contests.get(contest)?;
    let waiting = contests.waiting(contest).take(SHOWN).map(|(session, claim)| wire::Candidate {
        candidate: claim.candidate.as_ref().map(ToString::to_string),
        session: called(api, session),
        priority: claim.priority,
        metadata: claim.metadata.clone(),
    });
    Some(wire::Election {
        leaders: contests.holders(contest).map(|(grant, claim)| leader_of(api, &grant, claim)).collect(),
        seats: record.capacity,
        session_ttl_ms: record.spec.and_then(|spec| spec.session_ttl).map(Ttl::as_millis),
        waiting: record.waiting,
        queue: waiting.collect(),
        transitions: record.transitions,
        last_transition: record.recent.first().map(transition_of),
        recent_transitions: record.recent.iter().map(transition_of).collect(),
    })
}

/// A leader as JSON shows it.
pub fn leader_of(api: &Api, grant: &Grant, claim: &ClaimRecord) -> wire::ElectionLeader {
    wire::ElectionLeader {
        candidate: claim.candidate.as_ref().map(ToString::to_string),
        session: called(api, grant.session),
        fencing_token: grant.token.get(),
        since: grant.since.to_string(),
        metadata: claim.metadata.clone(),
    }
}

fn transition_of(transition: &Transition) -> wire::Transition {
    wire::Transition {
        at: transition.at.to_string(),
        cause: transition.cause.to_string(),
        candidate: transition.candidate.as_ref().map(ToString::to_string),
        fencing_token: transition.token.get(),
        leaderless_ms: transition.successor.map(|(_, vacant_ms)| vacant_ms),
    }
}

/// Campaign: come into the queue, or go on in it, and wait for the grant; or, as a stream, follow it for as long as it lasts.
#[utoipa::path(
    post, path = "/v1/elections/{namespace}/{name}/campaign", tag = "elections",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("name" = String, Path, description = "a DNS subdomain"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait for the cluster, 1 to 60000, default 5000"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 printable characters that make a retry harmless"),
        ("Accept" = Option<String>, Header, description = "`text/event-stream` for a stream"),
    ),
    request_body = wire::Campaign,
    responses(
        (status = 200, description = "the grant; in a stream the events `waiting` (StillWaiting), `granted` and `heartbeat` (Granted), `lost` (ClaimLost). \
            Each of them is a sign of life of the session. A stream ends after five times the session's TTL at the latest; campaign again to go on, with the same grant. \
            It breaks when its client's host has acknowledged nothing for one TTL.", content(
            (wire::Granted = "application/json"),
            (wire::Granted = "text/event-stream"),
        )),
    )
)]
pub async fn campaign(
    State(api): State<Api>,
    Names((namespace, name)): Names<(String, String)>,
    mut query: Query,
    (headers, line): (HeaderMap, Option<Extension<Line>>),
    JsonBody(body): JsonBody<wire::Campaign>,
) -> Result<Response, Problem> {
    let contest = contest(ContestKind::Election, &namespace, &name)?;
    let write = query.take_write(&headers)?;
    query.finish()?;
    let limit = contests::wait_until(body.wait_ms)?;
    let session = known(&api, "/session", &body.session)?;
    let claim = NewClaim {
        candidate: client("/candidate", body.candidate.as_ref())?,
        priority: body.priority,
        permits: Permits::Some(1),
        capacity: None,
        otherwise: Otherwise::Wait,
        metadata: body.metadata,
    };
    match (wants_stream(&headers), body.release_on_disconnect) {
        (true, release) => {
            let bond = Bond { line: line.map(|Extension(line)| line), release };
            campaign::stream(api, contest, session, claim, bond, write).await
        }
        (false, false) => contests::granted(&api, contest, session, claim, limit, write).await,
        (false, true) => {
            Err(Problem::invalid("/releaseOnDisconnect", "it needs a stream: send `Accept: text/event-stream`"))
        }
    }
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|range| range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream"))
}

/// Resign, or leave the queue; the next candidate is granted in the same commit. One whose outcome is unknown may still come
/// about: send it again with its token until the outcome is known, before the same session campaigns again.
#[utoipa::path(
    post, path = "/v1/elections/{namespace}/{name}/resign", tag = "elections",
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
pub async fn resign(
    State(api): State<Api>,
    Names((namespace, name)): Names<(String, String)>,
    mut query: Query,
    headers: HeaderMap,
    JsonBody(body): JsonBody<wire::Release>,
) -> Result<Response, Problem> {
    let contest = contest(ContestKind::Election, &namespace, &name)?;
    let write = query.take_write(&headers)?;
    query.finish()?;
    contests::release(&api, contest, &body, write).await
}
