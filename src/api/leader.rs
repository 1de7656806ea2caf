//! Who leads the Raft cluster.

use axum::extract::State;
use axum::response::Response;
use tokio::time::Instant;

use super::extract::Query;
use super::problem::{ELECTION, Problem, ProblemKind};
use super::reply::Reply;
use super::{Api, wire};
use crate::coordinator::{Consistency, LeaderView, RaftRole, Read};

/// The Raft leader that this member knows of.
#[utoipa::path(
    get, path = "/v1/leader", tag = "cluster",
    responses(
        (status = 200, description = "the Raft leader", body = wire::Leader),
    )
)]
pub async fn get(State(api): State<Api>, query: Query) -> Result<Response, Problem> {
    query.finish()?;
    let leader = leader_of(api.coordinator.leader())?;
    Ok(Reply::read(api.coordinator.state().revision(), &local(), leader).json())
}

/// Only the Raft leader's name, in the shape of the old leader-elector sidecar.
#[utoipa::path(
    get, path = "/", tag = "cluster",
    responses(
        (status = 200, description = "the Raft leader's name", body = wire::LeaderName),
    )
)]
pub async fn get_name(State(api): State<Api>, query: Query) -> Result<Response, Problem> {
    query.finish()?;
    let leader = leader_of(api.coordinator.leader())?;
    let name = wire::LeaderName { name: leader.name };
    Ok(Reply::read(api.coordinator.state().revision(), &local(), name).json())
}

/// Whether this member leads and a quorum has said so within 300 ms; for load balancers.
#[utoipa::path(
    get, path = "/v1/leader/self", tag = "cluster",
    responses(
        (status = 200, description = "this member leads", body = wire::Leader),
    )
)]
pub async fn get_self(State(api): State<Api>, query: Query) -> Result<Response, Problem> {
    query.finish()?;
    let status = api.coordinator.status();
    let unavailable = |detail: String| Problem::new(ProblemKind::Unavailable, detail).retry_after(ELECTION);
    let follows = || unavailable("this member is not the Raft leader".to_owned());
    if status.role != RaftRole::Leader {
        return Err(follows());
    }
    // Asking the quorum is the confirmation itself, and newer than any that is remembered.
    let read = Read { consistency: Consistency::Linearizable, min_revision: None, deadline: Instant::now() + ELECTION };
    let state = api.coordinator.read(read).await;
    let unconfirmed = format!("this member leads, but no quorum confirmed it within {} ms", ELECTION.as_millis());
    let state = state.map_err(|_| unavailable(unconfirmed))?;
    match api.coordinator.leader().filter(|leader| leader.this) {
        Some(leader) => Ok(Reply::read(state.revision(), &read, leader_json(leader)).json()),
        None => Err(follows()),
    }
}

/// A read of what this member knows, at once.
fn local() -> Read {
    Read { consistency: Consistency::Stale, min_revision: None, deadline: Instant::now() }
}

fn leader_of(leader: Option<LeaderView>) -> Result<wire::Leader, Problem> {
    let none = || Problem::new(ProblemKind::Unavailable, "there is no Raft leader").retry_after(ELECTION);
    leader.map(leader_json).ok_or_else(none)
}

/// The Raft leader as JSON shows it.
pub fn leader_json(leader: LeaderView) -> wire::Leader {
    wire::Leader {
        name: leader.name,
        member_id: leader.member.get(),
        url: leader.url,
        term: leader.term.get(),
        since: leader.since.map(|since| since.to_string()),
        this: leader.this,
    }
}
