//! How what was planned becomes commands: by the Raft leader only, in its leadership.

use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::Instant;
use tracing::{info, warn};

use super::plan::{Plan, ResourceId};
use crate::coordinator::{Coordinator, CoordinatorError};
use crate::machine::command::Action;
use crate::machine::outcome::{Effect, Rejection};
use crate::types::Leadership;

/// Proposals that wait for their commit at a time: they share its sync, and more would only fill the log's queue.
const IN_FLIGHT: usize = 16;
/// A proposal that takes longer is decided again from what is there then.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What became of a resource's command.
pub(super) enum Carried {
    Out,
    Rejected(Box<Rejection>),
    /// The cluster could not do it now; whether it happened is seen at the next look.
    NotYet,
}

/// Proposes everything, in no order; says what became of each.
pub(super) async fn carry_out(
    coordinator: &Coordinator,
    leadership: Leadership,
    todo: Plan,
) -> Vec<(ResourceId, Carried)> {
    let propose = |(resource, action): (ResourceId, Action)| async move {
        let proposed = coordinator.propose_duty(leadership, action, Instant::now() + PATIENCE).await;
        let carried = match proposed {
            Ok(written) => {
                log_done(&resource, &written.effect);
                Carried::Out
            }
            Err(CoordinatorError::Rejected { rejection, .. }) => Carried::Rejected(rejection),
            Err(error) => {
                warn!(%resource, %error, "a resource is not replicated yet; it is tried again");
                Carried::NotYet
            }
        };
        (resource, carried)
    };
    stream::iter(todo.puts.into_iter().chain(todo.deletes).map(propose)).buffer_unordered(IN_FLIGHT).collect().await
}

fn log_done(resource: &ResourceId, effect: &Effect) {
    match effect {
        Effect::ConfigPut { version, revision, changed: true } => {
            info!(%resource, %version, %revision, "replicated what a resource declares");
        }
        Effect::ConfigDeleted { existed: true } => info!(%resource, "deleted what no resource declares any more"),
        Effect::ElectionSet => info!(%resource, "set as its resource says, or as without one"),
        Effect::ConfigPut { changed: false, .. }
        | Effect::ConfigDeleted { existed: false }
        | Effect::ClusterFounded
        | Effect::MemberAnnounced
        | Effect::MemberAllocated(_)
        | Effect::MemberForgotten { .. }
        | Effect::SizeSet { .. }
        | Effect::Steered { .. }
        | Effect::LeadershipBegun(_)
        | Effect::KeyPut(_)
        | Effect::KeyDeleted(_)
        | Effect::Transacted { .. }
        | Effect::ConsumerReported { .. }
        | Effect::SessionCreated(_)
        | Effect::SessionEnded { .. }
        | Effect::SessionsExpired { .. }
        | Effect::Claimed(_)
        | Effect::Released { .. }
        | Effect::Revoked { .. }
        | Effect::RequestsForgotten { .. }
        | Effect::Compacted { .. } => {}
    }
}
