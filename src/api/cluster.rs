//! `/v1/cluster`: members, quorum, transfer of Raft leadership.

use axum::extract::State;
use axum::response::Response;
use tokio::time::Instant;

use super::extract::{OptionalJson, Query, name};
use super::leader::leader_json;
use super::problem::Problem;
use super::reply::{Reply, millis};
use super::{Api, wire};
use crate::coordinator::{ClusterView, Consistency, MemberState, MemberView, Phase, Read};
use crate::types::MemberName;

/// How the cluster is, as far as this member can tell. Always answers, without a quorum too.
#[utoipa::path(
    get, path = "/v1/cluster", tag = "cluster",
    responses(
        (status = 200, description = "the cluster", body = wire::Cluster),
    )
)]
pub async fn get(State(api): State<Api>, query: Query) -> Result<Response, Problem> {
    query.finish()?;
    let view = api.coordinator.cluster().await;
    let consistency = if view.confirmed { Consistency::Linearizable } else { Consistency::Stale };
    let read = Read { consistency, min_revision: None, deadline: Instant::now() };
    Ok(Reply::read(view.revision, &read, cluster_json(view)).json())
}

/// Move Raft leadership to a member, or to the most caught-up voter.
#[utoipa::path(
    post, path = "/v1/cluster/transfer-leadership", tag = "cluster",
    params(("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000")),
    request_body = Option<wire::Transfer>,
    responses(
        (status = 200, description = "the new Raft leader", body = wire::Transferred),
    )
)]
pub async fn transfer(
    State(api): State<Api>,
    mut query: Query,
    OptionalJson(body): OptionalJson<wire::Transfer>,
) -> Result<Response, Problem> {
    let deadline = query.take_deadline()?;
    query.finish()?;
    let to = body.to.map(|text| name::<MemberName>("/to", &text)).transpose()?;
    let done = api.coordinator.transfer_leadership(to, deadline).await?;
    let body = wire::Transferred { leader: leader_json(done.leader), took_ms: millis(done.took) };
    Ok(Reply::written(api.coordinator.state().revision(), body).json())
}

fn cluster_json(view: ClusterView) -> wire::Cluster {
    wire::Cluster {
        cluster_id: view.cluster.map(|cluster| cluster.to_string()),
        revision: view.revision.get(),
        term: view.term.get(),
        leader: view.leader.map(|leader| leader.name),
        members: view.members.into_iter().map(member_json).collect(),
        quorum: wire::Quorum {
            available: view.available,
            size: view.quorum as u64,
            failure_tolerance: view.tolerance as u64,
        },
        stale: !view.confirmed,
        refused: view
            .refused
            .into_iter()
            .map(|(name, reason)| wire::RefusedMember { name: name.to_string(), reason })
            .collect(),
        waiting: match view.phase {
            Phase::Running => None,
            Phase::Waiting(reason) | Phase::Refused(reason) | Phase::Stopped(reason) => Some(reason),
        },
    }
}

fn member_json(member: MemberView) -> wire::Member {
    wire::Member {
        member_id: member.member.get(),
        name: member.name,
        url: member.url,
        role: if member.voter { wire::MemberRole::Voter } else { wire::MemberRole::Learner },
        state: match member.state {
            MemberState::Leader => wire::MemberState::Leader,
            MemberState::Follower => wire::MemberState::Follower,
            MemberState::Candidate => wire::MemberState::Candidate,
            MemberState::Unreachable => wire::MemberState::Unreachable,
        },
        matched_index: member.matched.map(crate::types::LogIndex::get),
        lag_entries: member.lag_entries,
        last_contact_ms: member.last_contact.map(millis),
        version: member.version,
    }
}
