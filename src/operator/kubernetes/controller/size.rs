//! What the controller does for its `QuorateCluster`: the cluster gets to know what is declared, and the StatefulSet gets as many
//! replicas as there are members.
//!
//! Pods come before members and go after them: the StatefulSet grows at once, and shrinks only when those whose pods would go
//! are members no more, which a quorum confirms right before. So no pod of a member is taken away, whatever is declared.

use tokio::time::Instant;
use tracing::{info, warn};

use super::Controller;
use crate::coordinator::{Coordinator, CoordinatorError, Held, RaftStatus, Scaling, scaling};
use crate::machine::STEERING_LEVEL;
use crate::machine::command::{Action, Care, ClusterSize, Steering};
use crate::operator::kubernetes::Release;
use crate::operator::kubernetes::confirming::confirmed;
use crate::operator::kubernetes::statuses::size;
use crate::operator::kubernetes::watching::Kind;
use crate::operator::kubernetes::writer::Target;
use crate::operator::proposing::PATIENCE;
use crate::operator::resources::QuorateClusterSpec;
use crate::types::{Leadership, MemberName};

impl Controller<'_> {
    /// Lets the cluster know what is declared of its members, if it does not.
    pub(super) async fn declare(&mut self) -> Result<(), CoordinatorError> {
        let Some(spec) = self.own_spec().cloned() else { return Ok(()) };
        let state = self.coordinator.state();
        let steering = steering(&spec);
        if state.feature_level() >= STEERING_LEVEL && *state.steering() != steering {
            self.tell_cluster(Action::Steer(steering.clone())).await?;
            info!(preferred_leader = ?steering.preferred_leader, care = ?steering.care, "the cluster knows how it is steered");
        }
        let size = size(&spec);
        if !spec.paused && state.size() != Some(size) {
            self.tell_cluster(Action::SetSize(size)).await?;
            info!(voters = size.voters, learners = size.learners, "the cluster knows how large it should be");
        }
        Ok(())
    }

    async fn tell_cluster(&mut self, action: Action) -> Result<(), CoordinatorError> {
        let deadline = Instant::now() + PATIENCE;
        let proposed = self.coordinator.propose_duty(self.leadership, action, deadline).await;
        if let Err(error) = &proposed {
            warn!(%error, "the cluster does not know what is declared of its members; it is tried again");
        }
        proposed.map(drop)
    }

    /// What is declared of this cluster's members, if that is this cluster's resource.
    fn own_spec(&self) -> Option<&QuorateClusterSpec> {
        let own = self.index.clusters.get(&self.own_key())?;
        let recorded = own.status.as_ref().and_then(|status| status.cluster_id.as_deref());
        let present = self.coordinator.state();
        if recorded.is_some_and(|recorded| present.cluster().is_none_or(|cluster| cluster.as_str() != recorded)) {
            return None;
        }
        own.wanted.as_ref().ok()
    }

    /// Gives the StatefulSet as many replicas as it should have.
    pub(super) fn scale(&mut self, now: Instant) {
        let target = Target { kind: Kind::StatefulSet, key: self.own_key() };
        let (Some(spec), Some(&present)) = (self.own_spec(), self.index.replicas.get(&target.key)) else { return };
        let wanted = size(spec);
        if spec.paused || !self.may_write(&target, now) {
            return;
        }
        let version = self.index.version(Kind::StatefulSet, &target.key);
        let held = held(&self.coordinator.status(), self.release);
        match scaling(wanted, self.coordinator.state().size(), held, present) {
            Scaling::None => {}
            Scaling::Up(replicas) => {
                info!(from = present, to = replicas, "scaling the StatefulSet up to the members that are declared");
                self.writer.scale(target, version, replicas, std::future::ready(true));
            }
            Scaling::Down(replicas) => {
                info!(
                    from = present,
                    to = replicas,
                    "scaling the StatefulSet down: who was to leave is no member any more"
                );
                let may_go = confirm(self.coordinator.clone(), self.release.clone(), self.leadership, wanted, replicas);
                self.writer.scale(target, version, replicas, may_go);
            }
        }
    }
}

/// What is declared of the members beside their number. A name that no member can have is nobody's.
fn steering(spec: &QuorateClusterSpec) -> Steering {
    let care = if spec.paused { Care::Paused } else { Care::Active };
    let preferred = spec.preferred_leader.as_ref();
    Steering { preferred_leader: preferred.and_then(|name| MemberName::new(name.clone()).ok()), care }
}

/// What the StatefulSet must have pods for.
fn held(status: &RaftStatus, release: &Release) -> Held {
    let members = status.voters.values().chain(status.learners.values());
    Held::by(members.map(|node| release.ordinal_of(&node.name)), status.membership)
}

/// Whether a quorum confirms, right now, that this member still leads and that the pods behind `replicas` are no members'.
async fn confirm(
    coordinator: Coordinator,
    release: Release,
    leadership: Leadership,
    wanted: ClusterSize,
    replicas: i64,
) -> bool {
    let Some(state) = confirmed(&coordinator, leadership).await else { return false };
    scaling(wanted, state.size(), held(&coordinator.status(), &release), i64::MAX) == Scaling::Down(replicas)
}
